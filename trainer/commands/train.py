"""`visent train`."""

import json
from typing import TYPE_CHECKING, Any

import click

from trainer.commands.on_hosts import on_hosts
from visent.errors import UserError

if TYPE_CHECKING:
    from trainer.config import RunConfig


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recipe")
@click.option("--manifest", "-m", required=True, help="manifest.toml, or a manifest.lock.json to read as it stands.")
@click.option("--out", help="Folder of the run, or gs://bucket/path; resumes what is there.")
@click.option("--model", help="tiny, 80m, 300m, 600m, 1b or 3b; by default the recipe's own.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change one setting; may be repeated.")
@click.option("--teacher", metavar="RUN", help="Learn from this run's model, too: --set distill.teacher=RUN.")
@click.option("--teacher-cache", metavar="FOLDER", help="Or from what `visent teacher` wrote: --set distill.cached=...")
@click.option("--dry-run", is_flag=True, help="Print the settings and what the run takes, and stop.")
@click.option("--allow-other-lock", is_flag=True, help="Go on from a checkpoint although the data changed.")
@click.option("--allow-other-settings", is_flag=True, help="Go on although a stage's settings changed.")
@on_hosts
def train(
    recipe: str,
    manifest: str,
    out: str | None,
    model: str | None,
    changes: tuple[str, ...],
    teacher: str | None,
    teacher_cache: str | None,
    dry_run: bool,
    allow_other_lock: bool,
    allow_other_settings: bool,
) -> None:
    """Train a model on the shards that a manifest names.

    RECIPE is lvm-lite (the paper's two stages) or tiny (both stages in minutes on a laptop). The same command again
    resumes from the newest checkpoint in --out, with exactly the batches that were left.

    \b
    Example:
      visent train tiny --manifest manifest.toml --out run/
      visent train lvm-lite -m manifest.toml --model 300m --dry-run
      visent train lvm-lite -m manifest.toml --out gs://bucket/run --hosts 4 --host-id 0 --coordinator 10.0.0.1:8476
      visent train tiny -m manifest.toml --out run/ --set stages.images.steps=300 --set model.layers=6

    Writes config.json, manifest.lock.json, metrics.jsonl, eval.jsonl, tensorboard/, checkpoints/ and, with
    --set sample_every=N, samples/ into --out.
    """
    from trainer import overrides, plan, recipes

    config = overrides.apply(recipes.make(recipe, model), (*changes, *_distillation(teacher, teacher_cache)))
    lock = plan.read_lock(manifest)
    config = plan.fit(config, lock)
    if dry_run:
        _show_plan(config)
        return
    if out is None:
        raise UserError("train needs a folder to write to: pass --out RUN, or --dry-run to only look")
    from trainer import hosts, loop

    lines = loop.train(config, lock, out, allow_other_lock=allow_other_lock, allow_other_settings=allow_other_settings)
    if hosts.first():
        _show_evaluations(lines, out)


def _distillation(teacher: str | None, cache: str | None) -> list[str]:
    """Returns what the options of distillation stand for."""
    named = {"distill.teacher": teacher, "distill.cached": cache}
    return [f"{setting}={value}" for setting, value in named.items() if value is not None]


def _show_plan(config: "RunConfig") -> None:
    from rich.console import Console
    from rich.table import Table

    from trainer.plan import costs

    console = Console()
    console.print_json(json.dumps(config.to_json()))
    table = Table("stage", "context", "steps", "tokens/step", "TFLOP/step", "tokens", "TFLOP")
    for name, cost in costs(config).items():
        teraflops = cost.flops_per_step / 1e12
        per_step = cost.context * cost.batch_sentences
        numbers = (cost.context, cost.steps, per_step, teraflops, cost.tokens, teraflops * cost.steps)
        table.add_row(name, *(f"{n:,.4g}" if isinstance(n, float) else f"{n:,}" for n in numbers))
    console.print(table)
    console.print(f"model {config.model.name}: {config.model.parameters:,} parameters")


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
