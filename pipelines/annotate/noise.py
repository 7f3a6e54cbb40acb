"""The picture with a camera's noise: the input of denoising."""

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.seeds import generator, of_pixels

SHOT = 1e-4, 1.2e-2  # variance of the photons' count per brightness, at the bright and the dark end
READ_SLOPE, READ_OFFSET, READ_SPREAD = 2.18, 1.20, 0.26  # log(read variance) from log(shot)


def draw(image: UInt8[np.ndarray, "h w 3"], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Adds shot and read noise in linear light, of a strength drawn from `key`; new for every frame of a clip.

    Strengths as measured on phones by Brooks et al., Unprocessing Images for Learned Raw Denoising (2019), section 3.1:
    normal noise of variance shot * brightness + read.
    """
    strength = generator("noise", key)
    shot = np.exp(strength.uniform(*np.log(SHOT)))
    read = np.exp(strength.normal(READ_SLOPE * np.log(shot) + READ_OFFSET, READ_SPREAD))
    light = _linear(image.astype(np.float32) / 255)
    noise = generator("noise", key, of_pixels(image)).standard_normal(image.shape, np.float32)
    noisy = np.clip(light + noise * np.sqrt(shot * light + read), 0, 1)
    result: np.ndarray = np.rint(255 * _encoded(noisy)).astype(np.uint8)
    return result


def _linear(values: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Undoes the transfer function of sRGB (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(light: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
