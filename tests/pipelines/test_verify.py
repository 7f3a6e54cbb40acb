"""Verify looks at contents too: doubled keys, use of the codebook, black and uniform pictures, tokenizers together."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from manifests.dataset import DatasetFacts, write_facts
from manifests.schema import Row, Schema
from manifests.shards import ShardWriter, write_receipt
from manifests.testing import TINY_CARD, write_random_dataset
from pipelines.cli import verify
from pipelines.contents import uniform_images
from pipelines.duplicates import SeenKeys
from pipelines.verify import verify_dataset
from tokenizer.card import TokenizerCard
from tokenizer.load import load
from visent.errors import UserError


def write(folder: Path, shards: dict[str, list[Row]], roles: dict, card: TokenizerCard = TINY_CARD) -> str:
    """Writes a dataset of given rows, one shard for each name."""
    schema, infos = Schema(roles=roles, card=card), []
    folder.mkdir(parents=True)
    for name, rows in shards.items():
        with ShardWriter(str(folder / f"{name}.parquet"), schema) as writer:
            writer.append(rows)
            infos.append(writer.close())
        write_receipt(str(folder), infos[-1])
    write_facts(str(folder), DatasetFacts(name=folder.name, schema=schema, shards=infos, config={"source": "made"}))
    return str(folder)


def still(key: str, codes: np.ndarray) -> Row:
    return Row(key=key, view=0, codes={"image": codes.astype(np.uint16)})


def noise(keys: list[str]) -> Iterator[Row]:
    for key in keys:
        yield still(key, np.random.default_rng(len(key) + ord(key[0])).integers(0, 64, 16))


@pytest.mark.parametrize("splits", [("train-00000-of-00002", "train-00001-of-00002"), ("train-0", "val-0")])
def test_a_key_in_two_shards_is_a_problem_that_names_key_and_shards(tmp_path: Path, splits: tuple[str, str]) -> None:
    first, second = splits
    folder = write(
        tmp_path / "d", {first: list(noise(["a", "b", "c"])), second: list(noise(["x", "b"]))}, {"image": "still"}
    )
    (problem,) = verify_dataset(folder).problems
    assert "1 keys occur in several shards" in problem
    assert f"'b' in {first}.parquet and {second}.parquet" in problem
    assert CliRunner().invoke(verify, [folder]).exit_code == 1


def test_views_repeat_keys_and_that_is_no_problem(tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"train": 20, "val": 3}, views=3)
    assert not verify_dataset(str(tmp_path / "d")).problems


@given(calls=st.lists(st.lists(st.integers(0, 200), max_size=40), max_size=6))
def test_doubled_hashes_are_those_of_keys_in_several_calls(calls: list[list[int]]) -> None:
    sets = [set(call) for call in calls]
    expected = {key for key in range(201) if sum(key in keys for keys in sets) > 1}
    with SeenKeys() as seen:
        for call in calls:
            seen.add([str(key) for key in call])
        assert len(seen.doubled()) == len(expected)


def test_use_of_the_codebook_is_counted_over_all_roles_views_and_frames(tmp_path: Path) -> None:
    roles = {"image": "still", "frames": "clip"}
    image = np.array([0, 1, 2, 3] * 4, np.uint16)
    clip = np.stack([np.full(16, 9), np.arange(16)]).astype(np.uint16)
    rows = [Row(key=str(i), view=0, codes={"image": image, "frames": clip}) for i in range(5000)]
    result = verify_dataset(write(tmp_path / "d", {"train-0": rows}, roles))
    assert (result.roles["image"].images, result.roles["frames"].images) == (5000, 10_000)
    assert result.roles["image"].codes == 4
    assert result.roles["image"].perplexity == pytest.approx(4)
    share = np.bincount(clip.reshape(-1), minlength=64) / 32
    entropy = -sum(s * np.log(s) for s in share if s)
    assert result.roles["frames"].codes == 16
    assert result.roles["frames"].perplexity == pytest.approx(np.exp(entropy))
    assert (result.roles["image"].uniform, result.roles["frames"].uniform) == (0, 5000)
    assert not result.problems
    assert "5,000 of 10,000 pictures of role frames are uniform, as in '0', '1', '2'" in " ".join(result.notes)


def test_black_pictures_are_told_by_the_tokenizer_and_are_no_fault(tmp_path: Path, tiny: str) -> None:
    coder = load(tiny)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    pictures[1] = 0
    codes = coder.encode(pictures)
    rows = [still(f"p{i}", codes[i]) for i in range(4)]
    folder = write(tmp_path / "d", {"train-0": rows}, {"image": "still"}, coder.card)
    unknown = verify_dataset(folder)
    assert unknown.roles["image"].black == 0
    assert "black pictures were not looked for" in " ".join(unknown.notes)
    result = verify_dataset(folder, tiny)
    assert not result.problems
    assert result.roles["image"].black == 1
    assert result.roles["image"].examples == {"black": ["p1"]}
    with pytest.raises(UserError, match="the codes are of"):
        verify_dataset(folder, "default")


def test_pictures_of_one_colour_are_uniform_though_their_borders_have_other_codes() -> None:
    """The default tokenizer sees its padding at the border of a flat picture."""
    coder = load("default")
    flat = np.stack([np.full((256, 256, 3), value, np.uint8) for value in (0, 128, 255)])
    codes = coder.encode(flat)
    assert uniform_images(codes, coder.card.grid).all()
    half = codes.copy()
    half[:, 130:] = (half[:, 130:] + 1) % coder.card.codebook_size
    assert not uniform_images(half, coder.card.grid).any()


def test_datasets_of_different_tokenizers_do_not_go_together(tmp_path: Path) -> None:
    other = dataclasses.replace(TINY_CARD, name="other", weights_sha256="1" * 64)
    write_random_dataset(str(tmp_path / "a"), {"image": "still"}, examples={"train": 3})
    write_random_dataset(str(tmp_path / "b"), {"image": "still"}, examples={"train": 3}, card=other)
    assert CliRunner().invoke(verify, [str(tmp_path / "a")]).exit_code == 0
    both = CliRunner().invoke(verify, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert both.exit_code == 1
    assert "different tokenizers" in both.output
    given = CliRunner().invoke(verify, [str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    assert given.exit_code == 1
    value = json.loads(given.stdout)
    assert value["datasets"][0]["sound"]
    assert value["datasets"][0]["roles"]["image"]["images"] == 3
    assert "other" in value["problems"][0]
