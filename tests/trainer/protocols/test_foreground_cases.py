"""Few-shot segmentation: each query has pairs of its own class, never itself nor its photo."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import Made, codes, picture, write_data

from manifests.schema import RoleKind
from manifests.testing import TINY_CARD
from trainer.protocols import foreground
from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.make_cases import make_cases
from trainer.protocols.part import Part
from visent.errors import UserError

ROLES: dict[str, RoleKind] = {"image": "still", "mask": "still"}
PART = Part(name="fold 0", data="made", kind="foreground", given="image", made="mask", figures=("foreground-miou",),
            pairs=3)  # fmt: skip
CLASSES = ("aeroplane", "bicycle")


def made(photos: Sequence[int], of_class: int) -> list[Made]:
    """Rows of Pascal-5i: `<photo>__<class>`."""
    meta = {"class": CLASSES[of_class], "class_index": of_class + 1}
    return [Made(f"2007_{photo:06d}__{of_class + 1:02d}", meta) for photo in photos]


def opened(folder: Path, units: Sequence[Sequence[Made]], train: Sequence[Made] = ()) -> EvalData:
    write_data(folder, {"val": units, **({"train": [train]} if train else {})}, ROLES)
    return EvalData.open("made", str(folder), "val", TINY_CARD)


def supports(found: Cases, keys: Sequence[str], number: int) -> list[str]:
    """The keys of a sample's pairs, looked up by the codes of both their images."""
    of_codes = {tuple(codes(key, ROLES)[role].tolist()): (key, role) for key in keys for role in ROLES}
    images = [of_codes[tuple(image)] for image in found.prompt[number].reshape(-1, 16).tolist()]
    assert images[-1] == (found.keys[number], "image")
    assert [role for _, role in images[:-1]] == ["image", "mask"] * (len(images) // 2)
    assert [key for key, _ in images[:-1:2]] == [key for key, _ in images[1::2]]
    return [key for key, _ in images[:-1:2]]


EPISODES = st.tuples(
    st.sets(st.integers(0, 30), min_size=5, max_size=9), st.sets(st.integers(0, 30), min_size=5, max_size=9)
)


@settings(max_examples=10)
@given(EPISODES, st.randoms(use_true_random=False), st.integers(1, 12), st.integers(0, 3))
def test_pairs_are_of_the_querys_class_and_of_other_photos(
    photos: tuple[set[int], set[int]], random: object, most: int, seed: int
) -> None:
    """Also: they depend on keys alone, the queries not on the pairs, and more pairs stand before fewer."""
    rows = [row for of_class, some in enumerate(photos) for row in made(sorted(some), of_class)]
    shuffled = sorted(rows, key=lambda _: random.random())  # type: ignore[attr-defined]
    keys = [row.key for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        one, two = opened(Path(folder) / "one", [rows]), opened(Path(folder) / "two", [shuffled[:4], shuffled[4:]])
        few = foreground.cases(PART, one, most=most, seed=seed)
        whole, four = (foreground.cases(dataclasses.replace(PART, pairs=pairs), two, seed=seed) for pairs in (3, 4))
        assert sorted(whole.keys) == sorted(keys)
        of_query = {key: supports(whole, keys, number) for number, key in enumerate(whole.keys)}
        for number, key in enumerate(whole.keys):
            photo, _, name = key.partition("__")
            assert whole.classes[number] == CLASSES[int(name) - 1]
            assert len(set(of_query[key])) == 3
            for other in of_query[key]:
                assert other.partition("__")[2] == name
                assert other.partition("__")[0] != photo
            assert supports(four, keys, number)[1:] == of_query[key]
        assert list(four.keys) == list(whole.keys)
        assert len(few) == min(most, len(rows))
        for number, key in enumerate(few.keys):
            assert supports(few, keys, number) == of_query[key]


def test_the_mask_is_what_is_asked_for(tmp_path: Path) -> None:
    found = foreground.cases(PART, opened(tmp_path / "d", [made(range(5), 0)]))
    assert found.prompt.shape == (5, 7 * 16)
    assert (found.new_tokens, found.kept, found.frames) == (16, 0, 1)
    assert np.array_equal(found.truth_codes[2], codes(found.keys[2], ROLES)["mask"])
    assert np.array_equal(found.truth(np.array([2]))[0], picture(found.keys[2], "mask"))
    alone = foreground.cases(dataclasses.replace(PART, pairs=0), opened(tmp_path / "e", [made(range(2), 0)]))
    assert alone.prompt.shape == (2, 16)


def test_the_queries_do_not_all_have_the_same_pairs(tmp_path: Path) -> None:
    data = opened(tmp_path / "d", [made(range(12), 0)])
    chosen = {seed: [tuple(supports(foreground.cases(PART, data, seed=seed), data.keys, n)) for n in range(12)]
              for seed in (0, 1)}  # fmt: skip
    assert len(set(chosen[0])) > 8
    assert chosen[0] != chosen[1]


def test_pairs_can_come_from_another_split(tmp_path: Path) -> None:
    data = opened(tmp_path / "d", [made(range(2), 0)], made(range(10, 14), 0))
    found = foreground.cases(PART, data, prompt_split="train")
    keys = [*data.keys, *(row.key for row in made(range(10, 14), 0))]
    assert all(key not in data.keys for number in range(2) for key in supports(found, keys, number))
    assert "of split train" in found.notes[0]


def test_a_class_with_too_few_rows_is_named(tmp_path: Path) -> None:
    data = opened(tmp_path / "d", [made(range(8), 0), made(range(3), 1)])
    told = (r"class 'bicycle' of dataset 'made' has 2 rows in split 'val' that show another photo than "
            r"'2007_000000__02'; part 'fold 0' needs 3 pairs")  # fmt: skip
    with pytest.raises(UserError, match=told):
        foreground.cases(PART, data)


def test_rows_without_a_class_and_common_prompts_are_refused(tmp_path: Path) -> None:
    data = opened(tmp_path / "d", [[Made("a"), Made("b")]])
    with pytest.raises(UserError, match="row 'a' of dataset 'made' has no class in its meta"):
        foreground.cases(PART, data)
    with pytest.raises(UserError, match="pairs of each query's own class as prompt"):
        foreground.cases(PART, data, prompt=["b"])
    with pytest.raises(UserError, match="3 pairs, a query and its answer are 8 images"):
        make_cases(PART, data, 7 * 16)
