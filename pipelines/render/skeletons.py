"""The joints of a person that datasets annotate, and which of them are joined."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """Joints in the order of the dataset's files, with the colour of each, and limbs between them.

    `middles` are further joints halfway between two; they follow the others in number. All joints' colours differ.
    """

    joints: Mapping[str, Colour]
    limbs: tuple[tuple[str, str, Colour], ...]
    middles: Mapping[str, tuple[str, str, Colour]] = field(default_factory=dict)

    @property
    def colours(self) -> dict[str, Colour]:
        """The colour of every joint, the middles last."""
        return {**self.joints, **{name: colour for name, (_, _, colour) in self.middles.items()}}


# OpenPose's circle of hues, in the order of its 18 joints
_OPENPOSE: Mapping[str, Colour] = {
    "nose": (255, 0, 0), "neck": (255, 85, 0),
    "right_shoulder": (255, 170, 0), "right_elbow": (255, 255, 0), "right_wrist": (170, 255, 0),
    "left_shoulder": (85, 255, 0), "left_elbow": (0, 255, 0), "left_wrist": (0, 255, 85),
    "right_hip": (0, 255, 170), "right_knee": (0, 255, 255), "right_ankle": (0, 170, 255),
    "left_hip": (0, 85, 255), "left_knee": (0, 0, 255), "left_ankle": (85, 0, 255),
    "right_eye": (170, 0, 255), "left_eye": (255, 0, 255), "right_ear": (255, 0, 170), "left_ear": (255, 0, 85),
}  # fmt: skip
_COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip

# COCO's 17 joints with the neck between the shoulders: OpenPose's 18, in mmpose's colours (as DeLVM's skeletons are)
COCO_17 = Skeleton(
    joints={name: _OPENPOSE[name] for name in _COCO_JOINTS},
    middles={"neck": ("left_shoulder", "right_shoulder", _OPENPOSE["neck"])},
    limbs=(
        ("neck", "right_shoulder", (255, 0, 0)),
        ("neck", "left_shoulder", (255, 85, 0)),
        ("right_shoulder", "right_elbow", (255, 170, 0)),
        ("right_elbow", "right_wrist", (255, 255, 0)),
        ("left_shoulder", "left_elbow", (170, 255, 0)),
        ("left_elbow", "left_wrist", (85, 255, 0)),
        ("neck", "right_hip", (0, 255, 0)),
        ("right_hip", "right_knee", (0, 255, 85)),
        ("right_knee", "right_ankle", (0, 255, 170)),
        ("neck", "left_hip", (0, 255, 225)),
        ("left_hip", "left_knee", (0, 170, 255)),
        ("left_knee", "left_ankle", (0, 85, 255)),
        ("neck", "nose", (0, 0, 255)),
        ("nose", "right_eye", (255, 0, 170)),
        ("right_eye", "right_ear", (170, 0, 255)),
        ("nose", "left_eye", (255, 0, 255)),
        ("left_eye", "left_ear", (255, 0, 170)),
    ),
)

# MPII's 16 joints in the same colours; head top and the joints of the spine have those of the face
_MPII_SPINE: Mapping[str, Colour] = {
    "pelvis": (255, 0, 170), "thorax": (255, 0, 255), "upper_neck": (255, 85, 0), "head_top": (255, 0, 0),
}  # fmt: skip
_MPII_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip

MPII_16 = Skeleton(
    joints={name: _MPII_SPINE.get(name) or _OPENPOSE[name] for name in _MPII_JOINTS},
    limbs=(
        ("upper_neck", "right_shoulder", (255, 0, 0)),
        ("upper_neck", "left_shoulder", (255, 85, 0)),
        ("right_shoulder", "right_elbow", (255, 170, 0)),
        ("right_elbow", "right_wrist", (255, 255, 0)),
        ("left_shoulder", "left_elbow", (170, 255, 0)),
        ("left_elbow", "left_wrist", (85, 255, 0)),
        ("pelvis", "right_hip", (0, 255, 0)),
        ("right_hip", "right_knee", (0, 255, 85)),
        ("right_knee", "right_ankle", (0, 255, 170)),
        ("pelvis", "left_hip", (0, 255, 225)),
        ("left_hip", "left_knee", (0, 170, 255)),
        ("left_knee", "left_ankle", (0, 85, 255)),
        ("upper_neck", "head_top", (0, 0, 255)),
        ("thorax", "upper_neck", (255, 0, 255)),
        ("pelvis", "thorax", (255, 0, 170)),
    ),
)
