"""Ego4D (Grauman et al., Ego4D: Around the World in 3,000 Hours of Egocentric Video, 2022)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pipelines.sources.base import Item
from pipelines.sources.dataset import option
from pipelines.sources.files import below
from pipelines.sources.reading import parsed_once, read_json
from pipelines.sources.video_clips import spans
from pipelines.sources.video_frames import seconds
from pipelines.sources.video_lists import first_there, video_item, videos_in
from pipelines.sources.videos import VideoDataset
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Ego4D(VideoDataset):
    """Ego4D: 3,670 hours of daily life, filmed by those who live it.

    <root>/v2/full_scale/<video_uid>.mp4
    <root>/v2/clips/<clip_uid>.mp4
    <root>/ego4d.json (or v2/ego4d.json): lengths, scenarios and splits of the videos

    A long video becomes several items; each is read from its own place in the file. Videos that were not downloaded
    are left out.
    """

    videos: Literal["full_scale", "clips"] = option("full_scale", "Which of the downloaded data sets.")
    benchmark: Literal["em", "av", "fho"] | None = option(None, "Whose split to follow; else everything is train.")
    seconds_per_item: float = option(300.0, "Seconds of video in one item.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.seconds_per_item < 1e6:
            raise UserError(f"--seconds-per-item is {self.seconds_per_item}, expected seconds above 0")
        if self.benchmark and self.videos == "clips":
            raise UserError("--benchmark is stated for videos, not for clips; use --videos full_scale")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the spans of the videos that are there."""
        known = self._known()
        for uid, path in videos_in(self.root, f"v2/{self.videos}").items():
            entry = known.get(uid, {})
            member = entry.get(f"split_{self.benchmark}") if self.benchmark else "train"
            if member not in self.splits and split == "train":
                left_out[f"videos outside the splits of {self.benchmark}"] += 1
            if member != split:
                continue
            length = entry.get("duration_sec") or seconds(below(self.root, path))
            if not isinstance(length, (int, float)):
                raise UserError(f"ego4d.json states for {uid} a duration of {str(length)[:40]!r}; fetch it again")
            meta = {"scenarios": entry["scenarios"]} if entry.get("scenarios") else {}
            for span in spans(length, self.seconds_per_item):
                yield video_item(f"{uid}/{span[0]:05.0f}", path, path, meta, span=span)

    def _known(self) -> Mapping[str, Mapping[str, Any]]:
        path = first_there(self.root, "ego4d.json", "v2/ego4d.json")
        if path is None and self.benchmark:
            raise UserError(f"--benchmark {self.benchmark} needs ego4d.json in the root; fetch it with the Ego4D CLI")
        return _videos(path) if path else {}


@parsed_once
def _videos(path: str) -> Mapping[str, Mapping[str, Any]]:
    """Maps video_uid to what ego4d.json says of it."""
    try:
        entries = {entry["video_uid"]: entry for entry in read_json(path)["videos"]}
        names = ("scenarios", *(name for name in next(iter(entries.values()), {}) if name.startswith("split_")))
        return {
            uid: {"duration_sec": float(entry.get("duration_sec") or 0.0), **{name: entry.get(name) for name in names}}
            for uid, entry in entries.items()
        }
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not Ego4D's: no videos with a video_uid each; fetch it again") from error
