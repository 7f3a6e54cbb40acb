"""Names of files that somebody else wrote: whether they stay below the folder that they are read from."""

import re

_DRIVE_OR_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=[/\\]|$)|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*::")
LONGEST = 250  # characters of a name; file systems take no more


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
