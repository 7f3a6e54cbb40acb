"""Runs of two hosts: real processes that meet over localhost, each with a device of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from trainer import hosts
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--set", "model.hidden=32", "--set", "model.mlp=48", "--set", "model.heads=2", "--set", "model.layers=2",
         "--set", "stages.images.batch_sentences=8", "--set", "stages.images.warmup_steps=2",
         "--set", "stages.images.steps=8", "--set", "stages.sequences.steps=5", "--set", "log_every=1",
         "--set", "stages.sequences.warmup_steps=0", "--set", "checkpoint_every=3"]  # fmt: skip
ALONE = {"SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "1"}  # whatever runs the tests


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(manifest, out, *more, devices=1, env=None):
    """Starts `visent train` with so many devices of one processor."""
    command = [sys.executable, "-m", "visent", "train", "tiny", "--manifest", str(manifest), "--out", str(out)]
    env = os.environ | ALONE | {"JAX_NUM_CPU_DEVICES": str(devices)} | (env or {})
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *SMALL, *map(str, more)], cwd=ROOT, env=env, text=True, stdout=pipe, stderr=pipe)


def start_two(manifest, outs, *more, second=()):
    """Starts two hosts of one run."""
    meet = ("--hosts", "2", "--coordinator", f"localhost:{free_port()}", "--host-timeout", "10")
    return [
        start(manifest, out, *meet, "--host-id", host, *more, *(second if host else ()))
        for host, out in enumerate(outs)
    ]


def ended(process):
    """Exit status, output and errors, the latter without what libraries log."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def losses_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def alone(manifest, tmp_path_factory):
    """A run of one process with two devices."""
    out = tmp_path_factory.mktemp("alone")
    code, _, err = ended(start(manifest, out, devices=2))
    assert code == 0, err
    return out


@pytest.mark.slow
def test_two_hosts_learn_what_one_host_with_their_devices_does(alone, manifest, tmp_path):
    first, second = (ended(host) for host in start_two(manifest, [tmp_path, tmp_path]))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert losses_of(tmp_path) == losses_of(alone)
    assert (tmp_path / "eval.jsonl").read_text() == (alone / "eval.jsonl").read_text()
    assert "held-out" in first[1]
    assert second[1].count("held-out") == 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_where_a_host_is_killed_the_other_stops_with_what_to_do_and_the_run_goes_on(alone, manifest, tmp_path, victim):
    """With the hosts that are left, too: here one, with one device."""
    two = start_two(manifest, [tmp_path, tmp_path])
    metrics = tmp_path / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 5:
        assert two[victim].poll() is None, ended(two[victim])
        time.sleep(0.05)
    two[victim].send_signal(signal.SIGKILL)
    code, _, err = ended(two[1 - victim])
    assert code != 0
    last = err.splitlines()[-1]
    assert last.startswith(f"error: host {1 - victim} of 2 stopped, because another host was lost")
    assert "start the same command on every host again" in last
    ended(two[victim])
    code, _, err = ended(start(manifest, tmp_path)) if victim else ended(start(manifest, tmp_path, devices=2))
    assert code == 0, err
    assert losses_of(tmp_path) == pytest.approx(losses_of(alone), rel=1e-5)


@pytest.mark.slow
def test_an_error_of_one_host_ends_all_of_them(manifest, tmp_path):
    two = start_two(manifest, [tmp_path, tmp_path])
    while not (tmp_path / "metrics.jsonl").exists():
        assert two[1].poll() is None, ended(two[1])
        time.sleep(0.05)
    two[1].send_signal(signal.SIGINT)
    code, _, err = ended(two[1])
    assert code == 1
    assert "error: stopped; the same command goes on from step" in err
    code, _, err = ended(two[0])
    assert code != 0
    assert err.splitlines()[-1].startswith("error: host 0 of 2 stopped, because another host was lost")


def test_hosts_that_were_started_with_different_settings_all_say_where(manifest, tmp_path):
    two = start_two(manifest, [tmp_path / "run", tmp_path / "run"], second=("--set", "model.layers=3"))
    for code, _, err in map(ended, two):
        assert code == 1
        assert "error: host 1 was started with other settings than host 0 (config.model.layers: 2, now 3)" in err
        assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_folder_that_hosts_do_not_share_is_refused(manifest, tmp_path):
    for code, _, err in map(ended, start_two(manifest, [tmp_path / "here", tmp_path / "there"])):
        assert code == 1
        assert "is not the same folder on every host: hosts 1 do not see what host 0 writes there" in err
    assert not [*tmp_path.rglob("host-0*"), *tmp_path.rglob("*.json")]


PROBE = ["--model", "tiny", "--set", "model.hidden=32", "--set", "model.mlp=48", "--set", "model.heads=2",
         "--set", "model.layers=2", "--set", "stages.classify.batch_sentences=4", "--set", "stages.classify.steps=3",
         "--set", "stages.classify.warmup_steps=0", "--set", "log_every=1", "--set", "compute.fsdp=2",
         "--set", "classify.image_size=16", "--set", "classify.patch=8"]  # fmt: skip


@pytest.mark.slow
def test_two_hosts_train_and_score_one_probe(tmp_path):
    for number in range(8):
        path = tmp_path / "images" / ("val", "train")[number % 2] / ("dark", "light")[number // 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (30 * number,) * 3).save(path)
    meet = ["--hosts", "2", "--coordinator", f"localhost:{free_port()}", "--host-timeout", "10"]
    command = [sys.executable, "-m", "visent", "classify", str(tmp_path / "images"), *PROBE]
    runs = [
        subprocess.Popen([*command, "--out", str(tmp_path / out), *more], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=os.environ | ALONE | {"JAX_NUM_CPU_DEVICES": devices})
        for out, devices, more in (
            ("one", "2", []),
            *(("two", "1", [*meet, "--host-id", host]) for host in "01"),
        )
    ]  # fmt: skip
    found = [ended(process) for process in runs]
    assert [code for code, _, _ in found] == [0, 0, 0], found
    assert "4 held-out pictures" in found[1][1]
    assert "held-out" not in found[2][1]
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "one"), rel=1e-5)
    scores = [(tmp_path / run / "eval.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert len(scores[0]) == len(scores[1]) == 1


@pytest.mark.slow
def test_hosts_of_a_slurm_step_find_each_other(alone, manifest, tmp_path):
    """With the variables that `srun` sets."""
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_STEP_NUM_NODES": "1", "JAX_COORDINATOR_PORT": str(free_port())}  # fmt: skip
    places = [step | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in (0, 1)]
    two = [start(manifest, tmp_path, "--hosts", "auto", env=place) for place in places]
    assert [ended(host)[0] for host in two] == [0, 0]
    assert losses_of(tmp_path) == losses_of(alone)


def test_one_of_several_processes_is_not_taken_for_a_run_of_its_own(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    match = r"one of 8 processes of a Slurm step.*--hosts auto.*--hosts 1"
    with pytest.raises(UserError, match=match), hosts.joined(None):
        pass
    with hosts.joined(hosts.Hosts(count=1)):
        pass


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (("2", 2, "a:1"), "--host-id is 2: expected this host's number, 0 to 1"),
        (("2", None, "a:1"), "--host-id is missing"),
        (("2", 0, None), "--coordinator is missing: expected HOST:PORT"),
        (("2", 0, "a"), "--coordinator is a: expected HOST:PORT"),
        (("two", 0, "a:1"), "--hosts is 'two': expected a positive number, or auto"),
        (("0", 0, "a:1"), "--hosts is '0'"),
        ((None, 0, None), "pass --hosts N"),
    ],
)
def test_options_that_do_not_fit_are_explained(given, match):
    with pytest.raises(UserError, match=match):
        hosts.read(*given, 60)


def test_without_a_cluster_auto_says_what_to_pass_instead(manifest, tmp_path):
    code, _, err = ended(start(manifest, tmp_path, "--hosts", "auto"))
    assert code == 1
    assert "error: --hosts auto found neither a Slurm step" in err
    assert "Traceback" not in err


def test_a_port_that_another_process_has_is_named(manifest, tmp_path):
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        place = f"localhost:{taken.getsockname()[1]}"
        meet = ("--hosts", "2", "--host-id", "0", "--coordinator", place)
        code, _, err = ended(start(manifest, tmp_path, *meet))
    assert code == 1
    assert f"error: --coordinator {place}: host 0 cannot listen there" in err
    assert "Traceback" not in err


def test_hosts_that_never_come_are_named():
    """The witness speaks where JAX ends the process from within."""
    script = (
        "import sys\nfrom trainer import hosts\nhosts.CONNECT_SECONDS = 2\n"
        f"with hosts.joined(hosts.Hosts(count=2, index=0, coordinator='localhost:{free_port()}')): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("error: host 0 waited 2 s for all 2 hosts at localhost:")


def test_without_other_hosts_agreeing_and_waiting_take_nothing(tmp_path):
    hosts.agree({"a": 1})
    hosts.check_shared(tmp_path)
    hosts.wait("here")
    assert hosts.from_first([3, 1]) == [3, 1]
    assert hosts.first()
    assert not list(tmp_path.iterdir())
