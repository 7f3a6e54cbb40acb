"""Folders and pairs: keys, order, held-out items, file names of any bytes."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_media import picture_bytes, write_pictures

from pipelines.sources.base import Encoded, Example, Reject, Unit, cut_into_units, held_out
from pipelines.sources.files import readable
from pipelines.sources.folder import FolderSource
from pipelines.sources.pairs import PairsSource, roles_below
from visent.errors import UserError


def folder(path: Path, **options: object) -> FolderSource:
    return FolderSource(paths=(str(path),), items_per_unit=4, **options)


def keys(source: FolderSource | PairsSource) -> list[str]:
    return [item.key for item in source.listing()[0]]


def read(source: FolderSource | PairsSource) -> list[Example | Reject]:
    units = cut_into_units(source.listing()[0], source.items_per_unit, 0.0)
    return [example for unit in units for example in source.examples(Unit.from_json(unit.to_json()))]


def test_key_is_the_path_without_ending_and_the_order_is_that_of_the_keys(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "a/10.PNG", "a/2.png", "c.webp", "notes.txt", ".hidden.jpg", ".cache/x.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    items, note = folder(tmp_path).listing()
    assert [item.key for item in items] == ["a/10", "a/2", "b/2", "c"]
    assert "1 files" in note
    assert ".txt" in note


def test_files_that_differ_only_in_their_ending_keep_it_in_the_key(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    assert keys(folder(tmp_path)) == ["a.jpg", "a.png", "b"]


def test_file_names_that_are_not_utf8_are_read_under_an_ascii_key(tmp_path: Path) -> None:
    content = picture_bytes()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 100%\n.png")).write_bytes(content)
    (example,) = read(folder(tmp_path))
    assert example == Example(
        key="caf%E9 100%25%0A", source="caf%E9 100%25%0A.png", media={"image": Encoded(data=content)}
    )


@given(st.binary(min_size=1, max_size=12), st.binary(min_size=1, max_size=12))
def test_two_file_names_never_share_their_readable_form(a: bytes, b: bytes) -> None:
    one, other = readable(os.fsdecode(a)), readable(os.fsdecode(b))
    assert (one == other) == (a == b)
    one.encode("utf-8")


def test_a_link_that_leads_back_up_ends_the_walk(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", 1)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert keys(folder(tmp_path)) == ["a/000"]


def test_several_folders_begin_their_keys_with_their_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pictures(tmp_path / name, 1)
    source = FolderSource(paths=(str(tmp_path / "two"), str(tmp_path / "one")), items_per_unit=4)
    assert keys(source) == ["one/000", "two/000"]
    assert [type(example) for example in read(source)] == [Example, Example]


def test_a_file_that_vanishes_after_the_listing_is_rejected(tmp_path: Path) -> None:
    source = folder(write_pictures(tmp_path, 2))
    (unit,) = cut_into_units(source.listing()[0], 4, 0.0)
    (tmp_path / "000.png").unlink()
    first, second = source.examples(unit)
    assert isinstance(first, Reject)
    assert (first.key, first.stage, first.reason) == ("000", "read", "missing")
    assert isinstance(second, Example)


@pytest.mark.parametrize("name", ["absent", "file.png", "empty"])
def test_a_root_without_pictures_is_one_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"does not exist|is a file|found nothing"):
        folder(tmp_path / name).listing()


@given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=40), st.floats(0, 0.99))
def test_the_split_of_an_item_depends_on_its_key_alone(names: list[str], fraction: float) -> None:
    assert [held_out(name, fraction) for name in names] == [held_out(name, fraction) for name in reversed(names)][::-1]
    assert not any(held_out(name, 0.0) for name in names)


def test_about_the_asked_part_is_held_out() -> None:
    assert 400 < sum(held_out(f"picture {n}", 0.05) for n in range(10_000)) < 600


def test_holding_out_everything_is_refused(tmp_path: Path) -> None:
    items = folder(write_pictures(tmp_path, 1)).listing()[0]
    with pytest.raises(UserError, match="--holdout 0 "):
        cut_into_units(items, 4, 0.999999)


def test_units_cover_every_item_once_in_order(tmp_path: Path) -> None:
    items = folder(write_pictures(tmp_path, 10)).listing()[0]
    units = cut_into_units(items, 4, 0.0)
    assert [unit.id for unit in units] == [f"train-0000{n}-of-00003" for n in range(3)]
    assert [item for unit in units for item in unit.items] == items


def test_pairs_meet_by_name_and_a_missing_half_is_rejected(tmp_path: Path) -> None:
    for name in ("image/a.jpg", "image/b.jpg", "depth/a.npy", "depth/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    source = PairsSource(paths=roles_below(str(tmp_path)), items_per_unit=8)
    assert list(source.roles) == ["image", "depth"]
    a, b, c = read(source)
    assert isinstance(a, Example)
    assert a.key == "a"
    assert a.media["depth"].decode is not a.media["image"].decode
    assert [(r.key, r.stage, r.reason) for r in (b, c)] == [
        ("b", "list", "missing-depth"),
        ("c", "list", "missing-image"),
    ]


def test_a_pattern_pairs_by_what_the_star_stands_for(samples: Path) -> None:
    here = samples / "nyu_depth_v2/official_splits/test/fastdepth"
    paths = {"image": f"{here}/rgb_*.jpg", "depth": f"{here}/sync_depth_*.png"}
    (example,) = read(PairsSource(paths=paths, items_per_unit=8, depth_is="distance"))
    assert example.key == "00000"
    assert isinstance(example, Example)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"image": "."}, "two roles"),
        ({"image": "x*y*.png", "depth": "."}, "exactly one"),
        ({"a": ".", "b": "./no"}, "not exist"),
    ],
)
def test_wrong_pairs_are_one_clear_error(paths: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PairsSource(paths=paths, items_per_unit=8)


def test_labels_and_depth_must_name_a_role(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown role 'deth'"):
        PairsSource(paths={"image": str(tmp_path), "depth": str(tmp_path)}, items_per_unit=8, labels=("deth",))


def test_array_pictures_are_not_read_as_pickles(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    from pipelines.render.depth import decode_depth
    from tokenizer.images import ImageError

    with pytest.raises(ImageError):
        decode_depth((tmp_path / "x.npy").read_bytes())
