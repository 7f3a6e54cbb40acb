"""Datasets of videos: what all of them share, and a plain folder of video files."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import VIDEO_ENDINGS, below, keys_of, listed
from pipelines.sources.video_clips import VideoOptions, frames_expected, rows


@dataclass(frozen=True, kw_only=True)
class VideoDataset(VideoOptions, Dataset):
    """A dataset whose items each name a video file, or a span of one; what is left to say is `items`."""

    root: str

    items_per_shard: ClassVar[int] = 64
    small_items: ClassVar[bool] = False

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """A clip `frames`, or a still `image`."""
        return self.video_roles

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives clips or stills as pixels; the unreadable rest of a video is a reject after its good part."""
        return rows(item, below(self.root, item.files["video"]), self)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Guesses from the lengths that the containers state."""
        return frames_expected(items, [below(self.root, item.files["video"]) for item in items], self)


@dataclass(frozen=True, kw_only=True)
class Videos(VideoDataset):
    """Any folder of videos: a row of role `frames` for each clip, or with --stills a row `image` for each frame.

    <root>/**/*.mp4, .avi, .mkv, .webm, .mov, ...
    """

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos by their paths without ending."""
        for key, path in keys_of(listed(self.root, VIDEO_ENDINGS, "videos", left_out)).items():
            yield Item(key=key, files={"video": path})
