"""`visent train`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from trainer.commands.on_hosts import on_hosts
from trainer.recipes import MODELS, RECIPES
from visent.errors import UserError

if TYPE_CHECKING:
    from manifests.lock import Lock
    from trainer.config import ModelConfig, RunConfig


_LISTING = "\n".join(f"  {name:22} {recipe.about} [{recipe.manifest}]" for name, recipe in RECIPES.items())
HELP = f"""Train a model on the shards that a manifest names.

RECIPE is one of the following; `visent manifest init CORPUS... --recipe NAME` writes the manifest of the name in
brackets. The same command again resumes from the newest checkpoint in --out, with exactly the batches that were left.

\b
{_LISTING}

A recipe of one stage takes the only stage of any manifest (delvm that of delvm-tasks, too). DeLVM's probe on pictures
is `visent classify`.

\b
Example:
  visent train tiny --manifest manifest.toml --out run/
  visent train lvm-lite -m manifest.toml --model 1b --dry-run --chip "NVIDIA H200" --chips 8
  visent train long-video -m video.toml --from run/ --out video/
  visent train lvm-lite -m manifest.toml --out gs://bucket/run --hosts 4 --host-id 0 --coordinator 10.0.0.1:8476
  visent train tiny -m manifest.toml --out run/ --set stages.images.steps=300 --set model.layers=6

Writes config.json, manifest.lock.json, metrics.jsonl, eval.jsonl, tensorboard/, checkpoints/ and, with
--set sample_every=N, samples/ into --out. Held-out sentences are scored where each stage ends, with
--set evaluate_every=N also every N steps, always the same ones, at most evaluate_sentences of each task; with
--set figures_every=N, figures_samples of each are also continued and compared with the truth.
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, help=HELP)
@click.argument("recipe")
@click.option("--manifest", "-m", required=True, help="manifest.toml, or a manifest.lock.json to read as it stands.")
@click.option("--out", help="Folder of the run, or a URL; resumes what is there.")
@click.option("--model", help=f"{', '.join(MODELS)}; by default that of --from, or the recipe's.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE",
              help="Change one setting; may be repeated. stages.*.steps=100 is for all stages.")  # fmt: skip
@click.option("--from", "start", metavar="RUN", help="Start with the parameters of this run's newest checkpoint.")
@click.option("--teacher", metavar="RUN", help="Learn from this run's model, too: --set distill.teacher=RUN.")
@click.option("--teacher-cache", metavar="FOLDER", help="Or from what `visent teacher` wrote: --set distill.cached=...")
@click.option("--tokenizer", metavar="NAME|FOLDER",
              help="That of the shards, for its codebook and pictures; by default the one of visent.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the settings and what the run takes, and stop.")
@click.option(
    "--chip", metavar="NAME", help='With --dry-run: for this chip, as "NVIDIA H200", in place of what is here.'
)
@click.option("--chips", type=click.IntRange(min=1), help="How many of --chip.  [default: 1]")
@click.option("--allow-other-lock", is_flag=True, help="Go on from a checkpoint although the data changed.")
@click.option("--allow-other-settings", is_flag=True, help="Go on although a stage's settings changed.")
@on_hosts
def train(
    recipe: str,
    manifest: str,
    out: str | None,
    model: str | None,
    changes: tuple[str, ...],
    start: str | None,
    teacher: str | None,
    teacher_cache: str | None,
    tokenizer: str | None,
    dry_run: bool,
    chip: str | None,
    chips: int | None,
    allow_other_lock: bool,
    allow_other_settings: bool,
) -> None:
    """Trains, or with --dry-run prints what it would take."""
    from trainer import plan, recipes

    if chip is not None and not dry_run:
        raise UserError("--chip is for estimates alone: add --dry-run, or leave it out to train on what is here")
    if chips is not None and chip is None:
        raise UserError(f'--chips {chips} says how many of --chip: name one, as --chip "NVIDIA H200"')
    recipes.find(recipe)
    lock = plan.read_lock(manifest)
    short = {"start": start, "tokenizer": tokenizer, "distill.teacher": teacher, "distill.cached": teacher_cache}
    named = [f"{setting}={value}" for setting, value in short.items() if value is not None]
    config = plan.fit(_config(recipe, model, start, lock, (*changes, *named)), lock)
    if config.start is not None:
        from trainer.start import open_start

        open_start(config.start, config.model, lock.card)
    if dry_run:
        _show_plan(config, chip, chips or 1)
        return
    if out is None:
        raise UserError("train needs a folder to write to: pass --out RUN, or --dry-run to only look")
    from trainer import hosts, loop

    lines = loop.train(config, lock, out, allow_other_lock=allow_other_lock, allow_other_settings=allow_other_settings)
    if hosts.first():
        _show_evaluations(lines, out)


def _config(recipe: str, model: str | None, start: str | None, lock: "Lock", changes: Sequence[str]) -> "RunConfig":
    """Returns the recipe's configuration with the user's changes; without --model, the model is that of --from."""
    from trainer import overrides, recipes

    chosen: str | ModelConfig | None = model
    if start is not None and model is None:
        from trainer.run_folder import open_run

        chosen = open_run(start).config.model
    stages = {name: stage.context for name, stage in lock.stages.items()}
    return overrides.apply(recipes.make(recipe, chosen, stages), changes)


def _show_plan(config: "RunConfig", chip: str | None, chips: int) -> None:
    from trainer import machine
    from trainer.commands import dry_run

    there = machine.here(config.model, config.compute) if chip is None else machine.of_chip(chip, chips)
    teacher = None
    if config.distill.teacher is not None:
        from trainer.run_folder import open_run

        teacher = open_run(config.distill.teacher).config.model
    dry_run.show(config, there, teacher)


def _show_evaluations(lines: list[dict[str, Any]], out: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "task", "sentences", "loss", "perplexity", "accuracy", title="held-out, at each stage's end")
    last = {line["stage"]: line for line in lines}
    for stage, line in last.items():
        for task, score in line["per_task"].items():
            table.add_row(stage, task, f"{score['sentences']}", f"{score['loss']:.3f}", f"{score['perplexity']:,.1f}",
                          f"{score['accuracy']:.1%}")  # fmt: skip
        for task in line["without_heldout"]:
            table.add_row(stage, task, "none", "-", "-", "-")
    console = Console()
    console.print(table)
    console.print(f"run: {out}")
