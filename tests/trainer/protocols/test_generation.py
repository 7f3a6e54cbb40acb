"""Samples in files: the same whatever makes them, made once, and never those of other settings."""

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from generating import COUNT, NEW, chunk_bytes, make, make_cases, write_run

from manifests import files
from trainer.generate import Sampling, generate
from trainer.protocols import generation
from trainer.protocols.generation import numbers_of
from trainer.protocols.samples import CHUNK
from trainer.sampling import load_run
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
ALONE = {"SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "1"}  # whatever runs the tests
ALL = np.arange(COUNT)


@pytest.fixture(scope="module")
def run(tmp_path_factory, config, lock):
    return load_run(write_run(tmp_path_factory.mktemp("run"), config, lock))


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """The folder of all samples, and their codes."""
    out = tmp_path_factory.mktemp("made")
    return out, make(run, out, make_cases(), 16).read(ALL)


def start(run, out, batch=8, devices=1, **more):
    wanted = {"run": str(run.saved.folder.root), "out": str(out), "batch": batch, **more}
    command = [sys.executable, str(Path(__file__).with_name("generate_on.py")), json.dumps(wanted)]
    env = os.environ | ALONE | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=pipe, stderr=pipe)


def ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def test_files_hold_the_samples_in_order_as_plain_numpy(made):
    out, codes = made
    assert codes.shape == (COUNT, NEW)
    names = sorted(path.name for path in out.glob("samples/seg-to-image-*/*/*"))
    assert names == ["00000.npy", "00001.npy", "00002.npy", "settings.json"]
    arrays = [np.load(path, allow_pickle=False) for path in sorted(out.glob("samples/*/*/*.npy"))]
    assert [len(array) for array in arrays] == [CHUNK, CHUNK, COUNT - 2 * CHUNK]
    np.testing.assert_array_equal(np.concatenate(arrays), codes)
    assert len(np.unique(codes)) > 20


def test_another_batch_gives_the_same_codes(run, made, tmp_path):
    make(run, tmp_path, make_cases(), 7)
    assert chunk_bytes(tmp_path) == chunk_bytes(made[0])


def test_a_sample_does_not_depend_on_which_others_there_are(run, made, tmp_path):
    cases, some = make_cases(), np.arange(COUNT - 1, 0, -13)
    fewer = dataclasses.replace(cases, keys=[cases.keys[i] for i in some], prompt=cases.prompt[some],
                                truth_codes=cases.truth_codes[some])  # fmt: skip
    found = make(run, tmp_path, fewer, 4).read(np.arange(len(some)))
    np.testing.assert_array_equal(found, made[1][some])


def test_samples_of_one_prompt_differ_by_their_keys_and_by_the_seed(run, made):
    cases = make_cases()
    same = np.repeat(cases.prompt[:1], 4, axis=0)
    numbers = numbers_of(cases.keys[:4])
    a, b = (generate(run.params, run.config.model, same, NEW, Sampling(seed=seed), numbers=numbers) for seed in (0, 1))
    assert len({row.tobytes() for row in np.concatenate((a, b))}) == 8


def test_numbers_that_share_a_half_are_told_apart(run):
    prompts = np.repeat(make_cases().prompt[:1], 4, axis=0)
    numbers = np.array([1, 1 << 32, (1 << 32) + 1, 1 << 63], np.uint64)
    found = generate(run.params, run.config.model, prompts, NEW, Sampling(), numbers=numbers)
    assert len({row.tobytes() for row in found}) == 4


def flipped(data):
    return data[:-60] + bytes([data[-60] ^ 1]) + data[-59:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-9], "it is truncated"),
        (lambda data: data[:-1], "checksum is another"),
        (flipped, "checksum is another"),
        (lambda data: b"", "no readable header"),
    ],
)
def test_what_is_there_is_not_made_again_and_what_is_broken_is(run, made, tmp_path, capsys, monkeypatch, damage, words):
    make(run, tmp_path, make_cases(), 16)
    first, second, third = sorted(tmp_path.glob("samples/*/*/*.npy"))
    before = first.stat().st_mtime_ns
    second.write_bytes(damage(second.read_bytes()))
    third.unlink()
    (third.parent / ".tmp-0123-00002.npy").write_bytes(b"half")
    asked = []
    real = generation.continued
    monkeypatch.setattr(generation, "continued", lambda *a, **k: asked.extend(a[2]) or real(*a, **k))
    make(run, tmp_path, make_cases(), 16)
    assert chunk_bytes(tmp_path) == chunk_bytes(made[0])
    assert first.stat().st_mtime_ns == before
    assert sum(len(batch.prompts) for batch in asked) == COUNT - CHUNK
    said = capsys.readouterr().err
    assert "00001.npy are damaged: " in said
    assert words in said
    assert "it is made again" in said
    assert f"({CHUNK} of {COUNT} are there" in said
    assert not list(third.parent.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (np.zeros((CHUNK, NEW), np.int32), "more than"),
        (np.zeros((CHUNK, NEW), np.int16), "int16"),
        (np.zeros((CHUNK, NEW - 1), np.uint16), "expected uint16"),
        (np.full((CHUNK, NEW), 64, np.uint16), "code 64 of 64"),
        (np.array([{"a": 1}], object), "pickled Python objects"),
    ],
)
def test_a_file_that_holds_something_else_is_no_sample(run, made, tmp_path, broken, words):
    samples = dataclasses.replace(make(run, made[0], make_cases(), 16), folder=str(tmp_path))
    data = io.BytesIO()
    np.save(data, broken, allow_pickle=True)
    (tmp_path / "00000.npy").write_bytes(data.getvalue() + zlib.crc32(data.getvalue()).to_bytes(4, "little"))
    with pytest.raises(UserError, match=words):
        samples.read(np.arange(2))
    with pytest.raises(UserError, match="missing: run the same command again"):
        samples.read(np.arange(CHUNK, CHUNK + 1))


def test_other_cases_seeds_and_weights_go_to_other_folders(run, made, tmp_path, config, lock):
    cases = make_cases(3)
    other = load_run(write_run(tmp_path / "run", config, lock, seed=2))
    renamed = dataclasses.replace(cases, keys=["a", "b", "c"])
    out = tmp_path / "out"
    folders = {make(run, out, cases, 4).folder, make(run, out, cases, 4, seed=1).folder,
               make(other, out, cases, 4).folder, make(run, out, renamed, 4).folder}  # fmt: skip
    assert len(folders) == 4


def test_a_folder_of_other_settings_is_refused(run, tmp_path):
    samples = make(run, tmp_path, make_cases(3), 4)
    path = Path(samples.folder) / "settings.json"
    settings = files.read_json(path)
    settings["weights"] = "others"
    files.write_json(path, settings)
    with pytest.raises(UserError, match="holds samples of other weights, cases or settings"):
        make(run, tmp_path, make_cases(3), 4)


def test_impossible_batches_and_prompts_are_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(UserError, match="--batch is 0"):
        make(run, tmp_path, make_cases(3), 0)
    assert not list(tmp_path.iterdir())


def test_a_lack_of_memory_says_what_to_change(run, tmp_path, monkeypatch):
    def lacks(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")
        yield

    monkeypatch.setattr(generation, "continued", lacks)
    with pytest.raises(UserError, match=r"out of device memory while generating.*smaller --batch"):
        make(run, tmp_path, make_cases(3), 4)


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again_it_gives_the_same_bytes(run, tmp_path):
    new = 300  # so that there is time
    whole = tmp_path / "whole"
    make(run, whole, make_cases(new=new), 8)
    process = start(run, tmp_path / "killed", new=new)
    while not list(tmp_path.glob("killed/samples/*/*/00000.npy")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = tmp_path.glob("killed/samples/*/*/00000.npy")
    assert len(chunk_bytes(tmp_path / "killed")) < 3
    before = left.stat().st_mtime_ns
    make(run, tmp_path / "killed", make_cases(new=new), 8)
    assert chunk_bytes(tmp_path / "killed") == chunk_bytes(whole)
    assert left.stat().st_mtime_ns == before


@pytest.mark.slow
def test_several_devices_and_several_hosts_give_the_same_bytes(run, made, tmp_path):
    expected = {"first": made[1][:3].tolist(), "last": made[1][149:].tolist()}
    assert ended(start(run, tmp_path / "devices", devices=8)) == {**expected, "devices": 8}
    with socket.socket() as found:
        found.bind(("localhost", 0))
        coordinator = f"localhost:{found.getsockname()[1]}"
    two = [start(run, tmp_path / "hosts", hosts={"count": 2, "index": i, "coordinator": coordinator}) for i in range(2)]
    assert [ended(host) for host in two] == [{**expected, "devices": 1}] * 2
    for folder in ("devices", "hosts"):
        assert chunk_bytes(tmp_path / folder) == chunk_bytes(made[0])
