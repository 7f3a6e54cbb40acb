"""A run over a small corpus with pixels, and networks that judge it."""

import pytest
from evaluating import Bench
from judged_run import write_all, write_judge


@pytest.fixture(scope="session")
def bench(tmp_path_factory, model):
    """A run at a context of 16 images; judges of pictures and of clips."""
    folder = tmp_path_factory.mktemp("bench")
    tokenizer, corpus, run = write_all(folder, model)
    return Bench(tokenizer, corpus, run, write_judge(folder, "images"), write_judge(folder, "clips"))
