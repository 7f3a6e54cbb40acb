"""What a feature network is to those who measure with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

Pixels = UInt8[np.ndarray, "n h w 3"] | UInt8[np.ndarray, "n f h w 3"]
Slot = Literal["images", "clips", "actions"]
SLOTS: dict[Slot, str] = {
    "images": "FID and Inception Score of images",
    "clips": "FVD",
    "actions": "Inception Score of clips",
}
PAPERS: dict[Slot, str] = {  # the networks that papers' figures are made with
    "images": "Inception-v3 of 2015-12-05",
    "clips": "I3D, Kinetics-400",
    "actions": "C3D, UCF101",
}


class Outputs(NamedTuple):
    """What a network says of pictures or clips; a network that names no classes has no probabilities."""

    features: Float32[np.ndarray, "n d"]
    probabilities: Float32[np.ndarray, "n c"] | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network with its weights.

    `same_as_papers` is "yes" where the weights are by their hash those that published figures are made with, "port"
    where whoever ported them says so, and "no" for any other network: its figures compare with none of a paper's.
    """

    name: str  # "Inception-v3 of 2015-12-05", "I3D, Kinetics-400"
    where: str  # path, URL or package
    sha256: str  # of the weights' file; of a folder that of its files' names and hashes
    same_as_papers: Literal["yes", "port", "no"]
    takes: Literal["images", "clips"]
    fewest_frames: int = 1  # of a clip
    most_frames: int | None = None
    features: int  # numbers of a picture's or clip's features
    classes: int | None
    run: Callable[[Pixels], Outputs]  # any number of them; batches, resizes and spreads over devices itself

    @property
    def label(self) -> str:
        """The name that stands beside each of its figures."""
        port = ", a port" if self.same_as_papers == "port" else ""
        other = "; not the papers' network" if self.same_as_papers == "no" else ""
        return f"{self.name} ({self.sha256[:8]}{port}{other})"

    def misfit(self, frames: int) -> str | None:
        """Returns why clips of so many frames are none that it judges; None where they are."""
        fewest, most = self.fewest_frames, self.most_frames
        if self.takes == "images" or (fewest <= frames and (most is None or frames <= most)):
            return None
        wanted = f"{fewest} frames or more" if most is None else f"{most} frames"
        return f"{self.name} judges clips of {wanted}, these have {frames}"
