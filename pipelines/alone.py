"""One writer to a dataset's folder at a time."""

import contextlib
import os
from collections.abc import Iterator

from manifests import files
from visent.errors import UserError


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Holds the folder for this process; the system lets go of it when the process dies.

    Raises: `UserError` when another process holds it.
    """
    if files.is_url(folder):
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another `visent tokenize` is writing to {folder}, or `visent pixels`; wait for it, or "
                            "stop it") from None  # fmt: skip
        yield
    finally:
        os.close(handle)
