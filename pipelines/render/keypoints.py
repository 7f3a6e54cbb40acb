"""Persons as skeletons on black, in OpenPose's style, and the joints of a person read back."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float64, Shaped, UInt8

from pipelines.render.skeletons import Skeleton

RADIUS = 1 / 64  # of a joint's disc, of the picture's short side: 4 pixels in a square of 256
LIMB_OPACITY = 0.6  # as OpenPose draws: limbs are darker than joints, and shine through each other
TOLERANCE = 64  # a pixel is not of a joint whose colour is so far from its own; a limb over another one is 41 off
SEEN = 0.5  # part of a joint's disc that must have its colour
_FINE = 4  # limbs and discs are placed to 1/16 pixel


def draw_people(
    shape: tuple[int, int], people: Sequence[Float[np.ndarray, "k 3"]], skeleton: Skeleton
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws persons on black, the limbs of all first, then the joints of all.

    A person is a row of (x, y, visible) for each joint of the skeleton, in pixels of the picture, x = 0 at the centre
    of the left column; visible > 0 where it is annotated. A limb is drawn where both its ends are; a middle joint
    where both it lies between are. A joint outside the picture is left out with its limbs.
    """
    picture = np.zeros((*shape, 3), np.uint8)
    colours = skeleton.colours
    placed = [_placed(person, skeleton, shape) for person in people]
    for joints in placed:
        for start, end, colour in skeleton.limbs:
            if start in joints and end in joints:
                _limb(picture, joints[start], joints[end], colour)
    for joints in placed:
        for name, centre in joints.items():
            _disc(picture, centre, _radius(shape), colours[name])
    return picture


def _radius(shape: tuple[int, int]) -> float:
    return max(1.0, min(shape) * RADIUS)


def _fine(point: Float64[np.ndarray, "2"]) -> tuple[int, int]:
    return round(point[0] * 2**_FINE), round(point[1] * 2**_FINE)


def _disc(picture: Shaped[np.ndarray, "h w ..."], centre: Float64[np.ndarray, "2"], radius: float, colour: Any) -> None:
    cv2.circle(picture, _fine(centre), round(radius * 2**_FINE), colour, -1, cv2.LINE_8, _FINE)


def _placed(
    person: Float[np.ndarray, "k 3"], skeleton: Skeleton, shape: tuple[int, int]
) -> dict[str, Float64[np.ndarray, "2"]]:
    """Returns the places of the joints that are drawn, by name."""
    found = {
        name: np.array([x, y], np.float64)
        for name, (x, y, visible) in zip(skeleton.joints, person.tolist(), strict=True)
        if visible > 0 and -0.5 <= x < shape[1] - 0.5 and -0.5 <= y < shape[0] - 0.5
    }
    for name, (one, other, _) in skeleton.middles.items():
        if one in found and other in found:
            found[name] = (found[one] + found[other]) / 2
    return found


def _limb(
    picture: UInt8[np.ndarray, "h w 3"],
    start: Float64[np.ndarray, "2"],
    end: Float64[np.ndarray, "2"],
    colour: tuple[int, int, int],
) -> None:
    """Lays an ellipse from `start` to `end`, as wide as a joint, over the picture."""
    half = _radius(picture.shape[:2])
    along = (end - start) / 2
    angle = float(np.degrees(np.arctan2(along[1], along[0])))
    axes = (round(float(np.hypot(*along)) * 2**_FINE), round(half * 2**_FINE))
    low = np.maximum(np.floor(np.minimum(start, end) - half - 2), 0).astype(int)
    high = np.ceil(np.maximum(start, end) + half + 3).astype(int)
    part = picture[low[1] : high[1], low[0] : high[0]]  # only here does anything change
    inside = np.zeros(part.shape[:2], np.uint8)
    cv2.ellipse(inside, _fine((start + end) / 2 - low), axes, angle, 0, 360, 1, -1, cv2.LINE_8, _FINE)
    mixed = LIMB_OPACITY * np.array(colour) + (1 - LIMB_OPACITY) * part
    part[inside > 0] = np.rint(mixed).astype(np.uint8)[inside > 0]


def read_joints(picture: UInt8[np.ndarray, "h w 3"], skeleton: Skeleton) -> Float64[np.ndarray, "k 3"]:
    """Returns (x, y, visible) of each joint of the one person in a picture; all 0 where a joint is not seen.

    The inverse of `draw_people` for one person and joints that no other joint covers: exact for whole pixels, else to
    a pixel. Middles are not returned.
    """
    shape = picture.shape[:2]
    reach = math.ceil(_radius(shape)) + 1
    disc = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    _disc(disc, np.array([reach, reach], np.float64), _radius(shape), 1)
    full = cv2.filter2D(np.ones(shape, np.float32), -1, disc, borderType=cv2.BORDER_CONSTANT)  # less at the borders
    found = np.zeros((len(skeleton.joints), 3))
    for number, colour in enumerate(skeleton.joints.values()):
        distance = np.sqrt(((picture.astype(np.float32) - np.array(colour, np.float32)) ** 2).sum(axis=2))
        alike = np.clip(1 - distance / TOLERANCE, 0, 1)
        like = cv2.filter2D(alike, -1, disc, borderType=cv2.BORDER_CONSTANT)
        score = like - SEEN * full  # so that of a disc which the border cuts, too, the right place is the best
        if score.max() > 0:
            rows, columns = np.nonzero(score > score.max() - 1e-3)
            found[number] = columns.mean(), rows.mean(), 1
    return found
