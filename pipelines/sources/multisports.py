"""MultiSports (Li et al., MultiSports: Spatio-Temporally Localized Sports Actions, 2021)."""

import io
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
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
from visent.errors import UserError

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
             "start": round((tube[0, 0] - 1) / rate, 3), "end": round(tube[-1, 0] / rate, 3),
             "box": [round(float(side), 4) for side in _hull(tube) / (width, height, width, height)]}
            for label, tubes in truth["gttubes"][item.key].items() for tube in tubes
        ]  # fmt: skip
        ordered = sorted(actions, key=lambda action: (action["start"], action["class_index"]))
        yield from rows(replace(item, data={**item.data, "actions": ordered}), video, self)


def _hull(tube: np.ndarray) -> np.ndarray:
    """Returns the box around all boxes of a tube, whose rows are frame, left, top, right, bottom."""
    return np.concatenate([tube[:, 1:3].min(axis=0), tube[:, 3:5].max(axis=0)])


@parsed_once
def _truth(path: str) -> Mapping[str, Any]:
    """Reads the publisher's pickle, and no other kind of object than it has: it cannot run code."""
    try:
        truth = _Arrays(io.BytesIO(places.read(path)), encoding="latin1").load()
        if missing := {"labels", "train_videos", "test_videos", "resolution", "gttubes"} - set(truth):
            raise UserError(f"{readable(path)} has no {min(missing)}; fetch multisports_GT.pkl again")
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, OSError) as error:
        raise UserError(f"{readable(path)} is no pickle of MultiSports ({error}); fetch it again") from error
    return truth  # type: ignore[no-any-return]


HELD = {
    ("collections", "OrderedDict"), ("collections", "defaultdict"), ("builtins", "dict"), ("builtins", "list"),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"), ("numpy._core.numeric", "_frombuffer"), ("_codecs", "encode"),
}  # fmt: skip


class _Arrays(pickle.Unpickler):
    """Loads plain values and numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # as numpy 1 wrote it
        if (module, name) not in HELD:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}")
        return super().find_class(module, name)
