# mypy: disable-error-code="no-untyped-call"
"""What a worker measures and tells, and that it compiles once and uses every device."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import jax
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from made_media import write_pictures

from pipelines.encoder import shared_encoder
from pipelines.job import Job, Work, units_of
from pipelines.meter import Clock, Meter
from pipelines.runners.dofn import TokenizeUnit
from pipelines.runners.logs import keep_quiet, tell
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize
from pipelines.worklog import log_name, read_logs
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def job(tmp_path: Path, tiny: str, items: int = 3, **options: Any) -> Job:
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=items)
    fields = {"out": str(tmp_path / "d"), "name": "d", "tokenizer": tiny, "source": source, "annotate": ("edge",)}
    return Job(**{**fields, **options})


@pytest.fixture
def compilations() -> list[str]:
    """The names of what jax compiles from now on."""
    seen: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return seen


def test_a_whole_job_compiles_nothing_after_the_encoder_has_started(
    tmp_path: Path, tiny: str, compilations: list[str]
) -> None:
    """Batches are of one size: units of 1 to 13 pictures in two roles end with batches that are filled up."""
    write_pictures(tmp_path / "in", 13)
    shared_encoder(tiny, "crop", "float32")
    before = len(compilations)
    for items in (1, 5, 13):
        tokenize(job(tmp_path, tiny, items, out=str(tmp_path / f"d{items}")))
    assert len(compilations) == before
    jax.jit(lambda value: value + 1)(1.0)
    assert len(compilations) == before + 1  # that is what the listener counts


EIGHT = """
import sys
import jax
import numpy as np
from pipelines.encoder import Encoder
from tokenizer.devices import on_all_devices
from tokenizer.load import load

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **told: compiled.append(event) if event.endswith("backend_compile_duration") else None)
pictures = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 3), np.uint8)
alone = load(sys.argv[1])
one = alone.encode(pictures)
encoder = Encoder(load(sys.argv[1], all_devices=True))
assert (encoder.devices, encoder.batch_size) == (8, 8 * alone.batch_size)
before = len(compiled)
for count in (150, 149, 64, 7, 1):
    assert np.array_equal(encoder.encode(pictures[:count]), one[:count]), count
assert len(compiled) == before, compiled[before:]
state = encoder._tokenizer._state
assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(state))

weights, values = np.arange(12.0).reshape(3, 4), np.arange(96.0).reshape(32, 3)
run, size = on_all_devices(lambda weights, values: values @ weights, (weights,), 4)
assert size == 32
product = run(values)
assert len(product.sharding.device_set) == 8
assert np.array_equal(product, values @ weights)
"""


def test_all_devices_of_a_machine_are_used_and_give_the_same_codes(tiny: str) -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", EIGHT, tiny], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def run_in_beam(made: Job) -> dict[str, Any]:
    """Runs the units through Beam's local runner; returns its counters and distributions by name."""
    Path(made.out).mkdir()
    works = [Work(unit=unit).to_json() for unit in units_of(made, made.source.listing()[0])]
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | beam.Create(works) | beam.ParDo(TokenizeUnit(made, "digest", 0.0))
    result = pipeline.run()
    result.wait_until_finish()
    metrics = result.metrics().query()
    return {entry.key.metric.name: entry.result for kind in ("counters", "distributions") for entry in metrics[kind]}


def test_counters_and_distributions_are_those_of_the_work(tmp_path: Path, tiny: str) -> None:
    source = write_pictures(tmp_path / "in", 7)
    (source / "empty.png").write_bytes(b"")
    (source / "cut.png").write_bytes((source / "000.png").read_bytes()[:200])
    made = job(tmp_path, tiny)
    metrics = run_in_beam(made)
    expected = {"shards": 3, "rows": 7, "pictures": 14, "rejects": 2, "rejects_empty": 1, "rejects_truncated": 1}
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["bytes_read"] == sum(path.stat().st_size for path in source.iterdir())
    assert metrics["bytes_written"] == sum(path.stat().st_size for path in Path(made.out).glob("*.parquet"))
    for stage in ("read", "decode", "annotate", "encode", "write", "shard", "encoder_busy"):
        assert metrics[f"{stage}_ms"].count == 3, stage
    assert metrics["shard_ms"].sum >= metrics["encoder_busy_ms"].sum


def test_each_shard_has_a_log_that_tells_where_its_time_went(tmp_path: Path, tiny: str) -> None:
    source = write_pictures(tmp_path / "in", 5)
    (source / "empty.png").write_bytes(b"")
    made = job(tmp_path, tiny)
    tokenize(made, max_reject_fraction=0.5)
    found = read_logs(made.out)
    assert [(log.shard, log.state, log.rows, log.pictures) for log in found.values()] == [
        ("train-00000-of-00002.parquet", "done", 3, 6), ("train-00001-of-00002.parquet", "done", 2, 4)]  # fmt: skip
    last = found["train-00001-of-00002.parquet"]
    assert last.rejects == {"empty": 1}
    assert set(last.seconds) == {"read", "decode", "annotate", "encode", "write"}
    assert 0 < last.encoder_busy <= last.wall
    assert all(0 < seconds <= 2 * last.wall for seconds in last.seconds.values())


def test_a_shard_that_fails_says_so_in_its_log(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    made = job(tmp_path, tiny)
    unit = units_of(made, made.source.listing()[0])[0]
    Path(made.out).mkdir()
    worker = TokenizeUnit(made, "digest", 0.0)
    work = Work(unit=unit, views=(1, 1), keys_sha256="other")
    assert list(worker.process(work.to_json())) == []
    (log,) = read_logs(made.out).values()
    assert log.state == "failed"
    assert "no longer gives the rows" in log.error
    assert list(worker.process(Work(unit=unit).to_json())) == []  # the others would fail alike


def test_logs_are_read_of_some_shards_and_what_is_none_is_left_out(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 6)
    made = job(tmp_path, tiny)
    tokenize(made)
    names = sorted(read_logs(made.out))
    assert list(read_logs(made.out, [names[1], "absent.parquet"])) == [names[1]]
    Path(made.out, log_name(names[0])).write_text('{"cut')
    assert list(read_logs(made.out)) == [names[1]]


def test_a_worker_with_another_tokenizer_than_the_job_makes_no_shard(tmp_path: Path) -> None:
    """The weights at the job's URL are replaced while it runs: its shards must not hold codes of two tokenizers."""
    write_pictures(tmp_path / "in", 2)
    tiny = tiny_tokenizer_dir(tmp_path, seed=5)
    made = job(tmp_path, str(tiny))
    other = replace(made, tokenizer=str(tiny_tokenizer_dir(tmp_path, seed=6)))
    Path(made.out).mkdir()
    object.__setattr__(made, "tokenizer", other.tokenizer)
    with pytest.raises(UserError, match=r"is [0-9a-f]{16} in a worker, the job was started with [0-9a-f]{16}"):
        TokenizeUnit(made, "digest", 0.0)._encoder()


def test_a_clock_counts_wall_seconds_and_a_meter_those_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipelines.meter.time.perf_counter", lambda: now[0])
    clock, meter = Clock(), Meter()
    with clock.running(), meter.at("encode"):
        now[0] = 2.0
        with clock.running(), meter.at("encode"):
            now[0] = 5.0
            assert clock.busy == 5.0
    now[0] = 9.0
    assert clock.busy == 5.0
    assert meter.seconds == {"encode": 8.0}


def test_what_it_takes_to_get_items_counts_and_what_happens_to_them_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipelines.meter.time.perf_counter", lambda: now[0])
    meter = Meter()

    def items() -> Any:
        for number in range(3):
            now[0] += 1
            yield number

    for _ in meter.each("read", items()):
        now[0] += 10
    assert meter.seconds == {"read": 3.0}


@pytest.fixture
def _logging() -> Any:
    """Puts logging back as it was."""
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_logging")
@pytest.mark.parametrize("form", ["json", "plain", ""])
def test_events_come_as_json_plain_or_not_at_all(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISENT_LOG", form)
    keep_quiet()
    tell("shard done", shard="a", rows=3, seconds={"read": 0.5}, error="")
    logging.getLogger("apache_beam").error("noise")
    said = capsys.readouterr().err.splitlines()
    if form == "json":
        assert json.loads(said[0]) == {
            "event": "shard done", "shard": "a", "rows": 3, "seconds": {"read": 0.5}, "error": ""
        }  # fmt: skip
    elif form == "plain":
        assert said[0].endswith("shard done: shard a, rows 3, seconds (read 0.50)")
    assert len(said) == (1 if form else 0)


@pytest.mark.usefixtures("_logging")
def test_on_a_cluster_events_are_json_at_level_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        tell("shard failed", failed=True, shard="a")
    (record,) = caplog.records
    assert (record.levelname, json.loads(record.getMessage())) == ("ERROR", {"event": "shard failed", "shard": "a"})


def test_an_unknown_form_of_the_log_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISENT_LOG", "jsn")
    with pytest.raises(UserError, match=r"VISENT_LOG.*did you mean 'json'"):
        keep_quiet()
