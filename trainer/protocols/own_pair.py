"""A person's own picture and its annotation as a pair of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from manifests.legend import Legend
from tokenizer import images
from tokenizer.tokenizer import Tokenizer
from trainer import own_pictures
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnPair:
    """A picture and its annotation as codes."""

    image_name: str
    annotation_name: str
    image: UInt16[np.ndarray, " t"]
    annotation: UInt16[np.ndarray, " t"]
    colours: UInt8[np.ndarray, "k 3"]  # of the annotation

    def codes_of(self, given: str, made: str) -> UInt16[np.ndarray, "2 t"]:
        """Returns the codes in the order of a part's roles; where none is called image the picture comes first."""
        image_last = made == "image" and given != "image"
        return np.stack((self.annotation, self.image) if image_last else (self.image, self.annotation))

    def check_colours(self, legend: Legend, role: str) -> None:
        """Refuses an annotation that is drawn in other colours than the label maps it stands before.

        Raises:
            UserError: it has a colour that is none of theirs.
        """
        known = {tuple(colour) for colour in legend.palette.tolist()}
        strange = [tuple(colour) for colour in self.colours.tolist() if tuple(colour) not in known]
        if strange:
            raise UserError(
                f"{self.annotation_name} has {len(strange)} colours outside the colour map of role {role}, such as "
                f"{strange[0]}: draw it in the map's {len(known)} colours and save it as PNG, which keeps them"
            )


def read_pairs(paths: Sequence[tuple[str, str]], tokenizer: Tokenizer) -> list[OwnPair]:
    """Reads pairs of a picture and its annotation, as `--pair IMAGE ANNOTATION` names them.

    Both become squares by the tokenizer's preset, the annotation by nearest neighbour, so that its colours stay.

    Raises:
        UserError: a file is missing or no image, or a prompt of another size: the two differ in theirs.
    """
    return [_read_pair(image, annotation, tokenizer) for image, annotation in paths]


def _read_pair(image: str, annotation: str, tokenizer: Tokenizer) -> OwnPair:
    card = tokenizer.card
    pictures = [own_pictures.read(path) for path in (image, annotation)]
    (h, w), (height, width) = (picture.shape[:2] for picture in pictures)
    if (h, w) != (height, width):
        raise UserError(
            f"a prompt of another size: {image} is {w} x {h}, its annotation {annotation} {width} x {height}; expected "
            "two pictures of one size, pixel upon pixel: resize one of them"
        )
    squares = [
        images.prepare(picture, card.preset, card.image_size, nearest=nearest)
        for picture, nearest in zip(pictures, (False, True), strict=True)
    ]
    codes = tokenizer.encode(np.stack(squares))
    return OwnPair(image_name=Path(image).name, annotation_name=Path(annotation).name, image=codes[0],
                   annotation=codes[1], colours=np.unique(squares[1].reshape(-1, 3), axis=0))  # fmt: skip
