"""The picture without its lower half: the input of inpainting and of out-painting downwards."""

import numpy as np
from jaxtyping import UInt8


def draw(image: UInt8[np.ndarray, "h w 3"], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Blackens the lower half of the whole picture; `key` is unused."""
    result = image.copy()
    result[image.shape[0] // 2 :] = 0
    return result
