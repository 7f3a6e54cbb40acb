"""A run over a small corpus with pixels, and networks that judge it."""

import jax
import pytest
from evaluating import Bench

COMPILED = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes")  # fmt: skip


@pytest.fixture(scope="session")
def bench(tmp_path_factory, model):
    """A run at a context of 16 images; judges of pictures and of clips. Programs are compiled once for all calls."""
    from judged_run import write_all, write_judge  # only now: Beam takes seconds

    folder = tmp_path_factory.mktemp("bench")
    before = {name: getattr(jax.config, name) for name in COMPILED}
    for name, value in zip(COMPILED, (str(folder / "compiled"), 0, -1), strict=True):
        jax.config.update(name, value)
    tokenizer, corpus, run = write_all(folder, model)
    yield Bench(tokenizer, corpus, run, write_judge(folder, "images"), write_judge(folder, "clips"))
    for name, value in before.items():
        jax.config.update(name, value)
