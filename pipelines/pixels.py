"""`visent pixels`: what the tokenizer saw of each row, written beside the codes, as far as it is not there yet."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from manifests import files
from manifests.dataset import DatasetFacts, load_facts
from manifests.pixel_files import (
    FOLDER,
    PixelFacts,
    PixelFile,
    PixelSink,
    chosen,
    facts_path,
    keys_digest,
    load_pixel_facts,
    shards_of,
)
from manifests.schema import RoleKind
from manifests.shards import ShardInfo, receipt_name
from pipelines.alone import alone
from pipelines.annotate.networks import legends as drawn_legends
from pipelines.job import Job, job_from_facts
from pipelines.pixel_rows import Packed, ShardRows, packed_rows, shard_rows
from pipelines.resuming.adopt import finish_begun
from pipelines.resuming.listing import all_units
from visent.errors import UserError, unknown
from visent.progress import Track, track
from visent.untrusted.documents import parse_json


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a run did, and what is there now."""

    folder: str
    split: str
    roles: tuple[str, ...]
    rows: int
    files: int
    made: int  # of the files, in this run
    bytes: int
    pictures: int  # written in this run: roles and frames
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The pixels of one shard."""

    shard: ShardInfo
    everything: ShardRows
    rows: ShardRows  # those that get pixels

    @property
    def file(self) -> str:
        return f"{self.shard.unit}.parquet"


def make_pixels(folder: str, split: str = "val", roles: Sequence[str] = (), most: int | None = None) -> Made:
    """Makes the pixels of a split, or what is missing of them; roles and rows that are there stay.

    `roles` are all by default. `most` limits the rows of the split, see `manifests.pixel_files.chosen`.

    Raises:
        UserError: there is no such dataset, split or role; its source is gone or was changed; or the target cannot be
            written.
    """
    started = time.monotonic()
    finish_begun(folder)
    load_facts(folder)  # says so where there is no dataset, which could not be locked either
    with alone(folder):
        facts, before = load_facts(folder), load_pixel_facts(folder, split)
        kinds, most = _asked(folder, facts, split, roles, most, before)
        now, made, pictures = _brought_up_to_date(folder, facts, split, kinds, most, before)
        _finish(folder, now, before)
    return Made(
        folder=folder, split=split, roles=tuple(kinds), rows=sum(file.rows for file in now.files),
        files=len(now.files), made=made, bytes=sum(file.bytes for file in now.files), pictures=pictures,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _brought_up_to_date(
    folder: str, facts: DatasetFacts, split: str, kinds: Mapping[str, RoleKind], most: int | None,
    before: PixelFacts | None,
) -> tuple[PixelFacts, int, int]:  # fmt: skip
    """Makes the files that are missing; returns what there is then, how many files were made, of how many pictures."""
    target = files.join(folder, FOLDER)
    files.make_folder(target)
    files.remove_temporaries(target)
    works = _works(folder, facts, split, most)
    done = _done(target, works, kinds)
    missing = [work for work in works if work.file not in done]
    made: dict[str, PixelFile] = {}
    pictures, legends = 0, before.legends if before else {}
    if missing or not _covers(before, facts, kinds):  # else the source may be gone
        job = _job(folder, facts, kinds)
        made, pictures = _run(job, target, facts, missing, kinds)
        legends = {**job.source.legends, **drawn_legends(job.networks)}
    now = PixelFacts(
        dataset=facts.name, split=split, config_digest=facts.config_digest, image_size=facts.schema.card.image_size,
        roles=kinds, most=most, legends={role: legend for role, legend in legends.items() if role in kinds},
        files=tuple((done | made)[work.file] for work in works),
    )  # fmt: skip
    return now, len(made), pictures


def _covers(before: PixelFacts | None, facts: DatasetFacts, kinds: Mapping[str, RoleKind]) -> bool:
    return before is not None and before.config_digest == facts.config_digest and kinds.keys() <= before.roles.keys()


def _asked(
    folder: str, facts: DatasetFacts, split: str, roles: Sequence[str], most: int | None, before: PixelFacts | None
) -> tuple[dict[str, RoleKind], int | None]:
    """Returns the roles and the rows to make: what is asked for and what is there already.

    Raises: `UserError` for an unknown role or split, or a dataset without pictures.
    """
    if split not in facts.splits:
        raise unknown(f"split of dataset {facts.name!r}", split, facts.splits)
    if facts.config.get("source") == "import":
        raise UserError(f"dataset {folder} was imported as tokens, so there are no pictures behind its codes: tokenize "
                        "the pictures themselves to evaluate on them")  # fmt: skip
    for role in roles:
        if role not in facts.schema.roles:
            raise unknown(f"role of dataset {facts.name!r}", role, facts.schema.roles)
    if most is not None and most < 1:
        raise UserError(f"--most is {most}, expected 1 row or more")
    if before is not None and before.config_digest == facts.config_digest:
        roles = (*roles, *before.roles) if roles else ()
        most = None if most is None or before.most is None else max(most, before.most)
    return {role: kind for role, kind in facts.schema.roles.items() if not roles or role in roles}, most


def _job(folder: str, facts: DatasetFacts, kinds: Mapping[str, RoleKind]) -> Job:
    """Builds the dataset's job again, with those annotators that draw what is asked for.

    Raises: `UserError` when that is not possible, or would draw otherwise.
    """
    annotate = [role for role in facts.config.get("annotate", ()) if role in kinds]
    job = job_from_facts(folder, facts.name, {**facts.config, "annotate": annotate})
    for network in job.networks:
        if (then := facts.config["annotators"][network.role]) != network.sha256:
            raise UserError(
                f"role {network.role!r} of {folder} was drawn by a model of sha256 {then[:16]}, the one here has "
                f"{network.sha256[:16]}: put the first one back, or name the other roles with --roles"
            )
    return job


def _works(folder: str, facts: DatasetFacts, split: str, most: int | None) -> list[_Work]:
    """Reads which rows the shards hold, and chooses among them."""
    there = shards_of(facts, split)
    with track(f"keys of {facts.name}", len(there), "shards") as progress:
        everything = []
        for shard in there:
            everything.append(shard_rows(folder, facts, shard))
            progress.advance()
    rows = chosen([own.keys for own in everything], most)
    return [_Work(shard=shard, everything=own, rows=own.only(chosen))
            for shard, own, chosen in zip(there, everything, rows, strict=True)]  # fmt: skip


def _done(target: str, works: Sequence[_Work], kinds: Mapping[str, RoleKind]) -> dict[str, PixelFile]:
    """Returns the receipts, by file name, of the pixels that are there and of the shards as they are."""
    sizes = files.list_sizes(target)
    texts = files.read_many(target, [receipt_name(work.file) for work in works], sizes)
    found = {}
    for work, text in zip(works, texts, strict=True):
        try:
            info = None if text is None else PixelFile.from_json(parse_json(text))
        except ValueError:  # no receipt of this version: what it is of is made again
            continue
        if info is not None and sizes.get(info.file) == info.bytes and _is_current(info, work, kinds):
            found[work.file] = info
    return found


def _is_current(info: PixelFile, work: _Work, kinds: Mapping[str, RoleKind]) -> bool:
    own = (info.file, info.shard_sha256, info.rows_sha256)
    return own == (work.file, work.shard.sha256, keys_digest(work.rows.keys)) and set(kinds) <= set(info.roles)


def _run(
    job: Job, target: str, facts: DatasetFacts, works: Sequence[_Work], kinds: Mapping[str, RoleKind]
) -> tuple[dict[str, PixelFile], int]:
    """Makes what is missing; returns the receipts by file name, and how many pictures were written."""
    if not works:
        return {}, 0
    units = {unit.id: unit for unit in all_units(job.out, facts.config)}
    if unlisted := [work.shard.file for work in works if work.shard.unit not in units]:
        raise UserError(f"{unlisted[0]} in {job.out} is of no unit that the list of its inputs has: put the list back "
                        "from a copy, or tokenize into another folder")  # fmt: skip
    made, pictures = {}, 0
    with track(f"pixels of {facts.name}", sum(len(work.rows.keys) for work in works), "rows") as progress:
        for work in works:
            packed = packed_rows(job, units[work.shard.unit], work.shard, tuple(kinds), work.everything, work.rows)
            made[work.file], written = _write(target, work, kinds, packed, progress)
            pictures += written
    return made, pictures


def _write(
    target: str, work: _Work, kinds: Mapping[str, RoleKind], packed: Iterable[Packed], progress: Track
) -> tuple[PixelFile, int]:
    """Writes one file and then its receipt; returns that, and how many pictures there are."""
    pictures = 0
    with files.writing(files.join(target, work.file)) as temporary:
        with PixelSink(temporary, kinds) as sink:
            for row in packed:
                sink.append(row.key, row.pictures)
                pictures += sum(map(len, row.pictures.values()))
                progress.advance()
        size, digest = files.stamp(temporary)[0], files.sha256(temporary)
    info = PixelFile(
        file=work.file, unit=work.shard.unit, shard_sha256=work.shard.sha256, keys_sha256=work.shard.keys_sha256,
        rows=len(work.rows.keys), rows_sha256=keys_digest(work.rows.keys), roles=tuple(kinds), bytes=size,
        sha256=digest,
    )  # fmt: skip
    files.write_json(files.join(target, receipt_name(work.file)), info.to_json())
    return info, pictures


def _finish(folder: str, now: PixelFacts, before: PixelFacts | None) -> None:
    """Writes the list of the split, and removes the pixels of shards that are no more."""
    if before is None or before.to_json() != now.to_json():
        files.write_json(facts_path(folder, now.split), now.to_json())
    units = {info.unit for info in now.files}
    for old in before.files if before else ():
        if old.unit not in units:
            files.remove(files.join(folder, FOLDER, old.file))
            files.remove(files.join(folder, FOLDER, receipt_name(old.file)))
