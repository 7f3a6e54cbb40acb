"""Files are whole or as they were."""

import errno
import resource
from pathlib import Path

import pytest

from tokenizer.output import check_writable, whole, write_whole
from visent.errors import UserError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with whole(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert names_in(path.parent) == ["file"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "file").write_bytes(b"old")
    expected = UserError if isinstance(error, OSError) else type(error)

    def fail() -> None:
        with whole(tmp_path / "file") as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(expected):
        fail()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_disk_without_room_is_one_clear_line(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write itself fails, after a part of it."""
    (tmp_path / "file").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*: File too large; nothing half-written was left"):
            write_whole(tmp_path / "file", bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("write", [check_writable, lambda path: write_whole(path, b"x")])
def test_what_cannot_be_written_is_said(tmp_path: Path, write: object) -> None:
    assert callable(write)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "file" / "below", tmp_path / "folder", Path("/proc/none/file")):
        with pytest.raises(UserError, match=r"cannot write .*: "):
            write(target)
    assert names_in(tmp_path) == ["file", "folder"]
    assert not names_in(tmp_path / "folder")
