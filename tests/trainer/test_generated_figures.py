"""Figures of generated images while a model trains: what they compare, when they are due, and that runs resume."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from manifests.corpus import Corpus
from manifests.lock import resolve
from manifests.testing import write_random_dataset
from tokenizer.load import load, load_card
from tokenizer.testing import tiny_tokenizer_dir
from trainer import batches
from trainer import model as llama
from trainer.evaluate.heldout import SEED
from trainer.generate import Sampling, generate
from trainer.generated import GeneratedScore, score_generated
from trainer.loop import train
from trainer.plan import fit
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SCORES = {"psnr_to_decoded_truth", "ssim_to_decoded_truth", "equal_codes"}


@pytest.fixture(scope="module")
def drawable(tmp_path_factory):
    """A lock of pairs and of single images whose codes a small tokenizer can draw, and that tokenizer's folder."""
    folder = tmp_path_factory.mktemp("drawable")
    tokenizer = tiny_tokenizer_dir(folder)
    card, counts = load_card(str(tokenizer)), {"train": 12, "val": 3}
    write_random_dataset(str(folder / "pairs"), {"image": "still", "edge": "still"}, examples=counts, card=card)
    write_random_dataset(str(folder / "rare"), {"image": "still"}, examples={"train": 12}, card=card)
    (folder / "manifest.toml").write_text(
        'version = 1\n[datasets]\npairs = "pairs"\nrare = "rare"\n'
        '[tasks]\nedge = { dataset = "pairs", kind = "discriminative", sentence = ["image", "edge"] }\n'
        'alone = { dataset = "pairs", kind = "single", sentence = ["image"] }\n'
        'rare = { dataset = "rare", kind = "single", sentence = ["image"] }\n'
        "[stages.images]\ncontext = 16\nshare = { alone = 0.5, rare = 0.5 }\n"
        "[stages.sequences]\ncontext = 32\nshare = { edge = 1.0 }\n"
    )
    return resolve(str(folder / "manifest.toml")), tokenizer


@pytest.fixture(scope="module")
def asking(config, drawable):
    """Two steps of images and three of sequences, with figures after each second one."""
    tokenizer = drawable[1]
    stages = {
        name: dataclasses.replace(stage, steps=steps, warmup_steps=0, batch_sentences=4)
        for (name, stage), steps in zip(config.stages.items(), (2, 3), strict=True)
    }
    return dataclasses.replace(config, stages=stages, tokenizer=str(tokenizer), figures_every=2, figures_samples=16)


@pytest.fixture(scope="module")
def fitted(asking, drawable):
    """The same with the codebook and contexts of the lock, and parameters of a fresh model."""
    config = fit(asking, drawable[0])
    return config, llama.init(config.model, 0, llama.any_codebook(config.model))


def test_generated_images_are_compared_with_the_decoded_truth(drawable, fitted):
    lock, folder = drawable
    (config, params), tokenizer, corpus = fitted, load(str(folder)), Corpus(lock, split="val")
    found = score_generated(params, config, corpus, tokenizer, "sequences")
    assert set(found) == {"edge"}
    score = found["edge"]
    assert score.samples == 3, "no held-out example comes twice, whatever figures_samples"
    sentences = corpus.task_sentences("sequences", "edge", np.arange(3), SEED)
    codes = generate(params, config.model, sentences[:, :16], 16, Sampling())
    assert score.equal_codes == np.mean(codes == sentences[:, 16:])
    truth, made = (tokenizer.decode(side).astype(np.float64) for side in (sentences[:, 16:], codes))
    error = ((truth - made) ** 2).reshape(3, -1).mean(axis=1)
    assert score.psnr_to_decoded_truth == pytest.approx(np.mean(10 * np.log10(255**2 / error)), rel=1e-9)


def test_sentences_that_begin_with_nothing_are_given_half_an_image(drawable, fitted):
    lock, folder = drawable
    config, params = fitted
    corpus = Corpus(lock, split="val")
    found = score_generated(params, config, corpus, load(str(folder)), "images")
    assert set(found) == {"alone"}, "task rare has no held-out rows"
    sentences = corpus.task_sentences("images", "alone", np.arange(3), SEED)
    codes = generate(params, config.model, sentences[:, :8], 8, Sampling())
    assert found["alone"].equal_codes == np.mean(codes == sentences[:, 8:])


def test_figures_that_are_not_finite_are_left_out():
    """JSON has no number for the PSNR of equal images."""
    score = GeneratedScore(samples=2, psnr_to_decoded_truth=float("inf"), ssim_to_decoded_truth=1.0, equal_codes=1.0)
    assert score.figures() == {"ssim_to_decoded_truth": 1.0, "equal_codes": 1.0}


def test_figures_without_held_out_rows_are_refused_before_training(asking, drawable, tmp_path):
    lock = drawable[0]
    bare = {
        name: dataclasses.replace(found, shards=tuple(shard for shard in found.shards if shard.split == "train"))
        for name, found in lock.datasets.items()
    }
    with pytest.raises(UserError, match="figures_every is 2, but no dataset has held-out rows"):
        train(asking, dataclasses.replace(lock, datasets=bare), tmp_path)


@pytest.mark.parametrize(("name", "value"), [("figures_every", -1), ("figures_samples", 0)])
def test_settings_out_of_range_are_refused(config, name, value):
    with pytest.raises(UserError, match=f"{name} is {value}"):
        dataclasses.replace(config, **{name: value})


def lines_of(path):
    return [json.loads(line) for line in (path / "eval.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_lines_at_intervals_and_at_each_stages_end_have_the_figures_also_when_resumed(
    asking, drawable, tmp_path, monkeypatch
):
    lock, failed = drawable[0], []
    train(asking, lock, tmp_path / "whole")
    real = batches.batch

    def failing(corpus, stage, number, *rest):
        if stage == "sequences" and number == 2 and not failed:
            failed.append(number)
            raise UserError("shard gone")
        return real(corpus, stage, number, *rest)

    monkeypatch.setattr(batches, "batch", failing)
    with pytest.raises(UserError, match="shard gone"):
        train(asking, lock, tmp_path / "resumed")
    train(asking, lock, tmp_path / "resumed")
    whole = lines_of(tmp_path / "whole")
    assert [(line["stage"], line["step"], set(line["generated"])) for line in whole] == [
        ("images", 2, {"alone"}), ("sequences", 4, {"edge"}), ("sequences", 5, {"edge"}),
    ]  # fmt: skip
    assert all(set(scores) == {"samples", *SCORES} for line in whole for scores in line["generated"].values())
    assert lines_of(tmp_path / "resumed") == whole
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(tmp_path / "resumed" / "tensorboard"))
    found.Reload()
    shown = found.Scalars("generated_psnr_to_decoded_truth/sequences/edge")
    assert [event.step for event in shown] == [4, 5]
    wanted = [line["generated"]["edge"]["psnr_to_decoded_truth"] for line in whole[1:]]
    assert [event.value for event in shown] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.slow
def test_training_does_not_depend_on_its_figures(asking, drawable, tmp_path):
    lock = drawable[0]
    train(asking, lock, tmp_path / "with")
    train(dataclasses.replace(asking, figures_every=0), lock, tmp_path / "without")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("with", "without")
    ]
    assert losses[0] == losses[1]
    assert "generated" not in lines_of(tmp_path / "without")[-1]


def start(manifest, tokenizer, out, devices, *more):
    """Starts `visent train` with figures, on so many devices of one processor that share the parameters."""
    sizes = {"model.hidden": 32, "model.mlp": 48, "model.heads": 2, "model.layers": 2, "stages.*.steps": 2,
             "stages.*.batch_sentences": 4, "stages.*.warmup_steps": 0, "figures_every": 2,
             "compute.fsdp": 2}  # fmt: skip
    settings = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "visent", "train", "tiny", "--manifest", manifest, "--out", out,
               "--tokenizer", tokenizer, *settings, *more]  # fmt: skip
    alone = {"SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "1", "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=os.environ | alone, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def ended(process):
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


@pytest.mark.slow
def test_two_hosts_that_share_the_parameters_find_what_one_host_does(drawable, tmp_path):
    lock, tokenizer = drawable
    manifest = Path(lock.base) / "manifest.toml"
    ended(start(manifest, tokenizer, tmp_path / "one", 2))
    with socket.socket() as found:
        found.bind(("localhost", 0))
        meet = ("--hosts", "2", "--coordinator", f"localhost:{found.getsockname()[1]}")
    hosts = [start(manifest, tokenizer, tmp_path / "two", 1, *meet, "--host-id", host) for host in range(2)]
    for host in hosts:
        ended(host)
    assert lines_of(tmp_path / "two") == lines_of(tmp_path / "one")
    assert all(line["generated"] for line in lines_of(tmp_path / "two"))
