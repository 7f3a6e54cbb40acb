"""A dataset's report: all of it in one file, and what cannot be shown is said."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from made_media import picture_bytes, write_pictures, write_video

from pipelines.commands.report import report
from pipelines.job import Job
from pipelines.reporting.plots import rates
from pipelines.reporting.report import Wanted, in_bytes, write_report
from pipelines.reporting.speed import summary
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.videos import Videos
from pipelines.tokenize import tokenize, tokenize_views
from pipelines.worklog import ShardLog, add_up
from visent.errors import UserError

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects what a page shows and refers to, and checks that its elements nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.addresses, self.tags = "", list[str](), list[str]()
        self.feed(page)
        assert not self.tags, self.tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Job:
    """A dataset of 30 pictures in two roles and three views, one of an odd name, and four files that are none."""
    folder = tmp_path_factory.mktemp("report")
    source = write_pictures(folder / "in", 29)
    (source / "<script>alert(1)<").mkdir()  # becomes a key
    (source / "<script>alert(1)<" / "a.png").write_bytes(picture_bytes(99))
    for name, content in {"empty": b"", "empty2": b"", "cut": picture_bytes(1)[:300], "<b>text": b"text"}.items():
        (source / f"{name}.png").write_bytes(content)
    listed = FolderSource(paths=(str(source),), items_per_unit=6)
    job = Job(out=str(folder / "d"), name="d", tokenizer=tiny, source=listed, annotate=("edge",), holdout=0.2)
    tokenize(job, max_reject_fraction=0.5)
    tokenize_views(job.out, 3)
    return job


def read(path: Path | str) -> Reader:
    return Reader(Path(path).read_text())


def test_the_page_holds_everything_and_points_nowhere(made: Job, tmp_path: Path) -> None:
    page = read(write_report(made.out, str(tmp_path / "new" / "r.html"), Wanted(rows=7, shards=99)))
    pictures = [address for address in page.addresses if not address.startswith("#")]  # those are inside of a plot
    assert all(address.startswith("data:image/webp;base64,") for address in pictures)
    assert len(pictures) == 7 * 2 * 2  # rows, roles, original above decoded
    assert all(text in page.text for text in ("Dataset d", "perplexity", "Configuration"))
    assert "4 of 34 listed examples gave no row" in page.text
    for reason, key in (("empty", "empty2"), ("not-an-image", "<b>text")):
        assert reason in page.text
        assert key in page.text
    for stage in ("read", "decode", "annotate", "encode", "write"):
        assert f" {stage} " in page.text
    assert "views 1 to 2" in page.text
    assert len(re.findall(r"dB", page.text)) >= 14


def test_names_from_the_data_are_text_and_never_markup(made: Job, tmp_path: Path) -> None:
    path = write_report(made.out, str(tmp_path / "r.html"), Wanted(rows=200))
    text = Path(path).read_text()
    assert "<script" not in text
    assert "<b>text" not in text
    assert "&lt;script&gt;alert(1)&lt;" in text


def test_the_same_dataset_gives_the_same_page(made: Job, tmp_path: Path) -> None:
    first, second = (write_report(made.out, str(tmp_path / name), Wanted()) for name in ("a", "b"))
    assert Path(first).read_bytes() == Path(second).read_bytes()


def test_a_dataset_on_a_bucket_is_reported_to_a_bucket(made: Job) -> None:
    system: Any = fsspec.filesystem("memory")
    system.put(made.out, "/bucket/d", recursive=True)
    out = write_report("memory://bucket/d", "memory://bucket/r.html", Wanted(originals=False))
    page = Reader(system.cat(out.removeprefix("memory:/")).decode())
    assert "4 of 34 listed examples" in page.text
    assert sum(address.startswith("data:") for address in page.addresses) == 8 * 2
    system.rm("/bucket", recursive=True)


def test_what_is_gone_is_said_in_its_place(made: Job, tmp_path: Path) -> None:
    """Without the source no originals, without logs no speed, without the tokenizer no pictures."""
    copy = tmp_path / "d"
    shutil.copytree(made.out, copy)
    shutil.rmtree(copy / "log")
    shutil.rmtree(copy / "listing")
    page = read(write_report(str(copy), str(tmp_path / "r.html"), Wanted()))
    assert "The originals are not at hand" in page.text
    assert "There are no logs of the shards" in page.text
    facts = (copy / "dataset.json").read_text()
    (copy / "dataset.json").write_text(facts.replace(made.tokenizer, "/no/such/tokenizer"))
    page = read(write_report(str(copy), str(tmp_path / "r.html"), Wanted()))
    assert "No pictures are shown: " in page.text
    assert not page.addresses or all(address.startswith("#") for address in page.addresses)
    with pytest.raises(UserError, match="no tokenizer"):
        write_report(str(copy), str(tmp_path / "r.html"), Wanted(tokenizer="absent"))


def test_files_that_are_gone_or_were_damaged_leave_the_rest(made: Job, tmp_path: Path) -> None:
    """Logs and lists of rejects are no part of the dataset: whoever wrote into them spoils no report."""
    copy = tmp_path / "d"
    shutil.copytree(made.out, copy)
    for path, content in zip(
        sorted((copy / "log").glob("*.json")), ["[[[", '{"shard": 1}', '{"shard": "a", "started": 1e999}'], strict=False
    ):
        path.write_text(content)
    for path in copy.glob("*.rejects.jsonl"):
        path.write_text("[" * 100_000 + "\n{}\n")
    page = read(write_report(str(copy), str(tmp_path / "r.html"), Wanted()))
    shards = len(list(copy.glob("*.parquet")))
    assert f"{shards - 3} of {shards} shards have a log" in page.text
    assert "4 of 34 listed examples" in page.text


def test_a_source_whose_files_are_gone_gives_no_originals(tmp_path: Path, tiny: str) -> None:
    source = write_pictures(tmp_path / "in", 3)
    listed = FolderSource(paths=(str(source),), items_per_unit=9)
    job = Job(out=str(tmp_path / "d"), name="d", tokenizer=tiny, source=listed)
    tokenize(job)
    shutil.rmtree(source)
    page = read(write_report(job.out, str(tmp_path / "r.html"), Wanted()))
    assert "dB" not in page.text
    assert sum(address.startswith("data:") for address in page.addresses) == 3


def test_clips_are_shown_frame_by_frame(tmp_path: Path, tiny: str) -> None:
    write_video(tmp_path / "in" / "v.mp4")
    source = DatasetSource(
        name="videos", items_per_unit=4, dataset=Videos(root=str(tmp_path / "in"), fps=5.0, frames_per_clip=4)
    )
    job = Job(out=str(tmp_path / "d"), name="d", source=source, tokenizer=tiny)
    tokenize(job)
    page = read(write_report(job.out, str(tmp_path / "r.html"), Wanted(rows=2)))
    assert "frames 4 of 4" in page.text
    assert " frames clips 2 1 4 2 " in re.sub(r"\s+", " ", page.text)
    assert sum(address.startswith("data:") for address in page.addresses) == 2 * 2 * 4


def test_the_command_refuses_what_makes_no_sense(made: Job, tmp_path: Path) -> None:
    for arguments, message in (
        ([str(tmp_path), "--out", "r.html"], "no dataset at"),
        ([made.out, "--out", str(tmp_path / "r.html"), "--rows", "0"], "--rows is 0, expected 1 or more"),
        ([made.out, "--out", "/proc/none/r.html"], "cannot make folder"),
    ):
        done = CliRunner().invoke(report, arguments)
        assert isinstance(done.exception, UserError)
        assert message in str(done.exception)
    done = CliRunner().invoke(report, [made.out, "--out", str(tmp_path / "r.html"), "--no-originals"])
    assert done.exit_code == 0, done.output
    assert f"wrote {tmp_path}/r.html" in done.output


def log(started: float, ended: float, pictures: int, **more: Any) -> ShardLog:
    return ShardLog(shard=f"{started}", state="done", started=started, ended=ended, pictures=pictures, **more)


def test_pictures_over_time_add_up_and_breaks_are_left_out() -> None:
    logs = [log(0.0, 10.0, 100), log(5.0, 15.0, 50), log(100_000.0, 100_010.0, 80)]
    began, rate, width = rates(logs)
    assert np.isclose((rate * width).sum(), 230)
    assert np.isclose(began[-1] + width, 25)


def test_totals_and_their_sentence() -> None:
    one = log(0.0, 10.0, 100, seconds={"read": 1.0, "encode": 4.0}, encoder_busy=5.0, bytes_read=7)
    two = log(0.0, 30.0, 300, seconds={"read": 9.0, "encode": 20.0}, encoder_busy=25.0)
    totals = add_up([one, two, dataclasses.replace(one, state="running")])
    assert (totals.shards, totals.pictures, totals.wall, totals.busy, totals.bytes_read) == (2, 400, 40, 0.75, 7)
    assert totals.table()[0] == ("read", "10.0", "25.00", "0.25")
    assert summary(totals, 3).endswith(
        "at work in 75% of that time. It waited; of the other stages, read took the longest."
    )
    assert "It waited" not in summary(dataclasses.replace(totals, encoder_busy=40.0), 3)


def test_bytes_are_written_in_the_unit_that_fits() -> None:
    assert [in_bytes(count) for count in (0, 999, 1000, 2_500_000, 7 * 10**9, 1_260 * 10**12)] == [
        "0 bytes", "999 bytes", "1.0 kB", "2.5 MB", "7.0 GB", "1,260.0 TB"]  # fmt: skip
