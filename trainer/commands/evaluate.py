"""`visent evaluate`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from trainer.commands.on_hosts import on_hosts
from trainer.commands.protocol_options import protocol_options

if TYPE_CHECKING:
    from trainer.commands.protocol import Common
    from trainer.evaluate.judge import Judged


def _list_protocols(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from trainer.commands.protocol import list_protocols

        list_protocols()
        ctx.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run")
@click.option(
    "--manifest", "-m", help="Other shards of the same tokenizer [default: the lock that RUN was trained on]."
)
@click.option("--step", type=click.IntRange(0), help="Of the checkpoint [default: the newest].")
@click.option("--stage", "stages", multiple=True, help="Only this stage's tasks; may be repeated.")
@click.option("--split", help="Of the shards [default: val; with a protocol the one that the paper judges].")
@click.option("--sentences", type=click.IntRange(1), help="Of each task, at most [default: as while training].")
@click.option("--batch", type=click.IntRange(1), help="Sentences at a time, on each device [default: as memory should "
              "allow].")  # fmt: skip
@click.option("--out", help="Folder for the results [default: evaluation in RUN].")
@click.option("--set", "changes", multiple=True, metavar="compute.X=VALUE", help="Change how it is computed.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON in place of tables.")
@click.option("--protocols", is_flag=True, is_eager=True, expose_value=False, callback=_list_protocols,
              help="List the protocols, their parts and the commands that make their data.")  # fmt: skip
@protocol_options
@on_hosts
def evaluate(
    run: str, manifest: str | None, step: int | None, stages: tuple[str, ...], split: str | None,
    sentences: int | None, batch: int | None, out: str | None, changes: tuple[str, ...], as_json: bool,
    asked: Mapping[str, Any],
) -> None:  # fmt: skip
    """Score a checkpoint of RUN on sentences that it was not trained on, or judge it by a paper's protocol.

    Without --protocol: loss (nats per token), perplexity and accuracy (how often the likeliest code was the right one)
    of every task, of every image of its sentences, and of every token of an image. The sentences are the same whatever
    the run. Writes step-N-SPLIT.json and a picture of the losses by position for each stage.

    With --protocol: images and clips are generated from held-out prompts and judged against real pixels, beside the
    paper's rows and beside the ceiling, the truth through the tokenizer. Writes evaluation.html with pictures, .md and
    .json; samples are kept in --out, so the same command goes on where it was stopped. See docs/evaluation.md.

    \b
    Example:
      visent evaluate run/
      visent evaluate run/ --stage sequences --sentences 1000
      visent evaluate gs://bucket/run --manifest other.toml --out scores/ --json
      visent pixels corpus/* --split val
      visent evaluate run/ --protocol tasks --network images=efficientnet-lite0 --most 64
      visent evaluate run/ --protocol lvm-lite --data ade20k=corpus/ade20k --network images=inception.pth
      visent evaluate run/ --protocol delvm --part "foreground, Pascal-5i split 0" --data pascal5i-0=corpus/pascal5i-0
      visent evaluate run/ --protocol tasks --part edge --sweep pairs,top-k,temperature
    """
    from manifests import files
    from trainer.commands.protocol import Common, by_protocol

    folder = out or files.join(run, "evaluation")
    common = Common(run=run, step=step, split=split, sentences=sentences, batch=batch, out=folder, changes=changes,
                    as_json=as_json)  # fmt: skip
    if asked["protocol"] is None:
        _by_tokens(common, manifest, stages)
    else:
        _refuse(manifest=manifest, stages=stages)
        by_protocol(common, asked)


def _refuse(**options: Any) -> None:
    """Refuses what no protocol takes.

    Raises:
        UserError: it was given.
    """
    from visent.errors import UserError

    given = [name for name, value in options.items() if value]
    if given:
        flag = {"stages": "--stage"}.get(given[0], f"--{given[0]}")
        raise UserError(f"{flag} goes without --protocol: a protocol says itself which data is judged")


def _by_tokens(common: "Common", manifest: str | None, stages: tuple[str, ...]) -> None:
    """Scores the tokens of held-out sentences."""
    import dataclasses
    import json

    from manifests import files
    from trainer import hosts, overrides, plan
    from trainer.evaluate import judge
    from trainer.run_folder import open_run

    found = open_run(common.run, common.step)
    lock = found.lock if manifest is None else plan.read_lock(manifest)
    if hosts.first():
        files.make_folder(common.out)  # before the work, of which nothing would be left
    plain = dataclasses.replace(found.config, compute=judge.here(found.config.compute))
    judged = judge.judge(
        found, lock, overrides.apply_to_compute(plain, common.changes), stages=stages, split=common.split or "val",
        sentences=common.sentences or found.config.evaluate_sentences, batch=common.batch,
    )  # fmt: skip
    if not hosts.first():
        return
    written = judge.write(judged, common.out)
    if common.as_json:
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
