"""MultiSports (Li et al., MultiSports: Spatio-Temporally Localized Sports Actions, 2021)."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.files import below, readable
from pipelines.sources.reading import parsed_once
from pipelines.sources.video_clips import rows
from pipelines.sources.video_frames import frame_rate
from pipelines.sources.video_lists import first_there, video_item, videos_in
from pipelines.sources.videos import VideoDataset
from tokenizer.checkpoints.pickles import Rebuilders, load_pickle
from tokenizer.checkpoints.torch_files import DAMAGE
from visent.errors import UserError, said

LISTS = {"train": "train_videos", "val": "test_videos"}
TRUTH = ("annotations/multisports_GT.pkl", "trainval/multisports_GT.pkl", "multisports_GT.pkl")


@dataclass(frozen=True, kw_only=True)
class MultiSports(VideoDataset):
    """MultiSports: 3,200 clips of gymnastics, volleyball, football and basketball, with 66 actions of athletes.

    <root>/trainval/<sport>/<video>.mp4
    <root>/annotations/multisports_GT.pkl (or in trainval/ or <root>)

    The `actions` in a clip's meta are those that happen in it: class, start and end, and the box that holds the athlete
    from start to end, as parts of width and height (left, top, right, bottom).
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos of the split."""
        path = first_there(self.root, *TRUTH)
        if path is None:
            return
        there = videos_in(self.root, "trainval")
        truth = _truth(path)
        for name in truth[LISTS[split]][0]:
            if there.get(name) and not (name in truth["resolution"] and name in truth["gttubes"]):
                raise UserError(f"{readable(path)} names {name} without its resolution and tubes; fetch it again")
            item = video_item(name, there.get(name), f"trainval/{name}.mp4", {"sport": name.split("/")[0]})
            yield replace(item, size=places.size_of(path))

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives clips with their actions; the publisher counts frames, from 1."""
        truth = _truth(first_there(self.root, *TRUTH) or below(self.root, TRUTH[0]))
        video = below(self.root, item.files["video"])
        rate, (height, width) = frame_rate(video), truth["resolution"][item.key]
        names = dict(enumerate(truth["labels"]))
        actions = [
            {"class": names.get(label, str(label)), "class_index": int(label),
             "start": round(float(tube[0, 0] - 1) / rate, 3), "end": round(float(tube[-1, 0]) / rate, 3),
             "box": [round(float(side), 4) for side in _hull(tube) / (width, height, width, height)]}
            for label, tubes in truth["gttubes"][item.key].items() for tube in tubes
        ]  # fmt: skip
        ordered = sorted(actions, key=lambda action: (action["start"], action["class_index"]))
        yield from rows(replace(item, data={**item.data, "actions": ordered}), video, self)


def _hull(tube: np.ndarray) -> np.ndarray:
    """Returns the box around all boxes of a tube, whose rows are frame, left, top, right, bottom."""
    return np.concatenate([tube[:, 1:3].min(axis=0), tube[:, 3:5].max(axis=0)])


def _none(*_: object) -> dict[Any, Any]:
    return {}


# What the names of containers stand for; arrays are made as of any other pickle.
CONTAINERS: Rebuilders = {("collections", "defaultdict"): _none, ("builtins", "dict"): dict, ("builtins", "list"): list}


@parsed_once
def _truth(path: str) -> Mapping[str, Any]:
    """Reads the publisher's pickle without running it: what its names stand for is made here, all others are refused.

    Raises: `UserError` when it is another pickle, or none.
    """
    try:
        truth = load_pickle(io.BytesIO(places.read(path)), readable(path), encoding="latin1", more=CONTAINERS)
    except OSError as error:
        raise UserError(f"cannot read {readable(path)}: {error.strerror}") from error
    except (UserError, *DAMAGE) as error:
        raise UserError(f"{readable(path)} is no pickle of MultiSports ({said(error)}); fetch it again") from error
    for name, fits in EXPECTED.items():
        if not (isinstance(truth, dict) and name in truth and _safely(fits, truth[name])):
            raise UserError(f"{readable(path)} has no {name} as MultiSports has them; fetch multisports_GT.pkl again")
    return dict(truth)


def _safely(fits: Callable[[Any], bool], value: Any) -> bool:
    try:
        return fits(value)
    except (TypeError, AttributeError, LookupError, ValueError):
        return False


def _is_lists(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value[0])


def _is_sizes(value: Any) -> bool:
    sizes = value.values() if isinstance(value, dict) else [()]
    return all(isinstance(size, tuple) and len(size) == 2 and min(size) > 0 for size in sizes)


def _is_tubes(value: Any) -> bool:
    """Tells whether it is video -> action -> arrays of rows frame, left, top, right, bottom."""
    actions = [tubes for labels in value.values() for tubes in labels.values()]
    return all(isinstance(tube, np.ndarray) and tube.ndim == 2 and len(tube) and tube.shape[1] >= 5
               for tubes in actions for tube in tubes)  # fmt: skip


EXPECTED: Mapping[str, Callable[[Any], bool]] = {
    "labels": lambda value: isinstance(value, (list, tuple)),
    "train_videos": _is_lists,
    "test_videos": _is_lists,
    "resolution": _is_sizes,
    "gttubes": _is_tubes,
}
