"""A very small real tokenizer, written once."""

import pytest

from tokenizer.testing import tiny_tokenizer_dir


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tokenizer of 32 x 32 pixels and 16 tokens."""
    return str(tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer")))
