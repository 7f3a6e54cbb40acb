"""BlazePose (Bazarevsky et al. 2020, arXiv:2006.10204): persons found, then 33 landmarks of each.

Numbers of the graphs are those of MediaPipe 0.10 (modules/pose_detection and modules/pose_landmark).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from pipelines.annotate.litert import LiteModel

DETECTOR_SIDE, LANDMARK_SIDE = 224, 256
ANCHORS, LANDMARKS = 2254, 39  # 33 of the body, 6 that help tracking
LAYERS = ((28, 2), (14, 2), (7, 6))  # cells along a side, anchors in each
MOST_PEOPLE = 8
FOUND = 0.5  # least score of a detection, of the landmarks of a person, and of a landmark
OVERLAP = 0.3  # of two boxes (intersection over union) that are one person
ENLARGED = 1.25  # the square around a person, relative to the circle that the detector gives


@dataclass(frozen=True, kw_only=True)
class Square:
    """A turned square in pixels of a picture: its middle, side, and angle in radians (0: the person is upright)."""

    x: float
    y: float
    side: float
    angle: float

    def to_picture(self) -> Float[np.ndarray, "2 3"]:
        """Returns the affine map from pixels of the landmark network's input to pixels of the picture."""
        scale = self.side / LANDMARK_SIDE
        cos, sin, half = np.cos(self.angle) * scale, np.sin(self.angle) * scale, (LANDMARK_SIDE - 1) / 2
        return np.array([[cos, -sin, self.x - half * (cos - sin)], [sin, cos, self.y - half * (sin + cos)]], np.float64)


def letterboxed(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "224 224 3"]:
    """Returns the detector's input: the whole picture in the middle of a black square, in [-1, 1]."""
    to_square, side = _letterbox(image.shape[:2]), (DETECTOR_SIDE, DETECTOR_SIDE)
    if to_square[0, 0] < 1:  # an affine map alone would leave out pixels
        image = cv2.resize(image, None, fx=to_square[0, 0], fy=to_square[0, 0], interpolation=cv2.INTER_AREA)
        to_square = _letterbox(image.shape[:2])
    square: np.ndarray = cv2.warpAffine(image, to_square, side, flags=cv2.INTER_LINEAR)
    return square.astype(np.float32) / 127.5 - 1


def _letterbox(shape: tuple[int, ...]) -> Float[np.ndarray, "2 3"]:
    """Returns the affine map from pixels of a picture to pixels of the detector's square."""
    scale, half = DETECTOR_SIDE / max(shape[:2]), (DETECTOR_SIDE - 1) / 2
    return np.array(
        [[scale, 0, half - scale * (shape[1] - 1) / 2], [0, scale, half - scale * (shape[0] - 1) / 2]], np.float64
    )


def _anchors() -> Float32[np.ndarray, "2254 2"]:
    """Returns the centres of the anchors (x, y) in parts of the square: row by row, several in one place."""
    layers = []
    for cells, count in LAYERS:
        centres = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        layers.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(layers).astype(np.float32)


def people_found(output: Float32[np.ndarray, "2254 13"], shape: tuple[int, ...]) -> list[Square]:
    """Returns the squares around persons, the surest first; `output` is 12 numbers of a box and a score (logit)."""
    scores = 1 / (1 + np.exp(-np.clip(output[:, 12].astype(np.float64), -100, 100)))
    sure = np.flatnonzero(scores > FOUND)
    sure = sure[np.argsort(-scores[sure], kind="stable")]
    values, scores = output[sure, :12].astype(np.float64) / DETECTOR_SIDE, scores[sure]
    points = values.reshape(-1, 6, 2)  # centre, size, then four points of the body
    points[:, [0, 2, 3, 4, 5]] += _anchors()[sure][:, None]
    squares: list[Square] = []
    while len(points) and len(squares) < MOST_PEOPLE:
        same = _overlaps(points) > OVERLAP
        same[0] = True
        person = np.average(points[same], axis=0, weights=scores[same])
        squares.append(_square(person, shape))
        points, scores = points[~same], scores[~same]
    return squares


def _overlaps(points: Float[np.ndarray, "n 6 2"]) -> Float[np.ndarray, "n"]:
    """Returns the intersection over union of each box with the first."""
    low, high = points[:, 0] - points[:, 1] / 2, points[:, 0] + points[:, 1] / 2
    common = np.prod(np.maximum(np.minimum(high, high[0]) - np.maximum(low, low[0]), 0), axis=1)
    areas = np.prod(high - low, axis=1)
    result: np.ndarray = common / np.maximum(areas + areas[0] - common, 1e-9)
    return result


def _square(person: Float[np.ndarray, "6 2"], shape: tuple[int, ...]) -> Square:
    """The circle about the middle of the hips through the second point, which lies where the person is upright."""
    to_square = _letterbox(shape)
    hips, rim = (person[2:4] * DETECTOR_SIDE - 0.5 - to_square[:, 2]) / to_square[0, 0]
    return Square(
        x=float(hips[0]),
        y=float(hips[1]),
        side=2 * float(np.hypot(*(rim - hips))) * ENLARGED,
        angle=float(np.arctan2(rim[1] - hips[1], rim[0] - hips[0]) + np.pi / 2),
    )


def landmarks(
    model: LiteModel, image: UInt8[np.ndarray, "h w 3"], square: Square
) -> tuple[Float[np.ndarray, "33 2"], Bool[np.ndarray, "33"]] | None:
    """Returns the landmarks (x, y) in pixels of the picture and which are visible; None where there is no person."""
    to_picture = square.to_picture()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    side = (LANDMARK_SIDE, LANDMARK_SIDE)
    crop = cv2.warpAffine(image, to_picture, side, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    values, score = model(crop.astype(np.float32) / 255)[:2]
    if score[0] < FOUND:
        return None
    found = values.reshape(LANDMARKS, 5)[:33].astype(np.float64)
    places = np.column_stack([found[:, :2] - 0.5, np.ones(33)]) @ to_picture.T
    return places, found[:, 3] > np.log(FOUND / (1 - FOUND))
