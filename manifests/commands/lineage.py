"""`visent lineage`."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from manifests.lineage import ReadExample, Reading, Reads, Seen

SHOWN = 50  # lines of a table; --json gives all


@click.command("lineage", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("path", metavar="LOCK | MANIFEST | RUN")
@click.option("--step", type=int, required=True, metavar="N", help="Of the stage, counted from 0.")
@click.option("--stage", metavar="NAME", help="Needed where the lock has several.")
@click.option("--batch", type=int, metavar="N", help="Sentences of one step. A run's own where RUN is given.")
@click.option("--seed", type=int, metavar="N", help="Of the order of reading; a run's own, else 0.")
@click.option("--key", metavar="KEY", help="Show instead each step from 0 to N that read this key.")
@click.option("--task", metavar="NAME", help="Only what this task read.")
@click.option("--no-keys", is_flag=True, help="Name rows by shard and number, without reading the shards' keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts, with every line, in place of tables.")
def lineage(
    path: str, step: int, stage: str | None, batch: int | None, seed: int | None, key: str | None, task: str | None,
    no_keys: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show which rows a step of training read, which steps read a key, and how often each task's rows were read.

    All of it is computed from the lock, the seed and the size of a batch; no run is needed. Of the shards only the
    keys are read, and the lengths of clips where those of one shard differ. A line of a run's metrics.jsonl with
    stage_step s was written after step s - 1 was read.

    \b
    Examples:
      visent lineage run/ --stage sequences --step 1200
      visent lineage manifest.lock.json --stage sequences --batch 512 --step 1200 --no-keys
      visent lineage manifest.lock.json --stage sequences --batch 512 --step 1200 --key train2017/000000000009
    """
    from dataclasses import asdict
    from itertools import islice

    from manifests.lineage import examples_of_step, readings_of_key, seen_by

    reads = _reads(path, stage, batch, seed)
    if task is not None:
        reads.corpus.lock.stage(reads.stage).task(task)
    facts: dict[str, Any] = {"stage": reads.stage, "step": step, "batch": reads.batch, "seed": reads.seed,
                             "lock": reads.corpus.lock.digest}  # fmt: skip
    seen = [each for each in seen_by(reads, step) if task in (None, each.task)]
    if key is not None:
        readings = readings_of_key(reads, key, step, task)
        if as_json:
            _print_json(facts | {"key": key, "read": [asdict(reading) for reading in readings]}, seen)
        else:
            _print_readings(key, step, readings)
            _print_seen(seen, step)
        return
    examples = (each for each in examples_of_step(reads, step, keys=not no_keys) if task in (None, each.task))
    if as_json:
        _print_json(facts | {"examples": [example.to_json() for example in examples]}, seen)
        return
    first = step * reads.batch
    click.echo(f"Step {step} of stage {reads.stage}: sentences {first} to {first + reads.batch - 1}, seed {reads.seed}")
    _print_examples(list(islice(examples, SHOWN + 1)))
    _print_seen(seen, step)


def _reads(path: str, stage: str | None, batch: int | None, seed: int | None) -> "Reads":
    from manifests import files
    from manifests.corpus import Corpus
    from manifests.lineage import Reads, only_stage
    from manifests.lock import load_lock, resolve
    from visent.errors import UserError

    run: dict[str, Any] = {}
    lock_path = path
    if files.exists(files.join(path, "config.json")):
        run, lock_path = files.read_json(files.join(path, "config.json"))["config"], files.join(path, RUN_LOCK)
    corpus = Corpus(resolve(lock_path) if lock_path.endswith(".toml") else load_lock(lock_path))
    name = only_stage(corpus, stage)
    if batch is None and name not in run.get("stages", {}):
        raise UserError(f"{path} does not say how many sentences a step of stage {name!r} reads: give --batch, or the "
                        "folder of the run in place of the lock")  # fmt: skip
    batch = run["stages"][name]["batch_sentences"] if batch is None else batch
    return Reads(corpus=corpus, stage=name, batch=batch, seed=run.get("seed", 0) if seed is None else seed)


RUN_LOCK = "manifest.lock.json"


def _print_json(facts: dict[str, Any], seen: list["Seen"]) -> None:
    import json
    from dataclasses import asdict

    rows = [asdict(each) | {"epochs": each.epochs} for each in seen]
    click.echo(json.dumps(facts | {"seen": rows}, indent=1, ensure_ascii=False))


def _print_examples(examples: list["ReadExample"]) -> None:
    from rich.table import Table

    from manifests.tables import console

    named = bool(examples) and examples[0].key is not None
    table = Table("sentence", "task", "key" if named else "row", "view", "images", box=None, header_style="bold",
                  pad_edge=False)  # fmt: skip
    last = None
    for example in examples[:SHOWN]:
        row = example.key or f"{example.dataset}/{example.shard}, row {example.row}"
        shown = ("", "") if example.sentence == last else (str(example.sentence), example.task)
        table.add_row(*shown, row, str(example.view), _images(example.images))
        last = example.sentence
    console().print(table)
    if len(examples) > SHOWN:
        click.echo(f"... and more: --json prints all, --task those of one task; shown are the first {SHOWN} examples")


def _images(images: tuple[tuple[str, int | None], ...]) -> str:
    """Returns the roles in order; frames of one role that follow each other stand together."""
    parts: list[str] = []
    last = None
    for role, frame in images:
        if frame is not None and role == last:
            parts[-1] += f" {frame}"
        else:
            parts.append(role if frame is None else f"{role} {frame}")
        last = role
    return ", ".join(parts)


def _print_readings(key: str, step: int, readings: list["Reading"]) -> None:
    from rich.table import Table

    from manifests.tables import console

    click.echo(f"{key} was read {len(readings)} times in steps 0 to {step}")
    table = Table("step", "sentence", "task", "view", "example", box=None, header_style="bold", pad_edge=False)
    for reading in readings[:SHOWN]:
        table.add_row(str(reading.step), str(reading.sentence), reading.task, str(reading.view), str(reading.example))
    if readings:
        console().print(table)
    if len(readings) > SHOWN:
        click.echo(f"... and {len(readings) - SHOWN} more: --json prints all")


def _print_seen(seen: list["Seen"], step: int) -> None:
    from rich.table import Table

    from manifests.tables import console

    click.echo(f"\nRead in steps 0 to {step}:")
    table = Table("task", "sentences", "rows", "epochs", "each row", box=None, header_style="bold", pad_edge=False)
    for each in seen:
        table.add_row(each.task, f"{each.sentences:,}", f"{each.rows:,}", f"{each.epochs:.2f}", _often(each))
    console().print(table)


def _often(seen: "Seen") -> str:
    if not seen.times:
        return f"{seen.once_more:,} rows once, the others not yet" if seen.once_more else "not yet"
    more = f"; {seen.once_more:,} rows once more" if seen.once_more else ""
    return ("once" if seen.times == 1 else f"{seen.times:,} times") + more
