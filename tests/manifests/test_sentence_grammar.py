"""The grammar: which example, role and frame stands in each slot of a sentence."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.sentence import STILL, Grammar, at_stored_rate, choose_frames, grammar, role_orders
from manifests.task import Frames, Task
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


@given(
    data=st.data(),
    sentence=st.lists(st.sampled_from(list(ROLES)), min_size=1, max_size=5),
    layout=st.sampled_from(["blocks", "interleaved"]),
    more=st.integers(0, 20),
)
def test_a_permuted_sentence_is_that_of_a_task_with_its_roles_in_that_order(
    data: st.DataObject, sentence: list[str], layout: str, more: int
) -> None:
    order = data.draw(st.permutations(range(len(sentence))))  # place -> role
    frames = Frames(count=data.draw(st.integers(1, 4)))
    clips = sum(ROLES[role] == "clip" for role in sentence)
    context = (len(sentence) + clips * (frames.count or 0) + more) * 16
    plain = grammar(task(*sentence, frames=frames, layout=layout), ROLES, context, 16)
    wanted = grammar(task(*(sentence[i] for i in order), frames=frames, layout=layout), ROLES, context, 16)
    role, frame = plain.arranged(np.argsort(np.array([order], np.int64), axis=1))
    assert np.array_equal(role[0], np.array(order)[wanted.role])
    assert np.array_equal(frame[0], wanted.frame)
    assert np.array_equal(plain.example, wanted.example)


def test_every_order_of_roles_is_about_as_frequent() -> None:
    seen = Counter(map(tuple, role_orders(3, np.arange(6000, dtype=np.uint64)).tolist()))
    assert set(seen) == set(permutations(range(3)))
    assert max(abs(count - 1000) for count in seen.values()) < 150  # standard deviation 29


@given(images=st.integers(1, 80), tokens=st.sampled_from([16, 256, 1024]), roles=st.integers(1, 5))
def test_any_multiple_of_the_tokens_per_image_is_a_context(images: int, tokens: int, roles: int) -> None:
    """Among them 256, 2048, 3072, 4096 and 16384 tokens."""
    sentence = [("image", "depth", "edge")[i % 3] for i in range(roles)]
    if images < roles:
        with pytest.raises(UserError, match=f"use a context of {roles * tokens} or more"):
            grammar(task(*sentence), ROLES, images * tokens, tokens)
        return
    rule = grammar(task(*sentence), ROLES, images * tokens, tokens)
    assert len(rule.example) == len(rule.role) == images == rule.images_per_sentence
    assert rule.role.tolist() == [slot % roles for slot in range(images)]
    assert rule.examples_per_sentence == rule.example[-1] + 1 == -(-images // roles)


@pytest.mark.parametrize("context", [256, 2048, 3072, 4096, 16384])
@pytest.mark.parametrize("frames", [Frames(), Frames(stride=(2, 4)), Frames(fps=2.0)])
def test_clips_fill_every_usual_context(context: int, frames: Frames) -> None:
    rule = grammar(at_stored_rate(task("frames", frames=frames), 5.0), ROLES, context, 256)
    assert rule.frame.tolist() == list(range(context // 256))
    assert rule.examples_per_sentence == 1


@given(
    stored=st.sampled_from([1.0, 5.0, 8.0, 12.0, 24.0, 29.97, 30.0]), part=st.floats(0.05, 1.0),
    count=st.integers(1, 12), spare=st.lists(st.integers(0, 30), min_size=1, max_size=20), key=st.integers(0, 2**63),
)  # fmt: skip
def test_frames_at_a_rate_are_never_a_frame_away_from_their_time(
    stored: float, part: float, count: int, spare: list[int], key: int
) -> None:
    wanted = float(f"{stored * part:.3g}") if stored * part >= 0.01 else 0.01
    clip = at_stored_rate(task("frames", frames=Frames(fps=min(wanted, stored), count=count)), stored)
    needed = grammar(clip, ROLES, count * 16, 16).frames_needed
    lengths = np.array(spare, np.int64) + needed
    chosen = choose_frames(clip.frames, count, lengths, np.arange(len(spare), dtype=np.uint64) + np.uint64(key))
    assert (chosen >= 0).all()
    assert (chosen < lengths[:, None]).all()
    times = (chosen - chosen[:, :1]) / stored
    due = np.arange(count) / min(wanted, stored)
    assert (times <= due + 1e-9).all()
    assert (due - times < 1 / stored + 1e-9).all()
    assert (np.diff(chosen, axis=1) >= 1).all()
    assert needed == chosen[0, -1] - chosen[0, 0] + 1


def test_a_rate_that_the_clips_do_not_have_is_refused() -> None:
    wanted = task("frames", frames=Frames(fps=8.0))
    with pytest.raises(UserError, match=r"'d' has no constant rate of frames: use frames.stride, or tokenize"):
        at_stored_rate(wanted, None)
    with pytest.raises(UserError, match=r"'d' has 5 frames a second: use at most that, or tokenize it with --fps 8"):
        at_stored_rate(wanted, 5.0)
    with pytest.raises(UserError, match=r"give stride or fps, not both"):
        Frames(stride=(1, 2), fps=2.0)
