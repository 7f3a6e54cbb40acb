"""`visent classify`."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.commands.on_hosts import on_hosts
from visent.errors import UserError
from visent.staging import staged

if TYPE_CHECKING:
    from trainer.classify.pictures import Pictures
    from trainer.config import RunConfig


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("images", type=click.Path(file_okay=False))
@click.option("--out", help="Folder or URL of the probe; resumes what is there.")
@click.option("--from", "start", metavar="RUN", help="Take the layers of this run's newest checkpoint.")
@click.option("--model", help="Its size; by default that of --from, else 80m.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change one setting; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Print the settings and what the run takes, and stop.")
@click.option("--allow-other-settings", is_flag=True, help="Go on although settings changed.")
@on_hosts
@staged(reads=("images",))
def classify(
    images: Path,
    out: str | None,
    start: str | None,
    model: str | None,
    changes: tuple[str, ...],
    dry_run: bool,
    allow_other_settings: bool,
) -> None:
    """Classify pictures with the layers of a trained model (DeLVM's ImageNet probe).

    IMAGES holds train/<class>/<picture> and val/<class>/<picture>, as ImageNet is laid out; a flat val/ needs val.txt
    beside it; at a URL they are copied to this machine first. Patches of pixels take the place of codes, the positions'
    average that of the next code. All layers are trained; with classify.train_layers=false only what is new.

    \b
    Example:
      visent classify imagenet/ --from run/ --out probe/
      visent classify imagenet/ --out scratch/ --model 80m        without a trained model, to compare
      visent classify flowers/ --from run/ --out probe/ --set stages.classify.steps=2000 --set classify.patch=32

    Writes config.json, metrics.jsonl, eval.jsonl (accuracy) and checkpoints/ into --out.
    """
    from trainer import overrides
    from trainer.classify.pictures import find

    config = overrides.apply(_recipe(model, start), changes)
    _refuse_idle(config)
    training = find(images, "train")
    if dry_run:
        _show_plan(config, training)
        return
    if out is None:
        raise UserError("classify needs a folder to write to: pass --out PROBE, or --dry-run to only look")
    from trainer import hosts
    from trainer.classify import loop

    lines = loop.train(config, images, out, allow_other_settings=allow_other_settings)
    if not hosts.first():
        return
    last = lines[-1]
    click.echo(f"{last['pictures']} held-out pictures: accuracy {last['accuracy']:.2%}, among the likeliest five "
               f"{last['accuracy_of_five']:.2%}, loss {last['loss']:.3f}\nprobe: {out}")  # fmt: skip


def _recipe(model: str | None, start: str | None) -> "RunConfig":
    from trainer.classify.recipe import classify as recipe
    from trainer.recipes import MODELS
    from visent.errors import unknown

    if model is not None and model not in MODELS:
        raise unknown("model", model, MODELS)
    if start is None:
        return recipe(MODELS[model or "80m"])
    from trainer.run_folder import open_run

    trained = open_run(start).config.model
    return dataclasses.replace(recipe(trained if model is None else MODELS[model]), start=start)


def _refuse_idle(config: "RunConfig") -> None:
    """Refuses settings that a probe has no use for."""
    from trainer.classify.recipe import STAGE

    idle = {
        f"stages.{STAGE}.context": config.stages[STAGE].context,
        "distill.teacher": config.distill.teacher,
        "distill.cached": config.distill.cached,
        "sample_every": config.sample_every,
        "figures_every": config.figures_every,
    }
    for name, value in idle.items():
        if value:
            raise UserError(f"--set {name}={value}: a probe reads pictures, not sentences; leave it out")


def _show_plan(config: "RunConfig", training: "Pictures") -> None:
    from rich.console import Console

    from trainer.classify.recipe import STAGE

    stage, probe = config.stages[STAGE], config.classify
    assert probe is not None
    pictures = stage.steps * stage.batch_sentences
    layers = config.model.layers * config.model.layer_parameters
    flops = 6.0 * layers * probe.positions + 6.0 * config.model.layers * config.model.hidden * probe.positions**2
    console = Console()
    console.print_json(json.dumps(config.to_json()))
    console.print(
        f"{len(training.names):,} pictures of {len(training.classes):,} classes; {pictures:,} read in {stage.steps:,} "
        f"steps: {pictures / len(training.names):.1f} epochs; {layers:,} parameters in layers; about "
        f"{flops / 1e9:,.1f} GFLOP a picture, {flops * pictures / 1e12:,.0f} TFLOP in all"
    )
