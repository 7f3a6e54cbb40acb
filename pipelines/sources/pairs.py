"""Paired folders: a picture and its annotations under the same name in one folder for each role."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal

from manifests.legend import Legend
from pipelines.render.depth import draw_depth
from pipelines.render.labels import draw_labels
from pipelines.render.legends import any_labels
from pipelines.sources import places
from pipelines.sources.base import Encoded, Example, Item, Reject, Unit
from pipelines.sources.files import ARRAY_ENDINGS, IMAGE_ENDINGS, below, checked_root, keys_of, listed, noted, readable
from pipelines.sources.reading import read_file
from visent.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class PairsSource:
    """One example for each name that occurs in the folders of `paths`, a mapping from role to a folder or a pattern.

    A pattern is a folder and a file name with one `*` (`scene/rgb_*.jpg`); what the `*` stands for is the name that
    pairs. `depth` and `labels` name the roles that hold depth maps (16-bit PNG, .npy, .npz) and maps of class ids;
    `depth_is` says whether larger depth values are nearer ("disparity") or farther ("distance").
    """

    paths: Mapping[str, str]
    items_per_unit: int
    depth: tuple[str, ...] = ("depth",)
    labels: tuple[str, ...] = ()
    depth_is: Literal["disparity", "distance"] = "disparity"
    name: str = "pairs"

    def __post_init__(self) -> None:
        if len(self.paths) < 2:
            raise UserError(f"pairs need two roles or more, got {list(self.paths)}; give image=FOLDER edge=FOLDER")
        if self.depth_is not in ("disparity", "distance"):
            raise unknown("meaning of depth", self.depth_is, ("disparity", "distance"))
        for role in (*(r for r in self.depth if r != "depth"), *self.labels):
            if role not in self.paths:
                raise unknown("role", role, self.paths)
        absolute = {}
        for role, path in self.paths.items():
            folder, pattern = _split(path)
            root = checked_root(folder, f"folder of role {role!r}")
            absolute[role] = below(root, pattern) if pattern else root
        object.__setattr__(self, "paths", absolute)

    @property
    def roots(self) -> Mapping[str, str]:
        """Folder or pattern of each role."""
        return self.paths

    @property
    def roles(self) -> Mapping[str, Literal["still", "clip"]]:
        """One still picture for each role."""
        return dict.fromkeys(self.paths, "still")

    @property
    def legends(self) -> Mapping[str, Legend]:
        """Of the roles that hold class ids."""
        return dict.fromkeys(self.labels, any_labels())

    @property
    def options(self) -> Mapping[str, Any]:
        """What decides the rows besides the files."""
        return {
            "patterns": {role: _split(path)[1] for role, path in self.paths.items()},
            "depth": list(self.depth),
            "labels": list(self.labels),
            "depth_is": self.depth_is,
        }

    def listing(self) -> tuple[list[Item], str]:
        """Lists every name of any role, sorted; a role where the name is absent is missing from the item."""
        found: dict[str, dict[str, str]] = {}
        left_out: Counter[str] = Counter()
        for role, path in self.paths.items():
            folder, pattern = _split(path)
            endings = IMAGE_ENDINGS | ARRAY_ENDINGS
            files = listed(folder, endings, f"files of role {role!r}", left_out)
            for key, file in _names(files, pattern, role).items():
                found.setdefault(key, {})[role] = file
        return [Item(key=key, files=files) for key, files in sorted(found.items())], noted(left_out)

    def by_item(self, unit: Unit) -> Iterator[Iterable[Example | Reject]]:
        """Gives complete pairs as bytes; a missing half is a reject of stage "list"."""
        return places.at_once(lambda item: (self._pair(item),), unit.items, *self.paths.values())

    def examples(self, unit: Unit) -> Iterator[Example | Reject]:
        """Gives what `by_item` gives, one after the other."""
        return chain.from_iterable(self.by_item(unit))

    def _pair(self, item: Item) -> Example | Reject:
        source = readable(next(iter(item.files.values())))
        missing = [role for role in self.paths if role not in item.files]
        if missing:
            return Reject(key=item.key, source=source, stage="list", reason=f"missing-{missing[0]}")
        media = {}
        for role, path in self.paths.items():
            data = read_file(item.key, readable(item.files[role]), below(_split(path)[0], item.files[role]))
            if isinstance(data, Reject):
                return data
            media[role] = self._still(role, data)
        return Example(key=item.key, source=source, media=media)

    def _still(self, role: str, data: bytes) -> Encoded:
        if role in self.depth:
            return Encoded(data=data, decode=partial(draw_depth, depth_is=self.depth_is))
        return Encoded(data=data, decode=draw_labels, exact=True) if role in self.labels else Encoded(data=data)

    def estimate(self, items: Sequence[Item]) -> int | None:
        """Counts the pairs."""
        return len(items)


def roles_below(root: str) -> dict[str, str]:
    """Reads the roles off a folder: one for each folder in it, `image` first.

    Raises: `UserError` when it does not exist or holds fewer than two folders.
    """
    top = checked_root(root)
    names = places.folders_in(top)
    if len(names) < 2:
        raise UserError(f"{readable(top)} holds {len(names)} folders; pairs need one for each role: image/ depth/")
    return {name: below(top, name) for name in sorted(names, key=lambda name: (name != "image", name))}


def _split(path: str) -> tuple[str, str]:
    """Splits a pattern into its folder and the file name with `*`; a plain folder has an empty file name."""
    folder, name = os.path.split(path)
    if "*" not in path:
        return path, ""
    if "*" in folder or name.count("*") != 1:
        raise UserError(f"pattern {readable(path)!r}: the file name needs exactly one * and the folder none")
    return folder or ".", name


def _names(files: list[str], pattern: str, role: str) -> dict[str, str]:
    """Maps the name that pairs to the file, for the files that fit the pattern."""
    if not pattern:
        return keys_of(files)
    before, after = pattern.split("*")
    names = {}
    for file in files:
        folder, name = os.path.split(file)
        if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after):
            middle = name[len(before) : len(name) - len(after)]
            names[readable(below(folder, middle))] = file
    if not names:
        raise UserError(f"no file of role {role!r} fits {readable(pattern)!r}; the folder holds {readable(files[0])!r}")
    return names
