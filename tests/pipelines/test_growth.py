"""More input for a dataset that is there: new shards for what is new, nothing else touched, nothing mixed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_media import picture_bytes, write_pictures

from manifests import files
from manifests.dataset import load_facts
from manifests.shards import read_keys, read_rows
from pipelines.job import Job
from pipelines.resuming.listing import Change, compare, file_of, read_units, summary, write_units
from pipelines.resuming.settle import record, settle
from pipelines.sources.base import Item, cut_into_units
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize, tokenize_views
from pipelines.verify import verify_dataset
from visent.errors import UserError


def job(tmp_path: Path, tiny: str, *more: str, **options: Any) -> Job:
    source = FolderSource(paths=(str(tmp_path / "in"), *more), items_per_unit=3)
    return Job(**{"out": str(tmp_path / "d"), "name": "d", "tokenizer": tiny, "source": source} | options)


def finished(folder: str) -> dict[str, int]:
    """When each shard and receipt was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("*-of-*")}


def add(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture_bytes(100 + number))


def test_new_files_make_new_shards_and_leave_the_others(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 7)
    made = job(tmp_path, tiny, holdout=0.3)
    tokenize(made)
    tokenize_views(made.out, 2)
    before = finished(made.out)
    add(tmp_path / "in", "000-between.png", "zz/last.png", "later.png", "more.png", "new.png")
    summary = tokenize(made)
    assert summary.rows == 12
    assert summary.note == "5 new items were added as generation 1"
    assert {name: stamp for name, stamp in finished(made.out).items() if name in before} == before
    facts = load_facts(made.out)
    new = {shard.unit for shard in facts.shards if "-g1-" in shard.unit}
    assert {unit for unit in new if unit.startswith("train")} == {"train-g1-00000-of-00001"}
    keys = [key for shard in facts.shards if not shard.first_view
            for key in read_keys(f"{made.out}/{shard.file}", facts.schema)]  # fmt: skip
    assert sorted(keys) == sorted([*(f"{n:03d}" for n in range(7)), "000-between", "zz/last", "later", "more", "new"])
    assert facts.views() == 1  # the new ones have no further view yet
    assert tokenize_views(made.out, 2).rows > 0
    assert load_facts(made.out).views() == 2
    assert not verify_dataset(made.out).problems
    again = tokenize(made)
    assert (again.pictures, again.note) == (0, "")
    add(tmp_path / "in", "third.png")
    assert "generation 2" in tokenize(made).note


def codes(folder: str) -> dict[str, bytes]:
    facts = load_facts(folder)
    rows = (row for shard in facts.shards for row in read_rows(f"{folder}/{shard.file}", facts.schema))
    return {row.key: row.codes["image"].tobytes() for row in rows}


def test_growth_in_steps_ends_with_the_codes_of_one_run(tmp_path: Path, tiny: str) -> None:
    for count in (2, 5, 8):
        write_pictures(tmp_path / "in", count)
        tokenize(job(tmp_path, tiny))
    tokenize(job(tmp_path, tiny, out=str(tmp_path / "whole")))
    assert codes(str(tmp_path / "d")) == codes(str(tmp_path / "whole"))
    assert len(codes(str(tmp_path / "d"))) == 8


def test_another_root_is_growth_when_keys_stay(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    write_pictures(tmp_path / "b", 2)
    write_pictures(tmp_path / "c", 2)
    tokenize(job(tmp_path, tiny, str(tmp_path / "b")))
    grown = job(tmp_path, tiny, str(tmp_path / "b"), str(tmp_path / "c"))
    assert tokenize(grown).rows == 6
    assert tokenize_views(grown.out, 2).rows == 6  # made from all three roots, as the facts now say


def test_an_unfinished_dataset_may_grow_too(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 4)
    made = job(tmp_path, tiny)
    tokenize(made)
    for path in [Path(made.out, "dataset.json"), *Path(made.out).glob("train-00001*")]:
        path.unlink()
    add(tmp_path / "in", "new.png")
    assert tokenize(made).rows == 5


def test_a_new_file_of_a_known_key_does_not_take_it_over() -> None:
    known = [Item(key=f"k{n}", files={"image": f"{n}.png"}) for n in range(3)]
    before = Item(key="k1", files={"image": "0.jpg"})
    displaced = Item(key="k1", files={"image": "1.png"}, reject="duplicate-key")
    change = compare(known, [known[0], before, displaced, known[2]])
    assert not change.lines()
    assert [(item.key, item.files["image"], item.reject) for item in change.added] == [("k1", "0.jpg", "duplicate-key")]


def test_changed_and_removed_inputs_are_refused_with_their_names(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 9)
    made = job(tmp_path, tiny)
    tokenize(made)
    (tmp_path / "in" / "003.png").rename(tmp_path / "in" / "003.webp")
    for number in (0, 1, 2, 5, 6, 7):
        (tmp_path / "in" / f"{number:03d}.png").unlink()
    with pytest.raises(UserError) as refused:
        tokenize(made)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"the inputs of {made.out} have changed since it was tokenized:"
    assert lines[1:3] == ["  1 item is changed: 003", "  6 items are gone: 000, 001, 002, 005, 006 and 1 more"]
    assert "put them back" in lines[3]


def test_another_configuration_is_refused_with_every_difference(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    tokenize(job(tmp_path, tiny))
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=5, video_stills=2.0)
    other = job(tmp_path, tiny, annotate=("edge",), precision="bfloat16", source=source)
    with pytest.raises(UserError) as refused:
        tokenize(other)
    told = str(refused.value)
    lines = [
        "--video-stills: was null, now 2.0",
        "--items-per-shard: was 3, now 5",
        '--annotate: was [], now ["edge"]',
        '--precision: was "float32", now "bfloat16"',
        "fingerprint of the tokenizer: was ",
    ]
    for line in lines:
        assert f"\n  {line}" in told
    assert told.splitlines()[-1] == "use the same, or tokenize into another --out"


def test_an_older_job_is_refused_in_one_line(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    made = job(tmp_path, tiny)
    tokenize(made)
    config = json.loads(Path(made.out, "job.json").read_text())
    Path(made.out, "job.json").write_text(json.dumps(config | {"version": 2, "listing": {"items": 2, "sha256": "x"}}))
    with pytest.raises(UserError, match="was made by version 2 of the job, this is 3") as refused:
        tokenize(made)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_list_of_inputs_that_is_gone_or_cut_is_one_clear_error(tmp_path: Path, tiny: str, damage: Any) -> None:
    write_pictures(tmp_path / "in", 2)
    made = job(tmp_path, tiny)
    tokenize(made)
    damage(Path(made.out, file_of(0)))
    assert tokenize(made).pictures == 0  # nothing has changed, so nobody asks
    add(tmp_path / "in", "new.png")
    with pytest.raises(UserError, match="is not the list of inputs that the job wrote"):
        tokenize(made)


ITEMS = st.lists(
    st.builds(
        Item,
        key=st.text("abc\u00e9", min_size=1, max_size=3),
        files=st.dictionaries(st.sampled_from(["image", "edge"]), st.text("xy\udc80", max_size=2)),
        size=st.integers(0, 3),
        data=st.dictionaries(st.just("n"), st.integers(0, 2)),
    ),
    max_size=8,
    unique_by=lambda item: item.key,
)


def keys(items: Sequence[Item]) -> list[str]:
    return sorted(item.key for item in items)


@given(ITEMS, ITEMS)
def test_every_item_is_the_same_changed_gone_or_added(old: list[Item], new: list[Item]) -> None:
    change = compare(old, new)
    by_key, now = {item.key: item for item in old}, {item.key: item for item in new}
    assert keys(change.removed) == sorted(by_key.keys() - now.keys())
    assert keys(change.added) == sorted(now.keys() - by_key.keys())
    assert keys([was for was, _ in change.changed]) == sorted(key for key in by_key.keys() & now.keys()
                                                              if by_key[key] != now[key])  # fmt: skip
    assert compare(old, old) == Change(added=(), changed=(), removed=())


@given(ITEMS, st.integers(1, 4))
def test_a_list_of_inputs_reads_back_and_is_the_same_file_every_time(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item], per_unit: int
) -> None:
    folder = tmp_path_factory.mktemp("listing")
    units = cut_into_units(items, per_unit, 0.0, generation=3)
    write_units(str(folder), 3, units)
    first = (folder / file_of(3)).read_bytes()
    assert read_units(str(folder), 3, summary(units)) == units
    write_units(str(folder), 3, units)
    assert (folder / file_of(3)).read_bytes() == first


def test_settling_writes_nothing(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    made = job(tmp_path, tiny)
    found = settle(made, made.source.listing()[0])
    assert not Path(made.out).exists()
    record(made, found)
    assert {path.name for path in Path(made.out).iterdir()} == {"job.json", "listing"}


def test_an_object_of_a_bucket_is_no_folder_for_a_dataset(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    files.write_bytes("memory://bucket/photo.png", b"pixels")
    with pytest.raises(UserError, match=r"photo\.png is a file of 6 bytes; expected a folder"):
        tokenize(job(tmp_path, tiny, out="memory://bucket/photo.png"))
