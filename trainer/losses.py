"""Cross-entropy, and divergence from a teacher, that never hold the logits of a whole batch; sums of both by task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from trainer.mesh import batch_parts
from trainer.model import Llama


class SentenceSums(NamedTuple):
    """Over the tokens of each sentence: cross-entropy in nats, and how often the likeliest token was right.

    `divergence` is that of the teacher's predictions from the model's, in nats; None without a teacher.
    """

    loss: Float[Array, " b"]
    correct: Float[Array, " b"]
    divergence: Float[Array, " b"] | None = None


class Lesson(NamedTuple):
    """What a teacher says of a batch, and how far a student's logits are from that.

    `says` is a tree of arrays `[b t ...]`; `divergence` takes the student's logits of some positions and the same
    positions of `says`, and returns nats for each. `whole` says that it computes logits of the teacher's own.
    """

    says: Any
    divergence: Callable[[Float[Array, "b t v"], Any], Float[Array, "b t"]]
    whole: bool


def chunk_length(batch: int, context: int, limit_tokens: int) -> int:
    """Returns the largest divisor of `context` with which a batch has at most `limit_tokens` at once (at least 1)."""
    most = max(1, limit_tokens // batch)
    return max(d for d in range(1, min(most, context) + 1) if context % d == 0)


def sentences_of_device(batch: int) -> int:
    """Returns how many of a batch's sentences lie on one device of the current mesh; without a mesh, all."""
    mesh: Any = jax.sharding.get_abstract_mesh()
    return batch if mesh.empty else -(-batch // batch_parts(mesh))


def in_chunks(tree: Any, length: int) -> Any:
    """Returns arrays `[b t ...]` as `[chunks b length ...]`, to scan over some positions of all sentences at a time."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, length, *x.shape[2:]).swapaxes(0, 1), tree)


def sentence_sums(
    model: Llama, codes: Int[Array, "b t"], limit_tokens: int, lesson: Lesson | None = None
) -> SentenceSums:
    """Predicts every code from those before it and sums loss, hits and divergence by sentence.

    Logits, the teacher's included, are computed for at most `limit_tokens` of a device at a time, and again in the
    backward pass.
    """
    hidden = model.before(codes)
    batch, context = codes.shape
    limit = limit_tokens // 2 if lesson is not None and lesson.whole else limit_tokens
    length = chunk_length(sentences_of_device(batch), context, limit)
    parts = (hidden, codes, None if lesson is None else lesson.says)
    if length == context:
        return chunk_sums(model, hidden, codes, lesson)

    @jax.checkpoint
    def add(sums: SentenceSums, part: tuple[Array, Array, Any]) -> tuple[SentenceSums, None]:
        hidden, codes, says = part
        more = chunk_sums(model, hidden, codes, None if lesson is None else lesson._replace(says=says))
        return jax.tree.map(jnp.add, sums, more), None

    zeros = jnp.zeros(batch)
    start = SentenceSums(zeros, zeros, None if lesson is None else zeros)
    return jax.lax.scan(add, start, in_chunks(parts, length))[0]


def chunk_sums(
    model: Llama, hidden: Float[Array, "b t d"], codes: Int[Array, "b t"], lesson: Lesson | None = None
) -> SentenceSums:
    """Returns the sums over the given positions, with their logits held at once."""
    logits = model.logits(hidden)
    targets = codes.astype(jnp.int32)
    right = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    loss = jax.nn.logsumexp(logits, axis=-1) - right
    hit = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
    divergence = None if lesson is None else lesson.divergence(logits, lesson.says).sum(axis=1)
    return SentenceSums(loss.sum(axis=1), hit.sum(axis=1), divergence)


class TaskSums(NamedTuple):
    """Loss, hits, tokens and (with a teacher) divergence of each task in a batch."""

    loss: Float[Array, " tasks"]
    correct: Float[Array, " tasks"]
    tokens: Float[Array, " tasks"]
    divergence: Float[Array, " tasks"] | None = None


def by_task(sums: SentenceSums, tasks: Int[Array, " b"], number_of_tasks: int, context: int) -> TaskSums:
    """Adds the sentences' sums up by task id."""
    tokens = jnp.full(tasks.shape, float(context))
    parts = TaskSums(sums.loss, sums.correct, tokens, sums.divergence)
    added: TaskSums = jax.tree.map(lambda x: jax.ops.segment_sum(x, tasks, number_of_tasks), parts)
    return added
