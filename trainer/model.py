"""A LLaMA decoder in Flax NNX (Touvron et al. 2023), with its layers stacked and scanned.

The module is split once; training and generation then work on the plain tree of arrays (`Params`), which keeps
Python out of every step. With v tokens, d hidden and m feed-forward features, and n layers, the tree is

    embedding/embedding [v d], or with the tokenizer's codebook of k codes, w wide, and s special tokens:
    embedding/codebook [k w] (frozen), embedding/projection/kernel [w d], embedding/special [s d]
    layers/attention/{query,key,value,out}/kernel [n d d]
    layers/{gate,up}/kernel [n d m], layers/down/kernel [n m d]
    layers/{attention_norm,mlp_norm}/scale [n d]
    norm/scale [d], head/kernel [d v]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from trainer.attention import cached_attention, causal_attention
from trainer.config import ComputeConfig, ModelConfig
from trainer.mesh import BATCH, constrain
from visent.errors import UserError

Params = dict[str, Any]  # nested; leaves are float32 arrays, those of "layers" stacked along axis 0


class Rope(NamedTuple):
    """Rotation of each position and half dimension."""

    cos: Float[Array, "t half"]
    sin: Float[Array, "t half"]


class Cache(NamedTuple):
    """Keys and values of every layer, head and position."""

    keys: Float[Array, "layers b heads t d"]
    values: Float[Array, "layers b heads t d"]


def rope(config: ModelConfig, positions: Int[Array, " t"]) -> Rope:
    """Returns the rotations of `positions` (Su et al. 2021), in float32."""
    half = config.head_dim // 2
    frequencies = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[:, None].astype(jnp.float32) * frequencies
    return Rope(jnp.cos(angles), jnp.sin(angles))


def rotate(x: Float[Array, "b t h d"], by: Rope) -> Float[Array, "b t h d"]:
    """Rotates pairs (i, i + d/2) of each head, as LLaMA's public weights expect."""
    low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = by.cos[:, None, :], by.sin[:, None, :]
    return jnp.concatenate((low * cos - high * sin, high * cos + low * sin), axis=-1).astype(x.dtype)


def dtype_of(compute: ComputeConfig) -> Any:
    """Returns the type in which products are computed."""
    if compute.precision == "auto":
        return np.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    return np.dtype(jnp.bfloat16 if compute.precision == "bfloat16" else jnp.float32)


def cast(params: Params, compute: ComputeConfig) -> Params:
    """Returns the matrices in the type of products, so that devices exchange them in it; norms stay float32."""
    half = dtype_of(compute)
    halved: Params = jax.tree_util.tree_map_with_path(
        lambda path, p: p if path[-1].key == "scale" else p.astype(half), params
    )
    return halved


def _linear(config: ModelConfig, compute: ComputeConfig, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=False,
        dtype=dtype_of(compute),
        kernel_init=nnx.initializers.normal(config.init_std),
        rngs=rngs,
    )


def _norm(config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(config.hidden, epsilon=config.norm_epsilon, dtype=dtype_of(compute), rngs=rngs)


class CodebookEmbedding(nnx.Module):
    """DeLVM's input layer: the tokenizer's codebook, frozen, times a learned matrix; special tokens are learned.

    The product takes both at once: a code's features are its vector and zeros, a special token's are zeros and a one.
    """

    def __init__(self, config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> None:
        self.dtype = dtype_of(compute)
        self.codebook = nnx.Param(jnp.zeros((config.codebook_size, config.codebook_width)))
        self.projection = _linear(config, compute, config.codebook_width, config.hidden, rngs)
        normal = nnx.initializers.normal(config.init_std)
        self.special = nnx.Param(normal(rngs.params(), (config.special_tokens, config.hidden)))

    def __call__(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Returns the vector of every token."""
        codebook, special = jax.lax.stop_gradient(self.codebook[...]), self.special[...]
        found = jnp.where((tokens < len(codebook))[..., None], jnp.take(codebook, tokens, axis=0, mode="clip"), 0)
        features = (found, jax.nn.one_hot(tokens - len(codebook), len(special)))
        matrix = jnp.concatenate((self.projection.kernel[...], special))
        return jnp.concatenate(features, axis=-1).astype(self.dtype) @ matrix.astype(self.dtype)


class Attention(nnx.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> None:
        self.heads = config.heads
        self.query = _linear(config, compute, config.hidden, config.hidden, rngs)
        self.key = _linear(config, compute, config.hidden, config.hidden, rngs)
        self.value = _linear(config, compute, config.hidden, config.hidden, rngs)
        self.out = _linear(config, compute, config.hidden, config.hidden, rngs)

    def project(
        self, x: Float[Array, "b t d"], by: Rope
    ) -> tuple[Float[Array, "b t h k"], Float[Array, "b t h k"], Float[Array, "b t h k"]]:
        """Returns queries, keys and values by head, the first two rotated."""
        q, k, v = (f(x).reshape(*x.shape[:2], self.heads, -1) for f in (self.query, self.key, self.value))
        return rotate(q, by), rotate(k, by), v

    def join(self, heads: Float[Array, "b t h k"]) -> Float[Array, "b t d"]:
        """Mixes the heads' results back into the residual width."""
        return self.out(heads.reshape(*heads.shape[:2], -1))


class Layer(nnx.Module):
    """Attention, then a gated feed-forward network, each on normalised input and added back."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> None:
        self.attention_norm = _norm(config, compute, rngs)
        self.attention = Attention(config, compute, rngs)
        self.mlp_norm = _norm(config, compute, rngs)
        self.gate = _linear(config, compute, config.hidden, config.mlp, rngs)
        self.up = _linear(config, compute, config.hidden, config.mlp, rngs)
        self.down = _linear(config, compute, config.mlp, config.hidden, rngs)

    def feed_forward(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Adds the feed-forward network's result to `x`."""
        y = self.mlp_norm(x)
        return x + self.down(jax.nn.silu(self.gate(y)) * self.up(y))

    def __call__(
        self, x: Float[Array, "b t d"], by: Rope
    ) -> tuple[Float[Array, "b t d"], tuple[Float[Array, "b t h k"], Float[Array, "b t h k"]]]:
        """Runs a whole sentence; returns also its keys and values."""
        q, k, v = self.attention.project(self.attention_norm(x), by)
        x = x + self.attention.join(causal_attention(q, k, v))
        return self.feed_forward(x), (k, v)

    def step(
        self, x: Float[Array, "b 1 d"], by: Rope, cache: Cache, layer: Int[Array, ""], position: Int[Array, ""]
    ) -> tuple[Float[Array, "b 1 d"], Cache]:
        """Runs the token at `position` against the cache, into which its key and value are written."""
        q, k, v = self.attention.project(self.attention_norm(x), by)
        start = (layer, 0, 0, position, 0)
        cache = Cache(
            jax.lax.dynamic_update_slice(cache.keys, k.swapaxes(1, 2)[None], start),
            jax.lax.dynamic_update_slice(cache.values, v.swapaxes(1, 2)[None], start),
        )
        heads = cached_attention(q[:, 0], cache.keys[layer], cache.values[layer], position)
        return self.feed_forward(x + self.attention.join(heads[:, None])), cache


def _embedding(config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> nnx.Embed | CodebookEmbedding:
    if config.embedding == "codebook":
        return CodebookEmbedding(config, compute, rngs)
    normal = nnx.initializers.normal(config.init_std)
    return nnx.Embed(config.vocabulary, config.hidden, dtype=dtype_of(compute), embedding_init=normal, rngs=rngs)


class Llama(nnx.Module):
    """Tokens to final hidden states; `logits` is apart so that losses can ask for few positions at a time."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> None:
        self.config, self.compute = config, compute
        self.embedding = _embedding(config, compute, rngs)
        split: Any = nnx.split_rngs(splits=config.layers)
        self.layers = split(nnx.vmap(lambda keys: Layer(config, compute, keys), in_axes=0, out_axes=0))(rngs)
        self.norm = _norm(config, compute, rngs)
        self.head = _linear(config, compute, config.hidden, config.vocabulary, rngs)

    def __call__(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Returns the normalised hidden state of every position."""
        return self.trunk(self.embedding(tokens))

    def trunk(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Returns the normalised hidden state of positions that are embedded already."""
        return self._run(x, keep=False)[0]

    def before(self, codes: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Returns the hidden state from which each of `codes` is predicted.

        Where no token begins a sentence, that of its first code is zero: it makes all tokens equally likely.
        """
        if self.config.begin is None:
            return jnp.pad(self(codes.astype(jnp.int32))[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return self(shift(self.config, codes))

    def prefill(self, tokens: Int[Array, "b t"], length: int) -> tuple[Float[Array, "b t d"], Cache]:
        """Runs a prompt and returns a cache with room for `length` positions, the prompt's filled."""
        hidden, (keys, values) = self._run(self.embedding(tokens), keep=True)
        room = ((0, 0), (0, 0), (0, 0), (0, length - tokens.shape[1]), (0, 0))
        return hidden, Cache(jnp.pad(keys.swapaxes(2, 3), room), jnp.pad(values.swapaxes(2, 3), room))

    def step(
        self, tokens: Int[Array, " b"], position: Int[Array, ""], cache: Cache
    ) -> tuple[Float[Array, "b d"], Cache]:
        """Runs one more token of each sentence; returns its hidden state and the cache with it."""
        by = rope(self.config, position[None])
        graph, stacked = nnx.split(self.layers)

        def run(carry: tuple[Array, Cache], layer: tuple[Any, Array]) -> tuple[tuple[Array, Cache], None]:
            x, cache = carry
            return nnx.merge(graph, layer[0]).step(x, by, cache, layer[1], position), None

        start = (self.embedding(tokens[:, None]), cache)
        (x, cache), _ = jax.lax.scan(run, start, (stacked, jnp.arange(self.config.layers)))
        return self.norm(x)[:, 0], cache

    def logits(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Returns float32 scores of every token of the vocabulary."""
        return self.head(hidden).astype(jnp.float32)

    def _run(self, x: Float[Array, "b t d"], *, keep: bool) -> tuple[Array, Any]:
        by = rope(self.config, jnp.arange(x.shape[1]))
        graph, stacked = nnx.split(self.layers)

        def run(x: Array, layer: Any) -> tuple[Array, Any]:
            x, pair = nnx.merge(graph, layer)(x, by)
            return x, pair if keep else None

        run = jax.checkpoint(run) if self.compute.remat == "full" else run  # type: ignore[assignment]
        x, pairs = jax.lax.scan(run, constrain(x, BATCH), stacked)
        return self.norm(x), pairs


def definition(config: ModelConfig, compute: ComputeConfig | None = None) -> nnx.GraphDef[Llama]:
    """Returns the model's static half; `nnx.merge(definition, params)` inside a jitted function is the model."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: Llama(config, compute or ComputeConfig(), nnx.Rngs(0))))
    return graph


def init(config: ModelConfig, seed: int, codebook: Float[Any, "k w"] | None = None) -> Params:
    """Returns fresh parameters, a function of the configuration, the seed and the tokenizer's codebook, if it is used.

    The projection of a codebook starts so that codes are spread as learned embeddings are, whatever their own scale.

    Raises:
        UserError: the embedding is the codebook's, and there is none or one of another shape.
    """
    if config.embedding == "codebook":
        shape = (config.codebook_size, config.codebook_width)
        if codebook is None or codebook.shape != shape:
            got = "none" if codebook is None else f"{codebook.shape[0]} x {codebook.shape[1]}"
            raise UserError(
                f"model.embedding is 'codebook' and the tokenizer's codebook is {got}: expected {shape[0]} x "
                f"{shape[1]}; pass the tokenizer of the shards with --tokenizer"
            )

    def make(codebook: Array | None) -> Params:
        params: Params = nnx.to_pure_dict(nnx.state(Llama(config, ComputeConfig(), nnx.Rngs(seed))))
        if config.embedding == "codebook":
            assert codebook is not None
            length = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(codebook), axis=1)))
            params["embedding"]["codebook"] = codebook
            params["embedding"]["projection"]["kernel"] /= jnp.maximum(length, 1e-6)
        return params

    fresh: Params = jax.jit(make)(None if codebook is None else jnp.asarray(codebook, jnp.float32))
    return fresh


def any_codebook(config: ModelConfig) -> Array | None:
    """Returns a codebook of the right shape, for who asks `init` for shapes alone; None where it takes none."""
    return jnp.zeros((config.codebook_size, config.codebook_width)) if config.embedding == "codebook" else None


def shift(config: ModelConfig, codes: Int[Array, "b t"]) -> Int[Array, "b t"]:
    """Returns the input for the targets `codes`: the begin token (the model must have one), all codes but the last."""
    assert config.begin is not None, "this model has no begin token: use Llama.before"
    begin = jnp.full((codes.shape[0], 1), config.begin, jnp.int32)
    return jnp.concatenate((begin, codes[:, :-1].astype(jnp.int32)), axis=1)
