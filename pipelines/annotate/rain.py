"""The picture in rain: the input of deraining."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines.seeds import generator, of_pixels

COVER = 0.02, 0.2  # part of the picture that streaks cover, from drizzle to downpour
WIDTH = 1.4  # of a streak, in pixels
LENGTHS = 0.03, 0.15  # of a streak, as part of the short side
SLANT = 35.0  # degrees from upright, at most, to either side
BRIGHTNESS = 0.5, 0.9  # of a streak alone


def draw(image: UInt8[np.ndarray, "h w 3"], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Lays bright parallel streaks over the picture.

    Density, length, slant and brightness are drawn from `key`, so a clip has one kind of rain; where the streaks are
    is new in every frame. Rain adds light, as in the linear model of Rain100 and Rain13K: picture + streaks, clipped.
    """
    kind = generator("rain", key)
    cover = np.exp(kind.uniform(*np.log(COVER)))
    length = max(kind.uniform(*LENGTHS) * min(image.shape[:2]), 3.0)
    slant, brightness = np.radians(kind.uniform(-SLANT, SLANT)), kind.uniform(*BRIGHTNESS)
    drops = cover / (length * WIDTH)  # part of the pixels on which a streak is centred
    places = generator("rain", key, of_pixels(image)).random(image.shape[:2], np.float32)
    seeds = np.where(places < drops, 0.5 + places / drops / 2, 0).astype(np.float32)  # streaks differ in brightness
    streaks = np.minimum(cv2.filter2D(seeds, -1, _streak(length, float(slant)), borderType=cv2.BORDER_REFLECT), 1)
    return np.clip(np.rint(image + 255 * brightness * streaks[..., None]), 0, 255).astype(np.uint8)


def _streak(length: float, slant: float) -> Float[np.ndarray, "k k"]:
    """Returns one streak as a smooth line through the middle, 1 along its centre."""
    half = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    along, across = y * np.cos(slant) + x * np.sin(slant), x * np.cos(slant) - y * np.sin(slant)
    streak: np.ndarray = np.clip(length / 2 - np.abs(along) + 0.5, 0, 1) * np.exp(-np.pi * (across / WIDTH) ** 2)
    return streak
