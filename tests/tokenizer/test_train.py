"""Training: it learns, uses its codebook, and goes on from a checkpoint as if it had never stopped."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import CONFIG, read

from tokenizer.load import load
from tokenizer.quality import judge
from tokenizer.training.codebook import follow
from tokenizer.training.loop import Trainer
from tokenizer.training.losses import coarse_chroma
from tokenizer.training.pictures import Pictures
from tokenizer.training.recipes import default_recipe
from tokenizer.training.resume import restore_state, save_state
from tokenizer.training.run import Run
from tokenizer.training.state import learning_rate
from visent.errors import UserError


@pytest.fixture(scope="module")
def undisturbed(photos: Pictures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path, list[dict]]:
    """A whole run, with the checkpoint of its step 20."""
    trainer, path, figures = Trainer(CONFIG, photos), tmp_path_factory.mktemp("run") / "state.safetensors", []
    for step, values in enumerate(trainer.run(), start=1):
        figures.append(values)
        if step == 20:
            save_state(path, trainer)
    return trainer, path, figures


def test_it_learns(undisturbed: tuple[Trainer, Path, list[dict]]) -> None:
    _, _, figures = undisturbed
    assert len(figures) == CONFIG.steps
    assert np.mean([f["psnr"] for f in figures[-8:]]) > figures[0]["psnr"] + 4
    assert figures[-1]["usage"] > 0.8


def test_a_resumed_run_is_the_undisturbed_one(
    undisturbed: tuple[Trainer, Path, list[dict]], photo_folder: Path
) -> None:
    trainer, path, figures = undisturbed
    again = Trainer(CONFIG, read(photo_folder))
    restore_state(path, again)
    assert again.step == 20
    assert list(again.run()) == figures[20:]
    for ours, theirs in zip(jax.tree.leaves(again.state), jax.tree.leaves(trainer.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_may_be_made_longer_until_its_rate_falls(
    undisturbed: tuple[Trainer, Path, list[dict]], photos: Pictures
) -> None:
    _, path, _ = undisturbed
    longer = Trainer(dataclasses.replace(CONFIG, steps=60), photos)
    restore_state(path, longer)
    assert longer.step == 20
    with pytest.raises(UserError, match=r"step 20\) is of another run: steps changed"):
        restore_state(path, Trainer(dataclasses.replace(CONFIG, steps=30), photos))


def test_another_run_is_refused_by_what_changed(
    undisturbed: tuple[Trainer, Path, list[dict]], photos: Pictures, photo_folder: Path
) -> None:
    _, path, _ = undisturbed
    with pytest.raises(UserError, match="of another run: commitment, l1_weight changed"):
        restore_state(path, Trainer(dataclasses.replace(CONFIG, commitment=0.5, l1_weight=1.0), photos))
    with pytest.raises(UserError, match="of another run: pictures changed"):
        restore_state(path, Trainer(CONFIG, read(photo_folder / "part0")))


def test_a_damaged_checkpoint_is_one_clear_line(photos: Pictures, tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        restore_state(tmp_path / "state.safetensors", Trainer(CONFIG, photos))


def test_a_finished_run_leaves_a_tokenizer_its_figures_and_a_sheet(photos: Pictures, tmp_path: Path) -> None:
    card = Run(Trainer(CONFIG, photos), tmp_path, "mine", {"licence": "CC0"}).train()
    assert card.about["licence"] == "CC0"
    assert card.about["pictures"] == "20 photos to train on, 4 held out, of 24 files"
    assert card.about["trained for"] == "40 of 40 steps"
    lines = [json.loads(line) for line in (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()]
    quality = judge(load(tmp_path), photos.held_out(exact=False))
    assert lines[-1]["held_out"]["photos"]["psnr"] == pytest.approx(quality.psnr)
    assert (tmp_path / "training" / "photos.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "training" / "state.safetensors").exists()


def test_the_exported_weights_are_the_running_mean(photos: Pictures) -> None:
    def kernel() -> np.ndarray:
        return np.asarray(trainer.model().encoder.conv_in.kernel[...])

    trainer = Trainer(CONFIG, photos)
    mean, run = kernel(), trainer.run()
    for step in range(6):
        next(run)
        decay = min(CONFIG.ema_decay, (1 + step) / (10 + step))
        raw = np.asarray(trainer.state.params["encoder"]["conv_in"]["kernel"][...])
        mean = decay * mean + (1 - decay) * raw
        np.testing.assert_allclose(kernel(), mean, atol=1e-6)
    assert np.abs(kernel() - raw).max() > 1e-4
    np.testing.assert_array_equal(trainer.model().codebook[...], trainer.state.params["codebook"][...])


def test_the_codebook_moves_towards_the_features_that_chose_it() -> None:
    features = jnp.array([[1.0, 0.0], [3.0, 0.0], [0.0, 8.0]])
    counts, sums = jnp.array([1.5, 1.5]), jnp.zeros((2, 2))
    move = jax.jit(follow, static_argnames="config")
    for _ in range(2000):
        counts, sums, revived = move(counts, sums, features, jnp.array([0, 0, 1]), jax.random.key(0), config=CONFIG)
        assert int(revived) == 0
    np.testing.assert_allclose(sums / counts[:, None], [[2, 0], [0, 8]], rtol=1e-4)


def test_a_code_that_nothing_chooses_is_moved_onto_a_feature() -> None:
    features = jnp.array([[1.0, 0.0], [3.0, 0.0]])
    counts, sums = jnp.array([1.0, 0.05]), jnp.array([[1.0, 0.0], [9.0, 9.0]])
    counts, sums, revived = follow(counts, sums, features, jnp.array([0, 0]), jax.random.key(0), CONFIG)
    assert int(revived) == 1
    assert (sums / counts[:, None])[1].tolist() in features.tolist()


def test_chroma_is_blind_to_brightness_and_sees_colour() -> None:
    grey = jnp.broadcast_to(jnp.linspace(0, 1, 16)[None, :, None, None], (1, 16, 16, 3))
    np.testing.assert_allclose(coarse_chroma(grey), 0, atol=1e-6)
    red = jnp.zeros((1, 16, 16, 3)).at[..., 0].set(1.0)
    np.testing.assert_allclose(coarse_chroma(red)[0, 0, 0], [0.701, -0.299, -0.299], atol=1e-6)


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    config = default_recipe(steps=1000, warmup_steps=100, learning_rate=0.5)
    rate = learning_rate(config)
    assert [round(float(rate(step)), 4) for step in (0, 50, 100, 600, 800, 1000)] == [0, 0.25, 0.5, 0.5, 0.25, 0]


@pytest.mark.parametrize("change", [{"crop": 20}, {"steps": 2}, {"ema_decay": 1.0}])
def test_an_impossible_recipe_is_refused(change: dict) -> None:
    with pytest.raises(UserError):
        dataclasses.replace(CONFIG, **change)
