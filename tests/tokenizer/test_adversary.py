"""The discriminator and the weight of its loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tokenizer.training.discriminator import BatchNorm, PatchGAN, adaptive_weight, hinge


def test_one_logit_for_each_patch() -> None:
    model = nnx.eval_shape(lambda: PatchGAN(8, 3, jnp.float32, nnx.Rngs(0)))
    widths = [conv.kernel.shape[-1] for conv in model.convs]
    assert widths == [8, 16, 32, 64, 1]
    graph, params = nnx.split(model, nnx.Param)
    logits = jax.eval_shape(lambda p, x: nnx.merge(graph, p)(x), params, jnp.zeros((2, 256, 256, 3)))
    assert logits.shape == (2, 30, 30)  # the 70 x 70 PatchGAN of pix2pix on 256 x 256 pixels


def test_the_norm_is_of_the_batch() -> None:
    x = np.random.default_rng(0).normal(3, 2, (4, 5, 5, 2)).astype(np.float32)
    y = np.asarray(BatchNorm(2)(jnp.asarray(x)))
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1, atol=1e-4)


def test_hinge_leaves_alone_what_is_told_apart_well_enough() -> None:
    ones = jnp.ones((1, 2, 2))
    assert float(hinge(3 * ones, -2 * ones)) == 0
    assert float(hinge(0 * ones, 0 * ones)) == 1
    assert float(hinge(-ones, ones)) == 2


def test_it_learns_to_tell_smooth_from_rough() -> None:
    graph, params = nnx.split(PatchGAN(8, 1, jnp.float32, nnx.Rngs(0)), nnx.Param)
    adam = optax.adam(2e-3, b1=0.5)

    def images(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        smooth, rough = jax.random.split(key)
        coarse = jax.random.uniform(smooth, (8, 2, 2, 3))
        return jax.image.resize(coarse, (8, 16, 16, 3), "linear"), jax.random.uniform(rough, (8, 16, 16, 3))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def learn(params: object, state: object, key: jax.Array) -> tuple[object, object, jax.Array]:
        real, made = images(key)

        def loss_of(params: object) -> jax.Array:
            judge = nnx.merge(graph, params)
            return hinge(judge(real), judge(made))

        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state, losses = adam.init(params), []
    for step in range(60):
        params, state, loss = learn(params, state, jax.random.key(step))
        losses.append(float(loss))
    assert losses[0] == pytest.approx(1, abs=0.3)
    assert np.mean(losses[-10:]) < 0.2
    real, made = images(jax.random.key(10_000))
    judge = nnx.merge(graph, params)
    assert float(jnp.mean(judge(real))) > 0.5 > -0.5 > float(jnp.mean(judge(made)))


def test_the_adaptive_weight_makes_both_gradients_equally_long() -> None:
    rng = np.random.default_rng(0)
    reconstruction, adversarial = rng.normal(0, 5, (3, 3, 4, 3)), rng.normal(0, 0.01, (3, 3, 4, 3))
    weight = adaptive_weight(jnp.asarray(reconstruction), jnp.asarray(adversarial))
    assert np.linalg.norm(float(weight) * adversarial) == pytest.approx(np.linalg.norm(reconstruction), rel=1e-3)
    assert float(adaptive_weight(jnp.asarray(reconstruction), jnp.zeros(3))) == 1e4
    assert float(adaptive_weight(jnp.zeros(3), jnp.ones(3))) == 0
