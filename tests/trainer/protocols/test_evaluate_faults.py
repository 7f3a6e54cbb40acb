"""`visent evaluate --protocol` that is killed, or finds damage or no room, and then called again."""

import dataclasses
import json
import resource
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from evaluating import figures, found

from trainer.protocols import preparing
from trainer.protocols.run import check_truth
from trainer.sampling import load_run, load_tokenizer
from visent.errors import UserError

EDGE = ("--part", "edge", "--most", 4)


@pytest.fixture(scope="module")
def whole(bench, tmp_path_factory):
    """What an evaluation of one part finds that nothing happens to, and its folder."""
    out = tmp_path_factory.mktemp("whole")
    bench.call(*EDGE, f"--network=images={bench.images}", "--out", out)
    return out, found(out)


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of its folder."""
    return shutil.copytree(whole[0], tmp_path / "out")


def ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flipped, emptied, Path.unlink])
@pytest.mark.parametrize("kind", ["samples/*/*/*.npy", "sums/*.npz"])
def test_damaged_samples_and_sums_are_made_again(bench, whole, copied, harm, kind):
    for path in copied.glob(kind):
        harm(path)
    bench.call(*EDGE, f"--network=images={bench.images}", "--out", copied)
    assert found(copied) == whole[1]


def test_on_a_full_disk_it_is_one_line_and_the_same_command_goes_on(bench, whole, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    arguments = (*EDGE, f"--network=images={bench.images}", "--out", tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # an error such as that of a full disk
    try:
        message = bench.refused(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message.startswith(f"cannot write {tmp_path}")
    bench.call(*arguments)
    assert found(tmp_path) == whole[1]


def test_pictures_that_were_replaced_since_they_were_tokenized_are_refused(bench):
    run = load_run(bench.run)
    codec = load_tokenizer(str(bench.tokenizer), run.lock)
    (ready,) = preparing.prepare(run, preparing.Wanted(protocol="tasks", parts=("edge",))).ready
    check_truth(ready, codec)
    cases = dataclasses.replace(ready.cases, truth=lambda numbers: ready.cases.truth(numbers)[:, ::-1, ::-1] // 2)
    with pytest.raises(UserError, match="of them differ; its picture was replaced since"):
        check_truth(dataclasses.replace(ready, cases=cases), codec)


def test_pixels_that_were_changed_since_are_refused(bench, tmp_path):
    data = shutil.copytree(bench.corpus / "photos", tmp_path / "photos")
    arguments = (*EDGE, "--data", f"photos={data}", "--out", tmp_path / "out")
    bench.call(*arguments)
    for path in (data / "pixels").glob("*.parquet"):
        flipped(path)
    assert "its content is another than its receipt says" in bench.refused(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["samples/edge*/*/settings.json", "sums/*.npz", "evaluation.json"])
def test_after_a_kill_the_same_command_finds_what_it_would_have_found(bench, tmp_path, stage):
    whole, out = tmp_path / "whole", tmp_path / "out"
    parts = ("--part", "alone", "--part", "edge", "--part", "labels", *bench.networks)
    bench.call(*parts, "--out", whole)
    process = bench.start(*parts, "--out", out)
    while not list(out.glob(stage)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    ended(bench.start(*parts, "--out", out))
    assert json.dumps(found(out)) == json.dumps(found(whole))
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


@pytest.mark.slow
def test_eight_devices_find_what_one_finds(bench, tmp_path):
    parts = (*bench.networks, "--part", "walk", "--part", "labels")
    bench.call(*parts, "--out", tmp_path / "one")
    ended(bench.start(*parts, "--out", tmp_path / "eight",
                      env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}))  # fmt: skip
    one, eight = found(tmp_path / "one"), found(tmp_path / "eight")
    for part in ("walk", "labels"):
        same(figures(one, part), figures(eight, part))


@pytest.mark.slow
def test_two_hosts_find_what_one_finds(bench, tmp_path):
    parts = (*bench.networks, "--part", "walk", "--part", "labels")
    bench.call(*parts, "--out", tmp_path / "one")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meet = ("--hosts", 2, "--coordinator", f"localhost:{port}", "--host-timeout", 20)
    two = [bench.start(*parts, *meet, "--host-id", host, "--out", tmp_path / "two") for host in range(2)]
    printed = [ended(process) for process in two]
    assert "evaluation.html" in printed[0]
    assert "evaluation" not in printed[1]
    one, both = found(tmp_path / "one"), found(tmp_path / "two")
    for part in ("walk", "labels"):
        same(figures(one, part), figures(both, part))


def same(one, other):
    """Compares figures up to the rounding of sums in another order."""
    assert list(one) == list(other)
    for name in one:
        for source in ("model", "ceiling", "real"):
            a, b = one[name][source], other[name][source]
            assert (a is None) == (b is None)
            assert a is None or a["value"] == pytest.approx(b["value"], rel=1e-6)
