"""Distillation (DeLVM): how far a student's predictions are from a teacher's.

The divergence is KL(teacher || student), the direction of DeLVM's code (InternLM's `KLDivLoss`), a mean over all
positions of true sentences, over the codes of the codebook: special tokens are never predicted, and models with other
numbers of them teach each other. A loss takes it times T squared, which keeps its gradient's size at any temperature T.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from trainer import model as llama
from trainer.batches import Likeliest
from trainer.config import ComputeConfig, DistillConfig, ModelConfig
from trainer.losses import Lesson, SentenceSums

NEVER = -1e30  # the logit of what is not a code; finite, so that 0 x (NEVER - NEVER) is 0
FLOOR = 1e-6  # added to the probability of all codes that are not in a cache: float32 sums are no more exact


class TeacherModel(NamedTuple):
    """A teacher that is computed beside the student: what it is, and how it is computed."""

    config: ModelConfig
    compute: ComputeConfig


def code_log_probabilities(
    logits: Float[Array, "*b v"], codebook_size: int, temperature: float = 1.0
) -> Float[Array, "*b v"]:
    """Returns log softmax(logits / temperature) over the codes; special tokens, which come after them, get `NEVER`.

    They are masked instead of cut off so that the vocabulary stays in even parts over a mesh.
    """
    masked = jnp.where(jnp.arange(logits.shape[-1]) < codebook_size, logits / temperature, NEVER)
    return jax.nn.log_softmax(masked, axis=-1)


def divergence(
    student: Float[Array, "*b v"], teacher: Float[Array, "*b w"], codebook_size: int, temperature: float
) -> Float[Array, "*b"]:
    """Returns KL(teacher || student) in nats of two arrays of logits, whose vocabularies share the codes."""
    q = code_log_probabilities(student, codebook_size, temperature)
    p = code_log_probabilities(_widened(teacher, student.shape[-1]), codebook_size, temperature)
    return (jnp.exp(p) * (p - q)).sum(axis=-1)


def _widened(logits: Float[Array, "*b w"], width: int) -> Float[Array, "*b v"]:
    """Returns logits for a vocabulary of `width`: special tokens are added or left out."""
    missing = max(width - logits.shape[-1], 0)
    return jnp.pad(logits[..., :width], [(0, 0)] * (logits.ndim - 1) + [(0, missing)])


def divergence_of_likeliest(
    student: Float[Array, "*b v"],
    codes: Int[Array, "*b k"],
    log_probabilities: Float[Array, "*b k"],
    codebook_size: int,
    temperature: float,
) -> Float[Array, "*b"]:
    """Returns KL(teacher || student) in nats where only the teacher's k likeliest codes are known.

    In both distributions, the other codes are taken to share evenly what is left. At temperature 1 this is a lower
    bound of the whole divergence (sums over the parts of a partition diverge no more) that grows with k; at any
    temperature it is the whole divergence where k is all codes, and 0 exactly where the student gives the k codes the
    teacher's probabilities. With probabilities scaled to a sum of 1, the student would be asked to give up the others.
    """
    others = codebook_size - codes.shape[-1]
    ours = jnp.take_along_axis(code_log_probabilities(student, codebook_size), codes, axis=-1)
    q = _outcomes(ours, others, temperature)
    p = _outcomes(log_probabilities, others, temperature)
    return (jnp.exp(p) * (p - q)).sum(axis=-1)


def _outcomes(log_probabilities: Float[Array, "*b k"], others: int, temperature: float) -> Float[Array, "*b k1"]:
    """Returns the log-probabilities of k codes at a temperature, and of all the others together where there are any."""
    tempered = log_probabilities / temperature
    if others:
        left = jnp.maximum(1 - jnp.exp(log_probabilities).sum(axis=-1, keepdims=True), 0) + FLOOR
        each = jnp.log(left / others) / temperature
        tempered = jnp.concatenate((tempered, each + math.log(others)), axis=-1)
    return jax.nn.log_softmax(tempered, axis=-1)


def likeliest(model: llama.Llama, hidden: Float[Array, "b t d"], k: int) -> Likeliest:
    """Returns the k likeliest codes of each position, likeliest first, with their log-probabilities.

    Where the model says nothing, these are -infinity.
    """
    found, codes = jax.lax.top_k(code_log_probabilities(model.logits(hidden), model.config.codebook_size), k)
    found = jnp.where(_says(hidden)[..., None], found, -jnp.inf)
    return Likeliest(codes.astype(jnp.uint16), found.astype(jnp.float16))


def _says(hidden: Float[Array, "*b d"]) -> Bool[Array, "*b"]:
    """Returns where a model predicts: not where its state is zero, as for a first code that no token stands before."""
    return (hidden != 0).any(axis=-1)


def whole_lesson(teacher: TeacherModel, params: llama.Params, codes: Int[Array, "b t"], temperature: float) -> Lesson:
    """Returns the lesson of a teacher that is computed beside the student, without a gradient.

    Of a batch, only its hidden states are held; its logits are computed where the student's are.
    """
    model = nnx.merge(llama.definition(*teacher), jax.lax.stop_gradient(params))
    hidden = jax.lax.stop_gradient(model.before(codes))

    def from_hidden(student: Float[Array, "b t v"], hidden: Float[Array, "b t d"]) -> Float[Array, "b t"]:
        found = divergence(student, model.logits(hidden), teacher.config.codebook_size, temperature)
        return jnp.where(_says(hidden), found, 0.0)

    return Lesson(hidden, from_hidden, whole=True)


def cached_lesson(says: Likeliest, codebook_size: int, temperature: float) -> Lesson:
    """Returns the lesson of a teacher whose likeliest codes were written before."""

    def from_cache(student: Float[Array, "b t v"], says: Likeliest) -> Float[Array, "b t"]:
        said = says.log_probabilities[..., 0] > -jnp.inf
        logs = jnp.where(said[..., None], says.log_probabilities.astype(jnp.float32), 0.0)
        found = divergence_of_likeliest(student, says.codes.astype(jnp.int32), logs, codebook_size, temperature)
        return jnp.where(said, found, 0.0)

    return Lesson(says, from_cache, whole=False)


def mixed(sums: SentenceSums, config: DistillConfig, tokens: int) -> Float[Array, ""]:
    """Returns a step's loss per token: cross-entropy, and with a teacher T squared x divergence, weighed."""
    loss = sums.loss.sum() / tokens
    if sums.divergence is None:
        return loss
    weight = config.divergence * config.temperature**2
    return config.cross_entropy * loss + weight * sums.divergence.sum() / tokens
