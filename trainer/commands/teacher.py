"""`visent teacher`."""

import dataclasses
import re

import click

from visent.errors import UserError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run")
@click.option("--manifest", "-m", required=True, help="manifest.toml, or a manifest.lock.json to read as it stands.")
@click.option("--stage", required=True, help="Stage of the manifest whose sentences the teacher sees.")
@click.option("--steps", required=True, type=click.IntRange(1), help="Steps of the students' stage.")
@click.option("--batch", required=True, type=click.IntRange(1), help="Sentences of each step.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of the students' runs.")
@click.option("--top-k", default=64, show_default=True, type=click.IntRange(1), help="Likeliest codes to store.")
@click.option("--out", required=True, help="Folder or URL for the files; goes on with what is there.")
@click.option(
    "--tokens-at-once", default=32768, show_default=True, type=click.IntRange(1), help="Computed together by a device."
)
@click.option("--part", default="1/1", show_default=True, help="I/N: do the I-th of N equal parts of the files.")
@click.option("--check", is_flag=True, help="Compare finished files with their sha256; write damaged ones again.")
@click.option(
    "--set", "changes", multiple=True, metavar="compute.X=VALUE", help="How to compute, as in `visent train`."
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and stop.")
def teacher(
    run: str,
    manifest: str,
    stage: str,
    steps: int,
    batch: int,
    seed: int,
    top_k: int,
    out: str,
    tokens_at_once: int,
    part: str,
    check: bool,
    changes: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Write what the model of RUN thinks likeliest of a stage's sentences, for students to learn from.

    For each token, the --top-k likeliest codes and their log-probabilities: 4 bytes each. Students of any batch size
    read them by the number of the sentence, as long as manifest, stage and seed are the same and steps x batch is not
    more. The same command again goes on where it stopped; with more --steps it adds what is missing.

    \b
    Example:
      visent teacher big/ -m manifest.toml --stage images --steps 2000 --batch 512 --out logits/
      visent train delvm --model 300m -m manifest.toml --teacher-cache logits/ --out small/
      visent teacher big/ -m manifest.toml --stage images --steps 2000 --batch 512 --out gs://b/logits --part 2/8

    Writes OUT/STAGE/teacher.json, files of about 64 MB, and a receipt beside each.
    """
    from trainer import overrides, plan, teach
    from trainer.config import ComputeConfig
    from trainer.teacher import open_teacher

    lock = plan.read_lock(manifest)
    saved = open_teacher(run, lock)
    compute = overrides.apply_to_compute(dataclasses.replace(saved.config, compute=ComputeConfig()), changes)
    work = teach.Assignment(stage=stage, sentences=steps * batch, seed=seed, top_k=top_k, compute=compute,
                            tokens_at_once=tokens_at_once, part=_part(part), check=check)  # fmt: skip
    facts = teach.plan(saved, lock, work)
    per_token, size = facts.record.itemsize // facts.context, facts.record.itemsize * facts.sentences
    click.echo(
        f"{facts.sentences:,} sentences of {facts.context:,} tokens x {per_token:,} bytes per token = "
        f"{size / 1e9:,.3f} GB in {facts.files:,} files; teacher {saved.config.model.name}, step {saved.step:,}"
    )
    if dry_run:
        return
    written = teach.write(saved, lock, work, facts, out, click.echo)
    click.echo(f"teacher: {written:,} files written, the others of this part were there: {out}")


def _part(text: str) -> tuple[int, int]:
    """Reads `I/N` as (I - 1, N)."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--part {text!r}: expected I/N with I from 1 to N, such as 2/8")
    return int(found[1]) - 1, int(found[2])
