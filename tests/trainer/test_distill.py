"""Divergence from a teacher: whole, of its likeliest codes, in chunks, and as a part of the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr

from trainer import distill
from trainer import model as llama
from trainer.config import ComputeConfig, DistillConfig, ModelConfig
from trainer.losses import sentence_sums

CODES, SPECIAL = 20, 4


def logits_of(seed, width=CODES + SPECIAL, scale=2.0):
    return np.random.default_rng(seed).normal(0, scale, (2, 3, width)).astype(np.float32)


def divergence(student, teacher, temperature=1.0):
    return np.asarray(distill.divergence(jnp.asarray(student), jnp.asarray(teacher), CODES, temperature))


def by_hand(student, teacher, temperature=1.0):
    """KL(teacher || student) over the codes, by scipy in float64."""
    q, p = (np.exp(log_softmax(x[..., :CODES].astype(np.float64) / temperature, -1)) for x in (student, teacher))
    return rel_entr(p, q).sum(-1)


def top(teacher, k):
    """A cache's codes and log-probabilities, by numpy, in float32."""
    logs = log_softmax(teacher[..., :CODES].astype(np.float64), -1)
    codes = np.argsort(-logs, axis=-1)[..., :k]
    return jnp.asarray(codes, jnp.int32), jnp.asarray(np.take_along_axis(logs, codes, -1), jnp.float32)


def of_likeliest(student, teacher, k, temperature=1.0):
    return np.asarray(distill.divergence_of_likeliest(jnp.asarray(student), *top(teacher, k), CODES, temperature))


seeds = st.integers(0, 10_000)
temperatures = st.floats(0.25, 8.0)


@given(seeds, temperatures)
def test_divergence_is_scipys_kl_of_teacher_from_student_over_the_codes(seed, temperature):
    student, teacher = logits_of(seed), logits_of(seed + 1)
    found = divergence(student, teacher, temperature)
    np.testing.assert_allclose(found, by_hand(student, teacher, temperature), rtol=2e-4, atol=1e-5)


def test_divergence_is_not_the_other_direction():
    student, teacher = logits_of(0), logits_of(1)
    found = divergence(student, teacher)
    assert not np.allclose(found, by_hand(teacher, student), rtol=0.05)


@pytest.mark.parametrize("width", [CODES, CODES + 1, CODES + 9])
def test_a_teacher_with_other_special_tokens_teaches_the_codes_alone(width):
    student, teacher = logits_of(0), logits_of(1, width)
    teacher[..., CODES:] = 50.0  # what a teacher thinks of special tokens counts for nothing
    found = divergence(student, teacher, 2.0)
    np.testing.assert_allclose(found, by_hand(student, teacher, 2.0), rtol=1e-4)


@given(seeds, temperatures)
def test_all_codes_of_a_cache_give_the_whole_divergence(seed, temperature):
    student, teacher = logits_of(seed), logits_of(seed + 1)
    found = of_likeliest(student, teacher, CODES, temperature)
    np.testing.assert_allclose(found, by_hand(student, teacher, temperature), rtol=2e-4, atol=1e-5)


@given(seeds)
def test_the_divergence_of_the_likeliest_codes_grows_with_k_up_to_the_whole(seed):
    student, teacher = logits_of(seed), logits_of(seed + 1)
    found = np.stack([of_likeliest(student, teacher, k) for k in (1, 2, 5, 12, CODES)])
    assert (np.diff(found, axis=0) > -1e-4).all()
    assert (found > -1e-5).all()


@given(seeds, temperatures, st.integers(1, CODES - 1))
def test_the_likeliest_codes_stand_for_distributions_whose_other_codes_share_evenly(seed, temperature, k):
    student, teacher = logits_of(seed, scale=1.0), logits_of(seed + 1, scale=1.0)
    codes = np.asarray(top(teacher, k)[0])

    def flattened(logits):
        p = np.exp(log_softmax(logits[..., :CODES].astype(np.float64), -1))
        kept = np.zeros_like(p)
        np.put_along_axis(kept, codes, np.take_along_axis(p, codes, -1), -1)
        left = (1 - kept.sum(-1, keepdims=True)) / (CODES - k)
        return np.log(np.where(kept > 0, kept, left)).astype(np.float32)

    expected = by_hand(flattened(student), flattened(teacher), temperature)
    np.testing.assert_allclose(of_likeliest(student, teacher, k, temperature), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_student_that_follows_the_likeliest_codes_takes_the_teacher_s_probabilities_as_they_are(temperature):
    """Scaled to a sum of 1 instead, they would leave nothing for the codes that were not stored."""
    teacher, k = logits_of(1, scale=1.0), 5
    codes, logs = top(teacher, k)

    @jax.jit
    def descend(student):
        loss = lambda s: distill.divergence_of_likeliest(s, codes, logs, CODES, temperature).sum()  # noqa: E731
        return jax.lax.fori_loop(0, 3000, lambda _, s: s - 2.0 * jax.grad(loss)(s), student)

    learned = descend(jnp.asarray(logits_of(0, scale=1.0)))
    probabilities = jnp.exp(distill.code_log_probabilities(learned, CODES))
    np.testing.assert_allclose(jnp.take_along_axis(probabilities, codes, -1), np.exp(logs), rtol=2e-2, atol=2e-3)
    assert float(np.exp(logs).sum(-1).max()) < 0.9


@given(seeds, st.integers(1, CODES))
def test_what_float16_stores_is_near_what_float32_would(seed, k):
    student, teacher = logits_of(seed), logits_of(seed + 1)
    codes, logs = top(teacher, k)
    found = distill.divergence_of_likeliest(
        jnp.asarray(student), codes, logs.astype(jnp.float16).astype(jnp.float32), CODES, 1.0
    )
    np.testing.assert_allclose(found, of_likeliest(student, teacher, k), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_and_its_gradient_are_torch_s(temperature):
    """Called as DeLVM's KLDivLoss calls it, batchmean times T squared."""
    torch = pytest.importorskip("torch")
    student, teacher = logits_of(0, CODES), logits_of(1, CODES)
    theirs = torch.tensor(student.reshape(-1, CODES), requires_grad=True)
    loss = torch.nn.functional.kl_div(
        torch.log_softmax(theirs / temperature, -1),
        torch.softmax(torch.tensor(teacher.reshape(-1, CODES)) / temperature, -1),
        reduction="batchmean",
    )
    (loss * temperature**2).backward()

    def ours(student):
        return distill.divergence(student, jnp.asarray(teacher), CODES, temperature).mean() * temperature**2

    value, gradient = jax.value_and_grad(ours)(jnp.asarray(student))
    assert float(value) == pytest.approx(float(loss) * temperature**2, rel=1e-4)
    np.testing.assert_allclose(gradient.reshape(-1, CODES), theirs.grad, atol=1e-5)


@pytest.fixture(scope="module")
def pair():
    """A student and a teacher, wider and with other special tokens, and codes."""
    student = ModelConfig(name="student", hidden=16, mlp=20, heads=2, layers=1, codebook_size=CODES, special_tokens=4)
    teacher = ModelConfig(name="teacher", hidden=28, mlp=36, heads=2, layers=2, codebook_size=CODES, special_tokens=9)
    louder = lambda x: x * 8 if x.ndim > 1 else x  # noqa: E731
    params = [jax.tree.map(louder, llama.init(m, seed)) for seed, m in enumerate((student, teacher))]
    codes = jnp.asarray(np.random.default_rng(0).integers(0, CODES, (2, 12)), jnp.int32)
    return student, teacher, params[0], params[1], codes


def lesson_of(kind, pair, temperature=1.0, k=CODES):
    _, teacher, _, params, codes = pair
    if kind == "whole":
        return distill.whole_lesson(distill.TeacherModel(teacher, ComputeConfig()), params, codes, temperature)
    model = nnx.merge(llama.definition(teacher), params)
    says = distill.likeliest(model, model.before(codes), k)
    return distill.cached_lesson(says, CODES, temperature)


@pytest.mark.parametrize("kind", ["whole", "cached"])
def test_divergence_in_chunks_is_that_at_once_with_its_gradient(kind, pair):
    student, _, params, _, codes = pair

    def loss(params, limit):
        model = nnx.merge(llama.definition(student), params)
        sums = sentence_sums(model, codes, limit, lesson_of(kind, pair, 2.0, 5))
        return distill.mixed(sums, DistillConfig(teacher="t", temperature=2.0, cross_entropy=0.5), codes.size), sums

    run = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    (expected, sums), (chunked, chunked_sums) = run(params, 10**6), run(params, 8)
    np.testing.assert_allclose(chunked_sums.divergence, sums.divergence, rtol=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), chunked, expected)
    assert float(sums.divergence.sum()) > 1


def test_a_cache_of_all_codes_teaches_what_the_teacher_beside_the_student_does(pair):
    student, _, params, _, codes = pair
    model = nnx.merge(llama.definition(student), params)
    whole, cached = (sentence_sums(model, codes, 10**6, lesson_of(kind, pair)) for kind in ("whole", "cached"))
    np.testing.assert_allclose(cached.divergence, whole.divergence, rtol=1e-2)  # float16


@pytest.mark.parametrize("kind", ["whole", "cached"])
def test_a_teacher_without_a_begin_token_says_nothing_of_the_first_code(kind, pair):
    student, teacher, params, taught, codes = pair
    model = nnx.merge(llama.definition(student), params)
    pair = (student, dataclasses.replace(teacher, begins_with=None), params, taught, codes)
    lesson = lesson_of(kind, pair)

    def of_positions(shift):
        logits = model.logits(model.before(codes)) + shift * jnp.arange(24.0)
        return lesson.divergence(logits, lesson.says)

    found, gradient = of_positions(0.0), jax.jacobian(of_positions)(0.0)
    assert (found[:, 0] == 0).all()
    assert (gradient[:, 0] == 0).all()
    assert (found[:, 1:] > 0).all()
    assert np.isfinite(gradient).all()


def test_neither_the_logits_of_a_batch_nor_those_of_the_teacher_ever_exist_at_once(pair):
    student, _, params, _, codes = pair

    def loss(params):
        model = nnx.merge(llama.definition(student), params)
        return sentence_sums(model, codes, 8, lesson_of("whole", pair)).divergence.sum()

    shapes = str(jax.make_jaxpr(jax.grad(loss))(params))
    for vocabulary in (24, 29):  # 8 tokens at most: 2 positions of the student's 2 sentences, and 2 of the teacher's
        assert f"f32[2,2,{vocabulary}]" in shapes
        assert f"f32[2,4,{vocabulary}]" not in shapes
        assert f"f32[2,12,{vocabulary}]" not in shapes


def test_the_loss_weighs_cross_entropy_and_t_squared_divergence(pair):
    student, _, params, _, codes = pair
    model = nnx.merge(llama.definition(student), params)
    sums = sentence_sums(model, codes, 10**6, lesson_of("whole", pair, 3.0))
    how = DistillConfig(teacher="t", cross_entropy=0.5, divergence=0.25, temperature=3.0)
    expected = 0.5 * sums.loss.sum() / 24 + 0.25 * 9 * sums.divergence.sum() / 24
    assert float(distill.mixed(sums, how, 24)) == pytest.approx(float(expected), rel=1e-6)
