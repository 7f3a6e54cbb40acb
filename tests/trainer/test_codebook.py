"""DeLVM's embedding: the tokenizer's codebook, frozen, times a learned matrix."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from manifests.lock import resolve
from manifests.testing import write_random_dataset
from tokenizer.load import load
from tokenizer.testing import tiny_tokenizer_dir
from trainer import model as llama
from trainer.config import StageConfig
from trainer.loop import train
from trainer.run_folder import open_run
from visent.errors import UserError


@pytest.fixture(scope="module")
def embedded(model):
    return dataclasses.replace(model, embedding="codebook", codebook_width=8)


@pytest.fixture(scope="module")
def codebook():
    return np.random.default_rng(0).normal(0, 9, (64, 8)).astype(np.float32)


def test_codes_are_their_vectors_times_the_projection_and_special_tokens_are_learned(embedded, codebook):
    params = llama.init(embedded, 0, codebook)
    own = params["embedding"]
    table = np.concatenate((codebook @ own["projection"]["kernel"], own["special"]))
    tokens = jnp.array([[0, 63, 64, 127], [5, 64, 5, 80]])
    found = nnx.merge(llama.definition(embedded), params).embedding(tokens)
    np.testing.assert_allclose(found, table[tokens], atol=1e-5)
    np.testing.assert_array_equal(own["codebook"], codebook)
    assert sum(x.size for x in jax.tree.leaves(params)) == embedded.parameters + codebook.size


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_codes_begin_with_the_spread_of_learned_embeddings_whatever_the_codebook_s(embedded, codebook, scale):
    own = llama.init(embedded, 0, codebook * scale)["embedding"]
    spread = np.std(codebook * scale @ own["projection"]["kernel"])
    assert spread == pytest.approx(embedded.init_std, rel=0.2)


@pytest.mark.parametrize("given", [None, np.zeros((64, 16), np.float32)])
def test_another_codebook_than_the_model_s_is_refused(embedded, given):
    with pytest.raises(UserError, match="expected 64 x 8; pass the tokenizer of the shards with --tokenizer"):
        llama.init(embedded, 0, given)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def own_lock(tokenizer, tmp_path_factory):
    """Random codes that say they are the tokenizer's."""
    folder = tmp_path_factory.mktemp("of-tokenizer")
    card = load(tokenizer).card
    write_random_dataset(str(folder / "photos"), {"image": "still"}, examples={"train": 16}, card=card)
    manifest = folder / "manifest.toml"
    manifest.write_text(
        'version = 1\n[datasets]\nphotos = "photos"\n[tasks.photos]\ndataset = "photos"\nkind = "single"\n'
        'sentence = ["image"]\n[stages.images]\ncontext = 16\nshare = { photos = 1.0 }\n'
    )
    return resolve(str(manifest))


@pytest.fixture(scope="module")
def own_config(config, tokenizer):
    """Three steps with much weight decay; the codebook's width is left to the tokenizer."""
    stage = StageConfig(steps=3, batch_sentences=8, learning_rate=1e-2, final_learning_rate=1e-3, weight_decay=1.0)
    model = dataclasses.replace(config.model, embedding="codebook")
    return dataclasses.replace(config, model=model, stages={"images": stage}, tokenizer=str(tokenizer))


@pytest.fixture(scope="module")
def trained(own_config, own_lock, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    train(own_config, own_lock, out)
    return out


def test_training_leaves_the_codebook_to_the_bit_and_changes_all_else(trained, own_config, own_lock, tokenizer):
    saved = open_run(trained)
    params, vectors = saved.params(), load(tokenizer).codebook
    np.testing.assert_array_equal(params["embedding"]["codebook"], vectors)
    fresh = llama.init(saved.config.model, 0, vectors)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), params, fresh)
    unchanged = [path for path, equal in jax.tree_util.tree_leaves_with_path(same) if equal]
    assert [jax.tree_util.keystr(path) for path in unchanged] == ["['embedding']['codebook']"]


def test_a_run_starts_from_one_whose_embedding_is_the_codebook(trained, own_config, own_lock, tokenizer, tmp_path):
    one_step = {"images": dataclasses.replace(own_config.stages["images"], steps=1)}
    model = open_run(trained).config.model  # which the command takes, too
    train(dataclasses.replace(own_config, model=model, stages=one_step, start=str(trained)), own_lock, tmp_path)
    np.testing.assert_array_equal(open_run(tmp_path).params()["embedding"]["codebook"], load(tokenizer).codebook)


def test_the_codebook_of_another_tokenizer_is_refused(own_config, own_lock, tmp_path):
    other = dataclasses.replace(own_config, tokenizer=str(tiny_tokenizer_dir(tmp_path, seed=1)))
    with pytest.raises(UserError, match=r"has fingerprint .* pass its folder with --tokenizer"):
        train(other, own_lock, tmp_path / "run")
