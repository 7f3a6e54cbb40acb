"""Samples, sums and pictures in a Google Cloud Storage bucket, of an emulator in this process."""

import numpy as np
import pytest
from generating import COUNT, make, make_cases, write_run
from measured_parts import cases_of, part_of, pooling, samples_of

from manifests import files
from tokenizer.load import load
from tokenizer.testing import tiny_tokenizer_dir
from trainer.protocols.kept_pictures import keep_pictures
from trainer.protocols.measuring import measure
from trainer.protocols.samples import Samples
from trainer.sampling import load_run

pytest.importorskip("gcp_storage_emulator.server", reason="pip install -e '.[dev]'")
from benchmarks.faults import buckets

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    with buckets.bucket("gs") as served, buckets.here(served) as url:
        yield url


def test_samples_in_a_bucket_are_those_of_a_folder_and_go_on_where_one_is_missing(bucket, tmp_path, config, lock):
    run = load_run(write_run(tmp_path / "run", config, lock))
    here = make(run, tmp_path, make_cases(), 16)
    there = make(run, f"{bucket}/eval", make_cases(), 16)
    np.testing.assert_array_equal(there.read(np.arange(COUNT)), here.read(np.arange(COUNT)))
    files.remove(there.path(1))
    files.write_bytes(there.path(2), b"half")
    make(run, f"{bucket}/eval", make_cases(), 16)
    np.testing.assert_array_equal(there.read(np.arange(COUNT)), here.read(np.arange(COUNT)))


def test_sums_and_pictures_in_a_bucket_are_those_of_a_folder(bucket, tmp_path, monkeypatch):
    tokenizer = load(tiny_tokenizer_dir(tmp_path))
    cases, seen = cases_of("images", tokenizer, 12), []
    networks, part = {"images": pooling("images", counted=seen.append)}, part_of("images", "fid", "psnr")
    samples: Samples = samples_of(cases, tmp_path)
    monkeypatch.setenv("VISENT_CACHE", "/dev/null")  # which keeps nothing
    found = [measure(part, cases, samples, tokenizer, networks, out, pixels="a").figures
             for out in (tmp_path, f"{bucket}/judged", f"{bucket}/judged")]  # fmt: skip
    assert found[0] == found[1] == found[2]
    assert sum(seen) == 2 * 36
    place = keep_pictures(part, cases, samples, tokenizer, f"{bucket}/judged", most=2)
    assert len([name for name in files.list_names(place) if name.endswith(".png")]) == 2
