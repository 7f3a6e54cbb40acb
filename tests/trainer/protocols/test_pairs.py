"""One prompt for all samples: which pairs, which samples, and in which order they stand."""

import dataclasses
import itertools
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import Made, codes, picture, rows, write_data

from manifests.legend import Legend
from manifests.testing import TINY_CARD
from trainer.protocols import pairs
from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.make_cases import make_cases
from trainer.protocols.own_pair import OwnPair
from trainer.protocols.part import Part
from visent.errors import UserError

PART = Part(name="edge to image", data="made", kind="images", given="edge", made="image", figures=("fid",))
LEGEND = Legend(ids=(0, 1), colours=((0, 0, 0), (255, 0, 0)))


def part(pairs: int = 1, **changes: object) -> Part:
    return dataclasses.replace(PART, pairs=pairs, **changes)  # type: ignore[arg-type]


def opened(folder: Path, split: str = "val") -> EvalData:
    return EvalData.open("made", str(folder), split, TINY_CARD)


def shown(found: Cases) -> list[list[int]]:
    """The prompt of the first sample without its query, image by image."""
    return found.prompt[0].reshape(-1, 16)[:-1].tolist()


def pair_of(key: str) -> list[list[int]]:
    return [codes(key)["edge"].tolist(), codes(key)["image"].tolist()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> EvalData:
    """A dataset whose only split is the one that is judged."""
    folder = tmp_path_factory.mktemp("data") / "alone"
    write_data(folder, {"val": [rows("a", 9), rows("b", 8)]}, legends={"edge": LEGEND})
    return opened(folder)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> EvalData:
    """A dataset that was trained on, too."""
    folder = tmp_path_factory.mktemp("data") / "both"
    write_data(folder, {"train": [rows("t", 5), rows("u", 4)], "val": [rows("a", 6)]})
    return opened(folder)


def test_sentences_are_given_made_and_the_query(both: EvalData) -> None:
    found = pairs.cases(part(2), both)
    assert list(found.keys) == list(both.keys)
    assert found.prompt.shape == (6, 5 * 16)
    assert found.new_tokens == 16
    assert (found.kept, found.frames, found.legend) == (0, 1, None)
    named = found.notes[0].removeprefix("prompt of all samples: ").split(" of split train")[0].split(", ")
    assert len(named) == 2
    assert all(key in [row.key for row in (*rows("t", 5), *rows("u", 4))] for key in named)
    assert shown(found) == pair_of(named[0]) + pair_of(named[1])
    for number, key in enumerate(found.keys):
        assert found.prompt[number, -16:].tolist() == codes(key)["edge"].tolist()
        assert found.prompt[number, :-16].tolist() == found.prompt[0, :-16].tolist()
        assert found.truth_codes[number].tolist() == codes(key)["image"].tolist()
    assert np.array_equal(
        found.truth(np.array([4, 1])), [picture(found.keys[4], "image"), picture(found.keys[1], "image")]
    )


def test_more_pairs_stand_before_fewer_and_samples_stay(alone: EvalData, both: EvalData) -> None:
    for data in (alone, both):
        each = [pairs.cases(part(count), data) for count in range(7)]
        assert shown(each[0]) == []
        for fewer, more in itertools.pairwise(each):
            assert shown(more)[2:] == shown(fewer)
            assert list(more.keys) == list(fewer.keys)
            assert np.array_equal(more.truth_codes, fewer.truth_codes)


def test_rows_that_prompts_are_taken_from_are_no_samples(alone: EvalData) -> None:
    found = pairs.cases(part(), alone)
    assert len(found) == 17 - 6
    assert "6 rows of split val are no samples: prompts are taken from them" in found.notes
    seven = pairs.cases(part(7), alone)
    assert len(seven) == 17 - 7
    used = {key for key in alone.keys for image in pair_of(key) if image in shown(seven)}
    assert len(used) == 7
    assert not used & set(seven.keys)


def test_without_pairs_few_rows_are_all_samples(tmp_path: Path) -> None:
    write_data(tmp_path / "few", {"val": [rows("a", 5)]})
    found = pairs.cases(part(0), opened(tmp_path / "few"))
    assert (len(found), found.notes) == (5, ("no prompt: each query stands alone",))


def test_another_seed_takes_other_pairs(both: EvalData) -> None:
    prompts = {str(shown(pairs.cases(part(3), both, seed=seed))) for seed in range(5)}
    assert len(prompts) == 5
    assert shown(pairs.cases(part(3), both, seed=1)) == shown(pairs.cases(part(3, name="renamed"), both, seed=1))


def test_the_prompt_can_come_from_a_named_split(both: EvalData) -> None:
    found = pairs.cases(part(), both, prompt_split="val")
    assert "of split val" in found.notes[0]
    assert len(found) == 5  # six rows are too few to keep six for prompts
    with pytest.raises(UserError, match=r"no rows in split 'tests'.*name one of them with --prompt-split"):
        pairs.cases(part(), both, prompt_split="tests")


def test_a_prompt_can_be_named_by_keys(both: EvalData) -> None:
    found = pairs.cases(part(2), both, prompt=["u/001", "a/003", "t/002"])
    assert shown(found) == pair_of("a/003") + pair_of("t/002")
    assert "a/003" not in found.keys
    assert len(found) == 5
    assert (
        found.notes[0]
        == "prompt of all samples: a/003, t/002 of split val and train, the last one nearest to the query"
    )
    fewer = pairs.cases(part(1), both, prompt=["u/001", "a/003", "t/002"])
    assert list(fewer.keys) == list(found.keys)


def test_wrong_prompts_are_refused(both: EvalData) -> None:
    with pytest.raises(UserError, match="no row of key 'a/33' in split val or train; its keys look like 'a/000'"):
        pairs.cases(part(), both, prompt=["a/33"])
    with pytest.raises(UserError, match="has 2 pairs as prompt, got 1"):
        pairs.cases(part(2), both, prompt=["a/003"])
    with pytest.raises(UserError, match="names a key twice: a/003, a/003"):
        pairs.cases(part(2), both, prompt=["a/003", "a/003"])
    with pytest.raises(UserError, match="9 rows in split 'train', too few for the 10 pairs"):
        pairs.cases(part(10), both)
    with pytest.raises(UserError, match=r"6 rows in split 'val', too few for the 6 pairs of part .* and a pic"):
        pairs.cases(part(6), both, prompt_split="val")
    with pytest.raises(UserError, match="6 rows in split 'val', all of them in the prompt"):
        pairs.cases(part(6), both, prompt=list(both.keys))


def test_labels_have_a_colour_map(alone: EvalData) -> None:
    to_labels = part(kind="labels", given="image", made="edge", figures=("miou",))
    assert pairs.cases(to_labels, alone).legend == LEGEND
    with pytest.raises(UserError, match="'made' has no colour map of role image"):
        pairs.cases(part(kind="labels", figures=("miou",)), alone)


def own(colour: tuple[int, int, int] = (255, 0, 0)) -> OwnPair:
    image, edge = np.arange(16, dtype=np.uint16), np.arange(16, 32, dtype=np.uint16)
    return OwnPair(image_name="dog.jpg", annotation_name="dog.png", image=image, annotation=edge,
                   colours=np.array([colour, (0, 0, 0)], np.uint8))  # fmt: skip


def test_own_pairs_stand_in_the_order_of_the_roles(alone: EvalData) -> None:
    found = pairs.cases(part(), alone, prompt=[own()])
    assert np.array_equal(found.prompt[0, :32], [*range(16, 32), *range(16)])
    assert list(found.keys) == list(alone.keys)  # no row is used up
    assert found.notes == ("prompt of all samples: dog.jpg with dog.png, own pictures",)
    other_way = pairs.cases(part(given="image", made="edge"), alone, prompt=[own(), own()])
    assert np.array_equal(other_way.prompt[0, :32], range(32))


def test_own_pairs_must_be_in_the_colours_of_the_map(alone: EvalData) -> None:
    with pytest.raises(
        UserError, match=r"dog.png has 1 colours outside the colour map of role edge, such as \(9, 8, 7\)"
    ):
        pairs.cases(part(), alone, prompt=[own((9, 8, 7))])


def test_sentences_longer_than_the_model_knows_are_refused(both: EvalData) -> None:
    assert len(make_cases(part(3), both, 8 * 16)) == 6
    with pytest.raises(UserError, match=r"4 pairs, a query and its answer are 10 images, 160 tokens; the model was "
                                        r"trained on 128, 8 images: take at most 3 pairs"):  # fmt: skip
        make_cases(part(4), both, 8 * 16)
    with pytest.raises(
        UserError, match="16 images, 256 tokens; the model was trained on 16, 1 images: evaluate a model"
    ):
        make_cases(part(7), both, 16)


@st.composite
def arranged(draw: st.DrawFn) -> tuple[list[Made], Sequence[Sequence[Made]]]:
    """Some rows, and the same in another order in other shards."""
    made = rows("a", draw(st.integers(8, 20)))
    shuffled = draw(st.permutations(made))
    cut = draw(st.integers(1, len(made) - 1))
    return made, [shuffled[:cut], shuffled[cut:]]


def by_key(found: Cases) -> dict[str, tuple[list[int], list[int]]]:
    return {key: (found.prompt[i].tolist(), found.truth_codes[i].tolist()) for i, key in enumerate(found.keys)}


@settings(max_examples=10)
@given(arranged(), st.integers(1, 6), st.integers(1, 20), st.integers(0, 3))
def test_samples_and_prompts_depend_on_keys_alone(
    data: tuple[list[Made], Sequence[Sequence[Made]]], count: int, most: int, seed: int
) -> None:
    made, other = data
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder) / "one", {"val": [made]})
        write_data(Path(folder) / "two", {"val": other})
        one, two = opened(Path(folder) / "one"), opened(Path(folder) / "two")
        few, whole = (pairs.cases(part(count), one, most=m, seed=seed) for m in (most, None))
        again = pairs.cases(part(count), two, most=most, seed=seed)
        assert by_key(few) == by_key(again)
        assert by_key(few).items() <= by_key(whole).items()
        assert len(few) == min(most, len(whole))
        assert [key for key in whole.keys if key in few.keys] == list(few.keys)
        larger = pairs.cases(part(count), one, most=most + 1, seed=seed)
        assert set(few.keys) <= set(larger.keys)


def test_digests_name_what_is_generated(both: EvalData) -> None:
    first = pairs.cases(part(), both)
    assert first.digest == pairs.cases(part(), both).digest
    others = [pairs.cases(part(), both, seed=1), pairs.cases(part(2), both), pairs.cases(part(), both, most=3),
              pairs.cases(part(given="image", made="edge"), both)]  # fmt: skip
    assert len({first.digest, *(other.digest for other in others)}) == 5
    assert dataclasses.replace(first, notes=()).digest == first.digest


def test_a_subset_is_told(both: EvalData) -> None:
    assert "2 of 6 samples: those with the smallest hash of their key" in pairs.cases(part(), both, most=2).notes
    with pytest.raises(UserError, match="--most is 0"):
        pairs.cases(part(), both, most=0)


def test_a_missing_role_is_named(both: EvalData) -> None:
    with pytest.raises(UserError, match="has roles image, edge; part 'edge to image' needs depth"):
        pairs.cases(part(given="depth"), both)


def test_fifty_thousand_samples_take_less_than_two_gibibytes(tmp_path: Path) -> None:
    """Each sample's share, measured on fewer of them, with prompts of five images of 256 codes."""
    card = dataclasses.replace(TINY_CARD, grid=16, image_size=16)
    write_data(tmp_path / "d", {"val": [rows("a", 1000), rows("b", 1000)]}, card=card)
    tracemalloc.start()
    try:
        data = EvalData.open("made", str(tmp_path / "d"), "val", card)
        found = make_cases(part(2), data, 4096)
        assert found.digest
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.prompt.shape == (1994, 5 * 256)
    assert peak / len(found) < 2**31 / 50_000
