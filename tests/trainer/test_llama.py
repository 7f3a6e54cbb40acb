import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from trainer import model as llama
from trainer.config import ComputeConfig
from trainer.losses import by_task, chunk_length, chunk_sums, sentence_sums


def codes_of(model, batch, length, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, model.codebook_size, (batch, length)), jnp.int32)


@pytest.fixture
def merged(model):
    """The model with larger weights than at the start, so that every part matters."""
    params = jax.tree.map(lambda x: x * 5 if x.ndim > 2 else x, llama.init(model, 1))
    return nnx.merge(llama.definition(model), params)


def test_a_position_sees_nothing_after_it(model, merged):
    codes = codes_of(model, 1, 12)
    changed = codes.at[0, 7].add(1)
    a, b = merged(codes), merged(changed)
    np.testing.assert_array_equal(a[:, :7], b[:, :7])
    assert not np.allclose(a[:, 7:], b[:, 7:], atol=1e-3)


def test_input_is_the_begin_token_and_all_codes_but_the_last(model):
    np.testing.assert_array_equal(llama.shift(model, jnp.array([[5, 6, 7]])), [[64, 5, 6]])


def test_bfloat16_computes_near_float32_from_float32_weights(model):
    half = ComputeConfig(precision="bfloat16")
    params, codes = llama.init(model, 0), codes_of(model, 2, 16)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
    hidden = nnx.merge(llama.definition(model, half), params)(codes)
    assert hidden.dtype == jnp.bfloat16
    expected = nnx.merge(llama.definition(model), params)(codes)
    np.testing.assert_allclose(np.asarray(hidden, np.float32), expected, atol=0.1)


def test_parameters_are_a_function_of_the_seed(model):
    a, b, c = (jax.tree.leaves(llama.init(model, seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0], c[0])


def test_layers_start_different(model):
    kernel = llama.init(model, 0)["layers"]["gate"]["kernel"]
    assert kernel.shape == (model.layers, model.hidden, model.mlp)
    assert not np.allclose(kernel[0], kernel[1])


@pytest.mark.parametrize("limit", [1, 16])
def test_loss_in_chunks_is_the_loss_at_once_with_its_gradient(model, limit):
    params, codes = llama.init(model, 0), codes_of(model, 2, 24)

    def loss(params, limit):
        sums = sentence_sums(nnx.merge(llama.definition(model), params), codes, limit)
        return sums.loss.sum(), sums

    run = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    (expected, sums), (chunked, chunked_sums) = run(params, 10**6), run(params, limit)
    np.testing.assert_allclose(chunked_sums.loss, sums.loss, rtol=1e-5)
    np.testing.assert_array_equal(chunked_sums.correct, sums.correct)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), chunked, expected)


def test_no_array_of_the_chunked_loss_holds_all_logits(model):
    params, codes = llama.init(model, 0), codes_of(model, 4, 64)

    def loss(params):
        return sentence_sums(nnx.merge(llama.definition(model), params), codes, 32).loss.sum()

    shapes = str(jax.make_jaxpr(jax.grad(loss))(params))
    assert "f32[4,8,128]" in shapes
    assert "f32[4,64,128]" not in shapes
    assert "f32[8,4,8,65]" not in shapes


@pytest.mark.parametrize(
    ("batch", "context", "limit", "length"),
    [(2, 24, 48, 24), (2, 24, 47, 12), (2, 24, 1, 1), (3, 7, 20, 1), (1, 256, 100, 64)],
)
def test_chunks_divide_the_context_and_respect_the_limit(batch, context, limit, length):
    assert chunk_length(batch, context, limit) == length


def test_loss_is_cross_entropy_by_hand(model, merged):
    hidden, codes = merged(codes_of(model, 2, 5)), codes_of(model, 2, 5, seed=1)
    scores = np.asarray(merged.logits(hidden), np.float64)
    probability = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probability, np.asarray(codes)[..., None], -1)).sum((1, 2))
    sums = chunk_sums(merged, hidden, codes)
    np.testing.assert_allclose(sums.loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(sums.correct, (scores.argmax(-1) == codes).sum(1))


def test_sums_are_added_up_by_task(model, merged):
    sums = sentence_sums(merged, codes_of(model, 4, 8), 10**6)
    tasks = by_task(sums, jnp.array([2, 0, 2, 2]), 4, 8)
    np.testing.assert_allclose(tasks.loss, [sums.loss[1], 0, sums.loss[0] + sums.loss[2] + sums.loss[3], 0], rtol=1e-6)
    np.testing.assert_array_equal(tasks.tokens, [8, 0, 24, 0])


def test_logits_are_those_of_transformers_llama(model):
    torch = pytest.importorskip("torch", reason="the oracle needs torch")
    transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")
    params = jax.tree.map(lambda x: x * 5 if x.ndim > 2 else x, llama.init(model, 3))
    config = transformers.LlamaConfig(
        hidden_size=model.hidden,
        intermediate_size=model.mlp,
        num_attention_heads=model.heads,
        num_hidden_layers=model.layers,
        vocab_size=model.vocabulary,
        rms_norm_eps=model.norm_epsilon,
        rope_theta=model.rope_theta,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    other = transformers.LlamaForCausalLM(config).eval()
    other.load_state_dict({name: torch.tensor(np.array(x)) for name, x in _transformers_names(params).items()})
    codes = codes_of(model, 2, 200)
    merged = nnx.merge(llama.definition(model), params)
    with torch.no_grad():
        expected = other(torch.tensor(np.asarray(codes, np.int64))).logits.numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(merged.logits(merged(codes)), expected, atol=1e-4)


def _transformers_names(params):
    names = {
        "self_attn.q_proj": ("attention", "query"),
        "self_attn.k_proj": ("attention", "key"),
        "self_attn.v_proj": ("attention", "value"),
        "self_attn.o_proj": ("attention", "out"),
        "mlp.gate_proj": ("gate",),
        "mlp.up_proj": ("up",),
        "mlp.down_proj": ("down",),
        "input_layernorm": ("attention_norm",),
        "post_attention_layernorm": ("mlp_norm",),
    }
    found = {
        "model.embed_tokens.weight": params["embedding"]["embedding"],
        "model.norm.weight": params["norm"]["scale"],
        "lm_head.weight": params["head"]["kernel"].T,
    }
    for name, path in names.items():
        leaf = params["layers"]
        for part in path:
            leaf = leaf[part]
        for layer, values in enumerate(leaf.get("kernel", leaf.get("scale"))):
            found[f"model.layers.{layer}.{name}.weight"] = values.T
    return found
