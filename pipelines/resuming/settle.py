"""Whether a folder holds the job that is asked for: a new one, the same again, or the same with more input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests import files
from manifests.dataset import config_digest
from pipelines.job import (
    JOB_FILE,
    PLACES,
    SHARD_ENDINGS,
    VERSION,
    Job,
    check_version,
    configuration,
    difference,
    units_of,
)
from pipelines.resuming.listing import (
    FOLDER,
    Change,
    all_units,
    compare,
    digest_of,
    keys_digest,
    summary,
    write_units,
)
from pipelines.sources.base import Item, Unit, cut_into_units
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A folder's job: its configuration and the units of all generations; `new` are those still to be recorded."""

    config: dict[str, Any]
    units: list[Unit]
    new: Sequence[Unit] | None = None

    @property
    def generation(self) -> int:
        """The number of the last generation."""
        return len(self.config["listing"]["generations"]) - 1

    @property
    def digest(self) -> str:
        """What receipts of this job say."""
        return config_digest(self.config)


def settle(job: Job, items: Sequence[Item]) -> Settled:
    """Says how the folder is this job's, new or begun; further items become a generation of their own.

    Writes nothing, see `record`.

    Raises:
        UserError: the folder holds another job, files of another kind, or inputs were changed or taken away.
    """
    begun = begun_config(job.out)
    if begun is None:
        _refuse_file(job.out)
        others = [name for name in files.list_names(job.out) if not name.startswith(".") and name != FOLDER]
        if others:
            raise UserError(f"{job.out} holds other files ({', '.join(others[:3])}); choose a new folder for --out")
        return _begin(job, items)
    current = begun["version"] == VERSION
    different = difference(begun, configuration(job)) if current else ["version"]
    if not any(name.endswith(SHARD_ENDINGS) for name in files.list_names(job.out)):
        first = units_of(job, items)
        kept = not different and begun["listing"] == {"generations": [summary(first)]}
        return Settled(config=begun, units=first) if kept else _begin(job, items)
    check_version(job.out, begun)
    if different:
        raise UserError(_listed(f"{job.out} was begun with another configuration", different,
                                "use the same, or tokenize into another --out"))  # fmt: skip
    return _continued(job, {**begun, **{name: configuration(job)[name] for name in PLACES}}, items)


def _refuse_file(out: str) -> None:
    """Refuses an object of a bucket as the folder; of local folders the command line has seen to it."""
    if not files.is_url(out):
        return
    try:
        size, _ = files.entry_of(out)
    except FileNotFoundError:
        return
    if size:  # some stores keep empty objects where a folder is
        raise UserError(f"--out {out} is a file of {size:,} bytes; expected a folder: choose another name")


def begun_config(folder: str) -> dict[str, Any] | None:
    """Returns the configuration that a folder's job was begun with; None where there is no job.

    Raises: `UserError` for a file that is none.
    """
    path = files.join(folder, JOB_FILE)
    try:
        config = files.read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(config, dict) or "version" not in config:
        raise UserError(f"{path} is no configuration of a job: it was changed by hand or damaged; put it back from a "
                        "copy, or tokenize into another --out")  # fmt: skip
    return config


def _begin(job: Job, items: Sequence[Item]) -> Settled:
    units = units_of(job, items)
    inputs = {"keys_sha256": keys_digest(units), "listing": {"generations": [summary(units)]}}
    return Settled(config={**configuration(job), **inputs}, units=units, new=units)


def record(job: Job, settled: Settled) -> None:
    """Makes the folder the job's: writes the list of what is new in it, then the configuration that names it.

    Raises: `UserError` when the folder cannot be written.
    """
    if settled.new is None:
        return
    files.make_folder(job.out)
    write_units(job.out, settled.generation, settled.new)
    files.write_json(files.join(job.out, JOB_FILE), settled.config)


def _continued(job: Job, begun: dict[str, Any], items: Sequence[Item]) -> Settled:
    """Goes on with a job of which something is done."""
    units, change = units_and_change(job, begun, items)
    refuse(job.out, change)
    if not change.added:
        return Settled(config=begun, units=units)
    generations = begun["listing"]["generations"]
    new = cut_into_units(change.added, job.source.items_per_unit, job.holdout, len(generations))
    config = {**begun, "listing": {"generations": [*generations, summary(new)]}}
    return Settled(config=config, units=[*units, *new], new=new)


def units_and_change(job: Job, config: Mapping[str, Any], items: Sequence[Item]) -> tuple[list[Unit], Change]:
    """Returns the units that a configuration lists, and how the inputs differ from them now.

    Raises: `UserError` when the list of the inputs is gone.
    """
    generations = config["listing"]["generations"]
    first = units_of(job, items)
    if len(generations) == 1 and digest_of(first) == generations[0]["sha256"]:
        return first, Change(added=(), changed=(), removed=())
    units = all_units(job.out, config)
    return units, compare([item for unit in units for item in unit.items], items)


def refuse(folder: str, change: Change) -> None:
    """Refuses inputs that were changed or taken away.

    Raises: `UserError` with a line for each kind.
    """
    lines = change.lines()
    if not lines:
        return
    fix = "put them back as they were, or tokenize into another --out"
    if change.changed:
        fix += f"; files that were rejected and are mended now: visent tokenize --retry-rejects {folder}"
    raise UserError(_listed(f"the inputs of {folder} have changed since it was tokenized", lines, fix))


def _listed(what: str, lines: Sequence[str], fix: str) -> str:
    return "\n  ".join([f"{what}:", *lines]) + f"\n{fix}"
