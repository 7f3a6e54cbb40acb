"""Persons as a white mask on black, by MediaPipe's selfie segmentation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from pipelines.annotate.canvas import resized
from pipelines.annotate.litert import LiteModel
from pipelines.annotate.models import ModelFile

SIDE = 256  # of the network's square; the picture is squashed to it
THRESHOLD = 0.5
FILES = (
    ModelFile(
        name="selfie_segmentation.tflite",
        package="mediapipe",
        inside="modules/selfie_segmentation",
        install="mediapipe==0.10.21",
    ),
)


class Person:
    """Which pixels show a person; for persons within some metres of the camera."""

    batch_size = 8
    exact = True

    def __init__(self, model: LiteModel) -> None:
        self._model = model

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "256 256 3"]:
        """Squashes the picture to [0, 1] on the network's square."""
        squashed = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(squashed).astype(np.float32) / 255

    def run(self, inputs: Float32[np.ndarray, "n 256 256 3"]) -> Float32[np.ndarray, "n 256 256"]:
        """Returns the probability of a person at each pixel."""
        return np.stack([self._model(one)[0][..., 0] for one in inputs])

    def draw(
        self, output: Float32[np.ndarray, "256 256"], image: UInt8[np.ndarray, "h w 3"]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Draws white where a person is more likely than none."""
        mask = (resized(output, image.shape[:2]) > THRESHOLD).astype(np.uint8) * np.uint8(255)
        return np.repeat(mask[..., None], 3, axis=2)


def load(files: Sequence[Path], size: int) -> Person:
    """Opens the network, which is the same for squares of any `size`.

    Raises: `UserError` when the file is another network.
    """
    return Person(LiteModel(files[0], (SIDE, SIDE, 3), [(SIDE, SIDE, 1)]))
