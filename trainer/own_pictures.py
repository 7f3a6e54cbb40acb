"""A person's own files as codes: pictures and frames of clips, made square as the tokenizer's preset says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from tokenizer import images
from tokenizer.card import TokenizerCard
from tokenizer.tokenizer import Tokenizer
from trainer import movies
from visent.errors import UserError


@dataclass(frozen=True)
class Pictures:
    """Some pictures by name, as codes."""

    names: list[str]
    codes: UInt16[np.ndarray, "n t"]


def of_files(paths: Sequence[str], tokenizer: Tokenizer) -> Pictures:
    """Encodes image files.

    Raises:
        UserError: a file is missing or no image.
    """
    squares = [_square(read(path), tokenizer.card) for path in paths]
    return Pictures([Path(path).name[:24] for path in paths], tokenizer.encode(np.stack(squares)))


def of_clip(path: str, most: int, fps: float, start: float, tokenizer: Tokenizer) -> Pictures:
    """Encodes up to `most` frames of a clip, `fps` of them a second, from `start` seconds on.

    Raises:
        UserError: the file is missing or no video, or it has no frame there.
    """
    frames = movies.read_frames(path, most, fps, start)
    if not frames:
        raise UserError(f"clip {path} has no frame from {start:g} seconds on: give an earlier --start")
    squares = np.stack([_square(frame, tokenizer.card) for frame in frames])
    return Pictures([f"{start + i / fps:.2f} s" for i in range(len(frames))], tokenizer.encode(squares))


def read(path: str) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of an image file.

    Raises:
        UserError: it is missing or no image.
    """
    try:
        return images.decode_image(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"picture {path} cannot be read: {error.strerror or error}") from error
    except images.ImageError as error:
        raise UserError(f"picture {path} is no usable image ({error.reason}): {error}") from error


def _square(pixels: UInt8[np.ndarray, "h w 3"], card: TokenizerCard) -> UInt8[np.ndarray, "s s 3"]:
    return images.prepare(pixels, card.preset, card.image_size)
