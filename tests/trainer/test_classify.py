"""The probe: pictures sorted by class, the network over patches, whole runs and what can be wrong."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from manifests import files
from trainer import model as llama
from trainer.checkpoint import Checkpoints
from trainer.classify import loop, pictures, recipe
from trainer.classify import model as probes
from trainer.classify.config import ClassifyConfig
from trainer.classify.step import Labelled, init_state, make_step
from trainer.commands.classify import classify
from trainer.config import ComputeConfig, RunConfig
from trainer.loop import train as train_sentences
from trainer.mesh import make_mesh
from trainer.run_folder import RunFolder, open_run
from visent.cli import visent
from visent.errors import UserError

KINDS = ("plain", "spots", "stripes")
PROBE = ClassifyConfig(image_size=32, patch=8, smallest_crop=0.5, reading_threads=2)


def picture(kind, random):
    a, b = random.integers(0, 255, (2, 3))
    y, x = np.mgrid[:40, :48]
    pattern = {"plain": x < 0, "stripes": (x // 3) % 2 == 0, "spots": (x % 12 - 6) ** 2 + (y % 12 - 6) ** 2 < 12}[kind]
    return Image.fromarray(np.where(pattern[..., None], a, b).astype(np.uint8))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three kinds of patterns in random colours: 16 of each to train on, 8 held out."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for kind in KINDS:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                picture(kind, random).save(folder / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def probe(model):
    """Sixty steps of 24 pictures."""
    made = recipe.classify(dataclasses.replace(model, init_std=0.1))
    stage = dataclasses.replace(made.stages["classify"], steps=60, warmup_steps=4, batch_sentences=24,
                                learning_rate=5e-3, weight_decay=0.0)  # fmt: skip
    return dataclasses.replace(made, stages={"classify": stage}, classify=PROBE, log_every=4, checkpoint_every=40)


@pytest.fixture(scope="module")
def done(images, probe, tmp_path_factory):
    """The folder of a whole run."""
    out = tmp_path_factory.mktemp("probe")
    loop.train(probe, images, out)
    return out


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_epoch_reads_every_picture_once_in_an_order_of_its_own(images):
    found = pictures.find(images, "train")
    numbers, epochs = (
        np.concatenate(parts) for parts in zip(*(found.numbers(s, 24, 0) for s in range(4)), strict=True)
    )
    assert sorted(numbers[:48]) == sorted(numbers[48:]) == list(range(48))
    assert list(epochs) == [0] * 48 + [1] * 48
    assert list(numbers[:48]) != list(numbers[48:])


def test_a_crop_depends_on_name_epoch_and_seed_alone(images):
    found = pictures.find(images, "train")
    with pictures.pool_of(PROBE) as pool:
        a, b = found.crops([40, 33], [0, 0], PROBE, pool, 0), found.crops([33, 40], [0, 1], PROBE, pool, 0)
    np.testing.assert_array_equal(a[1], b[0])
    assert not np.array_equal(a[0], b[1])
    assert a.shape == (2, 32, 32, 3)


def test_patches_are_cut_row_by_row():
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)
    parts = np.asarray(probes._cut(jax.numpy.asarray(image), 8))
    assert parts.shape == (1, 4, 192)
    np.testing.assert_allclose(parts[0, 1], image[0, :8, 8:].reshape(-1) / 127.5 - 1, atol=1e-6)


def test_it_learns_to_tell_patterns_apart(done):
    (line,) = lines_of(done / "eval.jsonl")
    assert line["pictures"] == 24
    assert line["accuracy"] > 0.6
    assert line["accuracy_of_five"] == 1.0


def test_a_run_that_failed_goes_on_with_the_same_losses(done, probe, images, tmp_path, monkeypatch):
    short = dataclasses.replace(probe, checkpoint_every=6)
    with monkeypatch.context() as patch:
        patch.setattr(pictures.Pictures, "numbers", _failing_from(21))
        with pytest.raises(UserError, match="disk gone"):
            loop.train(short, images, tmp_path)
    loop.train(short, images, tmp_path)
    losses = [[line["loss"] for line in lines_of(run / "metrics.jsonl") if line["step"] % 4 == 0]
              for run in (done, tmp_path)]  # fmt: skip
    assert losses[0] == losses[1]


def _failing_from(first):
    real = pictures.Pictures.numbers

    def numbers(self, step, batch, seed):
        if step >= first:
            raise UserError("disk gone")
        return real(self, step, batch, seed)

    return numbers


def test_layers_come_from_a_trained_run_and_stay_where_only_the_head_learns(config, lock, images, probe, tmp_path):
    stages = {"images": dataclasses.replace(config.stages["images"], steps=2)}
    train_sentences(dataclasses.replace(config, stages=stages), lock, tmp_path / "run")
    trained = open_run(tmp_path / "run").params()
    stage = dataclasses.replace(probe.stages["classify"], steps=2, warmup_steps=0, weight_decay=0.1)
    fixed = dataclasses.replace(PROBE, train_layers=False)
    frozen = dataclasses.replace(probe, stages={"classify": stage}, classify=fixed, start=str(tmp_path / "run"))
    loop.train(frozen, images, tmp_path / "probe")
    params = params_of(frozen, tmp_path / "probe")
    jax.tree.map(np.testing.assert_array_equal, params["llama"]["layers"], trained["layers"])
    fresh = probes.init(frozen.model, fixed, 3, frozen.seed)
    assert not np.array_equal(params["patches"]["kernel"], fresh["patches"]["kernel"])
    assert np.any(params["classes"]["kernel"])


def params_of(config: RunConfig, out):
    with Checkpoints(out / "checkpoints") as checkpoints:
        return checkpoints.restore_params(jax.eval_shape(lambda: init_state(config, 3)).params)


def test_microbatches_change_nothing_but_memory(probe, images):
    random = np.random.default_rng(0)
    batch = Labelled(random.integers(0, 255, (24, 32, 32, 3), np.uint8), random.integers(0, 3, 24, np.int32))
    found = []
    for parts in (1, 4):
        stage = dataclasses.replace(probe.stages["classify"], microbatches=parts)
        config = dataclasses.replace(probe, stages={"classify": stage})
        step, _ = make_step(config, 3, make_mesh(ComputeConfig()))
        state, facts = step(init_state(config, 3), batch)
        found.append((facts.loss, state.params["classes"]["kernel"]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)


def test_layers_that_stay_do_not_count_in_the_gradient(probe):
    random = np.random.default_rng(0)
    batch = Labelled(random.integers(0, 255, (24, 32, 32, 3), np.uint8), random.integers(0, 3, 24, np.int32))
    stage, norms = dataclasses.replace(probe.stages["classify"], warmup_steps=0), []
    for train_layers in (True, False):
        config = dataclasses.replace(
            probe, stages={"classify": stage}, classify=dataclasses.replace(PROBE, train_layers=train_layers)
        )
        step, _ = make_step(config, 3, make_mesh(ComputeConfig()))
        state, _ = step(init_state(config, 3), batch)  # the head is zero: only then do layers have a gradient
        norms.append(float(step(state, batch)[1].gradient_norm))
    assert norms[1] < norms[0]


def test_a_run_is_not_gone_on_with_as_another_probe_or_on_other_pictures(done, probe, images, tmp_path):
    other = dataclasses.replace(probe, classify=dataclasses.replace(PROBE, label_smoothing=0.0))
    with pytest.raises(UserError, match=r"classify\.label_smoothing: 0\.1, now 0\.0"):
        loop.train(other, images, done)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for kind in KINDS:
            (tmp_path / split / kind).symlink_to(images / split / kind)
    (tmp_path / "train" / "zigzag").mkdir()
    with pytest.raises(UserError, match="train has other pictures or classes than when this run began"):
        loop.train(probe, tmp_path, done)


def test_nothing_that_is_due_is_lost_between_an_evaluation_and_a_checkpoint(probe, images, tmp_path, monkeypatch):
    stage = dataclasses.replace(probe.stages["classify"], steps=4, warmup_steps=0)
    short = dataclasses.replace(probe, stages={"classify": stage}, checkpoint_every=2, evaluate_every=2)
    monkeypatch.setattr(loop, "RunFolder", _JournalsInBucket)
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_evaluate", _no_disk)
        with pytest.raises(UserError, match="disk gone"):
            loop.train(short, images, tmp_path)
    loop.train(short, images, tmp_path)
    lines = files.read_bytes(_JournalsInBucket.evaluations).splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


class _JournalsInBucket(RunFolder):
    """A folder whose journals are at URLs, which take no single lines."""

    metrics = "memory://probe/metrics.jsonl"
    evaluations = "memory://probe/eval.jsonl"


def _no_disk(*_):
    raise UserError("disk gone")


def test_a_probe_is_no_run_of_codes(done):
    with pytest.raises(UserError, match="is a classifier of pictures, which knows no codes"):
        open_run(done)


def test_a_flat_val_folder_is_read_with_imagenets_list(images, tmp_path):
    (tmp_path / "train").symlink_to(images / "train")
    (tmp_path / "val").mkdir()
    for name in ("a.png", "b.png"):
        picture("spots", np.random.default_rng(1)).save(tmp_path / "val" / name)
    (tmp_path / "val.txt").write_text("a.png 1\nabsent.png 0\nb.png 2\n")
    found = pictures.find(tmp_path, "val", KINDS)
    assert found.names == ("val/a.png", "val/b.png")
    assert found.labels.tolist() == [1, 2]


def test_real_imagenet_files_are_found(samples):
    root = samples / "imagenet" / "ILSVRC2012"
    training = pictures.find(root, "train")
    assert (len(training.names), len(training.classes)) == (506, 506)
    with pictures.pool_of(PROBE) as pool:
        assert training.crops(range(8), [0] * 8, PROBE, pool, 0).shape == (8, 32, 32, 3)


def test_what_is_wrong_with_folders_and_files_is_said(images, probe, tmp_path):
    with pytest.raises(UserError, match="train is missing: expected pictures in"):
        pictures.find(tmp_path, "train")
    (tmp_path / "train" / "spots").mkdir(parents=True)
    with pytest.raises(UserError, match="has no pictures: expected <class>/<picture>"):
        pictures.find(tmp_path, "train")
    (tmp_path / "train" / "spots" / "a.png").write_bytes(b"no picture")
    (tmp_path / "val" / "dots").mkdir(parents=True)
    with pytest.raises(UserError, match="dots is a class that"):
        pictures.find(tmp_path, "val", ("spots",))
    with pictures.pool_of(PROBE) as pool, pytest.raises(UserError, match=r"a\.png is no usable picture"):
        pictures.find(tmp_path, "train").crops([0], [0], PROBE, pool, 0)
    with pytest.raises(UserError, match=r"classify\.image_size is 30: expected a multiple of classify\.patch, 8"):
        ClassifyConfig(image_size=30, patch=8)
    other = dataclasses.replace(probe, model=dataclasses.replace(probe.model, layers=3))
    fresh = probes.init(probe.model, PROBE, 3, 0)
    with pytest.raises(UserError, match="layers of other shapes: pass its own size"):
        probes.with_layers_of(fresh, llama.init(other.model, 0))


def test_the_command_continues_shows_its_plan_and_sends_recipe_users_on(done, images, tmp_path):
    plan = CliRunner().invoke(classify, [str(images), "--model", "tiny", "--dry-run"], catch_exceptions=False)
    assert "48 pictures of 3 classes" in plan.output
    with pytest.raises(UserError, match="pass --out PROBE"):
        CliRunner().invoke(classify, [str(images), "--model", "tiny"], catch_exceptions=False)
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        CliRunner().invoke(classify, [str(images), "--model", "tiney"], catch_exceptions=False)
    with pytest.raises(UserError, match="visent classify"):
        CliRunner().invoke(visent, ["train", "classify", "-m", "manifest.toml"], catch_exceptions=False)


@pytest.mark.parametrize("change", ["stages.classify.context=64", "distill.teacher=run", "sample_every=5"])
def test_settings_that_a_probe_would_not_heed_are_refused(images, change):
    with pytest.raises(UserError, match=f"--set {change}: a probe reads pictures"):
        CliRunner().invoke(classify, [str(images), "--dry-run", "--set", change], catch_exceptions=False)
