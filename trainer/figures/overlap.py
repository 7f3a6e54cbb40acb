"""How far label maps agree with the truth: intersection over union of each class, over all pixels of a set."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, UInt8

from tokenizer.labels import Confusion


class Overlap:
    """Running counts of (true class, class found); pixels whose true class is ignored count nowhere.

    A class that is in neither has no part in the mean; one that only the model drew has IoU 0, as in mmsegmentation.
    """

    def __init__(self, ids: Sequence[int], ignored: Sequence[int] = ()) -> None:
        """Takes the class ids, of 0..255, and which of them are ignored."""
        self.ids = tuple(number for number in ids if number not in set(ignored))
        self.images = 0
        self._confusion = Confusion()

    def add(self, truth: UInt8[np.ndarray, "n h w"], found: UInt8[np.ndarray, "n h w"]) -> None:
        """Counts pairs of label maps."""
        self._confusion.add(truth, found, np.isin(truth, self.ids))
        self.images += len(truth)

    def merged(self, other: "Overlap") -> "Overlap":
        """Returns the counts of both together; neither changes."""
        if self.ids != other.ids:
            raise ValueError("overlaps of other classes cannot be merged")
        result = Overlap(self.ids)
        result.images = self.images + other.images
        result._confusion.counts = self._confusion.counts + other._confusion.counts
        return result

    @property
    def iou(self) -> Float64[np.ndarray, " k"]:
        """Of each of `ids`; NaN for classes that are neither in the truth nor in what was found."""
        return self._confusion.iou[list(self.ids)]

    @property
    def miou(self) -> float:
        """The mean of `iou` over the classes that occur; NaN without pixels."""
        known = self.iou[~np.isnan(self.iou)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def classes(self) -> int:
        """How many classes the mean is over."""
        return int((~np.isnan(self.iou)).sum())

    @property
    def accuracy(self) -> float:
        """Part of the pixels whose class was found; NaN without pixels."""
        return self._confusion.accuracy

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays to write or send."""
        return {"ids": np.array(self.ids, np.int64), "images": np.array(self.images, np.int64),
                "counts": self._confusion.counts.copy()}  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Overlap":
        """Reads `to_arrays`'s form."""
        result = cls(arrays["ids"].tolist())
        result.images = int(arrays["images"])
        result._confusion.counts = np.array(arrays["counts"], np.int64)
        return result
