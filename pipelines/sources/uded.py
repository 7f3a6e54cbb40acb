"""UDED (Soria et al., Tiny and Efficient Model for the Edge Detection Generalization, 2023)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import paired
from pipelines.sources.reading import example_of_files, picture


@dataclass(frozen=True, kw_only=True)
class UDED(Dataset):
    """UDED: photos from several datasets with one hand-drawn edge map each, white on black; for tests.

    <root>/imgs/<name>.png
    <root>/gt/<name>.png
    """

    root: str

    splits: ClassVar[tuple[str, ...]] = ("test",)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and its edges."""
        return {"image": "still", "edge": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs photo and edge map by name."""
        return paired(self.root, {"image": "imgs", "edge": "gt"})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both; edges are scaled as pictures are, since thin lines vanish when pixels are picked."""
        yield example_of_files(self.root, item, {"image": picture, "edge": picture})
