"""Planning: what a probe sees, what follows from it, what prices make of it."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_media import picture_bytes, write_pictures, write_video

from pipelines.job import Job
from pipelines.planning.plan import Plan, make_plan
from pipelines.planning.prices import load_prices
from pipelines.planning.probe import probe
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize
from tokenizer.cost import flops_per_image
from tokenizer.load import load
from visent.cli import visent
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PRICES = """
currency = "USD"
[rates.vcpu_hour]
price = 0.5
source = "a page"
read = 2026-11-21
[rates.writes_per_1000]
price = 4.0
source = "a page"
read = 2026-11-21
[accelerators.fast]
price = 3.0
source = "a page"
read = 2026-11-21
vcpus = 2
tflops = { float32 = 1.0 }
tflops_source = "a page"
of_peak = 0.5
"""


def folder_job(root: Path, tiny: str, **options: Any) -> Job:
    source = FolderSource(paths=(str(root),), items_per_unit=8, video_stills=options.pop("video_stills", None))
    return Job(out=str(root.parent / "out"), name="d", tokenizer=tiny, source=source, **options)


def prices(tmp_path: Path, text: str = PRICES) -> str:
    (tmp_path / "prices.toml").write_text(text)
    return str(tmp_path / "prices.toml")


def plan_of(job: Job, **options: Any) -> Plan:
    return make_plan(job, **{"count": 100, "encode_seconds": 60.0, **options})


def test_a_probe_of_everything_says_what_the_job_then_does(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 19)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    job = folder_job(tmp_path / "in", tiny, annotate=("edge",))
    plan = plan_of(job)
    assert not (tmp_path / "out").exists()
    summary = tokenize(job)
    assert (plan.rows, plan.images, plan.amounts.shards) == (summary.rows, summary.pictures, summary.units)
    assert plan.probe.rejects == summary.rejects == {"empty": 1}
    assert plan.amounts.source_bytes == pytest.approx(
        sum(path.stat().st_size for path in (tmp_path / "in").iterdir()) * 20 / 19, rel=1e-3
    )  # the empty one weighs as an average one


@pytest.mark.parametrize("format", ["parquet", "arrayrecord"])
def test_bytes_of_a_row_are_those_of_a_large_shard(tmp_path: Path, tiny: str, format: Any) -> None:
    write_pictures(tmp_path / "in", 300)
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=300)
    job = Job(out=str(tmp_path / "out"), name="d", tokenizer=tiny, source=source, format=format)
    found = [probe(job, source.listing()[0], count, 60.0).bytes_per_row for count in (5, 300)]
    assert found[0] == pytest.approx(found[1], rel=0.25)
    written = tokenize(job).bytes
    slack = 65536 if format == "arrayrecord" else 3000  # it grows in such steps; the schema of a Parquet file
    assert 300 * found[1] == pytest.approx(written, abs=slack + 0.1 * written)


def test_a_smaller_probe_draws_from_the_whole_source_and_is_the_same_each_time(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 30)
    for number in range(20, 30):
        (tmp_path / "in" / f"{number:03d}.png").write_bytes(b"no picture")
    job = folder_job(tmp_path / "in", tiny)
    items, _ = job.source.listing()
    found = [probe(job, items, 15, 60.0) for _ in range(2)]
    assert found[0].looked_at == 15
    assert found[0].rejects == found[1].rejects
    assert 1 <= found[0].rejects["not-an-image"] <= 10


def test_frames_of_videos_count_as_images(tmp_path: Path, tiny: str) -> None:
    write_video(tmp_path / "in" / "clip.mp4", frames=20)  # two seconds
    job = folder_job(tmp_path / "in", tiny, video_stills=2.0)
    plan = plan_of(job, count=3)
    assert (plan.amounts.items, plan.amounts.examples, plan.images) == (1, 4, 4)
    assert plan.amounts.source_bytes is None, "frames come decoded; the files' bytes were not counted"


def test_encoding_stops_in_time_and_decoding_goes_on(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 30)
    plan = plan_of(folder_job(tmp_path / "in", tiny), encode_seconds=0.0)
    assert plan.probe.looked_at == plan.probe.pictures == 30
    assert 1 <= plan.probe.encoded < 30
    assert plan.rows == 30


def test_cost_follows_from_flops_peak_and_prices(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 8)
    job = folder_job(tmp_path / "in", tiny)
    plan = plan_of(job, prices=load_prices(prices(tmp_path)), accelerator="fast", examples=8_000_000)
    rate = 0.5e12 / flops_per_image(load(tiny))
    assert plan.probe.flops_per_picture > 1e5
    slowest = max(1 / rate, plan.probe.decode_per_picture / 2)
    assert plan.images_per_second == pytest.approx(1 / slowest)
    assert plan.hours == pytest.approx(8e6 * slowest / 3600)
    assert plan.amounts.shards == 1_000_000
    assert plan.costs is not None
    assert plan.costs["accelerators"] == pytest.approx(3.0 * plan.hours)
    assert plan.costs["vCPUs"] == pytest.approx(2 * 0.5 * plan.hours)
    assert plan.costs["writes"] == pytest.approx(4 * 1_000_000 / 1000 * 4.0)
    assert plan.cost == pytest.approx(sum(plan.costs.values()))


def test_a_machine_that_is_in_the_price_decodes_and_is_not_billed(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 3)
    text = PRICES.replace("vcpus = 2", "vcpus = 2\nmachine_included = true")
    found = plan_of(folder_job(tmp_path / "in", tiny), prices=load_prices(prices(tmp_path, text)), accelerator="fast",
                    rate=1e9)  # fmt: skip
    assert found.bound == "decoding on 2 vCPUs"
    assert found.costs is not None
    assert found.costs["vCPUs"] == found.costs["memory"] == 0
    assert found.costs["accelerators"] > 0


def test_workers_that_decode_too_slowly_are_seen(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 8)
    plan = plan_of(folder_job(tmp_path / "in", tiny), rate=1e9)
    slow = plan_of(folder_job(tmp_path / "in", tiny), rate=1.0)
    assert plan.bound.startswith("decoding on")
    assert slow.bound == "encoding"


def test_nothing_that_gives_a_row_is_refused(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 examples of folder gives a row \(1 empty\)"):
        plan_of(folder_job(tmp_path / "in", tiny))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('currency = "USD"', "currency = 3", "currency is 3, expected text"),
        ("price = 0.5", "price = -1", "rates.vcpu_hour: price is -1, expected a number of 0 or more"),
        ("price = 0.5", "price = nan", "price is nan"),
        ("read = 2026-11-21", "read = 3", "read is 3, expected the day the price was read, as 2026-11-21"),
        ('source = "a page"', "", "source is None, expected text"),
        ("[rates.vcpu_hour]", "[rates.cpu_hour]", "unknown rate"),
        ("of_peak = 0.5", "of_peak = 2", "of_peak is 2, expected a part"),
        ("vcpus = 2", "cpus = 2", "did you mean 'vcpus'"),
        ('tflops_source = "a page"', "", "tflops_source is None"),
        ("[accelerators.fast]", "[[accelerators]]", "expected tables"),
        ("currency", "= =", "is not valid TOML"),
    ],
)
def test_a_price_file_is_checked(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[").replace("(", r"\(")):
        load_prices(prices(tmp_path, PRICES.replace(old, new, 1)))


def test_the_price_file_of_the_docs_is_one(tiny: str) -> None:
    found = load_prices(str(ROOT / "docs" / "prices.toml"))
    for chip in found.chips.values():
        assert chip.rate(213e9, "float32")[0] > 0
        assert all(", read 20" in line for line in found.sources(chip))


def test_the_command_takes_what_tokenize_takes_and_simulates_its_plan(tmp_path: Path, tiny: str) -> None:
    root = write_pictures(tmp_path / "in", 12)
    saved = str(tmp_path / "plan.json")
    line = ["plan", "folder", str(root), "--out", str(tmp_path / "out"), "--tokenizer", tiny, "--holdout", "0.1",
            "--items-per-shard", "4", "--prices", prices(tmp_path), "--accelerator", "fast", "--save", saved,
            "--examples", "100000"]  # fmt: skip
    done = CliRunner().invoke(visent, line)
    assert done.exit_code == 0, done.output
    assert "100,000" in done.output
    assert "cost, USD" in done.output
    assert "vcpu_hour: USD 0.5, a page, read 2026-11-21" in done.output
    assert not (tmp_path / "out").exists()
    simulated = CliRunner().invoke(visent, ["plan", "simulate", saved, "--workers", "1,3", "--rows-per-shard", "4,100",
                                            "--preemptions", "0.5", "--json"])  # fmt: skip
    assert simulated.exit_code == 0, simulated.output
    found = json.loads(simulated.output)
    assert [(one["workers"], one["outcome"]["units"]) for one in found] == [
        (1, 25_000), (3, 25_000), (1, 1000), (3, 1000)
    ]  # fmt: skip
    assert sum(one["chosen"] for one in found) == 1
    cheapest = min(found, key=lambda one: one["cost"])
    assert cheapest["chosen"]
    shown = CliRunner().invoke(visent, ["plan", "simulate", saved, "--workers", "1", "--days", "0.00001"])
    assert "none of these ends within 1e-05 days" in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accelerator", "fast"], "--accelerator fast is of a price file; give one with --prices"),
        (["--prices", "gone.toml"], "no price file at gone.toml"),
        (["--rate", "0"], "--rate is 0"),
    ],
)
def test_a_wrong_plan_is_one_line(tmp_path: Path, tiny: str, arguments: list[str], message: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(picture_bytes())
    done = CliRunner().invoke(visent, ["plan", "folder", str(tmp_path / "in"), "--tokenizer", tiny, *arguments])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": 0}', "{", '{"rows": "x", "costs": null}'])
def test_what_is_no_plan_is_not_simulated(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    done = CliRunner().invoke(visent, ["plan", "simulate", str(tmp_path / "plan.json")])
    assert isinstance(done.exception, UserError)


def test_a_few_samples_of_each_tar_stand_for_all_of_them(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "tars").mkdir()
    for number in range(3):
        with tarfile.open(tmp_path / "tars" / f"{number}.tar", "w") as tar:
            for sample in range(20):
                data = picture_bytes(20 * number + sample)
                entry = tarfile.TarInfo(f"{sample:03d}.png")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    done = CliRunner().invoke(visent, ["plan", "webdataset", "--root", str(tmp_path / "tars"), "--tokenizer", tiny,
                                       "--probe", "12", "--json"])  # fmt: skip
    assert done.exit_code == 0, done.output
    plan = json.loads(done.output[done.output.index("\n{") :])
    assert plan["probe"]["looked_at"] == 12
    assert plan["amounts"]["shards"] == 3
    assert plan["amounts"]["source_bytes"] == sum(path.stat().st_size for path in (tmp_path / "tars").iterdir())
    assert plan["rows"] == pytest.approx(60, abs=3), "tars of other lengths have as many more samples"
