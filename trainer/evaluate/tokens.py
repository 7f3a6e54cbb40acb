"""Loss and hit of every single token of a batch, without the logits of a whole batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from trainer import mesh as meshes
from trainer import model as llama
from trainer.config import ComputeConfig, ModelConfig
from trainer.losses import chunk_length, in_chunks, sentences_of_device


class TokenScores(NamedTuple):
    """Of each token: cross-entropy in nats, and whether the likeliest one was right."""

    loss: Float[Array, "b t"]
    correct: Bool[Array, "b t"]


Evaluation = Callable[[llama.Params, Any], TokenScores]


def make_evaluation(config: ModelConfig, compute: ComputeConfig, mesh: Mesh) -> Evaluation:
    """Returns the jitted function from parameters and codes `uint16[b t]` to scores, whole on every device."""
    graph = llama.definition(config, compute)

    @partial(jax.jit, out_shardings=meshes.replicated(mesh))
    def evaluate(params: llama.Params, codes: Any) -> TokenScores:
        model = nnx.merge(graph, llama.cast(params, compute))
        return token_scores(model, codes.astype(jnp.int32), compute.loss_chunk_tokens)

    return evaluate


def token_scores(model: llama.Llama, codes: Int[Array, "b t"], limit_tokens: int) -> TokenScores:
    """Predicts every code from those before it; logits exist for at most `limit_tokens` of a device at once."""
    hidden = model.before(codes)
    batch, context = codes.shape
    length = chunk_length(sentences_of_device(batch), context, limit_tokens)

    def chunk(part: tuple[Array, Array]) -> TokenScores:
        hidden, targets = part
        logits = model.logits(hidden)
        right = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return TokenScores(jax.nn.logsumexp(logits, axis=-1) - right, jnp.argmax(logits, axis=-1) == targets)

    parts = jax.lax.map(chunk, in_chunks((hidden, codes), length))
    return TokenScores(*(part.swapaxes(0, 1).reshape(batch, context) for part in parts))
