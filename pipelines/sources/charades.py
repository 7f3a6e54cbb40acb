"""Charades (Sigurdsson et al., Hollywood in Homes: Crowdsourcing Data Collection for Activity Understanding, 2016)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.sources.base import Item
from pipelines.sources.dataset import option
from pipelines.sources.video_lists import lines, table, video_item, videos_in
from pipelines.sources.videos import VideoDataset
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Charades(VideoDataset):
    """Charades: 9,848 videos of people acting out a script at home, with the actions in them.

    <root>/Charades_v1_480/<id>.mp4 (or Charades_v1/, at full size)
    <root>/{Charades_v1_train,Charades_v1_test}.csv, Charades_v1_classes.txt

    Each clip's meta has the actions that happen in it. With --per-action there is an item for each action instead.
    """

    per_action: bool = option(False, "Cut the videos into their actions, which overlap.")

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    folders: ClassVar[tuple[str, ...]] = ("Charades_v1_480", "Charades_v1")
    tables: ClassVar[tuple[str, ...]] = ("Charades_v1_{split}.csv",)
    classes: ClassVar[tuple[str, ...]] = ("Charades_v1_classes.txt",)

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the rows of the split's table."""
        names = dict(line.split(maxsplit=1) for line in lines(self.root, *self.classes) if " " in line)
        there = {name: path for folder in reversed(self.folders) for name, path in videos_in(self.root, folder).items()}
        for row in table(self.root, [name.format(split=split) for name in self.tables], ("id", "script", "actions")):
            key, named = row["id"], f"{self.folders[0]}/{row['id']}.mp4"
            if not self.wanted(row):
                left_out["videos of the other view"] += 1
                continue
            actions = _actions(key, row["actions"], names)
            meta = {**({"caption": row["script"]} if row["script"] else {}), **self.described(row)}
            if not self.per_action:
                yield video_item(key, there.get(key), named, meta, actions=actions)
                continue
            for number, action in enumerate(actions):
                span = [action["start"], action["end"]]
                yield video_item(f"{key}/{number:02d}", there.get(key), named, {**meta, **action}, span=span)

    def wanted(self, row: Mapping[str, str]) -> bool:
        """Says whether a row of the table is meant by the options."""
        return True

    def described(self, row: Mapping[str, str]) -> dict[str, Any]:
        """Returns what else a row's meta has."""
        return {}


def _actions(key: str, text: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Reads "c092 11.90 21.20;c147 0.00 12.60": class and seconds."""
    actions = []
    for part in filter(None, text.split(";")):
        try:
            code, start, end = part.split()
            action = {"class": names.get(code, code), "class_index": int(code.removeprefix("c"))}
            actions.append({**action, "start": float(start), "end": float(end)})
        except ValueError as error:
            raise UserError(f"video {key}: the action is {part!r}, expected as 'c092 11.90 21.20'") from error
    return actions
