"""HD-VILA-100M (Xue et al., Advancing High-Resolution Video-Language Representation, 2022)."""

import fnmatch
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.sources import places
from pipelines.sources.base import Item
from pipelines.sources.files import below, readable
from pipelines.sources.video_lists import video_item, videos_in
from pipelines.sources.videos import VideoDataset
from visent.errors import UserError
from visent.untrusted.documents import parse_json

CLIPS = "video_clips"


@dataclass(frozen=True, kw_only=True)
class HDVILA(VideoDataset):
    """HD-VILA-100M: clips cut from 3.3 million YouTube videos in 720p.

    <root>/hdvila_part*.jsonl: {"video_id", "url", "clip": [{"clip_id", "span"}]} in each line
    <root>/video_clips/<clip_id>

    Clips that the lists name and that could not be fetched are rejects: raise --max-reject-fraction for them.
    """

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the clips of all parts."""
        there, named = set(videos_in(self.root, CLIPS).values()), set()
        for part in fnmatch.filter(places.names_in(self.root), "hdvila_part*.jsonl"):
            for entry in _entries(below(self.root, part)):
                for clip in entry["clip"]:
                    path = f"{CLIPS}/{clip['clip_id']}"
                    meta = {"video_id": entry["video_id"], "span": clip["span"]}
                    named.add(path)
                    yield video_item(clip["clip_id"].removesuffix(".mp4"), path if path in there else None, path, meta)
        if there - named:
            left_out["videos that the lists do not name"] += len(there - named)


def _entries(path: str) -> Iterator[dict[str, Any]]:
    """Reads one part, line by line.

    Raises: `UserError` for a line that is no entry.
    """
    with places.open_file(path) as file:
        for number, line in enumerate(file, 1):
            try:
                entry = parse_json(line)
                [(clip["clip_id"].removesuffix, clip["span"]) for clip in entry["clip"]], entry["video_id"]
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(
                    f"{readable(path)}, line {number}: no entry with video_id and clips; fetch it again"
                ) from error
            yield entry
