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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from trainer.attention import causal_attention
from trainer.config import ComputeConfig, ModelConfig
from trainer.mesh import BATCH, constrain
from trainer.numerics import gated, rms_norm, scores
from visent.errors import UserError

_PRODUCTS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
Params = dict[str, Any]  # nested; leaves are float32 arrays, those of "layers" stacked along axis 0


class Rope(NamedTuple):
    """Rotation of each position and half dimension."""

    cos: Float[Array, "t half"]
    sin: Float[Array, "t half"]


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


def cast(params: Params, compute: ComputeConfig, *, trained: bool = True) -> Params:
    """Returns the matrices in the type of products, so that devices exchange them in it; norms stay float32.

    So do embeddings and head while they are `trained`: their gradients are sums over very many tokens, added up in the
    type of the parameter.
    """
    half = dtype_of(compute)

    def stays(path: tuple[Any, ...]) -> bool:
        return path[-1].key == "scale" or (trained and path[0].key in ("embedding", "head"))

    halved: Params = jax.tree_util.tree_map_with_path(lambda path, p: p if stays(path) else p.astype(half), params)
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


class Norm(nnx.Module):
    """RMSNorm, in float32 whatever the type of its input."""

    def __init__(self, config: ModelConfig) -> None:
        self.epsilon = config.norm_epsilon
        self.scale = nnx.Param(jnp.ones(config.hidden))

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Returns the normalised `x`, in its own type."""
        normed: Array = rms_norm(x, self.scale[...], self.epsilon)
        return normed


class TokenEmbedding(nnx.Module):
    """One learned vector for each token."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> None:
        self.dtype = dtype_of(compute)
        normal = nnx.initializers.normal(config.init_std)
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocabulary, config.hidden)))

    def __call__(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Returns the vector of every token."""
        table = constrain(self.embedding[...], None, None)  # smaller than what devices would exchange without it
        return constrain(jnp.take(table, tokens, axis=0).astype(self.dtype), BATCH)


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
        codebook, special = constrain(jax.lax.stop_gradient(self.codebook[...]), None, None), self.special[...]
        found = jnp.where((tokens < len(codebook))[..., None], jnp.take(codebook, tokens, axis=0, mode="clip"), 0)
        features = (found, jax.nn.one_hot(tokens - len(codebook), len(special)))
        matrix = jnp.concatenate((self.projection.kernel[...], special))
        return constrain(jnp.concatenate(features, axis=-1).astype(self.dtype) @ matrix.astype(self.dtype), BATCH)


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
        """Mixes the heads' results back into the residual width.

        The backward pass keeps `heads` as attention keeps it, not once more by another shape.
        """
        mix = jax.checkpoint(lambda heads: self.out(heads.reshape(*heads.shape[:2], -1)), prevent_cse=False)
        mixed: Array = mix(heads)
        return mixed


class Layer(nnx.Module):
    """Attention, then a gated feed-forward network, each on normalised input and added back."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> None:
        self.compute = compute
        self.attention_norm = Norm(config)
        self.attention = Attention(config, compute, rngs)
        self.mlp_norm = Norm(config)
        self.gate = _linear(config, compute, config.hidden, config.mlp, rngs)
        self.up = _linear(config, compute, config.hidden, config.mlp, rngs)
        self.down = _linear(config, compute, config.mlp, config.hidden, rngs)

    def enter(
        self, x: Float[Array, "b t d"], by: Rope
    ) -> tuple[Float[Array, "b t h k"], Float[Array, "b t h k"], Float[Array, "b t h k"]]:
        """Returns what attention takes: queries, keys and values."""
        return self.attention.project(self.attention_norm(x), by)

    def leave(self, x: Float[Array, "b t d"], heads: Float[Array, "b t h k"]) -> Float[Array, "b t d"]:
        """Adds to `x` what attention gave, then the feed-forward network's result."""
        x = x + self.attention.join(heads)
        y = self.mlp_norm(x)
        return x + self.down(gated(self.gate(y), self.up(y)))

    def __call__(
        self, x: Float[Array, "b t d"], by: Rope
    ) -> tuple[Float[Array, "b t d"], tuple[Float[Array, "b t h k"], Float[Array, "b t h k"]]]:
        """Runs a whole sentence; returns also its keys and values."""
        enter, leave = self.enter, self.leave
        if self.compute.remat == "dots":
            # Attention keeps queries, keys and values anyway: nothing else is worth keeping before it.
            enter = jax.checkpoint(enter, prevent_cse=False)
            leave = jax.checkpoint(leave, prevent_cse=False, policy=_PRODUCTS)
        q, k, v = enter(x, by)
        heads = causal_attention(q, k, v, self.compute)
        blocks = self.compute.block_tokens
        return (self._leave_by_blocks(x, heads, blocks) if blocks else leave(x, heads)), (k, v)

    def _leave_by_blocks(
        self, x: Float[Array, "b t d"], heads: Float[Array, "b t h k"], block: int
    ) -> Float[Array, "b t d"]:
        """Computes `leave` for `block` positions at a time, and again in the backward pass (Liu and Abbeel 2023).

        The matrices enter as float32, so that their gradients are added up over the blocks in it.
        """
        graph, own = nnx.split(self)
        wide = jax.tree.map(lambda p: p.astype(jnp.float32), own)

        def leave(wide: Any, x: Array, heads: Array) -> Array:
            return nnx.merge(graph, jax.tree.map(lambda w, p: w.astype(p.dtype), wide, own)).leave(x, heads)

        return _in_blocks(jax.checkpoint(lambda *parts: leave(wide, *parts), prevent_cse=False), block, x, heads)


def _in_blocks(function: Callable[..., Array], block: int, *inputs: Float[Array, "b t ..."]) -> Float[Array, "b t d"]:
    """Applies a function of positions to `block` of them at a time, one after the other; the rest comes last."""
    batch, length = inputs[0].shape[:2]
    whole = length // block * block
    parts = [x[:, :whole].reshape(batch, -1, block, *x.shape[2:]).swapaxes(0, 1) for x in inputs]
    done = [jax.lax.map(lambda part: function(*part), parts).swapaxes(0, 1).reshape(batch, whole, -1)] if whole else []
    if whole < length:
        done.append(function(*(x[:, whole:] for x in inputs)))
    return jnp.concatenate(done, axis=1)


class Llama(nnx.Module):
    """Tokens to final hidden states; `logits` is apart so that losses can ask for few positions at a time."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig, rngs: nnx.Rngs) -> None:
        self.config, self.compute = config, compute
        embedding = CodebookEmbedding if config.embedding == "codebook" else TokenEmbedding
        self.embedding = embedding(config, compute, rngs)
        split: Any = nnx.split_rngs(splits=config.layers)
        self.layers = split(nnx.vmap(lambda keys: Layer(config, compute, keys), in_axes=0, out_axes=0))(rngs)
        self.norm = Norm(config)
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

    def prefill(
        self, tokens: Int[Array, "b t"]
    ) -> tuple[Float[Array, "b t d"], tuple[Float[Array, "layers b h t k"], Float[Array, "layers b h t k"]]]:
        """Runs a prompt; returns also the keys and values of its layers, those of one head together."""
        hidden, (keys, values) = self._run(self.embedding(tokens), keep=True)
        return hidden, (keys.swapaxes(2, 3), values.swapaxes(2, 3))

    def logits(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Returns float32 scores of every token of the vocabulary."""
        return scores(hidden, self.head.kernel[...])

    def _run(self, x: Float[Array, "b t d"], *, keep: bool) -> tuple[Array, Any]:
        by = rope(self.config, jnp.arange(x.shape[1]))
        graph, stacked = nnx.split(self.layers)

        def run(x: Array, layer: Any) -> tuple[Array, Any]:
            x, pair = nnx.merge(graph, layer)(x, by)
            return x, pair if keep else None

        if self.compute.remat == "full":
            run = jax.checkpoint(run, prevent_cse=False)
        x, pairs = jax.lax.scan(run, constrain(x.astype(dtype_of(self.compute)), BATCH), stacked)
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
