import dataclasses

import jax
import jax.numpy as jnp
import pytest

from trainer import overrides, recipes
from trainer.config import ModelConfig, RunConfig
from trainer.model import init
from visent.errors import UserError


def test_lvm_lite_has_the_papers_hyperparameters():
    config = recipes.make("lvm-lite")
    assert config.model.name == "300m"
    images, sequences = config.stages["images"], config.stages["sequences"]
    assert list(config.stages) == ["images", "sequences"]
    assert (images.learning_rate, images.final_learning_rate, images.warmup_steps) == (1.5e-4, 1.5e-5, 2000)
    assert (images.steps, images.batch_sentences, images.context) == (125_112, 8192, 256)
    assert (sequences.learning_rate, sequences.final_learning_rate, sequences.warmup_steps) == (1.5e-5, 1.5e-6, 0)
    assert (sequences.steps, sequences.batch_sentences, sequences.context) == (15_639, 512, 4096)
    for stage in (images, sequences):
        assert (stage.beta1, stage.beta2, stage.weight_decay) == (0.9, 0.95, 0.1)


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("80m", (768, 3072, 12, 12), 125_946_624),
        ("300m", (1024, 2688, 8, 22), 290_894_848),
        ("600m", (1536, 4096, 16, 22), 648_285_696),
        ("1b", (2048, 5504, 16, 22), 1_146_972_160),
        ("3b", (3200, 8640, 32, 26), 3_274_512_000),
    ],
)
def test_the_papers_models_have_their_shapes_and_sizes(name, shape, parameters):
    model = recipes.MODELS[name]
    assert (model.hidden, model.mlp, model.heads, model.layers) == shape
    arrays = jax.tree.leaves(jax.eval_shape(lambda: init(model, 0)))
    assert sum(x.size for x in arrays) == model.parameters == parameters
    assert all(x.dtype == jnp.float32 for x in arrays)


def test_tiny_is_tiny():
    assert 1e6 < dataclasses.replace(recipes.MODELS["tiny"], codebook_size=1024).parameters < 8e6


def test_a_configuration_survives_json():
    config = recipes.make("lvm-lite", "80m")
    assert RunConfig.from_json(config.to_json()) == config


def test_overrides_are_read_as_their_field_s_type():
    changes = ["stages.images.steps=1_00", "stages.images.clip_norm=none", "stages.images.reset_moments=yes", "seed=3",
               "stages.sequences.learning_rate=2e-4", "compute.precision=bfloat16"]  # fmt: skip
    config = overrides.apply(recipes.make("tiny"), changes)
    assert config.stages["images"].steps == 100
    assert config.stages["images"].clip_norm is None
    assert config.stages["images"].reset_moments is True
    assert config.seed == 3
    assert config.stages["sequences"].learning_rate == 2e-4
    assert config.compute.precision == "bfloat16"


def test_overrides_of_one_object_are_made_together():
    """warmup_steps may be above the old number of steps, whatever the order."""
    changes = ["stages.images.warmup_steps=500", "stages.images.steps=1000"]
    for order in (changes, changes[::-1]):
        assert overrides.apply(recipes.make("tiny"), order).stages["images"].warmup_steps == 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.image.steps=3", r"did you mean 'stages.images'"),
        ("stages.images.step=3", r"did you mean 'stages.images.steps'"),
        ("stages.images.steps=many", "expected a whole number"),
        ("stages.images=3", "expected one of its fields, such as stages.images.steps"),
        ("compute.precision=float8", "expected auto or float32 or bfloat16"),
        ("seed", "expected path=value"),
        ("stages.images.epsilon=-1", "epsilon is -1.0: expected a positive number"),
        ("model.rope_theta=nan", "model.rope_theta is nan: expected a positive number"),
        ("stages.images.steps=-1", "steps is -1"),
        ("model.heads=5", "multiple of 2 x 5 heads"),
        ("seed.a=1", "expected a single value"),
        ("recipe=lvm", "the recipe is the command's first argument; leave it out"),
        ("classify.patch=8", "only `visent classify` has these settings"),
        ("model.codebook_size=8192", "that of the shards' tokenizer"),
    ],
)
def test_a_wrong_override_says_what_is_expected(change, message):
    with pytest.raises(UserError, match=message):
        overrides.apply(recipes.make("tiny"), [change])


def test_a_stage_of_no_steps_is_left_out_whatever_its_warmup():
    assert overrides.apply(recipes.make("tiny"), ["stages.images.steps=0"]).stages["images"].steps == 0


def test_unknown_recipes_and_models_are_named():
    with pytest.raises(UserError, match="did you mean 'lvm-lite'"):
        recipes.make("lvmlite")
    with pytest.raises(UserError, match="unknown model '300M': did you mean '300m'"):
        recipes.make("tiny", "300M")


def test_flops_follow_from_the_matrices():
    model = ModelConfig(name="x", hidden=8, mlp=16, heads=2, layers=3, codebook_size=9, special_tokens=1)
    matrices = 3 * (4 * 64 + 3 * 8 * 16) + 10 * 8
    assert model.flops_per_token(0) == 6 * matrices
    assert model.flops_per_token(32) - model.flops_per_token(0) == 6 * 3 * 8 * 32


def test_a_star_sets_all_stages_but_what_one_is_given_by_name():
    changes = ["stages.*.steps=20", "stages.images.steps=30", "stages.*.warmup_steps=5"]
    for order in (changes, changes[::-1]):
        stages = overrides.apply(recipes.make("tiny"), order).stages
        assert [(stage.steps, stage.warmup_steps) for stage in stages.values()] == [(30, 5), (20, 5)]
    with pytest.raises(UserError, match=r"stages\.\*: expected one of its fields"):
        overrides.apply(recipes.make("tiny"), ["stages.*=3"])
