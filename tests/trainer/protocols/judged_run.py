"""A run of random weights over a small corpus of real pixels, and small networks that judge it, all as files."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
from generating import write_run
from PIL import Image

from manifests.lock import resolve
from pipelines.job import Job
from pipelines.pixels import make_pixels
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.pairs import PairsSource
from pipelines.sources.videos import Videos
from pipelines.tokenize import tokenize
from tokenizer.testing import tiny_tokenizer_dir
from trainer import recipes
from trainer.config import ModelConfig, StageConfig

SIZE, FRAMES, CLASSES = 32, 16, 5  # of pictures, clips and networks
MANIFEST = """\
version = 1

[datasets]
photos = "photos"
maps = "maps"
clips = "clips"

[tasks.walk]
dataset = "clips"
kind = "natural"
sentence = ["frames"]

[tasks.edge]
dataset = "photos"
kind = "discriminative"
sentence = ["image", "edge"]

[tasks.labels]
dataset = "maps"
kind = "discriminative"
sentence = ["image", "semantic"]

[tasks.alone]
dataset = "photos"
kind = "single"
sentence = ["image"]

[stages.sequences]
context = 256
share = { walk = 0.25, edge = 0.25, labels = 0.25, alone = 0.25 }
"""


def smooth(random: np.random.Generator, frames: int = 1) -> np.ndarray:
    """Returns frames of a smooth colourful picture that moves to the right."""
    wide = Image.fromarray(random.integers(0, 256, (5, 10, 3), np.uint8)).resize((2 * SIZE, SIZE))
    return np.stack([np.asarray(wide)[:, shift : shift + SIZE] for shift in range(frames)])


def write_files(folder: Path) -> None:
    """Writes photos, maps of four classes with photos, and videos."""
    random = np.random.default_rng(0)
    for name, count in (("photos", 16), ("maps/image", 16)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(smooth(random)[0]).save(folder / name / f"{number:02d}.png")
    (folder / "maps/semantic").mkdir()
    for number in range(16):
        labels = random.integers(0, 4, (4, 4), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(labels).save(folder / "maps/semantic" / f"{number:02d}.png")
    (folder / "clips").mkdir()
    for number in range(10):
        with av.open(str(folder / "clips" / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
            for frame in smooth(random, FRAMES):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())


def write_corpus(folder: Path, tokenizer: Path) -> Path:
    """Tokenizes the files, makes pixels of what is held out, and writes a manifest; returns the corpus."""
    write_files(folder / "media")
    media, corpus = folder / "media", folder / "corpus"
    maps = PairsSource(paths={role: str(media / "maps" / role) for role in ("image", "semantic")}, items_per_unit=5,
                       labels=("semantic",))  # fmt: skip
    videos = DatasetSource(name="videos", dataset=Videos(root=str(media / "clips"), max_frames=FRAMES, fps=10.0),
                           items_per_unit=4)  # fmt: skip
    photos = FolderSource(paths=(str(media / "photos"),), items_per_unit=6)
    for name, source, drawn in (("photos", photos, ("edge",)), ("maps", maps, ()), ("clips", videos, ())):
        tokenize(Job(out=str(corpus / name), name=name, source=source, annotate=drawn, tokenizer=str(tokenizer),
                     holdout=0.5))  # fmt: skip
        make_pixels(str(corpus / name), "val")
    (corpus / "manifest.toml").write_text(MANIFEST)
    return corpus


def write_all(folder: Path, model: ModelConfig) -> "tuple[Path, Path, Path]":
    """Writes a tokenizer, a corpus and a run of random weights; returns them."""
    tokenizer = tiny_tokenizer_dir(folder)
    corpus = write_corpus(folder, tokenizer)
    lock = resolve(str(corpus / "manifest.toml"))
    stage = StageConfig(steps=1, batch_sentences=2, learning_rate=0.0, final_learning_rate=0.0, context=256)
    config = dataclasses.replace(recipes.make("tiny"), model=model, stages={"sequences": stage})
    return tokenizer, corpus, write_run(folder / "run", config, lock)


def write_judge(folder: Path, takes: Literal["images", "clips"], seed: int = 0) -> Path:
    """Writes an ONNX network of 6 features and 5 classes with its card; returns the card."""
    pytest.importorskip("onnx", reason="pip install onnx")
    pytest.importorskip("onnxruntime", reason="pip install 'visent[onnx]'")
    from onnx import TensorProto, helper, numpy_helper

    random, name, axes = np.random.default_rng(seed), f"judge-{takes}-{seed}", [3, 4, 4]
    axes = axes if takes == "images" else [3, FRAMES, 4, 4]
    first = random.normal(0, 0.3, (int(np.prod(axes)), 6)).astype(np.float32)
    second = random.normal(0, 1, (6, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["features"]),
        helper.make_node("MatMul", ["features", "second"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", *axes])
    made = [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in ("features", "logits")]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    graph = helper.make_graph(nodes, "judge", [given], made, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    data = model.SerializeToString()
    (folder / f"{name}.onnx").write_bytes(data)
    lines = [f'file = "{name}.onnx"', f'sha256 = "{hashlib.sha256(data).hexdigest()}"', f'name = "small {name}"',
             f'takes = "{takes}"', "size = [4, 4]", 'features = "features"', 'logits = "logits"']  # fmt: skip
    (folder / f"{name}.toml").write_text("\n".join([*lines, *([f"frames = {FRAMES}"] if takes == "clips" else [])]))
    return folder / f"{name}.toml"
