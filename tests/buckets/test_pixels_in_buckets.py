"""Pixels of a dataset in a bucket, over HTTP."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.buckets import Bucket
from manifests import files
from manifests.dataset import load_facts
from manifests.pixel_files import shards_of
from manifests.pixels import PixelStore
from manifests.shards import read_rows
from pipelines.encoder import shared_encoder
from pipelines.job import Job
from pipelines.pixels import make_pixels
from pipelines.sources.folder import FolderSource
from pipelines.status import dataset_status
from pipelines.tokenize import tokenize
from pipelines.verify import verify_dataset
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError


def put_pictures(url: str, numbers: range) -> None:
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        with files.writing(f"{url}/{number:03d}.png") as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")


@pytest.mark.slow
def test_pixels_in_a_bucket_are_those_of_the_codes_also_after_growth(served: Bucket, tmp_path: Path) -> None:
    put_pictures(f"{served.url}/in", range(5))
    source = FolderSource(paths=(f"{served.url}/in",), items_per_unit=2)
    tiny = str(tiny_tokenizer_dir(tmp_path))
    made = Job(out=f"{served.url}/corpus/d", name="d", tokenizer=tiny, source=source, annotate=("edge",))
    tokenize(made)
    assert make_pixels(made.out, "train").made == 3
    assert make_pixels(made.out, "train").made == 0
    put_pictures(f"{served.url}/in", range(5, 7))
    tokenize(made)
    with pytest.raises(UserError, match=r"1 of 4 shards are others\): bring them up to date"):
        PixelStore.open(made.out, "train")
    assert make_pixels(made.out, "train").made == 1
    facts, store = load_facts(made.out), PixelStore.open(made.out, "train")
    rows = [row for shard in shards_of(facts, "train") for row in read_rows(f"{made.out}/{shard.file}", facts.schema)]
    assert store.keys == [row.key for row in rows]
    for role in ("image", "edge"):
        pixels = store.read(role, np.arange(7)[::-1])[::-1, 0]
        codes = shared_encoder(tiny, "crop", None).encode(pixels)
        np.testing.assert_array_equal(codes, np.stack([row.codes[role] for row in rows]))
    assert dataset_status(made.out).state == "complete"
    assert not verify_dataset(made.out).problems
    assert make_pixels(made.out, "train").made == 0
