"""The grammar of a task: which images stand where in a visual sentence. Pure functions of task and context."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Int64, UInt64

from manifests.order import mix
from manifests.task import Frames, Task
from visent.errors import UserError, unknown

STILL = -1  # in place of a frame: the slot holds a still image


@dataclass(frozen=True, kw_only=True, eq=False)
class Grammar:
    """The slots of one sentence, one image each.

    A sentence repeats the task's roles, each time with another example, until the context is full. Where the last
    repetition does not fit, it is cut: 3 roles at 16 images are 5 examples whole and the first role of a sixth.

    `role` and `frame` are those of the roles in the order of the task; `arranged` puts them into another one.
    """

    roles: tuple[str, ...]
    images_per_sentence: int
    examples_per_sentence: int  # the cut one included
    frames_per_clip: int  # 0 where the sentence has no clip role
    frames_needed: int  # a clip with fewer cannot be used
    example: Int64[np.ndarray, "s"]  # slot -> which of the sentence's examples
    role: Int64[np.ndarray, "s"]  # slot -> index into `roles`
    frame: Int64[np.ndarray, "s"]  # slot -> which of the chosen frames, or STILL
    interleaved: bool

    def arranged(self, rank: Int64[np.ndarray, "b roles"]) -> tuple[Int64[np.ndarray, "b s"], Int64[np.ndarray, "b s"]]:
        """Returns role and frame of each slot in sentences whose roles are in these orders (role -> its place)."""
        slots = int((self.example == 0).sum())  # of one example
        role, frame = self.role[:slots], self.frame[:slots]
        place, clip = rank[:, role], frame != STILL
        if self.interleaved and clip.any():  # the clips stand together, where the first of them is
            first, width = np.min(place[:, clip], axis=1, keepdims=True), slots * len(self.roles)
            place = np.where(clip, first * width + frame * len(self.roles) + place, place * width)
        order = np.argsort(place, axis=1, kind="stable")[:, np.arange(len(self.role)) % slots]
        return role[order], frame[order]


def role_orders(roles: int, keys: UInt64[np.ndarray, "b"]) -> Int64[np.ndarray, "b roles"]:
    """Returns the place of each role in sentences, each order equally likely, decided by `keys` alone."""
    return np.argsort(mix(keys[:, None], np.arange(roles, dtype=np.uint64)), axis=1)


def at_stored_rate(task: Task, stored_fps: float | None) -> Task:
    """Returns the task with `frames.fps` as an exact step through clips that were stored at a rate.

    Raises:
        UserError: the clips have no constant rate, or a lower one.
    """
    wanted = task.frames.fps
    if wanted is None:
        return task
    where = f"task {task.name!r}: frames.fps is {wanted:g}, but dataset {task.dataset!r}"
    if stored_fps is None:
        raise UserError(f"{where} has no constant rate of frames: use frames.stride, or tokenize it with --fps")
    if wanted > stored_fps:
        raise UserError(f"{where} has {stored_fps:g} frames a second: use at most that, or tokenize it with --fps "
                        f"{wanted:g}")  # fmt: skip
    step = Fraction(str(stored_fps)) / Fraction(str(wanted))
    return replace(task, frames=replace(task.frames, step=step))


def grammar(task: Task, roles: Mapping[str, str], context: int, tokens_per_image: int) -> Grammar:
    """Returns the grammar of a task at a context of so many tokens; `roles` are the dataset's, still or clip.

    Raises:
        UserError: an unknown role, or a context that the sentence does not fit.
    """
    for role in task.sentence:
        if role not in roles:
            raise unknown(f"role in the sentence of task {task.name!r} (dataset {task.dataset!r})", role, roles)
    if context % tokens_per_image:
        low = context // tokens_per_image * tokens_per_image
        raise UserError(
            f"context {context} of task {task.name!r} is no multiple of its {tokens_per_image} tokens per image: "
            f"use {low or tokens_per_image} or {low + tokens_per_image}"
        )
    images = context // tokens_per_image
    clips = sum(roles[role] == "clip" for role in task.sentence)
    stills = len(task.sentence) - clips
    count = (task.frames.count or max((images - stills) // clips, 1)) if clips else 0
    one = _one_example(task, roles, count)
    if len(one) > images:
        raise UserError(
            f"context {context} holds {images} images of {tokens_per_image} tokens, task {task.name!r} needs "
            f"{len(one)} for {' '.join(task.sentence)}: use a context of {len(one) * tokens_per_image} or more"
        )
    _check_group(task, roles, images, tokens_per_image)
    slots = np.array([one[slot % len(one)] for slot in range(images)], np.int64)
    return Grammar(
        roles=task.sentence,
        images_per_sentence=images,
        examples_per_sentence=-(-images // len(one)),
        frames_per_clip=count,
        frames_needed=_frames_needed(task.frames, count),
        example=np.arange(images, dtype=np.int64) // len(one),
        role=slots[:, 0],
        frame=slots[:, 1],
        interleaved=task.layout == "interleaved",
    )


def _check_group(task: Task, roles: Mapping[str, str], images: int, tokens_per_image: int) -> None:
    if task.group is None:
        return
    size = task.group.images
    if roles[task.sentence[0]] == "clip":
        raise UserError(f"task {task.name!r}: group is for stills, {task.sentence[0]!r} is a clip; take group out")
    if images % size:
        low = images // size * size * tokens_per_image
        raise UserError(
            f"task {task.name!r}: the context holds {images} images, no whole groups of {size}: use a context of "
            f"{f'{low} or ' if low else ''}{low + size * tokens_per_image}, or another group.images"
        )


def _one_example(task: Task, roles: Mapping[str, str], count: int) -> list[tuple[int, int]]:
    """Returns (role, frame) of each image of one example, in order."""
    clips = [i for i, role in enumerate(task.sentence) if roles[role] == "clip"]
    if task.layout == "interleaved" and clips:
        woven = [(i, frame) for frame in range(count) for i in clips]
        before = [(i, STILL) for i in range(clips[0])]
        after = [(i, STILL) for i in range(clips[0], len(task.sentence)) if i not in clips]
        return before + woven + after
    slots: list[tuple[int, int]] = []
    for i in range(len(task.sentence)):
        slots += [(i, frame) for frame in range(count)] if i in clips else [(i, STILL)]
    return slots


def _frames_needed(frames: Frames, count: int) -> int:
    smallest = frames.stride[0] if frames.stride else frames.step or 1
    return int((count - 1) * smallest) + 1 if count else 0


def choose_frames(
    frames: Frames, count: int, lengths: Int64[np.ndarray, "*n"], keys: UInt64[np.ndarray, "*n"]
) -> Int64[np.ndarray, "*n count"]:
    """Returns `count` ascending frame numbers for each clip of `lengths` frames, decided by `keys` alone.

    Every length must be at least the grammar's `frames_needed`.
    """
    if frames.step is not None:
        past = np.arange(count, dtype=np.int64) * frames.step.numerator // frames.step.denominator
        room = lengths - past[-1]
        begin = (mix(keys, 2) % room.astype(np.uint64)).astype(np.int64)
        return np.asarray(begin[..., None] + past)
    if frames.stride is None:
        return _sorted_random(count, lengths, keys)
    first, last = frames.stride
    fits = (lengths - 1) // max(count - 1, 1)  # the largest stride this clip has room for
    widest = np.minimum(last, fits) if count > 1 else np.full_like(lengths, first)
    stride = first + (mix(keys, 1) % (widest - first + 1).astype(np.uint64)).astype(np.int64)
    room = lengths - (count - 1) * stride
    start = (mix(keys, 2) % room.astype(np.uint64)).astype(np.int64)
    return start[..., None] + np.arange(count, dtype=np.int64) * stride[..., None]


def _sorted_random(
    count: int, lengths: Int64[np.ndarray, "*n"], keys: UInt64[np.ndarray, "*n"]
) -> Int64[np.ndarray, "*n count"]:
    longest = int(lengths.max(initial=count))
    frame = np.arange(longest, dtype=np.int64)
    if longest == count:
        return np.broadcast_to(frame, (*lengths.shape, count)).copy()
    draw = mix(keys[..., None], frame.astype(np.uint64)) >> np.uint64(1)
    draw = np.where(frame < lengths[..., None], draw, np.uint64(2**64 - 1))  # frames that the clip lacks come last
    return np.sort(np.argpartition(draw, count - 1, axis=-1)[..., :count], axis=-1)
