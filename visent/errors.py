"""Errors that a person can act on; the command line prints them as one line, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can fix.

    The message says what was wrong, what was got, what was expected, and the fix, on one line.
    """


def said(error: BaseException) -> str:
    """Returns the words of another library's error on one line."""
    return " ".join(str(error).split())


def unknown(what: str, got: str, known: Iterable[str]) -> UserError:
    """Describes a name that does not exist, with the nearest one that does.

    `what` is the noun ("task"), `known` every valid name. Returns the error for the caller to raise.
    """
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    quoted = any("," in name for name in names)  # so that one can tell where a name ends
    listing = ", ".join(repr(name) if quoted else name for name in names) if names else "none"
    return UserError(f"unknown {what} {got!r}: {hint}known: {listing}")
