"""Whole runs with a teacher beside the student, and with its likeliest codes in files."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from manifests.corpus import Corpus
from manifests.lock import resolve
from trainer import batches
from trainer.commands.teacher import teacher as command
from trainer.config import DistillConfig
from trainer.loop import train
from trainer.teacher_cache import open_cache, read_facts, read_receipt
from visent.errors import UserError

CODES = 64


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def ask(*arguments):
    """Runs `visent teacher`; returns its output."""
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False).stdout


def asked(run, manifest, out, *more, stage="images", steps=6, batch=8, k=CODES):
    options = ["--stage", stage, "--steps", steps, "--batch", batch, "--top-k", k, "--out", out]
    return ask(run, "-m", manifest, *options, *more)


@pytest.fixture(scope="module")
def images(config):
    """A run of the first stage alone."""
    return dataclasses.replace(config, stages={"images": config.stages["images"]})


@pytest.fixture(scope="module")
def big(tmp_path_factory, images, lock):
    """The folder of a teacher: wider than the student, another seed."""
    folder = tmp_path_factory.mktemp("big")
    wider = dataclasses.replace(images.model, name="wide", hidden=48, special_tokens=32)
    train(dataclasses.replace(images, model=wider, seed=9), lock, folder)
    return folder


@pytest.fixture(scope="module")
def cached(tmp_path_factory, big, manifest):
    """The folder of all the teacher's predictions of the student's sentences."""
    folder = tmp_path_factory.mktemp("logits")
    text = asked(big, manifest, folder)
    assert "48 sentences of 16 tokens x 256 bytes per token = 0.000 GB in 1 files; teacher wide, step 6" in text
    assert "1 files written" in text
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory, images, lock, big):
    """The folder of a student with the teacher beside it."""
    folder = tmp_path_factory.mktemp("taught")
    train(dataclasses.replace(images, distill=DistillConfig(teacher=str(big))), lock, folder)
    return folder


def test_a_run_with_a_teacher_reports_divergence_by_task_and_loses_it(taught):
    lines = lines_of(taught / "metrics.jsonl")
    assert all(line["divergence"] > 0 for line in lines)
    assert lines[-1]["divergence"] < lines[0]["divergence"]
    assert lines[0]["per_task"]["photos"]["divergence"] == pytest.approx(lines[0]["divergence"])


def test_files_of_all_codes_teach_what_the_teacher_itself_does(taught, cached, images, lock, tmp_path):
    train(dataclasses.replace(images, distill=DistillConfig(cached=str(cached))), lock, tmp_path)
    ours, theirs = lines_of(tmp_path / "metrics.jsonl"), lines_of(taught / "metrics.jsonl")
    for name in ("loss", "divergence", "gradient_norm"):
        np.testing.assert_allclose([x[name] for x in ours], [x[name] for x in theirs], rtol=2e-2)
    np.testing.assert_allclose([x["loss"] for x in ours], [x["loss"] for x in theirs], rtol=1e-3)
