"""Which files are found, in which order, and how few are in hand at a time."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tokenizer.images import decode_image
from tokenizer.listing import ImageFile, Reject, by_reason, list_images, read_images
from visent.errors import UserError


def names(*paths: Path) -> list[str]:
    return [file.name for file in list_images(paths)]


def test_folders_are_listed_by_name_and_files_where_they_stand(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/10.png", "a.webp", ".hidden.png", ".git/x.png", "notes.txt", "b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.webp", "b.png", "b/10.png", "b/2.JPG"]
    assert names(tmp_path / "notes.txt", tmp_path / "b") == ["notes.txt", "10.png", "2.JPG"]


def test_a_file_found_twice_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert names(tmp_path / "a.png", tmp_path, tmp_path / ".." / tmp_path.name) == ["a.png"]


def test_a_link_that_leads_back_up_ends(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "in" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == ["in/a.png"]


def test_nothing_found_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "movie.mp4").touch()
    with pytest.raises(UserError, match=r"no image file below .*expected files that end in \.avif"):
        list_images([tmp_path])
    with pytest.raises(UserError, match="no file or folder 'nowhere'"):
        list_images([tmp_path, Path("nowhere")])


def test_unusable_files_are_rejected_with_their_reason_in_order(photo_folder: Path, tmp_path: Path) -> None:
    good = sorted(photo_folder.rglob("*.png"))[:3]
    data = good[0].read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "d.gif").write_bytes(b"<html>")
    os.truncate((tmp_path / "e.png").touch() or tmp_path / "e.png", (1 << 30) + 1)  # sparse: no byte on the disk
    rejects: list[Reject] = []
    pictures = list(read_images(list_images([*good, tmp_path]), decode_image, rejects))
    assert [file.path for file, _ in pictures] == good
    for file, picture in pictures:
        np.testing.assert_array_equal(picture, decode_image(file.path.read_bytes()))
    assert [(reject.path.name, reject.reason) for reject in rejects] == [
        ("a.jpg", "empty"), ("b.png", "truncated"), ("c.png", "unreadable"), ("d.gif", "not-an-image"),
        ("e.png", "too-large"),
    ]  # fmt: skip
    assert by_reason([*rejects, rejects[0]])["empty"] == 2


def test_the_order_is_kept_and_few_files_are_in_hand(tmp_path: Path) -> None:
    """The first file is slow, and the reader never runs more than four files for each thread ahead of it."""
    files = [ImageFile(f"{i}", tmp_path / f"{i}") for i in range(100)]
    for i, file in enumerate(files):
        file.path.write_text(str(i))
    begun, release = [], threading.Event()

    def make(data: bytes) -> int:
        begun.append(int(data))
        if int(data) == 0:
            release.wait(30)
        return int(data)

    reader = read_images(files, make, [], threads=3)
    threading.Timer(0.2, release.set).start()
    assert next(reader)[1] == 0
    assert max(begun) <= 4 * 3
    assert [value for _, value in reader] == list(range(1, 100))


def test_a_reader_that_is_left_stops(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    before = threading.active_count()
    reader = read_images([ImageFile("a", tmp_path / "a")] * 50, len, [], threads=2)
    next(reader)
    reader.close()
    for thread in threading.enumerate():
        if thread.name.startswith("read-images"):
            thread.join(10)
    assert threading.active_count() == before
