"""Persons as OpenPose's skeletons on black, by BlazePose."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from pipelines.annotate.blazepose import (
    ANCHORS,
    DETECTOR_SIDE,
    LANDMARK_SIDE,
    LANDMARKS,
    landmarks,
    letterboxed,
    people_found,
)
from pipelines.annotate.litert import LiteModel
from pipelines.annotate.models import ModelFile
from pipelines.render.keypoints import draw_people
from pipelines.render.skeletons import COCO_17

FILES = tuple(
    ModelFile(name=f"{name}.tflite", package="mediapipe", inside=f"modules/{folder}", install="mediapipe==0.10.21")
    for name, folder in (("pose_detection", "pose_detection"), ("pose_landmark_full", "pose_landmark"))
)
OF_COCO = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)  # BlazePose's landmark of each joint


class Pose:
    """The persons of a picture; one without persons is black."""

    batch_size = 8
    exact = False

    def __init__(self, detector: LiteModel, landmark: LiteModel) -> None:
        self._detector, self._landmark = detector, landmark

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "224 224 3"]:
        """Makes the detector's input."""
        return letterboxed(image)

    def run(self, inputs: Float32[np.ndarray, "n 224 224 3"]) -> Float32[np.ndarray, "n 2254 13"]:
        """Runs the detector."""
        return np.stack([np.concatenate(self._detector(one), axis=1) for one in inputs])

    def draw(
        self, output: Float32[np.ndarray, "2254 13"], image: UInt8[np.ndarray, "h w 3"]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Finds the joints of each person and draws them."""
        return draw_people(image.shape[:2], self.joints(output, image), COCO_17)

    def joints(
        self, output: Float32[np.ndarray, "2254 13"], image: UInt8[np.ndarray, "h w 3"]
    ) -> list[Float32[np.ndarray, "17 3"]]:
        """Returns COCO's joints (x, y in pixels, whether visible) of each person."""
        people = []
        for square in people_found(output, image.shape[:2]):
            found = landmarks(self._landmark, image, square)
            if found is not None:
                places, visible = found
                people.append(np.column_stack([places, visible])[list(OF_COCO)].astype(np.float32))
        return people


def load(files: Sequence[Path], size: int) -> Pose:
    """Opens both networks, which are the same for squares of any `size`.

    Raises: `UserError` when a file is another network.
    """
    detector = LiteModel(files[0], (DETECTOR_SIDE, DETECTOR_SIDE, 3), [(ANCHORS, 12), (ANCHORS, 1)])
    outputs = [(5 * LANDMARKS,), (1,)]
    return Pose(detector, LiteModel(files[1], (LANDMARK_SIDE, LANDMARK_SIDE, 3), outputs))
