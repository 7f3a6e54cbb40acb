"""Cross-entropy that never holds the logits of a whole batch, and sums of it by task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from trainer.model import Llama, shift


class SentenceSums(NamedTuple):
    """Over the tokens of each sentence: cross-entropy in nats, and how often the likeliest token was right."""

    loss: Float[Array, " b"]
    correct: Float[Array, " b"]


def chunk_length(batch: int, context: int, limit_tokens: int) -> int:
    """Returns the largest divisor of `context` with which a batch has at most `limit_tokens` at once (at least 1)."""
    most = max(1, limit_tokens // batch)
    return max(d for d in range(1, min(most, context) + 1) if context % d == 0)


def sentence_sums(model: Llama, codes: Int[Array, "b t"], limit_tokens: int) -> SentenceSums:
    """Predicts every code from those before it and sums loss and hits by sentence.

    Logits are computed for a few positions of all sentences at a time, and again in the backward pass.
    """
    hidden = model(shift(model.config, codes))
    batch, context = codes.shape
    length = chunk_length(batch, context, limit_tokens)
    if length == context:
        return chunk_sums(model, hidden, codes)
    chunks = (
        hidden.reshape(batch, context // length, length, -1).swapaxes(0, 1),
        codes.reshape(batch, context // length, length).swapaxes(0, 1),
    )

    @jax.checkpoint
    def add(sums: SentenceSums, chunk: tuple[Array, Array]) -> tuple[SentenceSums, None]:
        more = chunk_sums(model, *chunk)
        return SentenceSums(sums.loss + more.loss, sums.correct + more.correct), None

    start = SentenceSums(jnp.zeros(batch), jnp.zeros(batch))
    return jax.lax.scan(add, start, chunks)[0]


def chunk_sums(model: Llama, hidden: Float[Array, "b t d"], codes: Int[Array, "b t"]) -> SentenceSums:
    """Returns the sums over the given positions, with their logits held at once."""
    logits = model.logits(hidden)
    targets = codes.astype(jnp.int32)
    right = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    loss = jax.nn.logsumexp(logits, axis=-1) - right
    hit = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
    return SentenceSums(loss.sum(axis=1), hit.sum(axis=1))


class TaskSums(NamedTuple):
    """Loss, hits and tokens of each task in a batch."""

    loss: Float[Array, " tasks"]
    correct: Float[Array, " tasks"]
    tokens: Float[Array, " tasks"]


def by_task(sums: SentenceSums, tasks: Int[Array, " b"], number_of_tasks: int, context: int) -> TaskSums:
    """Adds the sentences' sums up by task id."""
    ones = jnp.full(tasks.shape, float(context))
    parts = (jax.ops.segment_sum(x, tasks, number_of_tasks) for x in (*sums, ones))
    return TaskSums(*parts)
