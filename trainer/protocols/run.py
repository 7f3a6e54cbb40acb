"""An evaluation by a protocol, from a run to its table: samples, figures, sweeps and tokens, one after the other.

After each part the table so far is written, so that an evaluation that is stopped leaves what it found; run again, it
finds samples and sums in its folder and goes on.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tokenizer.tokenizer import Tokenizer
from trainer import hosts
from trainer.config import Precision
from trainer.networks.network import Network, Slot
from trainer.protocols import decoded, delvm, kept_pictures, papers, sweeps
from trainer.protocols.cases import Cases
from trainer.protocols.figures_of import Reference
from trainer.protocols.generation import generate_cases
from trainer.protocols.measuring import measure
from trainer.protocols.part import Part
from trainer.protocols.preparing import Plan, Ready, settings_of
from trainer.protocols.results import Evaluation, NetworkFacts, Row, Sweep, versions
from trainer.protocols.samples import Samples
from trainer.sampling import TrainedRun
from visent.errors import UserError

SHOWN = 6  # samples of a sweep's grid
ENCODED, DIFFERENT = 8, 0.5  # samples that are encoded again, and the part of codes that must not differ


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every part of an evaluation is judged with."""

    run: TrainedRun
    tokenizer: Tokenizer
    networks: Mapping[Slot, Network] = field(default_factory=dict)
    references: Mapping[str, Reference] = field(default_factory=dict)  # by name of data
    out: str
    batch: int | None = None
    precision: Precision = "auto"
    kept: int | None = 0  # images of each part that are written as files; None for all


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an evaluation has found so far; pictures are PNGs by the names that the page looks for."""

    evaluation: Evaluation
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def evaluate(
    plan: Plan,
    bench: Bench,
    axes: Sequence[str],
    tokens: Callable[[], Mapping[str, Any]],
    keep: Callable[[Found], object],
) -> Found:
    """Judges all parts that are ready, then the axes of sweeps, then the run's tokens; `keep` is told after each.

    Every host of a run calls this.

    Raises:
        UserError: what `generate_cases` and `measure` raise.
    """
    networks = tuple(NetworkFacts.of(slot, network) for slot, network in bench.networks.items())
    found = Found(evaluation=begun(bench.run, plan.protocol.name, plan.protocol.about, plan.split, networks=networks,
                                   rows=_in_order(plan, ()), notes=plan.notes))  # fmt: skip
    for ready in plan.ready:
        check_truth(ready, bench.tokenizer)
    for ready in plan.ready:
        row, samples = judge(ready, bench)
        row = dataclasses.replace(row, papers=plan.rows[ready.part.name])
        rows = _in_order(plan, (*found.evaluation.rows, row))
        found = _with(found, _sheet(ready, samples, bench), rows=rows)
        keep(found)
    for ready in plan.ready if axes else ():
        for axis in axes:
            made, pictures = _sweep(ready, bench, axis)
            found = _with(found, pictures, sweeps=(*found.evaluation.sweeps, made))
            keep(found)
    if plan.tokens:
        found = _with_tokens(found, tokens)
        keep(found)
    return found


def check_truth(ready: Ready, tokenizer: Tokenizer) -> None:
    """Refuses pixels that are not those behind the codes, as where pictures were replaced since they were tokenized.

    A few samples are encoded again. Another device or precision changes some codes of a hundred; another picture
    nearly all.

    Raises:
        UserError: most codes differ.
    """
    cases, size = ready.cases, tokenizer.card.tokens_per_image
    numbers = np.linspace(0, len(cases) - 1, min(ENCODED, len(cases))).round().astype(np.int64)
    again = tokenizer.encode(cases.truth(numbers)[:, 0])
    wrong = (again != cases.truth_codes[numbers, :size]).mean(axis=1)
    worst = int(wrong.argmax())
    if wrong[worst] > DIFFERENT:
        raise UserError(
            f"pixels of {cases.keys[numbers[worst]]!r} of part {ready.part.name!r} are not those behind its codes: "
            f"encoded again, {wrong[worst]:.0%} of them differ; its picture was replaced since: tokenize dataset "
            f"{ready.data.folder} again, then make its pixels"
        )


def _with_tokens(found: Found, tokens: Callable[[], Mapping[str, Any]]) -> Found:
    """Adds loss, accuracy and perplexity, or says why a run has none: not all corpora hold rows out."""
    try:
        return _with(found, {}, tokens=tokens())
    except UserError as error:
        note = f"no loss, accuracy and perplexity of the run's own tasks: {error}"
        return _with(found, {}, notes=(*found.evaluation.notes, note))


def judge(ready: Ready, bench: Bench) -> tuple[Row, Samples]:
    """Generates the samples of a part and judges them.

    Raises:
        UserError: what `generate_cases` and `measure` raise.
    """
    part, cases, run = ready.part, ready.cases, bench.run
    samples = generate_cases(run, cases, part.sampling, bench.out, name=part.name, batch=bench.batch,
                             precision=bench.precision)  # fmt: skip
    measured = measure(part, cases, samples, bench.tokenizer, bench.networks, bench.out,
                       pixels=ready.data.pixels_digest, reference=bench.references.get(part.data))  # fmt: skip
    if bench.kept != 0:
        kept_pictures.keep_pictures(part, cases, samples, bench.tokenizer, bench.out, most=bench.kept)
    warning = delvm.seen(run.lock, part)
    return Row(
        part=part, figures=measured.figures, samples=measured.samples, seed=part.sampling.seed,
        dataset=ready.data.folder, dataset_digest=ready.data.pixels_digest, cases_digest=cases.digest,
        notes=tuple(cases.notes), warnings=(warning,) if warning else (),
        seconds={"generation": samples.seconds, **measured.seconds},
    ), samples  # fmt: skip


def begun(run: TrainedRun, protocol: str, about: str, split: str, **found: Any) -> Evaluation:
    """Returns an evaluation of which nothing is known but what is judged, and what was `found`."""
    config, card = run.config, run.lock.card
    return Evaluation(
        protocol=protocol, about=about, run=str(run.saved.folder.root), step=run.step, recipe=config.recipe,
        model=config.model.name, parameters=config.model.parameters, fine_tuned=delvm.fine_tuned(run.lock),
        weights_digest=run.saved.digest(), lock_digest=run.lock.digest, tokenizer=card.name,
        fingerprint=card.fingerprint, split=split, versions=versions(), paper_tokens=papers.tokens(protocol), **found,
    )  # fmt: skip


def _in_order(plan: Plan, found: Sequence[Row]) -> tuple[Row, ...]:
    """Returns what was found and what will not be run, as the protocol has its parts."""
    order = {part.name: number for number, part in enumerate(plan.protocol.parts)}
    rows = {row.part.name: row for row in (*plan.not_run, *found)}
    return tuple(sorted(rows.values(), key=lambda row: order[row.part.name]))


def _with(found: Found, pictures: Mapping[str, bytes], **changes: Any) -> Found:
    return Found(evaluation=dataclasses.replace(found.evaluation, **changes), pictures={**found.pictures, **pictures})


def _sweep(ready: Ready, bench: Bench, axis: str) -> tuple[Sweep, dict[str, bytes]]:
    """Judges a part at each setting of an axis, and draws the same few samples of each."""
    tried = settings_of(bench.run, ready.part, axis)
    made: list[tuple[Cases, Samples]] = []

    def at(part: Part) -> Row:
        changed = ready.at(part)
        row, samples = judge(changed, bench)
        made.append((changed.cases, samples))
        return row

    found = sweeps.sweep(ready.part, axis, tried, at)
    names = [f"{axis} {setting.value:g}" for setting in tried if setting.part is not None]
    return found, _grid(ready, bench, axis, dict(zip(names, made, strict=True)))


def _grid(ready: Ready, bench: Bench, axis: str, made: Mapping[str, tuple[Cases, Samples]]) -> dict[str, bytes]:
    """Draws the same few samples at each setting; of clips their last frame."""
    if not hosts.first():
        return {}
    cases, codec = ready.cases, bench.tokenizer
    numbers = np.linspace(0, len(cases) - 1, min(SHOWN, len(cases))).round().astype(np.int64)
    columns = [(name, decoded.results(of, samples, codec, numbers)[:, -1]) for name, (of, samples) in made.items()]
    name = sweeps.picture_name(ready.part.name, axis)
    given = decoded.given(cases, codec, numbers, most=1)[:, -1]
    return {name: sweeps.picture(name, given, cases.truth(numbers)[:, -1], columns)}


def _sheet(ready: Ready, samples: Samples, bench: Bench) -> dict[str, bytes]:
    """Draws samples of a part for the page, on the first host."""
    if not hosts.first():
        return {}
    part, data = ready.part, io.BytesIO()
    title = f"{part.name}: given, generated, truth, and the truth through the tokenizer"
    kept_pictures.contact_sheet(part, ready.cases, samples, bench.tokenizer, title).save(data, "PNG")
    return {part.name: data.getvalue()}
