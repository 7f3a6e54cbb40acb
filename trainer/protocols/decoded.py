"""The pictures of cases by number: what was given, what the model made of it, and the truth through the tokenizer."""

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

from tokenizer.tokenizer import Tokenizer
from trainer.protocols.cases import Cases
from trainer.protocols.samples import Samples

Pictures = UInt8[np.ndarray, "m f s s 3"]
Frames = UInt8[np.ndarray, "f s s 3"]
UNKNOWN = 235  # grey of the part of an image that was not given


def results(cases: Cases, samples: Samples, tokenizer: Tokenizer, numbers: Int64[np.ndarray, " m"]) -> Pictures:
    """Decodes whole results: what was kept of the prompt, and what was generated."""
    kept = cases.prompt[numbers, cases.prompt.shape[1] - cases.kept :]
    return _decoded(np.concatenate((kept, samples.read(numbers)), axis=1), tokenizer)


def ceiling(cases: Cases, tokenizer: Tokenizer, numbers: Int64[np.ndarray, " m"]) -> Pictures:
    """Decodes the truth's own codes, the best that any model with this tokenizer can do."""
    return _decoded(cases.truth_codes[numbers], tokenizer)


def given(cases: Cases, tokenizer: Tokenizer, numbers: Int64[np.ndarray, " m"], most: int) -> Pictures:
    """Decodes the last images of the prompts, at most `most`; of one that is given in part, the rest is grey."""
    size, whole = tokenizer.card.tokens_per_image, cases.prompt[numbers]
    begun = whole.shape[1] % size
    filled = np.pad(whole, ((0, 0), (0, size - begun if begun else 0)))
    found = _decoded(filled[:, -most * size :], tokenizer) if filled.shape[1] else _nothing(tokenizer, len(numbers))
    if begun:
        found[:, -1, begun * found.shape[2] // size :] = UNKNOWN  # codes go row by row
    return found


def _decoded(codes: UInt16[np.ndarray, "m t"], tokenizer: Tokenizer) -> Pictures:
    images = tokenizer.decode(codes.reshape(-1, tokenizer.card.tokens_per_image))
    return images.reshape(len(codes), -1, *images.shape[1:]) if len(codes) else images[:, None]


def _nothing(tokenizer: Tokenizer, count: int) -> Pictures:
    return np.empty((count, 0, tokenizer.card.image_size, tokenizer.card.image_size, 3), np.uint8)
