"""`visent diff`: what differs between two datasets or corpora, however their rows are cut into shards."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from manifests.commands.corpora import diff
from manifests.corpora import compare_datasets
from manifests.dataset import DatasetFacts, load_facts, write_facts
from manifests.schema import RoleKind, Row, Schema
from manifests.shards import Format, ShardWriter, rejects_name, write_receipt
from manifests.testing import TINY_CARD, random_row, write_random_dataset
from tokenizer.card import TokenizerCard
from visent.errors import UserError

PAIR: dict[str, RoleKind] = {"image": "still", "depth": "still"}
CLIP: dict[str, RoleKind] = {"image": "still", "frames": "clip"}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(diff, [str(argument) for argument in arguments])


def write(
    folder: Path, splits: dict[str, list[list[Row]]], roles: dict[str, RoleKind], *, format: Format = "parquet",
    card: TokenizerCard = TINY_CARD, rejects: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """Writes rows, one shard for each list; `rejects` of the first shard are key and reason."""
    schema, infos, left = Schema(roles=roles, card=card), [], dict(rejects or {})
    folder.mkdir(parents=True)
    for split, shards in splits.items():
        for number, rows in enumerate(shards):
            with ShardWriter(str(folder / f"{split}-{number}.{format}"), schema) as writer:
                writer.append(rows)
                reasons = list(left.values())
                infos.append(writer.close({reason: reasons.count(reason) for reason in set(reasons)}))
            lines = [json.dumps({"key": key, "reason": reason}) + "\n" for key, reason in left.items()]
            (folder / rejects_name(infos[-1].file)).write_text("".join(lines))
            left = {}
            write_receipt(str(folder), infos[-1])
    write_facts(str(folder), DatasetFacts(name=folder.name, schema=schema, shards=infos))
    return str(folder)


def rows(keys: range, roles: dict[str, RoleKind], frames: int = 3, of: str = "made") -> list[Row]:
    schema = Schema(roles=roles, card=TINY_CARD)
    return [random_row(of, str(key), 0, schema, frames) for key in keys]


def test_the_same_dataset_is_the_same_and_a_copy_is_not_even_decoded(tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "a"), PAIR, examples={"train": 30, "val": 4}, views=3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    found = compare_datasets(str(tmp_path / "a"), str(tmp_path / "b"), cache_dir=tmp_path / "cache")
    assert found.same
    assert found.both == 34
    assert found.roles["image"].images == 30 * 3 + 4
    assert not list((tmp_path / "cache").glob("*.images.npy"))
    result = call(tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 0
    assert "no difference" in result.output


def test_other_order_shards_and_format_of_the_same_rows_make_no_difference(tmp_path: Path) -> None:
    made = rows(range(40), CLIP)
    a = write(tmp_path / "a", {"train": [made[:15], made[15:]]}, CLIP)
    b = write(tmp_path / "b", {"train": [made[::-1]]}, CLIP, format="arrayrecord")
    found = compare_datasets(a, b)
    assert found.same
    assert (found.roles["image"].images, found.roles["frames"].images) == (40, 120)
    assert found.roles["frames"].tokens == 120 * 16


def test_the_fraction_of_tokens_that_differ_is_exact(tmp_path: Path) -> None:
    made, changed = rows(range(20), CLIP), rows(range(20), CLIP)
    for number, row in enumerate(changed[:5]):
        row.codes["frames"][1, : number + 1] ^= 1
    a = write(tmp_path / "a", {"train": [made]}, CLIP)
    b = write(tmp_path / "b", {"train": [changed[7:], changed[:7]]}, CLIP)
    found = compare_datasets(a, b)
    assert not found.same
    assert found.only == (0, 0)
    role = found.roles["frames"]
    assert (role.images_differ, role.tokens_differ, role.tokens) == (5, 15, 20 * 3 * 16)
    assert role.fraction == 15 / 960
    assert found.roles["image"].tokens_differ == 0
    result = call(a, b)
    assert result.exit_code == 1
    assert "1.6 %" in result.output


def test_keys_of_one_side_are_named_with_what_the_other_rejected(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"train": [rows(range(10), PAIR)]}, PAIR)
    b = write(tmp_path / "b", {"train": [rows(range(4, 12), PAIR)]}, PAIR, rejects={"2": "truncated", "3": "truncated"})
    found = compare_datasets(a, b, named=3)
    assert found.both == 6
    assert found.only == (4, 2)
    assert set(found.only_keys[0]) < {"0", "1", "2", "3"}
    assert sorted(found.only_keys[1]) == ["10", "11"]
    assert found.rejected_by_other == ({"truncated": 2}, {})
    assert found.rejects == {"truncated": (0, 2)}
    printed = call(a, b, "--keys", 3).output
    assert "and 1 more; B rejected 2 as truncated" in printed
    assert "rejected as truncated: 0 in A, 2 in B" in printed


def test_splits_views_roles_lengths_and_tokenizers_count(tmp_path: Path) -> None:
    made = rows(range(6), CLIP)
    a = write(tmp_path / "a", {"train": [made[:5]], "val": [made[5:]]}, CLIP)
    moved = compare_datasets(a, write(tmp_path / "moved", {"train": [made]}, CLIP))
    assert (moved.other_split, moved.only, moved.same) == (1, (0, 0), False)
    assert moved.roles["image"].images == 6
    longer = compare_datasets(
        a, write(tmp_path / "longer", {"train": [rows(range(5), CLIP, 4)], "val": [made[5:]]}, CLIP)
    )
    assert longer.roles["frames"].other_length == 5
    assert not longer.same
    other_card = dataclasses.replace(TINY_CARD, precision="bfloat16")
    other = compare_datasets(a, write(tmp_path / "o", {"train": [made[:5]], "val": [made[5:]]}, CLIP, card=other_card))
    assert other.roles["image"].tokens_differ == 0
    assert not other.same
    write_random_dataset(str(tmp_path / "one"), PAIR, examples={"train": 9})
    write_random_dataset(str(tmp_path / "x" / "one"), PAIR, examples={"train": 9}, views=2)
    views = compare_datasets(str(tmp_path / "one"), str(tmp_path / "x" / "one"))
    assert (views.views, views.roles["image"].tokens_differ, views.same) == ((1, 2), 0, False)


def test_corpora_are_matched_dataset_by_dataset(tmp_path: Path) -> None:
    for side, names in (("a", "pq"), ("b", "qr")):
        for name in names:
            write_random_dataset(str(tmp_path / side / name), PAIR, examples={"train": 5})
    result = call(tmp_path / "a", tmp_path / "b", "--json")
    assert result.exit_code == 1
    value = json.loads(result.stdout)
    assert (value["only_in_a"], value["only_in_b"]) == (["p"], ["r"])
    assert [each["name"] for each in value["datasets"]] == ["q"]
    assert value["datasets"][0]["same"]


def test_what_is_no_corpus_or_damaged_is_said(tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "a"), PAIR, examples={"train": 5})
    (tmp_path / "empty").mkdir()
    for pair, message in ((("a", "empty"), "compared with a folder of datasets"), (("empty", "a"), "is no corpus")):
        error = call(*(tmp_path / name for name in pair)).exception
        assert isinstance(error, UserError)
        assert message in str(error)
    write_random_dataset(str(tmp_path / "x" / "a"), PAIR, examples={"train": 6})
    shard = tmp_path / "a" / load_facts(str(tmp_path / "a")).shards[0].file
    shard.write_bytes(shard.read_bytes()[:-20])
    assert isinstance(call(tmp_path / "a", tmp_path / "x" / "a").exception, UserError)


def test_many_keys_are_matched_by_hash(tmp_path: Path) -> None:
    """More examples than are compared at once, in shards of different sizes."""
    roles: dict[str, RoleKind] = {"image": "still"}
    made = rows(range(6000), roles)
    random = np.random.default_rng(0).permutation(6000)
    a = write(tmp_path / "a", {"train": [made[:1000], made[1000:]]}, roles)
    b = write(tmp_path / "b", {"train": [[made[i] for i in random[:3500]], [made[i] for i in random[3500:]]]}, roles)
    found = compare_datasets(a, b)
    assert found.same
    assert found.roles["image"].images == 6000
