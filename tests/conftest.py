"""Checks every jaxtyping shape while tests run, and finds the real sample files."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# One thread per process is enough for the small networks of the tests, and keeps two test workers on two cores.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Before gcsfs is imported: its other kind of client asks each bucket by gRPC, which no server on localhost knows.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

install_import_hook(["visent", "tokenizer", "manifests", "pipelines", "trainer"], "beartype.beartype")

settings.register_profile("visent", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("visent")

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real sample files, where this checkout has one beside it."""
    if not SAMPLES.is_dir():
        pytest.skip("no real samples: ../shared/samples is not there")
    return SAMPLES


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the reader's cache of one test away from the user's and from other tests'."""
    monkeypatch.setenv("VISENT_CACHE", str(tmp_path_factory.mktemp("cache")))
