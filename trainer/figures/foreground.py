"""Foreground masks against the truth, by the two protocols that papers use on Pascal-5i."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

Masks = Bool[np.ndarray, "n h w"]


def read_masks(pictures: UInt8[np.ndarray, "n h w 3"]) -> Masks:
    """Returns where pictures are foreground: where their colour is nearer to white than to black.

    That is Bar et al.'s rounding to the two colours of a mask, a mean of the channels above 127.5: of grey pictures 128
    and more.
    """
    return np.asarray(pictures.sum(axis=3, dtype=np.int32) > 3 * 255 / 2)


class Foreground:
    """Running counts of foreground and background pixels for each class.

    `mean_iou` is Bar et al. 2022, "Visual prompting via image inpainting": the mean over images of each one's IoU.
    `class_miou` and `fb_iou` are those of HSNet (Min et al. 2021) and of few-shot segmentation since PFENet: pixels
    are counted over all images of a class, and its IoU taken once; FB-IoU is the mean of foreground's and background's
    over all images. VOC's borders are background, as in Bar et al. and in the masks that models are given; HSNet leaves
    these pixels out.
    """

    def __init__(self) -> None:
        self.images = 0
        self.empty = 0  # images without foreground in truth and in what was found: they have no IoU
        self.iou_sum = 0.0
        self._both: dict[str, Int64[np.ndarray, " 2"]] = {}  # of each class: background, foreground
        self._either: dict[str, Int64[np.ndarray, " 2"]] = {}

    def add(self, truth: Masks, found: Masks, classes: Sequence[str]) -> None:
        """Counts pairs of masks, each with the class that its foreground is of."""
        for true, made, name in zip(truth, found, classes, strict=True):
            both = np.array([int(of.sum()) for of in (~true & ~made, true & made)])
            either = np.array([int(of.sum()) for of in (~true | ~made, true | made)])
            self.images += 1
            self.empty += not either[1]
            self.iou_sum += float(both[1] / either[1]) if either[1] else 0.0
            self._count(name, both, either)

    def _count(self, name: str, both: Int64[np.ndarray, " 2"], either: Int64[np.ndarray, " 2"]) -> None:
        self._both[name] = self._both.get(name, np.zeros(2, np.int64)) + both
        self._either[name] = self._either.get(name, np.zeros(2, np.int64)) + either

    def merged(self, other: "Foreground") -> "Foreground":
        """Returns the counts of both together; neither changes."""
        result = Foreground()
        for one in (self, other):
            result.images += one.images
            result.empty += one.empty
            result.iou_sum += one.iou_sum
            for name in one._both:
                result._count(name, one._both[name], one._either[name])
        return result

    @property
    def mean_iou(self) -> float:
        """The mean over images of the foreground's IoU; NaN where no image has any."""
        known = self.images - self.empty
        return self.iou_sum / known if known else float("nan")

    @property
    def class_iou(self) -> dict[str, float]:
        """The foreground's IoU of each class over all its images; 0 for a class without any foreground, as HSNet."""
        return {name: int(self._both[name][1]) / max(int(self._either[name][1]), 1) for name in sorted(self._both)}

    @property
    def class_miou(self) -> float:
        """The mean of `class_iou`; NaN without images."""
        return float(np.mean(list(self.class_iou.values()))) if self._both else float("nan")

    @property
    def fb_iou(self) -> float:
        """The mean of background's and foreground's IoU over all images; NaN where one of them never occurs."""
        if not self._both:
            return float("nan")
        both, either = (np.sum(list(counts.values()), axis=0) for counts in (self._both, self._either))
        return float(np.mean(_divided(both, either)))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays to write or send."""
        names = sorted(self._both)
        counts = np.array([[self._both[name], self._either[name]] for name in names], np.int64).reshape(-1, 2, 2)
        return {"classes": np.array(names, np.str_), "counts": counts, "iou_sum": np.array(self.iou_sum),
                "images": np.array([self.images, self.empty], np.int64)}  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Foreground":
        """Reads `to_arrays`'s form."""
        result = cls()
        result.images, result.empty = (int(number) for number in arrays["images"])
        result.iou_sum = float(arrays["iou_sum"])
        for name, (both, either) in zip(arrays["classes"].tolist(), arrays["counts"], strict=True):
            result._count(name, both, either)
        return result


def _divided(a: Int64[np.ndarray, " 2"], b: Int64[np.ndarray, " 2"]) -> Float64[np.ndarray, " 2"]:
    with np.errstate(invalid="ignore"):
        return np.asarray(a / b)
