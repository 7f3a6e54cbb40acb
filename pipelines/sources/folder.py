"""A folder of pictures, at any depth, here or in a bucket; videos in it can give stills too."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import Any, Literal

from manifests.legend import Legend
from pipelines.sources import places
from pipelines.sources.base import Encoded, Example, Item, Reject, Unit
from pipelines.sources.files import IMAGE_ENDINGS, VIDEO_ENDINGS, below, checked_root, keys_of, listed, noted, readable
from pipelines.sources.reading import read_file
from pipelines.sources.video_clips import PROBED, VideoOptions, check_rate, rows
from pipelines.sources.video_frames import seconds
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Every picture below the folders in `paths` is one example of role `image`.

    With `video_stills` (frames per second of video) every video there gives that many examples more. With several
    folders, keys and sources begin with the folder's name.
    """

    paths: tuple[str, ...]
    items_per_unit: int
    video_stills: float | None = None
    name: str = "folder"

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(checked_root(path) for path in self.paths))
        check_rate(self.video_stills, "--video-stills")
        if len(self.roots) < len(self.paths):
            raise UserError(f"two folders have the same name, so keys would mix; rename one: {', '.join(self.paths)}")

    @property
    def roots(self) -> Mapping[str, str]:
        """Where the files lie: each folder by the name that its keys begin with."""
        return {PurePath(path).name if len(self.paths) > 1 else "": path for path in self.paths}

    @property
    def roles(self) -> Mapping[str, Literal["still", "clip"]]:
        """One still picture."""
        return {"image": "still"}

    @property
    def legends(self) -> Mapping[str, Legend]:
        """None: pictures are no maps of classes."""
        return {}

    @property
    def options(self) -> Mapping[str, Any]:
        """What decides the rows besides the files."""
        return {"video_stills": self.video_stills}

    def listing(self) -> tuple[list[Item], str]:
        """Lists pictures (and videos) sorted by key, with a note on the files left out."""
        endings, what = IMAGE_ENDINGS, "pictures"
        if self.video_stills is not None:
            endings, what = IMAGE_ENDINGS | VIDEO_ENDINGS, "pictures or videos"
        found: list[str] = []
        left_out: Counter[str] = Counter()
        for name, root in self.roots.items():
            found += [below(name, path) for path in listed(root, endings, what, left_out)]
        return [Item(key=key, files={_kind(path): path}) for key, path in keys_of(found).items()], noted(left_out)

    def by_item(self, unit: Unit) -> Iterator[Iterable[Example | Reject]]:
        """Gives each picture as bytes, and each video's stills as pixels."""
        options = VideoOptions(fps=self.video_stills or 1.0, stills=True)
        pictures = places.at_once(self._picture, unit.items, *self.paths)
        for item, found in zip(unit.items, pictures, strict=True):
            yield rows(item, self._full(item.files["video"]), options) if found is None else (found,)

    def examples(self, unit: Unit) -> Iterator[Example | Reject]:
        """Gives what `by_item` gives, one after the other."""
        return chain.from_iterable(self.by_item(unit))

    def _picture(self, item: Item) -> Example | Reject | None:
        """Reads a picture; None for a video, whose stills are not to wait in memory."""
        return picture(item, self._full(item.files["image"])) if "image" in item.files else None

    def estimate(self, items: Sequence[Item]) -> int | None:
        """Counts one for a picture, and for a video the length, of which some are looked at, times the rate."""
        videos = [self._full(item.files["video"]) for item in items if "video" in item.files]
        lengths = list(places.at_once(seconds, videos[:: -(-len(videos) // PROBED)] if videos else [], *self.paths))
        stills = sum(lengths) * (self.video_stills or 0) * len(videos) / max(len(lengths), 1)
        return len(items) - len(videos) + round(stills)

    def _full(self, path: str) -> str:
        if len(self.paths) == 1:
            return below(self.paths[0], path)
        name, _, rest = path.partition(os.sep)
        return below(self.roots[name], rest)


def _kind(path: str) -> str:
    return "video" if any(path.lower().endswith(ending) for ending in VIDEO_ENDINGS) else "image"


def picture(item: Item, path: str) -> Example | Reject:
    """Reads one picture file, still encoded."""
    source = readable(item.files["image"])
    data = read_file(item.key, source, path)
    if isinstance(data, Reject):
        return data
    return Example(key=item.key, source=source, media={"image": Encoded(data=data)})
