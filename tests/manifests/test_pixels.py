"""Files of pixels: what is chosen, what is read in any order, and what is refused."""

import io
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import manifests.pixels
from manifests import files
from manifests.dataset import DatasetFacts
from manifests.legend import Legend
from manifests.pixel_files import (
    PixelFacts,
    PixelFile,
    PixelSink,
    chosen,
    facts_path,
    keys_digest,
    load_pixel_facts,
    shards_of,
)
from manifests.pixels import PixelStore
from manifests.schema import RoleKind
from manifests.shards import read_rows
from manifests.testing import TINY_CARD, write_random_dataset
from visent.errors import UserError

SIZE = TINY_CARD.image_size
LEGEND = Legend(ids=(0, 7), colours=((0, 0, 0), (1, 2, 3)), names=("other", "boat"), ignored=(0,))


def square(key: str, role: str, frame: int) -> np.ndarray:
    random = np.random.default_rng(abs(hash_of(key, role, frame)))
    return random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def hash_of(*parts: object) -> int:
    return int.from_bytes("/".join(map(str, parts)).encode()) % 2**63


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_pixels(folder: Path, facts: DatasetFacts, most: int | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Writes pixels of split val, and returns them by key and role."""
    shards = shards_of(facts, "val")
    rows = [[row for row in read_rows(str(folder / shard.file), facts.schema)] for shard in shards]
    files.make_folder(folder / "pixels")
    made: dict[str, dict[str, np.ndarray]] = {}
    receipts = []
    roles = facts.schema.roles
    for shard, own, taken in zip(shards, rows, chosen([[r.key for r in o] for o in rows], most), strict=True):
        path = folder / "pixels" / f"{shard.unit}.parquet"
        with PixelSink(str(path), roles) as sink:
            for row in (own[at] for at in taken):
                frames = {role: len(np.atleast_2d(row.codes[role])) for role in roles}
                made[row.key] = {role: np.stack([square(row.key, role, i) for i in range(n)])
                                 for role, n in frames.items()}  # fmt: skip
                sink.append(row.key, {role: [png(one) for one in made[row.key][role]] for role in roles})
        receipts.append(
            PixelFile(file=path.name, unit=shard.unit, shard_sha256=shard.sha256, keys_sha256=shard.keys_sha256,
                      rows=len(taken), rows_sha256=keys_digest([own[at].key for at in taken]), roles=tuple(roles),
                      bytes=path.stat().st_size, sha256=files.sha256(path))
        )  # fmt: skip
    legends = {role: LEGEND for role in roles if role == "image"}
    told = PixelFacts(dataset=facts.name, split="val", config_digest=facts.config_digest, image_size=SIZE, roles=roles,
                      most=most, legends=legends, files=tuple(receipts))  # fmt: skip
    files.write_json(facts_path(str(folder), "val"), told.to_json())
    return made


Roles = Mapping[str, RoleKind]


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, np.ndarray]]]:
    """A dataset of 37 rows in 8 shards, with all their pixels, in row groups of few rows."""
    folder = tmp_path_factory.mktemp("pixels") / "d"
    roles: Roles = {"image": "still", "edge": "still"}
    facts = write_random_dataset(str(folder), roles, examples={"train": 4, "val": 37}, rows_per_shard=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manifests.pixel_files.BYTES_PER_GROUP", 2 * SIZE * SIZE * 3)
        made = write_pixels(folder, facts)
    return folder, made


@given(numbers=st.lists(st.integers(0, 36), max_size=12), role=st.sampled_from(["image", "edge"]))
def test_rows_are_read_in_any_order(
    stills: tuple[Path, dict[str, dict[str, np.ndarray]]], numbers: list[int], role: str
) -> None:
    folder, made = stills
    store = _store(folder)
    read = store.read(role, np.array(numbers, np.int64))
    assert read.shape == (len(numbers), 1, SIZE, SIZE, 3)
    for number, pixels in zip(numbers, read, strict=True):
        np.testing.assert_array_equal(pixels, made[store.keys[number]][role])


_opened: dict[Path, PixelStore] = {}


def _store(folder: Path) -> PixelStore:
    return _opened.setdefault(folder, PixelStore.open(str(folder), "val"))


def test_few_files_are_open_at_once_and_threads_share_them(
    stills: tuple[Path, dict[str, dict[str, np.ndarray]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = stills
    monkeypatch.setattr(manifests.pixels, "MOST_OPEN", 2)
    store = PixelStore.open(str(folder), "val")
    wrong: list[str] = []

    def read(seed: int) -> None:
        numbers = np.random.default_rng(seed).permutation(37)
        for number, pixels in zip(numbers, store.read("image", numbers), strict=True):
            if (pixels != made[store.keys[number]]["image"]).any():
                wrong.append(store.keys[number])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(store._open) == 2


def test_only_the_group_around_a_row_is_read(stills: tuple[Path, dict[str, dict[str, np.ndarray]]]) -> None:
    folder, _ = stills
    store = PixelStore.open(str(folder), "val")
    store.read("image", np.array([0]))
    (file,) = store._open.values()
    assert file._parquet.num_row_groups == 3  # two, two and one of its five rows
    asked: list[int] = []
    whole = file._parquet

    class Counting:
        def read_row_group(self, group: int, **options: Any) -> Any:
            asked.append(group)
            return whole.read_row_group(group, **options)

    file._parquet = Counting()
    store.read("edge", np.array([4, 3, 2]))
    assert asked == [1, 2]


def test_legend_and_roles(stills: tuple[Path, dict[str, dict[str, np.ndarray]]]) -> None:
    store = PixelStore.open(str(stills[0]), "val")
    assert store.legend("image") == LEGEND
    assert store.legend("edge") is None
    assert dict(store.roles) == {"image": "still", "edge": "still"}
    assert store.image_size == SIZE
    with pytest.raises(UserError, match="unknown role of dataset 'd' 'edgy': did you mean 'edge'"):
        store.legend("edgy")
    for number in (-1, 37):
        with pytest.raises(IndexError):
            store.read("image", np.array([0, number]))


@pytest.mark.parametrize("format", ["parquet", "arrayrecord"])
def test_clips_and_their_lengths(tmp_path: Path, format: Any) -> None:
    roles: Roles = {"frames": "clip", "mask": "clip"}
    facts = write_random_dataset(str(tmp_path / "d"), roles, examples={"val": 7}, frames=(3, 2), rows_per_shard=4,
                                 format=format)  # fmt: skip
    made = write_pixels(tmp_path / "d", facts)
    store = PixelStore.open(str(tmp_path / "d"), "val")
    same = store.read("mask", np.array([6, 0]))
    assert same.shape == (2, 3, SIZE, SIZE, 3)
    np.testing.assert_array_equal(same[0], made["val/00006"]["mask"])
    first = store.read("frames", np.arange(7), 2)
    for number, key in enumerate(store.keys):
        np.testing.assert_array_equal(first[number], made[key]["frames"][:2])
    with pytest.raises(UserError, match=r"clips of 3 frames are wanted of role frames .* 'val/00001' has 2"):
        store.read("frames", np.arange(3), 3)
    with pytest.raises(
        UserError, match=r"clips of 2 frames are wanted .* 'val/00000' has 3, 'val/00002' has 3, .* and 1"
    ):
        store.read("frames", np.arange(7))


def test_a_part_of_the_rows(tmp_path: Path) -> None:
    facts = write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"val": 23}, rows_per_shard=4)
    made = write_pixels(tmp_path / "d", facts, most=9)
    store = PixelStore.open(str(tmp_path / "d"), "val")
    there = [number for number, key in enumerate(store.keys) if key in made]
    assert (len(store.keys), len(there)) == (23, 9)
    for number, pixels in zip(there, store.read("image", np.array(there)), strict=True):
        np.testing.assert_array_equal(pixels, made[store.keys[number]]["image"])


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=6), max_size=5), st.integers(1, 12), st.integers(0, 12))
def test_more_rows_hold_the_fewer_wherever_they_lie(shards: list[list[int]], few: int, more: int) -> None:
    keys = [[f"{at}/{row}-{number}" for row, number in enumerate(own)] for at, own in enumerate(shards)]
    total = sum(map(len, keys))
    names = {most: {keys[at][row] for at, own in enumerate(chosen(keys, most)) for row in own}
             for most in (few, few + more)}  # fmt: skip
    assert len(names[few]) == min(few, total)
    assert names[few] <= names[few + more]
    flat = [[key] for own in reversed(keys) for key in own]
    assert {own[row] for own, rows in zip(flat, chosen(flat, few), strict=True) for row in rows} == names[few]
    assert all(rows == sorted(rows) for rows in chosen(keys, few))


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda value: [value],
    "another version": lambda value: value | {"version": 2},
    "another split's": lambda value: value | {"split": "test"},
    "no roles": lambda value: {name: part for name, part in value.items() if name != "roles"},
    "a kind that is none": lambda value: value | {"roles": {"image": "film"}},
    "a size of text": lambda value: value | {"image_size": "big"},
    "a legend that is none": lambda value: value | {"legends": {"image": {"ids": [1]}}},
    "a colour without end": lambda value: value | {"legends": {"image": LEGEND.to_json() | {"ids": [0, float("inf")]}}},
    "half a class": lambda value: value | {"legends": {"image": LEGEND.to_json() | {"ids": [0, 1.5]}}},
    "files that are numbers": lambda value: value | {"files": [1]},
    "a file elsewhere": lambda value: value | {"files": [value["files"][0] | {"file": "../../secret.parquet"}]},
    "rows below nothing": lambda value: value | {"files": [value["files"][0] | {"rows": -1}]},
}


@pytest.mark.parametrize("how", BROKEN)
def test_lists_that_are_none_are_refused_in_one_line(tmp_path: Path, how: str) -> None:
    facts = write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"val": 3})
    write_pixels(tmp_path / "d", facts)
    path = tmp_path / "d" / "pixels" / "val.json"
    path.write_text(json.dumps(BROKEN[how](json.loads(path.read_text()))))
    with pytest.raises(
        UserError, match=r"val.json is no list of pixels .*: remove it, then make it again with `visent"
    ):
        PixelStore.open(str(tmp_path / "d"), "val")


def test_the_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    facts = write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"val": 3})
    write_pixels(tmp_path / "d", facts)
    known = load_pixel_facts(str(tmp_path / "d"), "val")
    assert known is not None
    assert PixelFacts.from_json(json.loads(json.dumps(known.to_json()))) == known


def test_splits_and_datasets_without_pixels(tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"val": 3})
    with pytest.raises(UserError, match=r"has no pixels of split val: make them with `visent pixels .*/d --split val`"):
        PixelStore.open(str(tmp_path / "d"), "val")
    with pytest.raises(UserError, match=r"unknown split of dataset 'd' 'test': .*val"):
        PixelStore.open(str(tmp_path / "d"), "test")


def test_pictures_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    """Whoever copies a dataset has its pixels from somebody, with checksums that fit."""
    facts = write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"val": 3})
    write_pixels(tmp_path / "d", facts)
    folder = tmp_path / "d" / "pixels"
    odd = [png(np.zeros((SIZE, SIZE + 1, 3), np.uint8)), png(np.zeros((SIZE, SIZE), np.uint8)), b"\x89PNG\r\n\x1a\nno"]
    with PixelSink(str(folder / "val-00000-of-00001.parquet"), {"image": "still"}) as sink:
        for number, data in enumerate(odd):
            sink.append(f"val/{number:05d}", {"image": [data]})
    value = json.loads((folder / "val.json").read_text())
    value["files"][0] |= {"sha256": files.sha256(folder / "val-00000-of-00001.parquet")}
    (folder / "val.json").write_text(json.dumps(value))
    store = PixelStore.open(str(tmp_path / "d"), "val")
    for number in range(3):
        with pytest.raises(UserError, match="no PNG of 32 x 32 in RGB"):
            store.read("image", np.array([number]))
