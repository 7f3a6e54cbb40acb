"""BSDS500 (Arbelaez et al., Contour Detection and Hierarchical Image Segmentation, 2011)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from pipelines.render.edges import draw_edges
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import inside, matched, named
from pipelines.sources.mat import variable
from pipelines.sources.reading import drawing, example_of_files, picture
from tokenizer.images import ImageError


@dataclass(frozen=True, kw_only=True)
class BSDS500(Dataset):
    """BSDS500: photos with the outlines that several people drew.

    <root>/BSDS500/data/images/{train,val,test}/<id>.jpg
    <root>/BSDS500/data/groundTruth/{train,val,test}/<id>.mat

    The root is BSR, or BSDS500 itself.
    """

    root: str
    edges: Literal["any", "mean"] = option(
        "any", "White where any person drew an edge, or brighter where more did, which is faint in small pictures."
    )

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and its edges."""
        return {"image": "still", "edge": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs photo and drawings by number."""
        data = inside(self.root, "BSDS500", "data")
        photos = named(self.root, f"{data}/images/{split}")
        return matched({"image": photos, "edge": named(self.root, f"{data}/groundTruth/{split}", "*", (".mat",))},
                       f"{split}/")  # fmt: skip

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both; edges are scaled as pictures are, since thin lines vanish when pixels are picked."""
        edge = drawing(partial(draw_boundaries, edges=self.edges), exact=False)
        yield example_of_files(self.root, item, {"image": picture, "edge": edge})


def draw_boundaries(data: bytes, edges: Literal["any", "mean"]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the `Boundaries` of all people in a file's `groundTruth`, a cell array of structs.

    Raises:
        ImageError: no .mat file, reason "not-edges": not so built, or those of `draw_edges`.
    """
    cells = variable(data, "groundTruth")
    try:
        drawings = [np.asarray(cell["Boundaries"][0, 0]) for cell in cells.ravel()]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ImageError("not-edges", f"groundTruth is no cell array of structs with Boundaries: {error}") from error
    if any(drawing.ndim != 2 or drawing.dtype.kind not in "biuf" for drawing in drawings):
        raise ImageError("not-edges", f"Boundaries are {[drawing.shape for drawing in drawings]}, expected flat maps")
    agreed = draw_edges(drawings)
    return agreed if edges == "mean" else np.where(agreed > 0, 255, 0).astype(np.uint8)
