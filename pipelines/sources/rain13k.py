"""Rain13K (Jiang et al., MSPFN, 2020; Zamir et al., MPRNet, 2021): the usual training and test sets for deraining."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import below, matched, named
from pipelines.sources.reading import example_of_files, picture
from visent.errors import UserError, unknown

TEST_SETS = ("Rain100H", "Rain100L", "Test100", "Test1200", "Test2800")


@dataclass(frozen=True, kw_only=True)
class Rain13K(Dataset):
    """Rain13K: photos with synthetic rain, and the same photos without.

    <root>/train/Rain13K/{input,target}/<n>.jpg
    <root>/test/{Rain100H,Rain100L,Test100,Test1200,Test2800}/{input,target}/<n>.{png,jpg}

    Several rainy versions <n>_<k> may share the clean photo <n>, as in Test2800.
    """

    root: str
    test_sets: tuple[str, ...] = option(TEST_SETS, "Test sets that make up split test.")

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __post_init__(self) -> None:
        for name in self.test_sets:
            if name not in TEST_SETS:
                raise unknown("test set of Rain13K", name, TEST_SETS)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The rainy photo and the clean one."""
        return {"rainy": "still", "image": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs the photos of each set."""
        for name in self.test_sets if split == "test" else ("Rain13K",):
            folder = f"{split}/{name}"
            if self.test_sets != TEST_SETS and split == "test" and not places.is_folder(below(self.root, folder)):
                raise UserError(f"there is no {folder}; leave {name} out of --test-sets, or put it there")
            yield from rainy_pairs(self.root, f"{folder}/input", f"{folder}/target", f"{folder}/")

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both photos."""
        yield example_of_files(self.root, item, {"rainy": picture, "image": picture})


def rainy_pairs(root: str, rainy: str, clean: str, prefix: str) -> Iterator[Item]:
    """Pairs each photo of the folder `rainy` with the clean one of its name, or of its name up to the last "_"."""
    photos, originals = list(named(root, rainy)), list(named(root, clean))
    known = {name for name, _ in originals}
    versions = defaultdict(list)
    for name in dict.fromkeys(name for name, _ in photos):
        versions[name if name in known else name.rpartition("_")[0]].append(name)
    shared = [(version, path) for name, path in originals for version in versions.get(name, [name])]
    return matched({"rainy": photos, "image": shared}, prefix)
