"""The grammar: which example, role and frame stands in each slot of a sentence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.manifest import Frames, Task
from manifests.sentence import STILL, Grammar, choose_frames, grammar
from visent.errors import UserError

ROLES = {"image": "still", "depth": "still", "edge": "still", "frames": "clip", "mask": "clip"}


def task(*sentence: str, **more: object) -> Task:
    return Task(name="t", dataset="d", kind="natural", sentence=sentence, **more)  # type: ignore[arg-type]


def spelled(rule: Grammar) -> str:
    """Slots as words: example number, first letter of the role, frame."""
    parts = zip(rule.example, rule.role, rule.frame, strict=True)
    return " ".join(f"{e}{rule.roles[r][0]}{'' if f == STILL else f}" for e, r, f in parts)


@pytest.mark.parametrize(
    ("rule", "context", "slots"),
    [
        (task("image"), 1, "0i"),
        (task("image"), 4, "0i 1i 2i 3i"),
        (task("image", "depth"), 4, "0i 0d 1i 1d"),
        (task("depth", "image"), 2, "0d 0i"),
        (task("image", "depth", "edge"), 5, "0i 0d 0e 1i 1d"),
        (task("frames"), 4, "0f0 0f1 0f2 0f3"),
        (task("frames"), 1, "0f0"),
        (task("frames", frames=Frames(count=2)), 5, "0f0 0f1 1f0 1f1 2f0"),
        (task("mask", "frames"), 4, "0m0 0m1 0f0 0f1"),
        (task("mask", "frames", layout="interleaved"), 4, "0m0 0f0 0m1 0f1"),
        (task("image", "frames"), 4, "0i 0f0 0f1 0f2"),
        (task("image", "mask", "frames", "edge", layout="interleaved"), 6, "0i 0m0 0f0 0m1 0f1 0e"),
    ],
)
def test_slots(rule: Task, context: int, slots: str) -> None:
    assert spelled(grammar(rule, ROLES, context * 256, 256)) == slots


def test_eight_pairs_fill_4096_and_sixteen_frames_do() -> None:
    assert grammar(task("image", "depth"), ROLES, 4096, 256).examples_per_sentence == 8
    clip = grammar(task("frames"), ROLES, 4096, 256)
    assert (clip.examples_per_sentence, clip.frames_per_clip, clip.frames_needed) == (1, 16, 16)


@pytest.mark.parametrize(("stride", "needed"), [((1, 1), 4), ((2, 2), 7), ((3, 8), 10)])
def test_a_stride_needs_so_many_frames(stride: tuple[int, int], needed: int) -> None:
    rule = grammar(task("frames", frames=Frames(stride=stride)), ROLES, 4 * 256, 256)
    assert rule.frames_needed == needed


def test_a_context_that_does_not_fit_says_which_would() -> None:
    with pytest.raises(UserError, match=r"context 300 .* no multiple .* use 256 or 512"):
        grammar(task("image"), ROLES, 300, 256)
    with pytest.raises(UserError, match=r"needs 2 for image depth: use a context of 512 or more"):
        grammar(task("image", "depth"), ROLES, 256, 256)
    with pytest.raises(UserError, match=r"needs 2 for image frames"):
        grammar(task("image", "frames"), ROLES, 256, 256)


def test_an_unknown_role_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"role .*'depht': did you mean 'depth'"):
        grammar(task("image", "depht"), ROLES, 512, 256)


@given(
    lengths=st.lists(st.integers(5, 40), min_size=1, max_size=20),
    count=st.integers(1, 5),
    stride=st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1]))),
    key=st.integers(0, 2**63),
)
def test_chosen_frames_ascend_inside_the_clip_and_keep_the_stride(
    lengths: list[int], count: int, stride: tuple[int, int] | None, key: int
) -> None:
    frames = Frames(stride=stride)
    needed = (count - 1) * (stride[0] if stride else 1) + 1
    long = np.array([max(length, needed) for length in lengths], np.int64)
    keys = np.arange(len(long), dtype=np.uint64) + np.uint64(key)
    chosen = choose_frames(frames, count, long, keys)
    assert chosen.shape == (len(long), count)
    assert (chosen >= 0).all()
    assert (chosen < long[:, None]).all()
    steps = np.diff(chosen, axis=1)
    assert (steps >= 1).all()
    if stride and count > 1:
        assert (steps == steps[:, :1]).all()
        assert ((steps >= stride[0]) & (steps <= stride[1])).all()


def test_every_frame_is_chosen_about_equally_often() -> None:
    lengths = np.full(6000, 12, np.int64)
    chosen = choose_frames(Frames(), 4, lengths, np.arange(6000, dtype=np.uint64))
    seen = np.bincount(chosen.reshape(-1), minlength=12)  # 2000 expected, standard deviation 37
    assert seen.min() > 1800
    assert seen.max() < 2200
