"""LOL (Wei et al., Deep Retinex Decomposition for Low-Light Enhancement, 2018)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import paired
from pipelines.sources.reading import example_of_files, picture

FOLDERS = {"train": "our485", "val": "eval15"}


@dataclass(frozen=True, kw_only=True)
class LOL(Dataset):
    """LOL: photos taken in low light, and the same scenes in normal light.

    <root>/our485/{low,high}/<n>.png
    <root>/eval15/{low,high}/<n>.png
    """

    root: str

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The dark photo and the bright one."""
        return {"low_light": "still", "image": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs the photos by name."""
        folder = FOLDERS[split]
        return paired(self.root, {"low_light": f"{folder}/low", "image": f"{folder}/high"}, prefix=f"{folder}/")

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both photos."""
        yield example_of_files(self.root, item, {"low_light": picture, "image": picture})
