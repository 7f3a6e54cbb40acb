"""Rejects retried and inputs grown in a bucket, over HTTP."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pipelines"))
from made_media import picture_bytes, write_pictures

from benchmarks.faults.buckets import Bucket
from manifests import files
from pipelines.adopt import staged
from pipelines.job import Job
from pipelines.retry import retry_rejects
from pipelines.sources.folder import FolderSource
from pipelines.status import dataset_status
from pipelines.tokenize import tokenize
from pipelines.verify import verify_dataset
from tokenizer.testing import tiny_tokenizer_dir


@pytest.mark.slow
def test_a_dataset_in_a_bucket_is_retried_and_grows(served: Bucket, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 5)
    (tmp_path / "in" / "002.png").write_bytes(b"")
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=2)
    made = Job(out=f"{served.url}/corpus/d", name="d", tokenizer=str(tiny_tokenizer_dir(tmp_path)), source=source)
    tokenize(made, max_reject_fraction=0.5)
    assert dataset_status(made.out).rejects == {"empty": 1}
    (tmp_path / "in" / "002.png").write_bytes(picture_bytes(2))
    assert retry_rejects(made.out).rejects == {}
    assert files.list_sizes(staged(made.out)) == {}
    write_pictures(tmp_path / "in", 7)
    assert tokenize(made).rows == 7
    found = dataset_status(made.out)
    assert (found.state, found.done, found.rejects) == ("complete", 4, {})
    assert not verify_dataset(made.out).problems
