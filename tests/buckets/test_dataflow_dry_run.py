"""A dry run of a Dataflow job over real buckets: it reads the source and the receipts, and writes nothing."""

from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.faults.buckets import Bucket
from pipelines.commands.tokenize import tokenize
from tokenizer.testing import tiny_tokenizer_dir


def listing(url: str) -> list[str]:
    filesystem, inner = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()
    return sorted(filesystem.find(inner))


def test_a_dry_run_over_a_bucket_shows_the_job_and_leaves_the_bucket_as_it_is(google: Bucket, tmp_path: Path) -> None:
    filesystem, inner = fsspec.core.url_to_fs(google.url)
    for number in range(3):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / f"{number}.png")
        filesystem.put_file(str(tmp_path / f"{number}.png"), f"{inner}/photos/{number}.png")
    tiny = tiny_tokenizer_dir(tmp_path)
    filesystem.put(str(tiny), f"{inner}/tokenizer", recursive=True)
    before = listing(google.url)
    where = ["--runner", "DataflowRunner", "--project", "my-project", "--region", "europe-west4", "--tpu", "v5e"]
    arguments = ["folder", f"{google.url}/photos", "--out", f"{google.url}/corpus/photos", "--items-per-shard", "2",
                 "--tokenizer", f"{google.url}/tokenizer", "--dry-run", *where]  # fmt: skip
    told = CliRunner().invoke(tokenize, arguments, catch_exceptions=False).output
    for text in ("2 of 2 shards to make, 3 items", "type:tpu-v5-lite-podslice;topology:1x1", "ct5lp-hightpu-1t",
                 f"temp_location = {google.url}/visent-temp", "Tokenize: pardo:v1"):  # fmt: skip
        assert text in told
    assert listing(google.url) == before


@pytest.mark.parametrize("wrong", ["out", "tokenizer"])
def test_what_only_this_machine_has_is_refused(google: Bucket, tmp_path: Path, wrong: str) -> None:
    from visent.errors import UserError

    filesystem, inner = fsspec.core.url_to_fs(google.url)
    filesystem.pipe_file(f"{inner}/photos/0.png", b"0")
    tiny = tiny_tokenizer_dir(tmp_path)
    here = {"out": ["--out", str(tmp_path / "out")],
            "tokenizer": ["--out", f"{google.url}/out", "--tokenizer", str(tiny)]}  # fmt: skip
    where = ["--runner", "DataflowRunner", "--project", "my-project", "--region", "europe-west4", "--dry-run"]
    with pytest.raises(UserError, match=f"--{wrong} is .* which Dataflow's workers cannot see"):
        CliRunner().invoke(tokenize, ["folder", f"{google.url}/photos", *here[wrong], *where], catch_exceptions=False)
