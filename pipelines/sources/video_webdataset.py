"""Tars of videos, as video2dataset writes them: `key.mp4`, `key.txt`, `key.json` side by side."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import VIDEO_ENDINGS, below, readable
from pipelines.sources.table import meta_of, named
from pipelines.sources.tars import Sample, samples
from pipelines.sources.video_clips import VideoOptions, rows
from pipelines.sources.video_frames import seconds
from pipelines.sources.webdataset import cut_reject, held, row_of, tars_below

PROBED = 20  # videos of the first tar that are opened for the estimate


@dataclass(frozen=True, kw_only=True)
class VideoWebdataset(VideoOptions, Dataset):
    """Any tars of videos: a row of role `frames` for each clip, or with --stills a row `image` for each frame.

    <root>/**/*.tar with <key>.mp4 (or .webm, .avi, ...), <key>.txt, <key>.json as neighbours

    A row's key is the tar's name, the sample's key and the number of the clip. Each tar is one shard.
    """

    root: str
    meta: tuple[str, ...] = option(("caption",), "Fields of the json to keep in meta; the txt is caption.")

    items_per_shard: ClassVar[int] = 1
    small_items: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        named(self.meta, "--meta")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """A clip `frames`, or a still `image`."""
        return self.video_roles

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the tars with their sizes."""
        return tars_below(self.root)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives the clips of each sample's video; where a tar is cut, everything before the cut and one reject."""
        cut: list[str] = []
        for sample in samples(below(self.root, item.files["tar"]), cut):
            yield from self._of_sample(item, sample)
        yield from cut_reject(item, cut)

    def _of_sample(self, item: Item, sample: Sample) -> Iterator[Example | Reject]:
        key, source = f"{item.key}/{readable(sample.key)}", readable(item.files["tar"])
        videos = [content for ending, content in sample.members.items() if ending in VIDEO_ENDINGS]
        if sample.fault:
            yield Reject(key=key, source=source, stage="read", reason=sample.fault, detail=sample.detail)
        elif len(videos) != 1:
            reason = "several-videos" if videos else "no-video"
            yield Reject(key=key, source=source, stage="read", reason=reason, detail=held(sample))
        else:
            data = {"meta": meta_of(row_of(sample), self.meta)}
            video = Item(key=key, files={"video": item.files["tar"]}, data=data)
            yield from rows(video, io.BytesIO(videos[0]), self)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Opens a few videos of the first tar and scales by size."""
        found: list[bytes] = []
        for sample in islice(samples(below(self.root, items[0].files["tar"]), []), PROBED) if items else ():
            found += [content for ending, content in sample.members.items() if ending in VIDEO_ENDINGS]
        if not found:
            return None
        frames = sum(self.frames_of(seconds(io.BytesIO(content))) for content in found)
        return round(frames * sum(item.size for item in items) / max(sum(map(len, found)), 1))
