"""A finished unit with its rejects tried again: the rows that are there, and those that have become rows since.

What is made has the bytes that the unit would have if nothing had failed: every result gets the place that the source
gives it. Items without a reject to try are not read; of those that are, only examples that have no row are decoded.
"""

import shutil
from dataclasses import replace

from manifests import files
from manifests.shards import (
    ShardInfo,
    ShardWriter,
    read_keys,
    read_receipt,
    read_rows,
    receipt_name,
    rejects_name,
    write_receipt,
)
from pipelines.encoder import Encoder
from pipelines.job import Job, Retry, Work
from pipelines.meter import Meter
from pipelines.resuming.order import DUPLICATE, Order, read_rejects, write_rejects
from pipelines.resuming.weave import Merge, There, WorseError, is_chosen
from pipelines.units import closed, passes, rows
from visent.errors import UserError


def retry_unit(job: Job, work: Work, digest: str, encoder: Encoder, meter: Meter) -> ShardInfo:
    """Makes all shards of a unit anew; the receipt of view 0, which is returned, comes last.

    Raises:
        UserError: what is there of the unit is damaged, the target cannot be written, or the source gave other
            examples for a view than a moment before.
    """
    retry = work.retry
    assert retry is not None  # for type checkers
    there = _there(job, work, retry)
    again = _to_read_again(work, retry, there)
    if not again:
        return _copied(job, retry, there)
    while True:
        try:
            first = _shard(job, work, digest, encoder, meter, there, again)
            break
        except WorseError as worse:
            again.discard(worse.item)
    for views in retry.views[1:]:
        later = replace(work, views=views)
        try:
            info = _shard(job, later, digest, encoder, meter, there, again)
        except WorseError:
            info = None
        if info is None or info.keys_sha256 != first.keys_sha256:
            file = later.file(job.format)
            raise UserError(f"{file}: the source gave other examples for the originals; run the same command again")
        write_receipt(job.out, info)
    write_receipt(job.out, first)
    return first


def _there(job: Job, work: Work, retry: Retry) -> There:
    """Reads what is there, and checks that it fits together.

    Raises: `UserError`.
    """
    file = work.file(job.format)
    info = read_receipt(retry.folder, file)
    if info is None:
        raise UserError(f"{retry.folder} lost {file} while the job ran; run the `visent tokenize` that made it again")
    keys = read_keys(files.join(retry.folder, file), job.schema)
    rejects = read_rejects(files.join(retry.folder, rejects_name(file)))
    if len(rejects) != sum(info.rejects.values()) or len(keys) != info.rows:
        raise UserError(
            f"{files.join(retry.folder, file)} holds {len(keys)} rows and its list {len(rejects)} rejects, its receipt "
            f"says {info.rows} and {sum(info.rejects.values())}: remove {receipt_name(file)} and run the `visent "
            "tokenize` that made it again"
        )
    return There(info=info, keys=keys, rejects=rejects)


def _to_read_again(work: Work, retry: Retry, there: There) -> set[int]:
    """Returns the items that may give more than they gave.

    Those that the listing itself rejects do not; a key that came twice may be free, where an item has changed.
    """
    chosen = {
        known.item
        for known in there.rejects
        if is_chosen(known.reject, retry) and not work.unit.items[known.item].reject
    }
    doubles = {known.item for known in there.rejects if known.reject.reason == DUPLICATE} if retry.changed else set()
    return chosen | doubles | set(retry.changed)


def _copied(job: Job, retry: Retry, there: There) -> ShardInfo:
    """Stages a unit as it is, where nothing of it is to be read again."""
    file = there.info.file
    target = files.join(job.out, file)
    with files.local_copy(files.join(retry.folder, file)) as local, files.writing(target) as temporary:
        shutil.copyfile(local, temporary)
    write_rejects(files.join(job.out, rejects_name(file)), there.rejects)
    write_receipt(job.out, there.info)
    return there.info


def _shard(
    job: Job, work: Work, digest: str, encoder: Encoder, meter: Meter, there: There, again: set[int]
) -> ShardInfo:
    """Writes one shard and its list of rejects, and returns its receipt unwritten."""
    retry = work.retry
    assert retry is not None  # for type checkers
    file = work.file(job.format)
    old = files.join(retry.folder, file)
    known = read_receipt(retry.folder, file)
    if known is None or known.keys_sha256 != there.info.keys_sha256:
        raise UserError(f"{old} does not hold the rows of view 0: remove it and run `visent tokenize` again")
    original, fresh = Order(work.faults), False
    with ShardWriter(files.join(job.out, file), job.schema, unit=work.unit.id, split=work.unit.split,
                     views=work.views, config_digest=digest) as writer:  # fmt: skip
        before = read_rows(old, job.schema)
        for views in passes(job, work.views):
            order = original if views[0] == work.views[0] else Order(work.faults)
            merge = Merge(job, work, there, again, order)
            made = rows(job, merge.examples(), views, encoder, order.rejected, meter)
            for row, is_new in merge.woven(made, before, views):
                fresh = fresh or is_new
                with meter.at("write"):
                    writer.append([row])
        info = closed(writer, original)
    write_rejects(files.join(job.out, rejects_name(file)), original.rejects)
    return replace(info, made_with=_together(known, encoder) if fresh else known.made_with)


def _together(known: ShardInfo, encoder: Encoder) -> dict[str, str]:
    """Returns what made the codes of a shard: of an old part and a new one."""
    pairs = {name: dict.fromkeys([*known.made_with.get(name, value).split(" + "), value])
             for name, value in encoder.made_with.items()}  # fmt: skip
    return {name: " + ".join(values) for name, values in pairs.items()}
