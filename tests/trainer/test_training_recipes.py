"""Recipes against the papers' tables, as the design quotes them, and from a corpus to each recipe's run."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from manifests.cli import manifest as manifest_command
from manifests.dataset import DatasetFacts, load_facts, write_facts
from manifests.lock import resolve
from manifests.recipe import load_recipe, recipe_names
from manifests.testing import write_random_dataset
from trainer import optimizer, overrides, plan, recipes
from trainer.config import StageConfig
from visent.errors import UserError

PAPERS = {  # steps, sentences a step, context, rate, last rate, warmup
    ("lvm-lite", "images"): (125_112, 8192, 256, 1.5e-4, 1.5e-5, 2000),
    ("lvm-lite", "sequences"): (15_639, 512, 4096, 1.5e-5, 1.5e-6, 0),
    ("delvm", "mixture"): (40_000, 128, 2048, 1.5e-4, 1.5e-5, 224),
    ("delvm-distill", "mixture"): (40_000, 128, 2048, 1.5e-4, 1.5e-5, 224),
}
STAGES = {"one": 2048, "two": 1024, "three": 2048, "four": 256}


def figures(stage: StageConfig) -> tuple[Any, ...]:
    return (stage.steps, stage.batch_sentences, stage.context, stage.learning_rate, stage.final_learning_rate,
            stage.warmup_steps)  # fmt: skip


@pytest.mark.parametrize(("recipe", "stage"), PAPERS)
def test_stages_have_the_papers_figures(recipe, stage):
    found = recipes.make(recipe).stages[stage]
    assert figures(found) == PAPERS[recipe, stage]
    assert (found.beta1, found.beta2, found.epsilon, found.weight_decay) == (0.9, 0.95, 1e-8, 0.1)
    assert found.clip_norm == 1.0


def test_delvm_reads_262144_tokens_a_step_warms_up_for_0_0056_of_its_steps_and_embeds_with_the_codebook():
    for recipe in ("delvm", "delvm-distill"):
        config = recipes.make(recipe)
        stage = config.stages["mixture"]
        assert stage.batch_sentences * stage.context == 262_144
        assert stage.warmup_steps == int(0.0056 * stage.steps)
        assert config.model.embedding == "codebook"
    distill = recipes.make("delvm-distill").distill
    assert (distill.cross_entropy, distill.divergence, distill.temperature) == (1, 1, 1)


def test_lvm_reads_as_many_tokens_as_the_first_stage_of_lvm_lite_in_sentences_of_sixteen_images():
    baseline, images = recipes.make("lvm").stages["sequences"], recipes.make("lvm-lite").stages["images"]
    assert baseline.context == 4096 == 16 * images.context
    assert baseline.steps * baseline.batch_sentences * 4096 == images.steps * images.batch_sentences * 256
    assert figures(baseline)[3:] == figures(images)[3:]


def test_long_videos_are_1500_steps_of_64_frames():
    video = recipes.make("long-video").stages["video"]
    assert (video.steps, video.context) == (1500, 64 * 256)
    assert video.batch_sentences * video.context == 512 * 4096


@pytest.mark.parametrize(("model", "heads", "width"), [("3b", 32, 100), ("3b-fast", 25, 128)])
def test_the_3b_models_are_computed_by_blocks(model, heads, width):
    config = recipes.make("lvm-lite", model)
    assert (config.model.heads, config.model.head_dim) == (heads, width)
    assert config.compute.block_tokens == 1024
    assert recipes.make("lvm-lite", "1b").compute.block_tokens == 0


def test_continual_takes_the_manifest_s_stages_in_order_all_with_one_schedule():
    stages = recipes.make("continual", stages=STAGES).stages
    assert list(stages) == list(STAGES)
    for name, stage in stages.items():
        assert stage.context == STAGES[name]
        assert stage.context * stage.batch_sentences == 262_144
        assert figures(stage)[3:] == (1.5e-4, 1.5e-5, 224)


def test_rescaled_rates_fall_once_over_all_tasks():
    """Each task begins where the one before ended; the first begins and the last ends as without rescaling."""
    plain = list(recipes.make("continual", stages=STAGES).stages.values())
    stages = list(recipes.make("continual-rescaled", stages=STAGES).stages.values())
    rates = [rate for stage in stages for rate in (stage.learning_rate, stage.final_learning_rate)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (plain[0].learning_rate, pytest.approx(plain[-1].final_learning_rate))
    for before, after in itertools.pairwise(stages):
        assert after.learning_rate == pytest.approx(before.final_learning_rate)
        assert after.warmup_steps == 0
        ends = optimizer.learning_rate(before, before.steps)
        assert float(optimizer.learning_rate(after, 0)) == pytest.approx(float(ends))
    same = {"learning_rate": 1.0, "final_learning_rate": 1.0, "warmup_steps": 0}
    for rescaled, stage in zip(stages, plain, strict=True):
        assert dataclasses.replace(rescaled, **same) == dataclasses.replace(stage, **same)


def test_one_task_alone_is_trained_alike_with_and_without_rescaling():
    one = {"only": 2048}
    plain, rescaled = (recipes.make(name, stages=one).stages for name in ("continual", "continual-rescaled"))
    assert plain == rescaled


def test_a_recipe_of_one_stage_takes_the_manifest_s_only_stage():
    assert list(recipes.make("delvm", stages={"tasks": 2048}).stages) == ["tasks"]
    assert list(recipes.make("delvm", stages={"tasks": 2048, "mixture": 2048}).stages) == ["mixture"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [("long-video", "pass its run as --from RUN"), ("segmentation-finetune", "pass its run as --from RUN"),
     ("delvm-distill", "pass a run as --teacher RUN")],
)  # fmt: skip
def test_a_recipe_without_the_run_that_it_needs_says_so(recipe, message, lock):
    with pytest.raises(UserError, match=message):
        plan.fit(recipes.make(recipe), lock)


def test_classify_is_sent_to_its_own_command():
    with pytest.raises(UserError, match="visent classify IMAGES"):
        recipes.make("classify")


def write_rows(folder: Path, name: str) -> list[str]:
    """Writes a random dataset for each row of a recipe of manifests; returns their folders."""
    made = []
    for row, arguments in load_recipe(name).rows.items():
        tasks = [task for task in load_recipe(name).tasks.values() if task["dataset"] == row]
        roles = dict.fromkeys(role for task in tasks for role in task["sentence"])
        kinds: Any = dict.fromkeys(roles, "clip" if "frames" in roles else "still")
        write_random_dataset(str(folder / row), kinds, examples={"train": 20, "val": 2}, frames=(64,))
        facts = load_facts(str(folder / row))
        source = {"source": arguments.split()[0]}
        write_facts(
            str(folder / row),
            DatasetFacts(name=facts.name, schema=facts.schema, shards=facts.shards, config=source),
        )
        made.append(str(folder / row))
    return made


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_from_a_corpus_to_the_run_of_a_recipe_in_two_commands(recipe, tmp_path):
    """`visent manifest init --recipe` writes what `visent train` reads, stages and images a sentence alike."""
    found, file = recipes.RECIPES[recipe], tmp_path / "manifest.toml"
    assert found.manifest in recipe_names()
    rows = write_rows(tmp_path / "corpus", found.manifest)
    made = CliRunner().invoke(manifest_command, ["init", *rows, "--recipe", found.manifest, "--out", str(file)])
    assert made.exit_code == 0, made.output
    lock = resolve(str(file))
    stages = {name: stage.context for name, stage in lock.stages.items()}
    config = recipes.make(recipe, stages=stages)
    # The random corpus has 16 tokens an image in place of 256.
    assert {name: stage.context for name, stage in config.stages.items() if stage.context} in (
        {name: 16 * context for name, context in stages.items()}, stages, {},
    )  # fmt: skip
    needed = {"start": ["start=run"], "teacher": ["distill.teacher=run"], None: []}[found.needs]
    changes = ["stages.*.context=none", "model.embedding=learned", *needed]
    assert list(plan.fit(overrides.apply(config, changes), lock).stages) == list(stages)
