"""Writing files whole: under a temporary name in the same folder, renamed when the last byte is on the disk."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from visent.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it to `path` when the block ends without an error.

    Keep the block to the writing: its `OSError`s are reported as failures to write `path`.

    Raises:
        UserError: `path` cannot be written; it is then as it was.
    """
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; nothing half-written was left: make room or choose "
            "another target, then run the same command again"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file: readers see the old content or the new, never a part.

    Raises:
        UserError: it cannot be written.
    """
    with whole(path) as temporary:
        temporary.write_bytes(data)


def check_writable(path: Path) -> None:
    """Tries out, before long work, whether a file can be written.

    Raises:
        UserError: it cannot.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file")
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another target") from error
