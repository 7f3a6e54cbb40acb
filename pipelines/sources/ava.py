"""AVA (Gu et al., AVA: A Video Dataset of Spatio-temporally Localized Atomic Visual Actions, 2018)."""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below, readable
from pipelines.sources.reading import parsed_once
from pipelines.sources.video_clips import rows
from pipelines.sources.video_lists import csv_rows, fields, first_there, lines, text, video_item, videos_in
from pipelines.sources.videos import VideoDataset
from visent.errors import UserError

HALF = 1.5  # seconds; a label is of the middle of a segment of three
Moment = tuple[float, tuple[float, ...], str]  # second, box, person
Labels = Mapping[str, Mapping[Moment, list[int]]]  # video -> moment -> actions


@dataclass(frozen=True, kw_only=True)
class AVA(VideoDataset):
    """AVA actions: 430 films, of each fifteen minutes with a box and its actions for every person and second.

    <root>/trainval/<video>.{mkv,mp4,webm}
    <root>/annotations/ava_{train,val}_v2.2.csv, ava_{train,val}_excluded_timestamps_v2.2.csv
    <root>/annotations/ava_action_list_v2.2.pbtxt

    The annotated part of a film is cut into items. The `actions` in a clip's meta are those of its seconds: box as
    parts of width and height (left, top, right, bottom), classes, person. With --around there is an item for each
    annotated second instead.
    """

    seconds_per_item: float = option(300.0, "Seconds of film in one item.")
    around: float | None = option(None, "Make an item of each annotated second, and this many before and after it.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("seconds-per-item", self.seconds_per_item), ("around", self.around)):
            if value is not None and not 0 < value < 1e6:
                raise UserError(f"--{name} is {value}, expected seconds above 0")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the spans of the films in the split's CSV, without the seconds that AVA excludes."""
        table = first_there(self.root, *_tables(split, ""))
        if table is None:
            return
        there = videos_in(self.root, "trainval")
        excluded = self._excluded(split)
        for video, moments in _labels(table).items():
            seconds = {moment[0] for moment in moments}
            kept = sorted(second for second in seconds if (video, second) not in excluded)
            if len(kept) < len(seconds):
                left_out["seconds that AVA excludes"] += len(seconds) - len(kept)
            for name, start, end in self._spans(kept):
                yield replace(
                    video_item(f"{video}/{name}", there.get(video), f"trainval/{video}.mkv", span=[start, end]),
                    size=places.size_of(table),  # other labels make other rows
                )

    def _spans(self, seconds: list[float]) -> Iterator[tuple[str, float, float]]:
        """Yields name, start and end of each item of a film."""
        if self.around is not None:
            for second in seconds:
                yield f"{second:04g}", max(second - self.around, 0.0), second + self.around
        elif seconds:
            start, last = max(seconds[0] - HALF, 0.0), seconds[-1] + HALF
            while start < last:
                end = min(start + self.seconds_per_item, last)
                yield f"{start:06.1f}", start, end
                start = end

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives clips with the actions of their seconds."""
        table = first_there(self.root, *_tables(item.split, ""))
        video = item.key.rsplit("/", 1)[0]
        excluded, names = self._excluded(item.split), self._names()
        moments = _labels(table)[video] if table else {}
        actions = [
            {"start": second, "end": second, "box": list(box), "person": person,
             "classes": [names.get(label, str(label)) for label in labels], "class_indices": labels}
            for (second, box, person), labels in moments.items() if (video, second) not in excluded
        ]  # fmt: skip
        known = replace(item, data={**item.data, "actions": actions})
        yield from rows(known, below(self.root, item.files["video"]), self)

    def _excluded(self, split: str) -> set[tuple[str, float]]:
        listed = lines(self.root, *_tables(split, "excluded_timestamps_"))
        pairs = [fields(line, "'<video>,<second>' of AVA's excluded timestamps", ",") for line in listed]
        return {(video, float(second)) for video, second in pairs if second.isdigit()}

    def _names(self) -> dict[int, str]:
        entries = re.findall(
            r'name:\s*"([^"]*)"\s*(?:label_)?id:\s*(\d+)', text(self.root, *_files("action_list", "pbtxt"))
        )
        return {int(number): name for name, number in entries}


def _tables(split: str, kind: str) -> list[str]:
    return _files(f"{split}_{kind}".rstrip("_"), "csv")


def _files(name: str, ending: str) -> list[str]:
    """Where a file of annotations may lie; a newer version comes first."""
    return [f"{folder}ava_{name}_{version}.{ending}" for version in ("v2.2", "v2.1") for folder in ("annotations/", "")]


@parsed_once
def _labels(path: str) -> Labels:
    """Reads rows of video, second, box, action and, since version 2.2, person."""
    labels: dict[str, dict[Moment, list[int]]] = defaultdict(dict)
    with places.open_file(path) as file:
        for number, row in csv_rows(io.TextIOWrapper(file, "utf-8", newline=""), path):
            try:
                video, second, *box, action = row[:7]
                if not action:  # a second without anybody
                    continue
                moment = (float(second), tuple(float(side) for side in box), row[7] if len(row) > 7 else "")
                labels[video].setdefault(moment, []).append(int(action))
            except (ValueError, IndexError) as error:
                raise UserError(
                    f"{readable(path)}, line {number}: {','.join(row)!r} is no label of AVA; fetch the file again"
                ) from error
    return labels
