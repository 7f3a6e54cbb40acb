"""Kinetics (Kay et al., The Kinetics Human Action Video Dataset, 2017; Carreira et al., 2018 and 2019)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources.base import Item
from pipelines.sources.files import readable
from pipelines.sources.video_lists import table, video_item, videos_in
from pipelines.sources.videos import VideoDataset


@dataclass(frozen=True, kw_only=True)
class Kinetics(VideoDataset):
    """Kinetics 400, 600 or 700: ten seconds each of human actions from YouTube.

    <root>/{train,val,test}/[<class>/]<youtube_id>_<start>_<end>.mp4 (or .mkv, .webm)
    <root>/annotations/{train,val,test}.csv: label,youtube_id,time_start,time_end,split

    Videos that the CSV names and YouTube no longer has are rejects: raise --max-reject-fraction for them. Without a CSV
    every video is taken, its class the name of its folder.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the CSV's rows, else the videos."""
        there = videos_in(self.root, split)
        rows = list(table(self.root, [f"annotations/{split}.csv"], ("youtube_id", "time_start", "time_end")))
        if not rows:
            for name, path in there.items():
                label = {"class": name.split("/")[0].replace("_", " ")} if "/" in name else {}
                yield video_item(f"{split}/{readable(name)}", path, path, label)
            return
        by_name = {name.rsplit("/", 1)[-1]: path for name, path in there.items()}
        for row in rows:
            name = f"{row['youtube_id']}_{row['time_start']:0>6}_{row['time_end']:0>6}"
            found = by_name.pop(name if name in by_name else row["youtube_id"], None)
            meta = {"class": row["label"]} if "label" in row else {}
            yield video_item(f"{split}/{name}", found, f"{split}/{name}.mp4", meta)
        if by_name:
            left_out["videos that the lists do not name"] += len(by_name)
