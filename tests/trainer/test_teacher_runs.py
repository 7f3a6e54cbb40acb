"""Whole runs with a teacher beside the student, and with its likeliest codes in files."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from flax import nnx
from scipy.special import log_softmax

from manifests import files
from manifests.corpus import Corpus
from manifests.lock import resolve
from trainer import batches, choosing, estimates, teach, teacher_cache
from trainer import model as llama
from trainer.commands.teacher import teacher as command
from trainer.config import ComputeConfig, DistillConfig, StageConfig
from trainer.loop import train
from trainer.mesh import make_mesh
from trainer.recipes import MODELS
from trainer.run_folder import open_run
from trainer.teacher import open_teacher
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


def test_a_teacher_takes_memory_that_the_backward_pass_then_saves(monkeypatch):
    model, compute = dataclasses.replace(MODELS["80m"], codebook_size=CODES), ComputeConfig(attention="blocked")
    stage = StageConfig(steps=1, batch_sentences=64, learning_rate=1.0, final_learning_rate=1.0, context=1024)
    mesh, plain = make_mesh(compute), dataclasses.replace(estimates.settled(compute, "cpu"), remat="none")
    needs = estimates.memory(model, plain, stage, mesh.shape).total
    monkeypatch.setattr(choosing, "_device_bytes", lambda mesh: int(needs / estimates.SPARE) + 1)
    assert choosing.choose_remat(model, compute, stage, mesh).compute.remat == "none"
    assert choosing.choose_remat(model, compute, stage, mesh, 1 << 30).compute.remat != "none"


def test_files_of_all_codes_teach_what_the_teacher_itself_does(taught, cached, images, lock, tmp_path):
    train(dataclasses.replace(images, distill=DistillConfig(cached=str(cached))), lock, tmp_path)
    ours, theirs = lines_of(tmp_path / "metrics.jsonl"), lines_of(taught / "metrics.jsonl")
    for name in ("loss", "divergence", "gradient_norm"):
        np.testing.assert_allclose([x[name] for x in ours], [x[name] for x in theirs], rtol=2e-2)
    np.testing.assert_allclose([x["loss"] for x in ours], [x["loss"] for x in theirs], rtol=1e-3)


@pytest.mark.slow
def test_a_run_goes_on_with_its_teacher_as_if_it_had_not_stopped(taught, images, lock, big, tmp_path):
    shutil.copytree(taught, tmp_path / "run")
    for step in ("4", "6"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / step, ignore_errors=True)
    train(dataclasses.replace(images, distill=DistillConfig(teacher=str(big))), lock, tmp_path / "run")
    ours, theirs = (lines_of(run / "metrics.jsonl") for run in (tmp_path / "run", taught))
    assert [(x["step"], x["loss"], x["divergence"]) for x in ours] == [
        (x["step"], x["loss"], x["divergence"]) for x in theirs
    ]


def test_a_run_does_not_go_on_with_a_teacher_that_has_learned_since(taught, images, lock, big, tmp_path):
    shutil.copytree(big, tmp_path / "big")
    shutil.rmtree(tmp_path / "big" / "checkpoints" / "6")
    again = dataclasses.replace(images, distill=DistillConfig(teacher=str(tmp_path / "big")))
    shutil.copytree(taught, tmp_path / "run")
    with pytest.raises(UserError, match=r"other settings \(distill.teacher.*teacher.step: 6, now \d; teacher.digest"):
        train(again, lock, tmp_path / "run")


def test_a_file_is_an_array_of_numpy_with_the_teacher_s_likeliest_codes(cached, big, lock):
    sentences = np.load(cached / "images" / "00000.npy")
    order = batches.numbers(0, len(sentences))  # as the receipt says: 48 sentences from 0
    saved = open_run(big)
    model = nnx.merge(llama.definition(saved.config.model), saved.params())
    codes, _ = Corpus(lock).sentences("images", order, 0)
    scores = np.asarray(model.logits(model.before(jnp.asarray(codes, jnp.int32))), np.float64)[..., :CODES]
    logs = np.take_along_axis(log_softmax(scores, -1), sentences["codes"].astype(int), -1)
    np.testing.assert_allclose(sentences["log_probabilities"], logs, rtol=2e-3, atol=2e-3)
    assert (np.diff(sentences["log_probabilities"].astype(np.float32)) <= 0).all()
    assert (np.sort(sentences["codes"], -1) == np.arange(CODES)).all()
    receipt = read_receipt(str(cached / "images"), 0)
    assert (receipt.first, receipt.sentences, receipt.file) == (0, 48, "00000.npy")


@pytest.fixture(scope="module")
def many(tmp_path_factory, big, manifest):
    """The folder of 200 sentences in four files, the last of them shorter, with the 3 likeliest codes."""
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher_cache, "FILE_BYTES", 1)
        assert "4 files written" in asked(big, manifest, folder, steps=25, k=3)
    return folder


@pytest.fixture
def small_files(monkeypatch):
    """Files of 64 sentences."""
    monkeypatch.setattr(teacher_cache, "FILE_BYTES", 1)


def stored(folder):
    """What is stored of each sentence, by its number, read with numpy alone."""
    found = {}
    for path in sorted((folder / "images").glob("*.npy")):
        receipt, sentences = json.loads(path.with_suffix(".json").read_text()), np.load(path)
        order = receipt["first"] + batches.numbers(0, receipt["sentences"])
        found |= {int(number): sentence for number, sentence in zip(order, sentences, strict=True)}
    return found


def test_sentences_are_read_by_their_numbers_for_any_batch(many, lock, small_files):
    cache, expected = open_cache(str(many), lock, "images", 0, 200), stored(many)
    assert sorted(expected) == list(range(200))
    for step, size in ((0, 8), (24, 8), (2, 64), (1, 100), (0, 200), (3, 1)):
        numbers = batches.numbers(step, size)
        found = cache.read(numbers)
        for row, number in enumerate(numbers.tolist()):
            np.testing.assert_array_equal(found.codes[row], expected[number]["codes"])
            np.testing.assert_array_equal(found.log_probabilities[row], expected[number]["log_probabilities"])


@pytest.mark.parametrize("hosts", [1, 2, 8])
def test_a_host_reads_its_own_rows_and_nothing_else_in_a_few_pieces(hosts, many, lock, small_files, monkeypatch):
    cache, asked_for, real = open_cache(str(many), lock, "images", 0, 192), [], files.read_ranges
    monkeypatch.setattr(files, "read_ranges", lambda path, ranges: asked_for.append(ranges) or real(path, ranges))
    for own in batches.numbers(0, 192).reshape(hosts, -1):
        asked_for.clear()
        cache.read(own)
        assert (
            sum(end - start for ranges in asked_for for start, end in ranges) == len(own) * cache.facts.record.itemsize
        )
        assert len(asked_for) == 3
        assert max(len(ranges) for ranges in asked_for) == 1


def test_work_that_was_stopped_goes_on_with_the_files_that_are_missing(many, big, manifest, tmp_path, small_files):
    shutil.copytree(many, tmp_path / "many")
    folder = tmp_path / "many" / "images"
    (folder / "00001.json").unlink()  # killed between a file and its receipt
    (folder / "00003.npy").unlink()
    (folder / ".tmp-123-00003.npy").write_bytes(b"half")
    before = (folder / "00000.npy").stat().st_mtime_ns
    assert "2 files written" in asked(big, manifest, tmp_path / "many", steps=25, k=3)
    assert (folder / "00000.npy").stat().st_mtime_ns == before
    assert not list(folder.glob(".tmp-*"))
    for name in ("00001", "00003"):
        assert (folder / f"{name}.npy").read_bytes() == (many / "images" / f"{name}.npy").read_bytes()
        assert (folder / f"{name}.json").read_bytes() == (many / "images" / f"{name}.json").read_bytes()


@pytest.mark.slow
def test_a_killed_command_goes_on_and_writes_the_files_of_one_that_was_not(big, manifest, tmp_path, small_files):
    small = "import trainer.teacher_cache as t; t.FILE_BYTES = 1; from visent.cli import main; main()"
    options = ["teacher", big, "-m", manifest, "--stage", "images", "--steps", 500, "--batch", 8, "--top-k", 3]
    with subprocess.Popen(
        [sys.executable, "-c", small, *map(str, options), "--out", str(tmp_path / "killed")]
    ) as child:
        while not (tmp_path / "killed" / "images" / "00003.json").exists():
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    folder, whole = tmp_path / "killed" / "images", tmp_path / "whole" / "images"
    finished = len(list(folder.glob("0*.json")))
    assert 4 <= finished < 63
    assert f"{63 - finished} files written" in asked(big, manifest, tmp_path / "killed", steps=500, k=3)
    asked(big, manifest, tmp_path / "whole", steps=500, k=3)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert all(path.read_bytes() == (whole / path.name).read_bytes() for path in folder.iterdir())


def test_parts_of_the_work_make_the_same_files(many, big, manifest, tmp_path, small_files):
    assert "2 files written" in asked(big, manifest, tmp_path, "--part", "2/2", steps=25, k=3)
    assert sorted(path.name for path in (tmp_path / "images").glob("*.npy")) == ["00001.npy", "00003.npy"]
    for path in (tmp_path / "images").iterdir():
        assert path.read_bytes() == (many / "images" / path.name).read_bytes()


def test_more_steps_add_what_is_missing_and_fewer_keep_what_is_there(many, big, manifest, tmp_path, small_files):
    shutil.copytree(many, tmp_path / "many")
    assert "0 files written" in asked(big, manifest, tmp_path / "many", steps=5, k=3)
    assert read_facts(str(tmp_path / "many" / "images")).sentences == 200
    assert "2 files written" in asked(big, manifest, tmp_path / "many", steps=35, k=3)  # the short one, and one more
    assert sorted(stored(tmp_path / "many")) == list(range(280))


def test_a_damaged_file_is_found_by_its_sum_and_written_again(many, big, manifest, lock, tmp_path, small_files):
    shutil.copytree(many, tmp_path / "many")
    path = tmp_path / "many" / "images" / "00002.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "0 files written" in asked(big, manifest, tmp_path / "many", steps=25, k=3)
    assert "1 files written" in asked(big, manifest, tmp_path / "many", "--check", steps=25, k=3)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"00002.npy.*sentences from 128, is missing or cut short.*visent teacher"):
        open_cache(str(tmp_path / "many"), lock, "images", 0, 200)
    assert "1 files written" in asked(big, manifest, tmp_path / "many", steps=25, k=3)


def test_a_file_cut_short_while_a_run_reads_it_is_named(many, lock, tmp_path, small_files):
    shutil.copytree(many, tmp_path / "many")
    cache = open_cache(str(tmp_path / "many"), lock, "images", 0, 200)
    path = tmp_path / "many" / "images" / "00000.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"00000.npy is cut short"):
        cache.read(batches.numbers(0, 64))
    path.unlink()
    with pytest.raises(UserError, match=r"00000.npy is gone"):
        cache.read(batches.numbers(0, 64))


def test_files_of_another_teacher_seed_or_k_are_not_gone_on_with(many, taught, big, manifest, small_files):
    with pytest.raises(UserError, match=r"another teacher.*top_k: 3, now 5"):
        asked(big, manifest, many, steps=25, k=5)
    with pytest.raises(UserError, match=r"seed: 0, now 4"):
        asked(big, manifest, many, "--seed", 4, steps=25, k=3)
    with pytest.raises(UserError, match=r"teacher.model: wide, now mini.*teacher.digest"):
        asked(taught, manifest, many, steps=25, k=3)


def test_a_run_refuses_files_of_another_lock_seed_or_stage_or_of_too_few_steps(cached, lock, manifest, images):
    changed = manifest.with_name("other-share.toml")
    changed.write_text(manifest.read_text().replace("photos = 0.5", "photos = 0.25"))
    with pytest.raises(UserError, match=rf"lock_digest: {lock.digest}, now"):
        open_cache(str(cached), resolve(str(changed)), "images", 0, 48)
    with pytest.raises(UserError, match="seed: 0, now 3"):
        open_cache(str(cached), lock, "images", 3, 48)
    with pytest.raises(UserError, match="known: images; run `visent teacher RUN --stage sequences"):
        open_cache(str(cached), lock, "sequences", 0, 20)
    with pytest.raises(UserError, match=r"of 48 sentences, this stage reads 56.*adds what is missing"):
        open_cache(str(cached), lock, "images", 0, 56)
    with pytest.raises(UserError, match="holds no teacher's predictions"):
        open_cache(str(cached / "images" / "nothing"), lock, "images", 0, 56)


def test_a_teacher_must_know_the_tokenizer_and_the_length_of_the_sentences(big, config, lock, manifest, tmp_path):
    both = dataclasses.replace(config, distill=DistillConfig(teacher=str(big)))
    with pytest.raises(UserError, match=r"at most 16 tokens, stage 'sequences' has 64.*stages.sequences.steps=0"):
        train(both, lock, tmp_path / "run")
    with pytest.raises(UserError, match=r"at most 16 tokens, stage 'sequences' has 64"):
        asked(big, manifest, tmp_path / "logits", stage="sequences")
    card = dataclasses.replace(lock.card, weights_sha256="1" * 64)
    with pytest.raises(UserError, match=r"tokenizer 'random'.*expected a teacher of the same tokenizer"):
        open_teacher(str(big), dataclasses.replace(lock, card=card))
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "logits").exists()


def test_bad_options_of_the_command_are_explained(big, manifest, tmp_path):
    with pytest.raises(UserError, match="--top-k is 65: expected 1 up to the codebook's 64 codes"):
        asked(big, manifest, tmp_path, k=65)
    with pytest.raises(UserError, match="--part '3/2'"):
        asked(big, manifest, tmp_path, "--part", "3/2")
    with pytest.raises(UserError, match=r"--set model.layers=3: expected a setting of compute"):
        asked(big, manifest, tmp_path, "--set", "model.layers=3")
    assert "48 sentences" in asked(big, manifest, tmp_path, "--dry-run")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_loses_no_file_and_the_room_is_looked_at_before(big, manifest, tmp_path, small_files, monkeypatch):
    real = files.publish

    def full(temporary, path):
        if path.endswith("00001.npy"):
            raise OSError(28, "No space left on device")
        real(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "publish", full)
        with pytest.raises(UserError, match=r"cannot write .*00001.npy: No space left on device.*same command again"):
            asked(big, manifest, tmp_path, steps=25, k=3)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["00000.json", "00000.npy", "teacher.json"]
    monkeypatch.setattr(teach, "free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"0.0 GB of room.*smaller --top-k"):
        asked(big, manifest, tmp_path, steps=25, k=3)


def test_files_are_written_to_and_read_from_a_url(many, big, manifest, lock, small_files):
    url = "memory://logits"
    assert "4 files written" in asked(big, manifest, url, steps=25, k=3)
    assert "0 files written" in asked(big, manifest, url, "--check", steps=25, k=3)
    numbers = batches.numbers(1, 96)
    ours, theirs = (open_cache(str(place), lock, "images", 0, 200).read(numbers) for place in (url, many))
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(ours.log_probabilities, theirs.log_probabilities)
