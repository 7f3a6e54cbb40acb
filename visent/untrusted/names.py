"""Names of files that somebody else wrote: whether they stay below the folder that they are read from."""

import hashlib
import re

_DRIVE_OR_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=[/\\]|$)|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*::")
LONGEST = 250  # characters of a name; file systems take no more
_SHORT = 100  # characters of a name that is made here, without its ending


def stays_below(name: str) -> bool:
    """Tells whether a relative path leads to a place below its folder, whatever folder that is.

    Absolute paths, URLs, drives, steps upwards (".."), bytes of zero and empty names do not.

    >>> stays_below("images/a.jpg"), stays_below("../a.jpg"), stays_below("/etc/passwd"), stays_below("file:///a")
    (True, False, False, False)
    """
    if not name or "\0" in name or name[0] in "/\\" or _DRIVE_OR_SCHEME.match(name):
        return False
    return ".." not in re.split(r"[/\\]", name)


def is_plain(name: str) -> bool:
    """Tells whether a name is one of a file right in its folder: no separator, not hidden, not a step upwards."""
    if len(name) > LONGEST or name.startswith("."):
        return False
    return stays_below(name) and "/" not in name and "\\" not in name


def plain_name(text: str) -> str:
    """Returns a name for a file that stands for any text, such as an example's key: always the same, and its own.

    What a name does not hold everywhere becomes "-"; then eight digits of the text's sha256 keep it apart from others.

    >>> plain_name("000123"), plain_name("a/b c")
    ('000123', 'a-b-c-0af99a60')
    """
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")
    if kept == text and len(kept) <= _SHORT:
        return kept
    return f"{kept[:_SHORT]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")
