"""One step of the probe, and its score."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32, UInt8

from trainer import mesh as meshes
from trainer.classify import model as probes
from trainer.classify.model import frozen
from trainer.classify.recipe import STAGE
from trainer.config import RunConfig
from trainer.optimizer import direction, learning_rate
from trainer.step import TrainState, accumulated


class Labelled(NamedTuple):
    """A batch of pictures and the number of each one's class."""

    images: UInt8[Any, "b s s 3"]
    labels: Int32[Any, " b"]


class Hits(NamedTuple):
    """Of each picture: loss, and whether its class was the likeliest, and among the likeliest five."""

    loss: Float[Array, " b"]
    first: Float[Array, " b"]
    five: Float[Array, " b"]


class StepFacts(NamedTuple):
    """What one step reports."""

    loss: Float[Array, ""]  # nats, mean over the batch
    gradient_norm: Float[Array, ""]  # before clipping
    learning_rate: Float[Array, ""]


def init_state(config: RunConfig, classes: int) -> TrainState:
    """Returns the state before the first step, without what `config.start` gives."""
    assert config.classify is not None
    params = probes.init(config.model, config.classify, classes, config.seed)
    return TrainState(params, direction(config.stages[STAGE]).init(params), jnp.zeros((), jnp.int32))


def make_state(config: RunConfig, classes: int, mesh: Mesh) -> TrainState:
    """Returns `init_state` on a mesh; every device makes its own part."""
    make = partial(init_state, config, classes)
    fresh: TrainState = jax.jit(make, out_shardings=meshes.layout(mesh, jax.eval_shape(make)))()
    return fresh


def make_step(config: RunConfig, classes: int, mesh: Mesh) -> tuple[Callable[..., Any], Callable[..., Hits]]:
    """Returns the jitted step, of a state (consumed) and a batch, and the jitted score of parameters on a batch.

    The step returns the next state and what is reported of it.
    """
    assert config.classify is not None
    stage, probe = config.stages[STAGE], config.classify
    optimizer, graph = direction(stage), probes.definition(config.model, probe, classes, config.compute)
    lies = meshes.layout(mesh, jax.eval_shape(partial(init_state, config, classes)))
    whole = meshes.replicated(mesh)

    def loss_of(params: Any, batch: Labelled) -> tuple[Float[Array, ""], tuple[()]]:
        if not probe.train_layers:  # their gradient would count in clipping
            params = jax.tree.map(lambda p, fixed: jax.lax.stop_gradient(p) if fixed else p, params, frozen(params))
        scores = nnx.merge(graph, params)(batch.images)
        wanted = optax.smooth_labels(jax.nn.one_hot(batch.labels, classes), probe.label_smoothing)
        return optax.softmax_cross_entropy(scores, wanted).mean(), ()

    gradient_of = jax.value_and_grad(loss_of, has_aux=True)

    @partial(jax.jit, donate_argnums=0, out_shardings=(lies, whole))
    def step(state: TrainState, batch: Labelled) -> tuple[TrainState, StepFacts]:
        loss, _, gradient = accumulated(gradient_of, state.params, batch, stage.microbatches)
        updates, moments = optimizer.update(gradient, state.moments, state.params)
        if not probe.train_layers:
            updates = jax.tree.map(lambda u, fixed: 0 * u if fixed else u, updates, frozen(updates))
        rate = learning_rate(stage, state.step)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        return TrainState(params, moments, state.step + 1), StepFacts(loss, optax.global_norm(gradient), rate)

    @partial(jax.jit, out_shardings=whole)
    def score(params: Any, batch: Labelled) -> Hits:
        scores = nnx.merge(graph, params)(batch.images)
        _, best = jax.lax.top_k(scores, min(5, classes))
        right = best == batch.labels[:, None]
        loss = optax.softmax_cross_entropy_with_integer_labels(scores, batch.labels)
        return Hits(loss, right[:, 0].astype(jnp.float32), right.any(axis=1).astype(jnp.float32))

    return step, score
