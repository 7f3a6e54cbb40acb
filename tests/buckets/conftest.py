"""Buckets of Google's and Amazon's kind on localhost, for this process and those that it starts."""

from collections.abc import Iterator

import pytest

pytest.importorskip("gcp_storage_emulator", reason="pip install -e '.[dev]'")
pytest.importorskip("moto.server", reason="pip install -e '.[dev]'")
from benchmarks.faults.buckets import Bucket, bucket, here


@pytest.fixture(params=["gs", "s3"])
def served(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """An empty bucket with its proxy."""
    with bucket(request.param) as found, here(found):
        yield found


@pytest.fixture
def google() -> Iterator[Bucket]:
    """An empty bucket of Google's kind."""
    with bucket("gs") as found, here(found):
        yield found


@pytest.fixture
def amazon() -> Iterator[Bucket]:
    """An empty bucket of S3's kind."""
    with bucket("s3") as found, here(found):
        yield found
