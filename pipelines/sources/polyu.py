"""PolyU (Xu et al., Real-world Noisy Image Denoising: A New Benchmark, 2018)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import inside, matched, named
from pipelines.sources.reading import example_of_files, picture


@dataclass(frozen=True, kw_only=True)
class PolyU(Dataset):
    """PolyU: parts of photos with a camera's real noise, and the mean of many shots of the same scene.

    <root>/CroppedImages/<camera>_<settings>_<scene>_<n>_{real,mean}.JPG

    The root may also be CroppedImages itself.
    """

    root: str

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The noisy photo and the clean one."""
        return {"noisy": "still", "image": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs the photos by what stands before "_real" and "_mean"."""
        folder = inside(self.root, "CroppedImages", "")
        return matched({"noisy": named(self.root, folder, "*_real"), "image": named(self.root, folder, "*_mean")})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both photos."""
        yield example_of_files(self.root, item, {"noisy": picture, "image": picture})
