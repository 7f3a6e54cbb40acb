"""One training step, compiled once for each stage."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt16

from trainer import model as llama
from trainer.config import ModelConfig, RunConfig, StageConfig
from trainer.losses import SentenceSums, TaskSums, by_task, sentence_sums
from trainer.optimizer import direction, learning_rate


class TrainState(NamedTuple):
    """All that changes while training."""

    params: llama.Params
    moments: Any  # the optimizer's state
    step: Int[Array, ""]  # of all stages, from 0


class StepMetrics(NamedTuple):
    """What one step reports."""

    loss: Float[Array, ""]  # mean over the batch's tokens, nats
    gradient_norm: Float[Array, ""]  # before clipping
    learning_rate: Float[Array, ""]
    tasks: TaskSums


def init_state(config: RunConfig) -> TrainState:
    """Returns the state before the first step: a function of the model and the seed."""
    params = llama.init(config.model, config.seed)
    any_stage = next(iter(config.stages.values()))
    return TrainState(params, direction(any_stage).init(params), jnp.zeros((), jnp.int32))


def begin_stage(state: TrainState, stage: StageConfig) -> TrainState:
    """Returns the state with which a stage begins: moments are kept unless the stage resets them.

    Kept moments let a stage without warmup (LVM-Lite's second) start from a settled estimate of the gradient's scale
    instead of from one batch.
    """
    return state._replace(moments=direction(stage).init(state.params)) if stage.reset_moments else state


def make_step(config: RunConfig, stage: StageConfig, first_step: int, tasks: int) -> Any:
    """Returns the jitted step of a stage that begins at `first_step` of the run and has `tasks` tasks.

    The step takes codes `uint16[b t]` and task ids `int32[b]`; the state it is given is consumed.
    """
    graph = llama.definition(config.model)
    optimizer = direction(stage)

    def loss_of(params: llama.Params, codes: Int[Array, "b t"]) -> tuple[Float[Array, ""], SentenceSums]:
        sums = sentence_sums(nnx.merge(graph, params), codes, config.loss_chunk_tokens)
        return sums.loss.sum() / codes.size, sums

    @partial(jax.jit, donate_argnums=0)
    def step(
        state: TrainState, codes: UInt16[Array, "b t"], task_ids: Int[Array, " b"]
    ) -> tuple[TrainState, StepMetrics]:
        wide = codes.astype(jnp.int32)
        (loss, sums), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params, wide)
        updates, moments = optimizer.update(gradient, state.moments, state.params)
        rate = learning_rate(stage, state.step - first_step)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        metrics = StepMetrics(loss, optax.global_norm(gradient), rate, by_task(sums, task_ids, tasks, codes.shape[1]))
        return TrainState(params, moments, state.step + 1), metrics

    return step


def make_evaluation(config: ModelConfig, loss_chunk_tokens: int) -> Callable[[llama.Params, Any], SentenceSums]:
    """Returns the jitted function from parameters and codes `uint16[b t]` to sums by sentence."""
    graph = llama.definition(config)

    @jax.jit
    def evaluate(params: llama.Params, codes: UInt16[Array, "b t"]) -> SentenceSums:
        return sentence_sums(nnx.merge(graph, params), codes.astype(jnp.int32), loss_chunk_tokens)

    return evaluate
