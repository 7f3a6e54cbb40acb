"""Rejects retried and inputs grown in a bucket, over HTTP."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.buckets import Bucket
from manifests import files
from pipelines.job import Job
from pipelines.resuming.adopt import staged
from pipelines.resuming.retry import retry_rejects
from pipelines.sources.folder import FolderSource
from pipelines.status import dataset_status
from pipelines.tokenize import tokenize
from pipelines.verify import verify_dataset
from tokenizer.testing import tiny_tokenizer_dir


def write_pictures(folder: Path, count: int) -> None:
    """Writes different pictures, the same for the same number."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


@pytest.mark.slow
def test_a_dataset_in_a_bucket_is_retried_and_grows(served: Bucket, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 5)
    (tmp_path / "in" / "002.png").write_bytes(b"")
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=2)
    made = Job(out=f"{served.url}/corpus/d", name="d", tokenizer=str(tiny_tokenizer_dir(tmp_path)), source=source)
    tokenize(made, max_reject_fraction=0.5)
    assert dataset_status(made.out).rejects == {"empty": 1}
    write_pictures(tmp_path / "in", 5)
    assert retry_rejects(made.out).rejects == {}
    assert files.list_sizes(staged(made.out)) == {}
    write_pictures(tmp_path / "in", 7)
    assert tokenize(made).rows == 7
    found = dataset_status(made.out)
    assert (found.state, found.done, found.rejects) == ("complete", 4, {})
    assert not verify_dataset(made.out).problems
