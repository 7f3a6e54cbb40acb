"""Folders of Llama against transformers itself: the same scores and the same greedy codes, both ways."""

import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest
from exchanged import large_params, write_run
from flax import nnx

from trainer import model as llama
from trainer.exchange.exporting import export
from trainer.exchange.importing import import_folder, open_folder
from trainer.generate import Sampling, generate
from trainer.run_folder import open_run

torch = pytest.importorskip("torch", reason="the oracle needs torch")
transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")

GREEDY = Sampling(temperature=0.0)
SPECIAL = 100  # as LVM has
ROPE = {"rope_type": "default", "rope_theta": 5e5}


@functools.partial(jax.jit, static_argnums=0)
def scores(model, params, tokens):
    merged = nnx.merge(llama.definition(model), params)
    return merged.logits(merged(tokens))


def their_scores(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.float().numpy()


def their_codes(model, tokens, new, **options):
    tokens = torch.tensor(tokens)
    with torch.no_grad():
        found = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, do_sample=False,
                               **options)  # fmt: skip
    return found[:, tokens.shape[1] :].numpy()


def load(folder, **options):
    return transformers.LlamaForCausalLM.from_pretrained(folder, **options).eval()


def assert_same_scores(ours, theirs):
    assert np.abs(theirs).max() > 1, "scores are near zero: nothing is compared"
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"embedding": "codebook", "codebook_width": 4},
        {"hidden": 200, "mlp": 56, "rope_theta": 5e5, "norm_epsilon": 1e-5, "special_tokens": SPECIAL},
    ],
    ids=["learned", "codebook", "heads of 100"],
)
def test_exported_models_score_and_continue_in_transformers_as_here(lock, model, tmp_path, changes):
    model = dataclasses.replace(model, **changes)
    book = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32) if "embedding" in changes else None
    params = large_params(model, book)
    export(write_run(tmp_path / "run", lock, model, params), tmp_path / "llama", file_bytes=40_000)
    theirs = load(tmp_path / "llama")
    tokens = np.random.default_rng(1).integers(0, model.vocabulary, (2, 48))
    assert_same_scores(scores(model, params, tokens), their_scores(theirs, tokens))
    prompts = np.random.default_rng(2).integers(0, 64, (2, 16)).astype(np.uint16)
    begun = np.pad(prompts.astype(np.int64), ((0, 0), (1, 0)), constant_values=model.begin)
    expected = their_codes(theirs, begun, 16)  # generation_config.json keeps it from special tokens
    np.testing.assert_array_equal(generate(params, model, prompts, 16, GREEDY), expected)
    assert len(np.unique(expected)) > 1


def test_without_a_prompt_transformers_starts_at_the_begin_token(lock, model, tmp_path):
    params = large_params(model)
    export(write_run(tmp_path / "run", lock, model, params), tmp_path / "llama")
    with torch.no_grad():
        found = load(tmp_path / "llama").generate(max_new_tokens=16, do_sample=False).numpy()
    assert found[0, 0] == model.begin
    empty = np.empty((1, 0), np.uint16)
    np.testing.assert_array_equal(found[:, 1:], generate(params, model, empty, 16, GREEDY))


def random_llama(**options):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=64 + SPECIAL, max_position_embeddings=64, initializer_range=0.3, **sizes, **options
    )
    return transformers.LlamaForCausalLM(config).eval()


def older_config(folder):
    """Rewrites config.json as transformers 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "torch_dtype": config.pop("dtype")}
    path.write_text(json.dumps({name: value for name, value in config.items() if name != "head_dim"}))


@pytest.mark.parametrize("older", [False, True], ids=["new config", "old config"])
@pytest.mark.parametrize(
    "options",
    [{}, {"tie_word_embeddings": True}, {"rope_parameters": ROPE, "rms_norm_eps": 1e-5}],
    ids=["plain", "tied", "theta"],
)
def test_imported_models_score_and_continue_here_as_in_transformers(lock, tmp_path, options, older):
    theirs = random_llama(**options)
    theirs.save_pretrained(tmp_path / "llama", max_shard_size="20KB")
    assert (tmp_path / "llama" / "model.safetensors.index.json").exists()
    if older:
        older_config(tmp_path / "llama")
    import_folder(open_folder(tmp_path / "llama"), lock, str(tmp_path / "run"))
    run = open_run(tmp_path / "run")
    model, params = run.config.model, run.params()
    assert (model.special_tokens, model.begin) == (SPECIAL, None)  # its bos_token_id, 1, is a code
    tokens = np.random.default_rng(1).integers(0, model.vocabulary, (2, 48))
    assert_same_scores(scores(model, params, tokens), their_scores(theirs, tokens))
    prompts = np.random.default_rng(2).integers(0, 64, (2, 16))
    none_special = {"suppress_tokens": [*range(64, model.vocabulary)], "eos_token_id": None, "pad_token_id": 64}
    expected = their_codes(theirs, prompts, 16, **none_special)
    np.testing.assert_array_equal(generate(params, model, prompts.astype(np.uint16), 16, GREEDY), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_numbers_are_read_as_they_are_both_ways(lock, tmp_path, dtype):
    kind = getattr(torch, dtype)
    theirs = random_llama().to(kind)
    theirs.save_pretrained(tmp_path / "llama")
    import_folder(open_folder(tmp_path / "llama"), lock, str(tmp_path / "run"))
    run = open_run(tmp_path / "run")
    whole = load(tmp_path / "llama", dtype=torch.float32)  # theirs.float() would keep rotations rounded
    tokens = np.random.default_rng(1).integers(0, 164, (2, 24))
    assert_same_scores(scores(run.config.model, run.params(), tokens), their_scores(whole, tokens))
    export(run, tmp_path / "back", dtype)
    back = load(tmp_path / "back", dtype="auto")
    assert back.dtype == kind
    for name, value in back.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def test_what_a_user_of_transformers_saves_again_still_knows_its_codes(lock, model, tmp_path):
    params = large_params(model)
    export(write_run(tmp_path / "run", lock, model, params), tmp_path / "llama")
    load(tmp_path / "llama").save_pretrained(tmp_path / "saved")
    folder = open_folder(tmp_path / "saved")
    assert folder.settings.ours["tokenizer"]["fingerprint"] == lock.card.fingerprint
    import_folder(folder, lock, str(tmp_path / "again"))
    again = open_run(tmp_path / "again")
    assert again.config.model == model
    jax.tree.map(np.testing.assert_array_equal, again.params(), params)


def test_the_example_of_the_readme_runs(lock, model, tmp_path, monkeypatch):
    export(write_run(tmp_path / "run", lock, model, large_params(model)), tmp_path / "llama")
    monkeypatch.chdir(tmp_path / "llama")
    np.savez("codes.npz", codes=np.random.default_rng(0).integers(0, 64, (2, 16)).astype(np.uint16))
    example = re.search(r"```python\n(.*?)```", (tmp_path / "llama" / "README.md").read_text(), re.DOTALL)
    exec(example[1], {})
    found = np.load("new.npy")
    assert found.shape == (1, 16)
    assert found.max() < 64
