"""The same job on other runners: Dataflow's description, a portable job service, processes that die."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2
from made_media import write_pictures

from manifests.dataset import has_facts
from pipelines.encoder import Encoder, shared_encoder
from pipelines.job import Job, Work, units_of
from pipelines.runners.dofn import TokenizeUnit
from pipelines.runners.dryrun import Description, describe, staged, stages
from pipelines.runners.ending import check_shards, death_of, said_by
from pipelines.runners.options import Place, arguments_at, beam_options
from pipelines.runners.staging import setup_file
from pipelines.running import _Poll
from pipelines.sources.base import Item, Unit
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize
from pipelines.units import tokenize_unit
from pipelines.verify import verify_dataset
from pipelines.worklog import ShardLog, begin, end
from visent import storage
from visent.errors import UserError
from visent.progress import track

OUT = "gs://photos-bucket/corpus/photos"
DATAFLOW = Place(runner="DataflowRunner", project="my-project", region="europe-west4", gpu="l4", dry_run=True)


def works(count: int) -> list[Work]:
    items = tuple(Item(key=f"key-{i}", files={"image": f"{i}.jpg"}) for i in range(20))
    return [Work(unit=Unit(id=f"train-{i:05d}-of-{count:05d}", split="train", items=items)) for i in range(count)]


@pytest.fixture(scope="module")
def photos() -> FolderSource:
    fsspec.filesystem("memory").pipe_file("/photos/0.jpg", b"0")
    return FolderSource(paths=("memory://photos",), items_per_unit=20)


@pytest.fixture(scope="module")
def in_bucket(photos: FolderSource) -> Job:
    return Job(out=OUT, name="photos", source=photos)


@pytest.fixture(scope="module")
def dataflow(in_bucket: Job) -> Description:
    """The description of a job of 20,000 units, translated by Beam's own Dataflow runner, without network."""
    return describe(in_bucket, works(20_000), "digest", beam_options(arguments_at(DATAFLOW, OUT)))


def test_dataflow_gets_the_four_steps_and_no_other_shuffle_than_the_deal(dataflow: Description) -> None:
    steps = stages(dataflow.graph)
    outer = list(dict.fromkeys(name.partition("/")[0] for name, _ in steps))
    assert outer == ["Lists", "Units", "Deal", "Tokenize"]
    assert [name.partition("/")[0] for name, kind in steps if kind == "group_by_key:v1"] == ["Deal"]


def test_a_job_of_any_number_of_units_fits_dataflows_description(dataflow: Description) -> None:
    assert dataflow.graph.ByteSize() < 1 << 20  # Dataflow takes 10 MB


def test_dataflow_gets_the_machines_the_accelerator_and_the_image(dataflow: Description) -> None:
    environment = dataflow.environment["environment"]
    (pool,) = environment["workerPools"]
    image = "europe-west4-docker.pkg.dev/my-project/visent/beam-cuda:0.1.0"
    assert (pool["machineType"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("g2-standard-8", 100, 2)
    assert pool["workerHarnessContainerImage"] == image
    assert [container["containerImage"] for container in pool["sdkHarnessContainerImages"]] == [image]
    assert environment["serviceOptions"] == ["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx"]
    assert {"no_use_multiple_sdk_containers", "use_runner_v2"} <= set(environment["experiments"])
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    assert dataflow.environment["type"] == "JOB_TYPE_BATCH"
    assert dataflow.environment["name"].startswith("visent-photos-")


def test_the_package_is_staged_and_nothing_of_the_callers_main_module(dataflow: Description) -> None:
    assert sorted(staged(dataflow.graph)) == ["submission_environment_dependencies.txt", "workflow.tar.gz"]


def test_the_job_in_the_description_unpickles_to_the_job(dataflow: Description, in_bucket: Job) -> None:
    (step,) = (step for step in dataflow.graph.components.transforms.values() if step.unique_name == "Tokenize")
    payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
    fn = pickler.loads(payload.do_fn.payload)[0]
    assert vars(fn)["_job"] == in_bucket
    assert vars(fn)["_raises"]


def test_a_dry_run_prints_plan_options_graph_and_job_and_writes_nothing(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from click.testing import CliRunner

    from pipelines.commands.tokenize import tokenize as command

    write_pictures(tmp_path / "in", 5)
    arguments = ["folder", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--tokenizer", tiny,
                 "--items-per-shard", "2", "--workers", "2", "--dry-run"]  # fmt: skip
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    for text in ("plan: 3 of 3 shards to make, 5 items", "about 5 images", "direct_num_workers = 2", "Tokenize: pardo"):
        assert text in done.output
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as Beam builds it from the staged setup.py."""
    from apache_beam.runners.portability.stager import Stager

    built = tmp_path_factory.mktemp("sdist")
    with setup_file() as path:
        return Path(Stager._build_setup_package(path, str(built)))


def test_the_staged_package_holds_the_code_the_weights_and_what_a_worker_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        requires = archive.extractfile(next(name for name in archive.getnames() if name.endswith("setup.py")))
        assert requires
        text = requires.read().decode()
    assert {"setup.py", "pipelines/runners/dofn.py", "visent/cli.py", "manifests/recipes/lvm.toml"} <= names
    assert any(name.startswith("tokenizer/pretrained/") for name in names)
    assert "apache-beam>=" in text
    assert "pytest" not in text


def test_the_staged_package_builds_and_works_where_no_checkout_is(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    site = tmp_path / "site"
    build = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(site)]
    subprocess.run(build, check=True, cwd=source, capture_output=True)
    code = (
        "from pipelines.runners import dofn; import tokenizer.load as t; print(dofn.__file__); t.load_card('default')"
    )
    path = {**os.environ, "PYTHONPATH": str(site)}
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=path, capture_output=True, text=True
    )
    assert told.stdout.startswith(str(site))


def test_a_job_that_ends_without_shards_says_which_and_why(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 1)
    out = tmp_path / "out"
    job = Job(
        out=str(out), name="d", source=FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=1), tokenizer=tiny
    )
    wanted = works(5)
    log = begin(str(out), wanted[4].file("parquet"))
    end(str(out), log, "failed", error="the disk of worker 7 is full")
    (out / "train-00000-of-00005.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"without 4 of 5 shards \(train-00001.*, \.\.\.\): the disk of worker 7 is full"
    ):
        check_shards(job, wanted)
    begin(str(out), wanted[2].file("parquet"))
    death = death_of([os.getpid()], job, wanted)
    assert "while it made train-00002-of-00005.parquet" in str(death)
    assert len(death.missing) == 4


def test_why_shards_are_missing_is_asked_for_with_one_listing(
    tiny: str, photos: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(
        out="memory://ended/d",
        name="d",
        source=FolderSource(paths=("memory://photos",), items_per_unit=20),
        tokenizer=tiny,
    )
    wanted = works(300)
    for work in wanted[:200]:
        end(job.out, begin(job.out, work.file("parquet")), "failed", error="the disk is full")

    def read_alone(url: str, size: int | None = None) -> bytes:
        raise AssertionError(f"{url} was read by itself")

    monkeypatch.setattr(storage, "read", read_alone)
    with pytest.raises(UserError, match=r"without 300 of 300 shards .*: the disk is full"):
        check_shards(job, wanted)


def test_storage_that_fails_while_progress_is_looked_at_ends_no_job(
    tiny: str, photos: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(
        out="memory://looked/d",
        name="d",
        source=FolderSource(paths=("memory://photos",), items_per_unit=20),
        tokenizer=tiny,
    )

    def fails(folder: str) -> None:
        raise storage.StorageError("503, 5 times in a row")

    monkeypatch.setattr(storage, "entries", fails)
    with track("test", 1, "images") as progress:
        _Poll(job, works(2), "digest", False, progress)()


def test_the_first_of_two_workers_at_one_unit_makes_its_shard(tmp_path: Path, tiny: str) -> None:
    """The second one, of another device, ends later: neither shard, receipt nor rejects are mixed."""
    write_pictures(tmp_path / "in", 1)
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    job = job_of(tmp_path, tiny, "out")
    (unit,) = units_of(job, job.source.listing()[0])
    out, work, encoder = tmp_path / "out", Work(unit=unit), shared_encoder(tiny)
    out.mkdir()

    class Slower(Encoder):
        def __init__(self) -> None:
            vars(self).update(vars(encoder), made_with={"device": "another"})

        def encode(self, pictures: np.ndarray) -> np.ndarray:
            first = tokenize_unit(job, work, "digest", encoder)
            there.update({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}, first=first)
            return encoder.encode(pictures) ^ 1

    there: dict[str, Any] = {}
    assert tokenize_unit(job, work, "digest", Slower()) == there.pop("first")
    there = {name: data for name, data in there.items() if not name.startswith(".tmp-")}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == there


def test_of_a_remote_traceback_the_last_line_that_names_an_error_is_shown() -> None:
    text = "Dataflow pipeline failed. State: FAILED, Error:\nTraceback (most recent call last):\n  File x\n" \
           "OSError: no route to gs://x [while running 'Tokenize']\n\nsome more\n"  # fmt: skip
    assert said_by(RuntimeError(text)) == "OSError: no route to gs://x [while running 'Tokenize']"
    assert said_by(RuntimeError("refused")) == "refused"
    assert said_by(RuntimeError()) == "RuntimeError"


def test_a_unit_that_comes_back_after_its_shard_was_made_is_not_made_again(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    job = job_of(tmp_path, tiny, "out")
    (unit,) = units_of(job, job.source.listing()[0])
    work, path = Work(unit=unit), tmp_path / "out" / Work(unit=unit).file("parquet")
    path.parent.mkdir()
    worker = TokenizeUnit(job, "digest", 0.0, raises=True)
    first = list(worker.process(work.to_json()))
    made = path.stat().st_mtime_ns
    assert list(worker.process(work.to_json())) == first
    assert path.stat().st_mtime_ns == made
    other = TokenizeUnit(job, "another digest", 0.0, raises=True)
    assert list(other.process(work.to_json())) != first


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("localhost", port)) == 0


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """A job service and a pool of workers, each a process of its own, as a cluster has them; gives Beam's options."""
    folder = tmp_path_factory.mktemp("portable")
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        pool_port = taken.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the pool starts `python`
    where = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])}
    service = [
        "apache_beam.runners.portability.local_job_service_main",
        "--port",
        "0",
        "--port_file",
        str(folder / "port"),
    ]
    pool = ["apache_beam.runners.worker.worker_pool_main", "--service_port", str(pool_port)]
    with (folder / "log").open("wb") as log:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", *command], env=where, stdout=log, stderr=log, start_new_session=True
            )
            for command in (service, pool)
        ]
        try:
            wait_for(lambda: (folder / "port").exists() and (folder / "port").read_text() and listens(pool_port))
            port = (folder / "port").read_text()
            yield (f"--job_endpoint=localhost:{port}", "--environment_type=EXTERNAL",
                   f"--environment_config=localhost:{pool_port}")  # fmt: skip
        finally:
            for process in started:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def job_of(folder: Path, tiny: str, out: str) -> Job:
    source = FolderSource(paths=(str(folder / "in"),), items_per_unit=2)
    return Job(out=str(folder / out), name="d", source=source, tokenizer=tiny)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.mark.slow
def test_a_portable_job_service_makes_the_same_bytes(portable: tuple[str, ...], tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 7)
    here, there = job_of(tmp_path, tiny, "here"), job_of(tmp_path, tiny, "there")
    tokenize(here)
    place = Place(runner="PortableRunner", beam=portable)
    summary = tokenize(there, arguments_at(place, there.out))
    assert (summary.rows, summary.units, summary.pictures) == (7, 4, 7)
    assert shards(tmp_path / "there") == shards(tmp_path / "here")
    assert not verify_dataset(there.out).problems


@pytest.mark.slow
def test_a_failure_on_a_portable_job_service_is_one_line_and_the_job_goes_on_later(
    portable: tuple[str, ...], tmp_path: Path, tiny: str
) -> None:
    write_pictures(tmp_path / "in", 4)
    weights = shutil.copytree(tiny, tmp_path / "copy") / "model.safetensors"
    job = job_of(tmp_path, str(tmp_path / "copy"), "out")
    kept = weights.read_bytes()
    weights.unlink()
    place = Place(runner="PortableRunner", beam=portable)
    with pytest.raises(UserError, match=r"the job failed with 2 of 2 shards.*is incomplete") as failure:
        tokenize(job, arguments_at(place, job.out))
    assert "\n" not in str(failure.value)
    assert not has_facts(job.out)
    weights.write_bytes(kept)
    assert tokenize(job, arguments_at(place, job.out)).rows == 4


@pytest.mark.slow
def test_a_killed_worker_process_costs_its_shard_and_the_same_command_makes_it(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 120)
    tokenize(job_of(tmp_path, tiny, "undisturbed"))
    out = tmp_path / "killed"
    command = ["-m", "visent", "tokenize", "folder", str(tmp_path / "in"), "--out", str(out), "--tokenizer", tiny,
               "--items-per-shard", "2", "--workers", "2"]  # fmt: skip
    job = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(out.glob("log/train-*.json")))
    log = ShardLog(**json.loads(next(out.glob("log/train-*.json")).read_text()))
    os.kill(log.pid, signal.SIGKILL)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert "Traceback" not in errors
    assert shards(out) == shards(tmp_path / "undisturbed")
    assert not verify_dataset(str(out)).problems
