"""Rain1400, or DDN data (Fu et al., Removing Rain from Single Images via a Deep Detail Network, 2017)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import inside
from pipelines.sources.rain13k import rainy_pairs
from pipelines.sources.reading import example_of_files, picture

FOLDERS = {"train": "training", "test": "testing"}


@dataclass(frozen=True, kw_only=True)
class Rain1400(Dataset):
    """Rain1400: 1,000 photos, each with 14 kinds of synthetic rain, and the photos without.

    <root>/rainy_image_dataset/{training,testing}/ground_truth/<n>.jpg
    <root>/rainy_image_dataset/{training,testing}/rainy_image/<n>_<1..14>.jpg

    The root may also be rainy_image_dataset itself.
    """

    root: str

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The rainy photo and the clean one."""
        return {"rainy": "still", "image": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs every rainy version with its photo."""
        folder = inside(self.root, "rainy_image_dataset", FOLDERS[split])
        return rainy_pairs(self.root, f"{folder}/rainy_image", f"{folder}/ground_truth", f"{FOLDERS[split]}/")

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both photos."""
        yield example_of_files(self.root, item, {"rainy": picture, "image": picture})
