"""Something-Something v2 (Goyal et al., The "Something Something" Video Database, 2017)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.sources.base import Item
from pipelines.sources.reading import read_json
from pipelines.sources.video_lists import first_there, video_item, videos_in
from pipelines.sources.videos import VideoDataset
from visent.errors import UserError

VIDEOS = "20bn-something-something-v2"
PREFIXES = ("", "something-something-v2-")
FILES = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class SSv2(VideoDataset):
    """Something-Something v2: 220,847 videos of hands doing 174 things to something, at 12 frames per second.

    <root>/20bn-something-something-v2/<id>.webm
    <root>/labels/{labels,train,validation,test}.json

    The JSON files may lie in <root> itself, and be named something-something-v2-<name>.json.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the split's ids; the label is the template with the objects filled in. Tests have none."""
        indices = self._json("labels") or {}
        there = videos_in(self.root, VIDEOS)
        for entry in self._json(FILES[split]) or []:
            try:
                key, meta = str(entry["id"]), _meta(entry, indices)
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise UserError(f"{FILES[split]}.json: an entry is {entry!r}, expected id, label, template") from error
            yield video_item(key, there.get(key), f"{VIDEOS}/{key}.webm", meta)

    def _json(self, name: str) -> Any:
        names = [f"{folder}{prefix}{name}.json" for folder in ("labels/", "") for prefix in PREFIXES]
        path = first_there(self.root, *names)
        return read_json(path) if path else None


def _meta(entry: dict[str, Any], indices: dict[str, str]) -> dict[str, Any]:
    if "template" not in entry:
        return {}
    label = entry["template"].replace("[", "").replace("]", "")
    index = indices.get(label)
    meta = {"class": label, "class_index": None if index is None else int(index), "caption": entry["label"]}
    return {**meta, "placeholders": entry.get("placeholders", [])}
