"""ADE20K (Zhou et al., Scene Parsing through ADE20K Dataset, 2017): the scene parsing challenge of 150 classes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from manifests.legend import Legend
from pipelines.render.labels import draw_labels
from pipelines.render.legends import legend
from pipelines.render.palettes import ade20k, painter_ade20k
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import inside, matched, named, read_list
from pipelines.sources.reading import drawing, example_of_files, picture

FOLDERS = {"train": "training", "val": "validation"}
PALETTES = {"official": ade20k, "painter": painter_ade20k}


@dataclass(frozen=True, kw_only=True)
class ADE20K(Dataset):
    """ADE20K: photos and maps of 150 classes (scene parsing challenge).

    <root>/ADEChallengeData2016/images/{training,validation}/ADE_{train,val}_<nnnnnnnn>.jpg
    <root>/ADEChallengeData2016/annotations/{training,validation}/ADE_{train,val}_<nnnnnnnn>.png    0 other, 1..150
    <root>/ADEChallengeData2016/sceneCategories.txt                                        name and scene; may be absent

    The root may also be ADEChallengeData2016 itself.
    """

    root: str
    palette: Literal["official", "painter"] = option("official", "Colours of the classes; other is black in both.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and its classes in colours."""
        return {"image": "still", "semantic": "still"}

    @property
    def legends(self) -> Mapping[str, Legend]:
        """150 classes; 0, other, is ignored. Officially skyscraper (49) looks like road (7) and is read as that."""
        return {"semantic": legend(PALETTES[self.palette](), ignored=(0,))}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs photo and map by name."""
        folder, top = FOLDERS[split], "ADEChallengeData2016"
        scenes = dict(line.split(maxsplit=1) for line in self._scenes(top) if " " in line)
        files = {
            role: named(self.root, inside(self.root, top, f"{kind}/{folder}"))
            for role, kind in {"image": "images", "semantic": "annotations"}.items()
        }
        for item in matched(files, f"{folder}/"):
            scene = scenes.get(item.key.removeprefix(f"{folder}/"))
            yield replace(item, data={"class": scene} if scene else {})

    def _scenes(self, top: str) -> list[str]:
        return read_list(self.root, inside(self.root, top, "sceneCategories.txt"))

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both; the map is painted in the worker's threads."""
        semantic = drawing(partial(draw_labels, palette=PALETTES[self.palette]()))
        yield example_of_files(self.root, item, {"image": picture, "semantic": semantic}, item.data)
