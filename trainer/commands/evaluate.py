"""`visent evaluate`."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trainer.evaluate.judge import Judged


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run")
@click.option(
    "--manifest", "-m", help="Other shards of the same tokenizer [default: the lock that RUN was trained on]."
)
@click.option("--step", type=click.IntRange(0), help="Of the checkpoint [default: the newest].")
@click.option("--stage", "stages", multiple=True, help="Only this stage's tasks; may be repeated.")
@click.option("--split", default="val", show_default=True, help="Of the shards.")
@click.option("--sentences", type=click.IntRange(1), help="Of each task, at most [default: as while training].")
@click.option("--batch", type=click.IntRange(1), help="Sentences scored at a time [default: as memory should allow].")
@click.option("--out", help="Folder for the results [default: evaluation in RUN].")
@click.option("--set", "changes", multiple=True, metavar="compute.X=VALUE", help="Change how it is computed.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON in place of tables.")
def evaluate(
    run: str, manifest: str | None, step: int | None, stages: tuple[str, ...], split: str, sentences: int | None,
    batch: int | None, out: str | None, changes: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Score a checkpoint of RUN on sentences that it was not trained on.

    Loss (nats per token), perplexity and accuracy (how often the likeliest code was the right one) of every task, of
    every image of its sentences, and of every token of an image. The sentences are the same whatever the run.

    \b
    Example:
      visent evaluate run/
      visent evaluate run/ --stage sequences --sentences 1000
      visent evaluate gs://bucket/run --manifest other.toml --out scores/ --json

    Writes step-N-SPLIT.json and a picture of the losses by position for each stage.
    """
    import dataclasses
    import json

    from manifests import files
    from trainer import overrides, plan
    from trainer.evaluate import judge
    from trainer.run_folder import open_run

    found = open_run(run, step)
    lock = found.lock if manifest is None else plan.read_lock(manifest)
    folder = out or files.join(run, "evaluation")
    files.make_folder(folder)  # before the work, of which nothing would be left
    plain = dataclasses.replace(found.config, compute=judge.here(found.config.compute))
    judged = judge.judge(
        found, lock, overrides.apply_to_compute(plain, changes), stages=stages, split=split,
        sentences=sentences or found.config.evaluate_sentences, batch=batch,
    )  # fmt: skip
    written = judge.write(judged, folder)
    if as_json:
        click.echo(json.dumps(judged.to_json(), indent=1))
        return
    _show(judged, written)


def _show(judged: "Judged", written: list[str]) -> None:
    from rich.console import Console

    from trainer.evaluate import tables

    console = Console()
    for name, found in judged.stages.items():
        where = f"stage {name}, step {judged.step}, split {judged.split}"
        console.print(tables.by_task(found.tasks, where, found.missing))
        several = {task: score for task, score in found.tasks.items() if len(score.roles) > 1}
        if several:
            console.print(tables.by_image(several, f"{where}, by image of a sentence"))
    for path in written:
        click.echo(path)
