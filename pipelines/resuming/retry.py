"""`visent tokenize --retry-rejects`: finds what was rejected, tries it again, and puts the shards in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from manifests import files
from manifests.dataset import config_digest, has_facts, load_facts
from manifests.receipts import read_receipts
from manifests.shards import ShardInfo, receipt_name, rejects_name
from pipelines.alone import alone
from pipelines.job import JOB_FILE, Job, Retry, Work, check_version, job_from_facts
from pipelines.resuming.adopt import PLAN_FILE, Adoption, adopt, facts_kept, finish_begun, staged
from pipelines.resuming.listing import Change, file_of, summary, write_units
from pipelines.resuming.order import DUPLICATE, parse_rejects
from pipelines.resuming.settle import begun_config, refuse, units_and_change
from pipelines.runners.dryrun import stop_if_dry
from pipelines.runners.options import beam_options, check_in_reach, is_dry
from pipelines.running import run_missing
from pipelines.sources.base import Item, Unit
from pipelines.tokenize import Summary, check_rejects, summarize, write_changed_facts
from visent.errors import UserError, unknown

STAGES = ("list", "read", "decode", "align")  # of rejects


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to retry in a dataset."""

    job: Job
    config: Mapping[str, Any]
    units: Sequence[Unit]  # as their items are now
    receipts: Mapping[str, list[ShardInfo]]  # unit -> its shards, view 0 first
    works: Sequence[Work]
    mended: frozenset[str]  # units with items whose files are others now
    rejects: int  # that are tried

    @property
    def digest(self) -> str:
        """What the receipts of the dataset say."""
        return config_digest(self.config)


def retry_rejects(
    folder: str, reasons: Sequence[str] = (), beam_arguments: Sequence[str] = (), max_reject_fraction: float = 0.05
) -> Summary:
    """Tries rejected examples again: all, or those with one of `reasons` (or of these stages).

    Only they are decoded and encoded, and only shards that gain by it are written anew, in the source's order. Files
    that were mended since are read as they are now.

    Raises:
        UserError: there is no such dataset, other inputs have changed, or the target cannot be written.
    """
    options = beam_options(beam_arguments)
    _begun(folder)
    if not is_dry(options):
        finish_begun(folder)
    with alone(folder):
        plan = _plan(folder, reasons)
        check_in_reach(plan.job, options)
        stop_if_dry(_staging(plan), plan.works, plan.digest, options)
        if plan.works:
            _prepare(plan)
        _, ran, seconds = run_missing(_staging(plan), plan.works, plan.digest, options, _pictures(plan))
        gained = _adopt(plan) if plan.works else 0
        note = f"{gained:,} of {plan.rejects:,} rejects are rows now" if plan.works else "nothing is to be tried again"
        shards, left = _ended(plan, max_reject_fraction)
    return summarize(plan.job, shards, len(shards) - len(plan.works), ran, seconds, "; ".join([note, *left]))


def _staging(plan: Plan) -> Job:
    return replace(plan.job, out=staged(plan.job.out))


def _plan(folder: str, reasons: Sequence[str]) -> Plan:
    """Finds what there is to retry.

    Raises: `UserError`.
    """
    config = _begun(folder)
    name = load_facts(folder).name if has_facts(folder) else files.name(folder)
    job = job_from_facts(folder, name, config)
    known, change = units_and_change(job, config, job.source.listing()[0])
    receipts = _by_unit(folder, config_digest(config))
    mended = _mended(folder, known, receipts, change, job)
    units = [_as_now(unit, mended.get(unit.id, {})) for unit in known]
    _check_reasons(reasons, receipts)
    works = [_work(unit, folder, receipts[unit.id], reasons, mended.get(unit.id, {})) for unit in units
             if unit.id in receipts and (unit.id in mended or _count(receipts[unit.id], reasons))]  # fmt: skip
    rejects = sum(_count(receipts[work.unit.id], reasons) or len(mended[work.unit.id]) for work in works)
    return Plan(job=job, config=config, units=units, receipts=receipts, works=works, mended=frozenset(mended),
                rejects=rejects)  # fmt: skip


def _begun(folder: str) -> dict[str, Any]:
    config = begun_config(folder)
    if config is None:
        raise UserError(f"no job at {folder}: expected a folder that `visent tokenize` wrote, with its {JOB_FILE}")
    check_version(folder, config)
    return config


def _by_unit(folder: str, digest: str) -> dict[str, list[ShardInfo]]:
    """Returns the receipts of this configuration by unit, those of view 0 first."""
    found: dict[str, list[ShardInfo]] = {}
    for info in sorted(read_receipts(folder).values(), key=lambda info: info.first_view):
        if info.config_digest == digest:
            found.setdefault(info.unit, []).append(info)
    return {unit: infos for unit, infos in found.items() if infos[0].first_view == 0}


def _mended(
    folder: str, units: Sequence[Unit], receipts: Mapping[str, list[ShardInfo]], change: Change, job: Job
) -> dict[str, dict[int, Item]]:
    """Returns, by unit and index, the items that are others now, all of which were rejected before.

    Raises: `UserError` when other inputs have changed, or are gone.
    """
    now = {id(old): new for old, new in change.changed}
    found = {unit.id: at for unit in units if now
             if (at := {index: now[id(item)] for index, item in enumerate(unit.items) if id(item) in now})}  # fmt: skip
    rejected = _rejected(folder, [unit for unit in units if unit.id in found and unit.id in receipts], job)
    wrong = [(unit.items[index], new) for unit in units for index, new in found.get(unit.id, {}).items()
             if index not in rejected.get(unit.id, ()) or unit.items[index].split != new.split]  # fmt: skip
    refuse(folder, Change(added=(), changed=wrong, removed=change.removed))
    return found


def _rejected(folder: str, units: Sequence[Unit], job: Job) -> dict[str, set[int]]:
    """Returns the items of each unit that gave a reject; many lists are read at once."""
    names = [rejects_name(Work(unit=unit).file(job.format)) for unit in units]
    texts = files.read_many(folder, names)
    return {
        unit.id: {known.item for known in parse_rejects(files.join(folder, name), text or b"")}
        for unit, name, text in zip(units, names, texts, strict=True)
    }


def _as_now(unit: Unit, mended: Mapping[int, Item]) -> Unit:
    items = tuple(mended.get(index, item) for index, item in enumerate(unit.items)) if mended else unit.items
    return replace(unit, items=items)


def _check_reasons(reasons: Sequence[str], receipts: Mapping[str, list[ShardInfo]]) -> None:
    """Refuses a reason that no reject has."""
    there = {reason for infos in receipts.values() for reason in infos[0].rejects}
    for reason in reasons:
        if reason not in there and reason not in STAGES:
            raise unknown("reason or stage of rejects", reason, (*there, *STAGES))


def _count(infos: Sequence[ShardInfo], reasons: Sequence[str]) -> int:
    """Counts the rejects of a unit that may be tried; a stage may be that of any."""
    rejects = infos[0].rejects
    if any(reason in STAGES for reason in reasons):
        return sum(rejects.values())
    return sum(count for reason, count in rejects.items() if (reason in reasons if reasons else reason != DUPLICATE))


def _work(
    unit: Unit, folder: str, infos: Sequence[ShardInfo], reasons: Sequence[str], mended: Mapping[int, Item]
) -> Work:
    views = tuple((info.first_view, info.last_view) for info in infos)
    return Work(unit=unit, retry=Retry(folder=folder, views=views, reasons=tuple(reasons), changed=tuple(mended)))


def _pictures(plan: Plan) -> int:
    """Guesses how many pictures there are to encode, if every reject becomes a row."""
    views = max((work.retry.views[-1][1] + 1 for work in plan.works if work.retry), default=1)
    return plan.rejects * views * len(plan.job.schema.roles)


def _prepare(plan: Plan) -> None:
    """Keeps what an earlier retry made of the very same work, and removes the rest."""
    folder = staged(plan.job.out)
    path = files.join(folder, PLAN_FILE)
    wanted = {work.file(plan.job.format): _digest(work, plan.receipts[work.unit.id]) for work in plan.works}
    try:
        made = dict(files.read_json(path))
    except FileNotFoundError:
        made = {}
        files.remove(folder)
    files.make_folder(folder)
    for file in made.keys() - {file for file, digest in wanted.items() if made.get(file) == digest}:
        files.remove(files.join(folder, receipt_name(file)))
    files.write_json(path, wanted)


def _digest(work: Work, infos: Sequence[ShardInfo]) -> str:
    receipts = [(info.file, info.sha256, sorted(info.rejects.items())) for info in infos]
    return sha256(f"{work.to_json()}{receipts}".encode()).hexdigest()


def _adopt(plan: Plan) -> int:
    """Puts the shards that gained in place of those that were there; returns how many rejects have become rows."""
    out, folder = plan.job.out, staged(plan.job.out)
    made = _by_unit(folder, plan.digest)
    units = [work.unit for work in plan.works if _is_other(work.unit.id, plan, made)]
    shards = [info for unit in units for info in made[unit.id]]
    there = {info.file: info.sha256 for unit in units for info in plan.receipts[unit.id]}
    facts = facts_kept(load_facts(out)) if has_facts(out) else None
    unchanged = [info.file for info in shards if there[info.file] == info.sha256]
    lists = _write_lists(plan)
    files_made = [info.file for info in shards]
    adopt(out, Adoption(shards=files_made, unchanged=unchanged, lists=lists, facts=facts))
    return sum(made[unit.id][0].rows - plan.receipts[unit.id][0].rows for unit in units)


def _is_other(unit: str, plan: Plan, made: Mapping[str, list[ShardInfo]]) -> bool:
    before, now = plan.receipts[unit][0], made[unit][0]
    return unit in plan.mended or before.keys_sha256 != now.keys_sha256 or before.rejects != now.rejects


def _write_lists(plan: Plan) -> list[str]:
    """Stages the lists of inputs whose items are others now, and the configuration that names them."""
    if not plan.mended:
        return []
    folder, names, begin = staged(plan.job.out), [], 0
    generations = [dict(known) for known in plan.config["listing"]["generations"]]
    for number, known in enumerate(generations):
        units = plan.units[begin : begin + sum(known["units"].values())]
        begin += len(units)
        if any(unit.id in plan.mended for unit in units):
            write_units(folder, number, units)
            generations[number] = summary(units)
            names.append(file_of(number))
    config = {**plan.config, "listing": {"generations": generations}}
    files.write_json(files.join(folder, JOB_FILE), config)
    return [*names, JOB_FILE]


def _ended(plan: Plan, limit: float) -> tuple[list[ShardInfo], list[str]]:
    """Finishes the dataset where nothing is missing any more; returns its shards of view 0, and what is missing.

    Raises: `UserError` when it was unfinished for too many rejects and still has too many.
    """
    out = plan.job.out
    receipts = _by_unit(out, plan.digest)
    shards = [receipts[unit.id][0] for unit in plan.units if unit.id in receipts]
    missing = len(plan.units) - len(shards)
    if missing:
        return shards, [f"{missing:,} shards are still to be made: run the `visent tokenize` that began it"]
    if not has_facts(out):
        check_rejects(plan.job, shards, limit)
    write_changed_facts(plan.job, _begun(out), shards)
    return shards, []
