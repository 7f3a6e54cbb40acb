"""One training step, compiled once for each stage: gradients in microbatches, AdamW, sums by task."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from trainer import mesh as meshes
from trainer import model as llama
from trainer.batches import Batch
from trainer.config import RunConfig, StageConfig
from trainer.distill import TeacherModel, cached_lesson, mixed, whole_lesson
from trainer.losses import SentenceSums, TaskSums, by_task, sentence_sums
from trainer.optimizer import direction, learning_rate


class TrainState(NamedTuple):
    """All that changes while training."""

    params: llama.Params
    moments: Any  # the optimizer's state
    step: Int[Array, ""]  # of all stages, from 0


class StepMetrics(NamedTuple):
    """What one step reports."""

    loss: Float[Array, ""]  # what the step makes smaller: nats, mean over the batch's tokens
    gradient_norm: Float[Array, ""]  # before clipping
    learning_rate: Float[Array, ""]
    tasks: TaskSums


Step = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]


def init_state(config: RunConfig, codebook: Float[Any, "k w"] | None = None) -> TrainState:
    """Returns the state before the first step: a function of the model, the seed and the tokenizer's codebook."""
    params = llama.init(config.model, config.seed, codebook)
    any_stage = next(iter(config.stages.values()))
    return TrainState(params, direction(any_stage).init(params), jnp.zeros((), jnp.int32))


def state_shapes(config: RunConfig) -> TrainState:
    """Returns the shapes and types of a state, without making one."""
    codebook = llama.any_codebook(config.model)
    shapes: TrainState = jax.eval_shape(lambda: init_state(config, codebook))
    return shapes


def placed_shapes(config: RunConfig, mesh: Mesh) -> TrainState:
    """Returns the shapes and types of a state, each with its layout on the mesh, for one to be restored."""
    placed: TrainState = meshes.placed(mesh, state_shapes(config))
    return placed


def make_state(config: RunConfig, mesh: Mesh, codebook: Float[Any, "k w"] | None = None) -> TrainState:
    """Returns the state before the first step; every device makes its own part, none ever holds the whole."""
    lies = meshes.layout(mesh, state_shapes(config))
    fresh: TrainState = jax.jit(partial(init_state, config), out_shardings=lies)(codebook)
    return fresh


def begin_stage(state: TrainState, stage: StageConfig) -> TrainState:
    """Returns the state with which a stage begins: moments are kept unless the stage resets them.

    Kept moments let a stage without warmup (LVM-Lite's second) start from a settled estimate of the gradient's scale
    instead of from one batch.
    """
    if not stage.reset_moments:
        return state
    lies = jax.tree.map(lambda moment: moment.sharding, state.moments)
    return state._replace(moments=jax.jit(direction(stage).init, out_shardings=lies)(state.params))


def make_step(
    config: RunConfig, stage: StageConfig, first_step: int, tasks: int, mesh: Mesh, teacher: TeacherModel | None = None
) -> Any:
    """Returns the jitted step of a stage that begins at `first_step` of the run and has `tasks` tasks.

    The step takes a state, which it consumes, a batch, and the parameters of the `teacher` if there is one; all lie on
    `mesh` as `mesh.layout` and `over_batch` say.
    """
    optimizer = direction(stage)
    gradient_of = jax.value_and_grad(_objective(config, teacher), has_aux=True)
    lies = meshes.layout(mesh, state_shapes(config))

    @partial(jax.jit, donate_argnums=0, out_shardings=(lies, meshes.replicated(mesh)))
    def step(state: TrainState, batch: Batch, taught: llama.Params | None = None) -> tuple[TrainState, StepMetrics]:
        loss, sums, gradient = accumulated(partial(gradient_of, taught=taught), state.params, batch, stage.microbatches)
        updates, moments = optimizer.update(gradient, state.moments, state.params)
        rate = learning_rate(stage, state.step - first_step)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        by = by_task(sums, batch.tasks, tasks, batch.codes.shape[1])
        return TrainState(params, moments, state.step + 1), StepMetrics(loss, optax.global_norm(gradient), rate, by)

    return step


def _objective(config: RunConfig, teacher: TeacherModel | None) -> Callable[..., tuple[Float[Array, ""], SentenceSums]]:
    graph, how = llama.definition(config.model, config.compute), config.distill

    def objective(
        params: llama.Params, batch: Batch, taught: llama.Params | None
    ) -> tuple[Float[Array, ""], SentenceSums]:
        model, codes = nnx.merge(graph, llama.cast(params, config.compute)), batch.codes.astype(jnp.int32)
        lesson = None
        if teacher is not None and taught is not None:
            lesson = whole_lesson(teacher, taught, codes, how.temperature)
        elif batch.likeliest is not None:
            lesson = cached_lesson(batch.likeliest, config.model.codebook_size, how.temperature)
        assert (lesson is not None) == how.on, "a teacher's parameters or its likeliest codes, where there is one"
        sums = sentence_sums(model, codes, config.compute.loss_chunk_tokens, lesson)
        return mixed(sums, how, codes.size), sums

    return objective


def accumulated(gradient_of: Any, params: Any, batch: Any, parts: int) -> tuple[Any, Any, Any]:
    """Returns mean loss, what is reported of each row in the batch's order, and mean gradient, of `parts` microbatches.

    `gradient_of` is `jax.value_and_grad(..., has_aux=True)` of parameters and a batch, any tree of arrays of rows. Row
    i belongs to microbatch i mod parts, so that every device has an equal part of each.
    """
    if parts == 1:
        (loss, sums), gradient = gradient_of(params, batch)
        return loss, sums, gradient
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], Any]:
        (loss, sums), gradient = gradient_of(params, part)
        return (carry[0] + loss / parts, jax.tree.map(lambda a, g: a + g / parts, carry[1], gradient)), sums

    zeros = jax.tree.map(jnp.zeros_like, params)
    (loss, gradient), sums = jax.lax.scan(add, (jnp.zeros(()), zeros), split)
    return loss, jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1), sums), gradient
