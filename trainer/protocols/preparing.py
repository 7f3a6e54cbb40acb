"""What an evaluation by a protocol will do: its parts with their data and cases, before anything is generated."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from manifests.pixels import PixelStore
from trainer.generate import Sampling
from trainer.networks.network import Network, Slot
from trainer.protocols import by_tasks, catalog, papers, sweeps
from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.make_cases import check_room, make_cases
from trainer.protocols.pairs import Prompt
from trainer.protocols.part import Part, Protocol
from trainer.protocols.results import PaperRow, Row
from trainer.sampling import TrainedRun
from visent.errors import UserError

WITH_ONE_PROMPT = ("images", "labels")  # kinds of parts whose samples share one
WITH_PAIRS = (*WITH_ONE_PROMPT, "foreground")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person asks of an evaluation; None takes what the paper has."""

    protocol: str
    data: Mapping[str, str] = field(default_factory=dict)  # name -> folder
    networks: Mapping[Slot, Network] = field(default_factory=dict)
    parts: tuple[str, ...] = ()  # () takes all
    split: str | None = None
    most: int | None = None  # samples of each part
    pairs: int | None = None
    top_k: int | None = None
    temperature: float | None = None
    seed: int = 0
    prompt: Prompt | None = None
    prompt_split: str | None = None
    axes: tuple[str, ...] = ()  # of sweeps
    references: Mapping[str, str] = field(default_factory=dict)  # data's name -> .npz
    papers: Sequence[str] = ()

    def changed(self, part: Part) -> Part:
        """Returns a part with what was asked for otherwise."""
        top_k = part.sampling.top_k if self.top_k is None else self.top_k
        temperature = part.sampling.temperature if self.temperature is None else self.temperature
        sampling = Sampling(top_k=top_k, temperature=temperature, seed=self.seed)
        pairs = part.pairs if self.pairs is None or not part.given else self.pairs
        return dataclasses.replace(part, sampling=sampling, pairs=pairs)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A part with its data and cases, before anything is generated; `make` makes cases of other settings."""

    part: Part
    data: EvalData
    cases: Cases
    make: Callable[[Part], Cases]

    def at(self, part: Part) -> "Ready":
        """Returns the same samples at other settings; prompts change with their number of pairs alone."""
        cases = self.cases if part.pairs == self.part.pairs else self.make(part)
        return dataclasses.replace(self, part=part, cases=cases)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an evaluation will do: everything that could be refused has been looked at."""

    protocol: Protocol
    split: str  # of the run's own tasks
    tokens: bool  # loss, accuracy and perplexity of the run's tasks belong to it
    ready: tuple[Ready, ...]
    not_run: tuple[Row, ...]
    rows: Mapping[str, tuple[PaperRow, ...]]  # part -> the papers' rows beside it
    notes: tuple[str, ...]


def prepare(run: TrainedRun, wanted: Wanted) -> Plan:
    """Finds the parts, opens their data and makes their cases.

    A part whose data was not given, or whose sentences are longer than the model's, becomes a row that says so.

    Raises:
        UserError: an unknown protocol, part or name of data, data that does not fit, or nothing that was asked for
            can be run.
    """
    known = catalog.find(wanted.protocol)
    protocol, folders, notes = _protocol(run, wanted)
    catalog.check_data(protocol, [*wanted.data, *wanted.references])
    published = papers.load(wanted.papers)
    ready, left = [], []
    opened: dict[str, EvalData] = {}
    parts = catalog.select(protocol, wanted.parts)
    _check_pairs(wanted, parts)
    for part in map(wanted.changed, parts):
        found = _ready(run, wanted, part, folders, opened)
        if isinstance(found, Ready):
            ready.append(found)
        elif wanted.parts:  # it was asked for by name
            raise UserError(f"part {part.name!r} is {found}")
        else:
            left.append(Row(part=part, papers=papers.rows_of(published, protocol.name, part), not_run=found))
    for one in ready:
        for axis in wanted.axes:
            settings_of(run, one.part, axis)  # refuses an axis that the part does not have
    if not ready and not known.tokens:
        raise UserError(f"no part of protocol {protocol.name!r} can be run: {left[0].not_run}")
    rows = {one.part.name: papers.rows_of(published, protocol.name, one.part) for one in ready}
    return Plan(protocol=protocol, split=wanted.split or by_tasks.SPLIT, tokens=known.tokens, ready=tuple(ready),
                not_run=tuple(left), rows=rows, notes=notes)  # fmt: skip


def settings_of(run: TrainedRun, part: Part, axis: str) -> list[sweeps.Setting]:
    """Returns the settings of a sweep, as far as the run's model has room for them.

    Raises:
        UserError: there is no such axis, or the part has no pairs.
    """
    return sweeps.settings(part, axis, codebook_size=run.config.model.codebook_size,
                           tokens_per_image=run.lock.card.tokens_per_image, context_tokens=run.context)  # fmt: skip


def _check_pairs(wanted: Wanted, parts: Sequence[Part]) -> None:
    """Refuses to be asked for a prompt of parts that have none of that kind.

    Raises:
        UserError: no part would heed it.
    """
    asked = {
        "--pairs": (wanted.pairs is not None, WITH_PAIRS), "--prompt-split": (wanted.prompt_split, WITH_PAIRS),
        "--pair or --prompt": (wanted.prompt, WITH_ONE_PROMPT),
    }  # fmt: skip
    for flag, (value, kinds) in asked.items():
        if value and not any(part.kind in kinds for part in parts):
            names = ", ".join(repr(part.name) for part in parts)
            raise UserError(f"{flag} is for parts of kind {' or '.join(kinds)}, and {names} is none: leave it out, or "
                            "name other parts")  # fmt: skip


def _protocol(run: TrainedRun, wanted: Wanted) -> tuple[Protocol, Mapping[str, str], tuple[str, ...]]:
    """Returns the protocol, the folders of its data, and what to say of tasks without a part."""
    if wanted.protocol != "tasks":
        return catalog.make(wanted.protocol), wanted.data, ()
    split = wanted.split or by_tasks.SPLIT

    def has_legend(dataset: str, role: str) -> bool:
        return PixelStore.open(run.lock.folder(dataset), split).legend(role) is not None

    found = by_tasks.by_tasks(run.lock, list(run.config.stages), has_legend)
    return found.protocol, {**found.folders, **wanted.data}, found.notes


def _ready(
    run: TrainedRun, wanted: Wanted, part: Part, folders: Mapping[str, str], opened: dict[str, EvalData]
) -> Ready | str:
    """Returns a part that can be run, or why it is not; parts of one dataset share what is `opened` of it."""
    if part.data not in folders:
        return catalog.not_run(part)
    card = run.lock.card
    try:
        check_room(part, card.tokens_per_image, run.context)
    except UserError as error:
        if part.given and wanted.pairs is not None:
            raise
        return f"not run: {error}"  # it is the model's, not what was asked for: other parts may fit
    if part.data not in opened:
        split = wanted.split or catalog.split_of(part.data)
        opened[part.data] = EvalData.open(part.data, folders[part.data], split, card)
    data = opened[part.data]
    prompt = wanted.prompt if part.kind in WITH_ONE_PROMPT else None

    def make(part: Part) -> Cases:
        return make_cases(part, data, run.context, most=wanted.most, seed=wanted.seed, prompt=prompt,
                          prompt_split=wanted.prompt_split)  # fmt: skip

    return Ready(part=part, data=data, cases=make(part), make=make)
