"""Runs that start from the parameters of others."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from trainer import start
from trainer.checkpoint import Checkpoints, Keep
from trainer.loop import train
from trainer.mesh import make_mesh
from trainer.run_facts import RunFacts
from trainer.run_folder import RunFolder
from trainer.step import init_state, make_state
from visent.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory, config, lock):
    """A run that has a checkpoint of step 0 with the parameters of seed 5; its folder."""
    folder = RunFolder(tmp_path_factory.mktemp("start"))
    other = dataclasses.replace(config, seed=5)
    facts = RunFacts(config=other, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)
    folder.write(facts, lock)
    with Checkpoints(folder.checkpoints, Keep()) as checkpoints:
        checkpoints.save(init_state(other), facts)
    return str(folder.root)


def test_a_run_starts_with_the_other_s_parameters_and_fresh_moments(run, config, lock):
    mesh = make_mesh(config.compute)
    state = start.first_state(dataclasses.replace(config, start=run), lock, mesh)
    wanted = init_state(dataclasses.replace(config, seed=5)).params
    jax.tree.map(np.testing.assert_array_equal, state.params, wanted)
    jax.tree.map(np.testing.assert_array_equal, state.moments, make_state(config, mesh).moments)
    assert int(state.step) == 0


def test_without_a_start_the_parameters_are_fresh(config, lock):
    mesh = make_mesh(config.compute)
    state = start.first_state(config, lock, mesh)
    jax.tree.map(np.testing.assert_array_equal, state.params, make_state(config, mesh).params)


def test_another_model_is_refused_with_the_difference(run, config, lock):
    other = dataclasses.replace(config.model, layers=3, mlp=64, name="another", init_std=1.0)
    with pytest.raises(UserError, match=r"holds another model \(mlp: 48, now 64; layers: 2, now 3\): leave --model"):
        start.open_start(run, other, lock.card)


def test_another_name_is_the_same_model(run, config, lock):
    model = dataclasses.replace(config.model, name="another", init_std=1.0)
    assert start.open_start(run, model, lock.card).step == 0


def test_another_tokenizer_is_refused_with_the_difference(run, config, lock):
    card = dataclasses.replace(lock.card, preset="squash", about={"steps": "7"})
    with pytest.raises(UserError, match=r"of tokenizer 'random' \(.*; preset: crop, now squash\): start from a run"):
        start.open_start(run, config.model, card)


@pytest.mark.slow
def test_a_run_from_a_first_checkpoint_has_the_losses_of_its_own_run_and_resumes_without_it(
    run, config, lock, tmp_path
):
    stages = {"images": dataclasses.replace(config.stages["images"], steps=2)}
    plain = dataclasses.replace(config, stages=stages, seed=5)
    shutil.copytree(run, tmp_path / "first")
    started = dataclasses.replace(plain, start=str(tmp_path / "first"))
    train(plain, lock, tmp_path / "plain")
    train(started, lock, tmp_path / "started")
    assert losses_of(tmp_path / "started") == losses_of(tmp_path / "plain")
    shutil.rmtree(tmp_path / "first")
    longer = {"images": dataclasses.replace(stages["images"], steps=3)}
    train(dataclasses.replace(started, stages=longer), lock, tmp_path / "started", allow_other_settings=True)
    assert [step for step, _ in losses_of(tmp_path / "started")] == [1, 2, 3]


def losses_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def test_a_folder_without_checkpoints_is_named(tmp_path, config, lock):
    with pytest.raises(UserError, match="has no checkpoints"):
        start.open_start(str(tmp_path / "nowhere"), config.model, lock.card)
