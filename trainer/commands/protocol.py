"""`visent evaluate --protocol`: from options to the table, the page and the JSON."""

import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from visent.errors import UserError, unknown
from visent.staging import brought, is_url

if TYPE_CHECKING:
    from tokenizer.tokenizer import Tokenizer
    from trainer.config import ComputeConfig, Precision
    from trainer.protocols.preparing import Wanted
    from trainer.protocols.results import Evaluation
    from trainer.protocols.run import Bench, Found
    from trainer.sampling import TrainedRun

BASE = "evaluation"  # of the files' names


class Common(NamedTuple):
    """The options that an evaluation with and without a protocol have."""

    run: str
    step: int | None
    split: str | None  # None where none was named
    sentences: int | None
    batch: int | None
    out: str
    changes: tuple[str, ...]
    as_json: bool


def list_protocols() -> None:
    """Prints the protocols, their parts and the commands that make their data."""
    from trainer.protocols.catalog import help_text

    click.echo(help_text())


def by_protocol(common: Common, asked: Mapping[str, Any]) -> None:
    """Judges a run by a protocol, prints the table and writes it as JSON, Markdown and HTML.

    Raises:
        UserError: an option is wrong, or the evaluation cannot be made.
    """
    from manifests import files
    from trainer import hosts
    from trainer.protocols import catalog, preparing
    from trainer.protocols.run import evaluate
    from trainer.sampling import load_run

    catalog.find(asked["protocol"])
    others = _others(asked)
    run = load_run(common.run, common.step)
    compute = _computed(run, common.changes)
    if hosts.first():
        files.make_folder(common.out)
        for folder in (common.out, files.join(common.out, "sums")):  # what a killed evaluation left
            files.remove_temporaries(folder)
    if asked["protocol"] == "forgetting":
        found = _forgetting(run, common, compute)
    else:
        bench, wanted, axes = _asked(run, common, asked, compute.precision)
        plan = preparing.prepare(run, wanted)
        for note in plan.notes:
            _say(note)
        try:
            found = evaluate(plan, bench, axes, lambda: _tokens(run, common, compute),
                             lambda found: _write(found, others, common.out))  # fmt: skip
        except KeyboardInterrupt:
            raise UserError(f"stopped; the same command goes on with what is in {common.out}") from None
    written = _write(found, others, common.out)
    if hosts.first():
        _show(found, others, written, as_json=common.as_json)


def _others(asked: Mapping[str, Any]) -> list["Evaluation"]:
    """Reads the evaluations that this one is to stand beside."""
    from trainer.protocols import results, sections

    found = [results.read(path) for path in asked["compare"]]
    for path, other in zip(asked["compare"], found, strict=True):
        if other.protocol != asked["protocol"]:
            raise UserError(f"--compare {path} is by protocol {other.protocol!r}: compare evaluations by the same one")
        try:
            sections.markdown([other])  # before the work, of which it would lose the table
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"--compare {path} is damaged ({error!r}): evaluate that run again") from error
    return found


def _say(line: str) -> None:
    from trainer import hosts

    if hosts.first():
        print(line, file=sys.stderr, flush=True)


def _asked(
    run: "TrainedRun", common: Common, asked: Mapping[str, Any], precision: "Precision"
) -> tuple["Bench", "Wanted", list[str]]:  # fmt: skip
    """Opens what the options name."""
    from trainer.commands.protocol_options import named
    from trainer.networks.opening import networks_of
    from trainer.protocols.figures_of import read_reference
    from trainer.protocols.kept_pictures import number_wanted
    from trainer.protocols.preparing import Wanted
    from trainer.protocols.run import Bench
    from trainer.sampling import load_tokenizer

    axes = _axes(asked["sweep"])
    networks = networks_of(asked["network"])
    references = named(asked["reference"], "--reference", "DATA=STATS.npz")
    read = {name: read_reference(path) for name, path in references.items()}
    for reference in read.values():
        reference.check(networks.get("images"))
    codec = load_tokenizer(asked["tokenizer"], run.lock, all_devices=True)
    wanted = Wanted(
        protocol=asked["protocol"], data=named(asked["data"], "--data", "NAME=FOLDER"), networks=networks,
        parts=asked["part"], split=common.split, most=asked["most"], pairs=asked["pairs"], top_k=asked["top_k"],
        temperature=asked["temperature"], seed=asked["seed"], prompt=_prompt(asked, codec), axes=tuple(axes),
        prompt_split=asked["prompt_split"], references=references, papers=asked["papers"],
    )  # fmt: skip
    bench = Bench(
        run=run, tokenizer=codec, networks=networks, out=common.out, batch=common.batch,
        kept=number_wanted(asked["keep_images"]), references=read,
        precision=precision,
    )  # fmt: skip
    return bench, wanted, axes


def _axes(text: str | None) -> list[str]:
    """Returns the axes that `--sweep` names.

    Raises:
        UserError: it names none, an unknown one, or one twice.
    """
    from trainer.protocols.sweeps import AXES

    if text is None:
        return []
    axes = [axis.strip() for axis in text.split(",")]
    for axis in axes:
        if axis not in AXES:
            raise unknown("axis of --sweep", axis, AXES)
    if len(set(axes)) < len(axes):
        raise UserError(f"--sweep {text} names an axis twice: expected some of {', '.join(AXES)}")
    return axes


def _prompt(asked: Mapping[str, Any], codec: "Tokenizer") -> Sequence[Any] | None:
    """Returns the prompt that takes the place of the chosen one: keys of rows, or a person's own pairs."""
    from trainer.protocols.own_pair import read_pairs

    if asked["pair"] and asked["prompt"]:
        raise UserError("--pair and --prompt both name the prompt: keep your own pictures or the rows of the data")
    if asked["pair"]:
        return read_pairs([(_local(image), _local(annotation)) for image, annotation in asked["pair"]], codec)
    return asked["prompt"] or None


def _local(picture: str) -> str:
    """Returns a file, or a copy of one at a URL, which goes when the command ends."""
    return str(click.get_current_context().with_resource(brought(picture))) if is_url(picture) else picture


def _computed(run: "TrainedRun", changes: tuple[str, ...]) -> "ComputeConfig":
    """Returns how things are computed on the devices at hand, as `--set` says."""
    import dataclasses

    from trainer import overrides
    from trainer.evaluate import judge

    plain = dataclasses.replace(run.config, compute=judge.here(run.config.compute))
    return overrides.apply_to_compute(plain, changes)


def _tokens(run: "TrainedRun", common: Common, compute: "ComputeConfig") -> dict[str, Any]:
    """Returns loss, accuracy and perplexity of the run's own tasks."""
    from trainer.evaluate import judge

    return judge.judge(
        run.saved, run.lock, compute, stages=(), split=common.split or "val",
        sentences=common.sentences or run.config.evaluate_sentences, batch=common.batch,
    ).to_json()  # fmt: skip


def _forgetting(run: "TrainedRun", common: Common, compute: "ComputeConfig") -> "Found":
    from trainer.protocols import catalog, forgetting
    from trainer.protocols.run import Found, begun

    found = forgetting.measure(
        common.run, run.lock, compute, split=common.split or "val",
        sentences=common.sentences or run.config.evaluate_sentences, batch=common.batch,
    )  # fmt: skip
    about = catalog.find("forgetting").about
    return Found(evaluation=begun(run, "forgetting", about, common.split or "val", forgetting=found.to_json()))


def _write(found: "Found", others: Sequence["Evaluation"], out: str) -> list[str]:
    """Writes the JSON, the Markdown and the page of what was found so far; returns their names.

    In the last two the other evaluations stand beside it.
    """
    from manifests import files
    from trainer import hosts
    from trainer.protocols import report_page, sections

    names = [files.join(out, f"{BASE}.{ending}") for ending in ("json", "md", "html")]
    if hosts.first():
        files.write_json(names[0], found.evaluation.to_json())
        files.write_bytes(names[1], sections.markdown([found.evaluation, *others]).encode())
        files.write_bytes(names[2], report_page.page([found.evaluation, *others], found.pictures).encode())
    return names


def _show(found: "Found", others: Sequence["Evaluation"], written: Sequence[str], *, as_json: bool) -> None:
    import json

    from rich.console import Console

    from trainer.protocols import sections, tables

    if as_json:
        click.echo(json.dumps(found.evaluation.to_json(), indent=1))
        return
    grids = [*sections.grids([found.evaluation, *others]), *tables.seconds(found.evaluation)]
    text = io.StringIO()
    tables.show(Console(file=text, width=Console().width), grids)
    click.echo(text.getvalue())
    for line in (*found.evaluation.notes, *written):
        click.echo(line)
