"""A task of the manifest: which roles of which dataset become sentences, and how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

from manifests.locate import LocatedError, at
from manifests.values import check_choice, check_keys, check_positive, check_types
from visent.errors import UserError

Kind = Literal["single", "discriminative", "generative", "natural"]
Layout = Literal["blocks", "interleaved"]
RoleOrder = Literal["fixed", "permuted"]
FrameOrder = Literal["sorted-random"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Which frames of a clip enter a sentence: a random sorted choice, or from a random start on at a steady pace.

    The pace is every `stride`-th frame, or `fps` frames a second.
    """

    order: FrameOrder | None = None
    stride: tuple[int, int] | None = None  # drawn for each clip from this range, both ends included
    fps: float | None = None
    count: int | None = None  # of each clip role; default: as many as fill the context with one clip
    step: Fraction | None = None  # frames of the clip for each one of `fps`; from the facts of the dataset

    def __post_init__(self) -> None:
        given = [name for name in ("order", "stride", "fps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(f"frames: give {' or '.join(given)}, not both; "
                            "order = 'sorted-random', stride = [1, 8] or fps = 2")  # fmt: skip
        if not given:
            object.__setattr__(self, "order", "sorted-random")
        if self.stride is not None and not 1 <= self.stride[0] <= self.stride[1]:
            raise UserError(f"frames: stride {list(self.stride)} is no range; expected 1 <= first <= last, as [1, 8]")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise LocatedError(("fps",), f"frames: fps is {self.fps:g}; expected frames per second above 0")
        if self.count is not None:
            check_positive("frames: count", self.count)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Images of one class stand together, so many at a time; the class is what a row's meta says under a key."""

    by: str = "class"  # a row without it may have "class_index"
    images: int

    def __post_init__(self) -> None:
        check_positive("group: images", self.images)


@dataclass(frozen=True, kw_only=True)
class Task:
    """How rows of one dataset become sentences: the roles of one example in order, repeated to fill the context."""

    name: str
    dataset: str
    kind: Kind
    sentence: tuple[str, ...]
    role_order: RoleOrder = "fixed"  # "permuted": drawn for each sentence, the same in all its repetitions
    frames: Frames = field(default_factory=Frames)
    layout: Layout = "blocks"
    group: Group | None = None

    def __post_init__(self) -> None:
        if not self.sentence:
            raise UserError(f"task {self.name!r}: sentence is empty; name the roles in order, as ['image', 'depth']")
        if self.group is not None and len(self.sentence) > 1:
            raise LocatedError(("group",), f"task {self.name!r}: group is for sentences of one role, this one has "
                               f"{' '.join(self.sentence)}; take group out, or name one role")  # fmt: skip


def read_task(name: str, entry: Any) -> Task:
    """Builds a task from the values of its TOML.

    Raises:
        UserError: a key or value that is none.
    """
    where = f"[tasks.{name}]"
    needed = ("dataset", "kind", "sentence")
    check_keys(where, entry, (*needed, "role_order", "frames", "layout", "group"), required=needed)
    words = dict.fromkeys(("dataset", "kind", "role_order", "layout"), str)
    check_types(where, entry, {**words, "sentence": list, "frames": dict, "group": dict})
    if not all(isinstance(role, str) for role in entry["sentence"]):
        what = f"{where}: sentence is {entry['sentence']!r}; expected a list of roles, as ['image', 'depth']"
        raise LocatedError(("sentence",), what)
    check_choice("kind", f"kind of task {name!r}", entry, KINDS)
    check_choice("layout", f"layout of task {name!r}", entry, get_args(Layout))
    check_choice("role_order", f"role_order of task {name!r}", entry, get_args(RoleOrder))
    with at("frames"):
        frames = _frames(where, entry.get("frames", {}))
    with at("group"):
        group = _group(where, entry["group"]) if "group" in entry else None
    return Task(name=name, **{**entry, "sentence": tuple(entry["sentence"]), "frames": frames, "group": group})


def _group(where: str, entry: Mapping[str, Any]) -> Group:
    check_keys(f"{where} group", entry, ("by", "images"), required=("images",))
    check_types(f"{where} group", entry, {"by": str, "images": int})
    return Group(**entry)


def _frames(where: str, entry: Mapping[str, Any]) -> Frames:
    check_keys(f"{where} frames", entry, ("order", "stride", "fps", "count"))
    check_types(f"{where} frames", entry, {"order": str, "count": int, "fps": float})
    check_choice("order", f"{where} order of frames", entry, get_args(FrameOrder))
    stride = entry.get("stride")
    if isinstance(stride, int):
        stride = [stride, stride]
    if stride is not None and not (isinstance(stride, list) and [type(s) for s in stride] == [int, int]):
        what = f"{where} frames: stride is {stride!r}; expected a number or a range, as 4 or [1, 8]"
        raise LocatedError(("stride",), what)
    values = {**entry, "stride": tuple(stride)} if stride else dict(entry)
    return Frames(**values | ({"fps": float(entry["fps"])} if "fps" in entry else {}))
