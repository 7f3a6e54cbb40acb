"""One unit of work from its media to a shard with its receipt."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

from manifests import files
from manifests.schema import Row
from manifests.shards import ShardInfo, ShardWriter, read_receipt, rejects_name, write_receipt
from pipelines.annotate.networks import annotated
from pipelines.encoder import Encoder, encoded
from pipelines.examples import Squares, frames, squares
from pipelines.job import Job, Work
from pipelines.meter import Meter
from pipelines.prefetch import MAX_AHEAD, ahead
from pipelines.resuming.order import Order, write_rejects
from pipelines.sources.base import Drawn, Encoded, Example, Reject
from visent.errors import UserError

VIEWS_AT_ONCE = 4  # made from one decoding of a picture


def tokenize_unit(job: Job, work: Work, digest: str, encoder: Encoder, meter: Meter | None = None) -> ShardInfo:
    """Makes one shard: reads and decodes ahead in threads, encodes, writes; the receipt comes last.

    Memory is bounded by what is decoded ahead, never by the unit. `meter` is told where the time goes.

    Raises:
        UserError: the target cannot be written, or the source no longer gives the keys it gave.
    """
    meter = meter or Meter()
    original = Order(work.faults)
    file = work.file(job.format)
    path = files.join(job.out, file)
    with ShardWriter(path, job.schema, unit=work.unit.id, split=work.unit.split, views=work.views,
                     config_digest=digest, made_with=encoder.made_with) as writer:  # fmt: skip
        for views in passes(job, work.views):
            order = original if views[0] == work.views[0] else Order(work.faults)
            for row in rows(job, order.read(job.source, work.unit), views, encoder, order.rejected, meter):
                with meter.at("write"):
                    writer.append([row])
        if (there := made_already(job, work, digest)) is not None:
            writer.abort()
            return there
        with meter.at("write"):
            info = closed(writer, original)
    if work.keys_sha256 and info.keys_sha256 != work.keys_sha256:
        raise UserError(f"{file}: the source no longer gives the rows of view 0; put its files back as they were")
    with meter.at("write"):
        write_rejects(files.join(job.out, rejects_name(file)), original.rejects)
        write_receipt(job.out, info)
    return info


def made_already(job: Job, work: Work, digest: str) -> ShardInfo | None:
    """Returns the receipt where the shard is there: runners give a unit to a second worker while a first is at it.

    The first that ends has made it. The codes of the other, of another device, may be others, and its receipt too. It
    asks for the one receipt, as a listing of all shards is long.
    """
    info = read_receipt(job.out, work.file(job.format))
    return info if info is not None and info.config_digest == digest else None


def closed(writer: ShardWriter, order: Order) -> ShardInfo:
    """Finishes a shard.

    Raises: `UserError` when the source gave other examples for a later view, or the target cannot be written.
    """
    try:
        return writer.close(order.counts)
    except ValueError as error:
        raise UserError(f"{error}: the source gave other examples when it was read again; run the same command "
                        "again") from error  # fmt: skip


def passes(job: Job, views: tuple[int, int]) -> list[range]:
    """Groups the views that are made from one reading of the source; the codes of all but the first wait in memory."""
    at_once = 1 if job.schema.clips else VIEWS_AT_ONCE
    first, last = views
    return [range(view, min(view + at_once, last + 1)) for view in range(first, last + 1, at_once)]


def rows(
    job: Job,
    examples: Iterable[Example],
    views: range,
    encoder: Encoder,
    rejected: Callable[[Reject], None],
    meter: Meter,
) -> Iterator[Row]:
    """Gives the rows of some views of the examples, view by view; what cannot become a row goes to `rejected`."""
    look = partial(_squares, job=job, views=views, meter=meter)
    ready = ahead(meter.each("read", examples), look, bytes_held, MAX_AHEAD // len(views))
    stills = set(job.schema.stills)
    later: list[list[Row]] = [[] for _ in views]
    drawn = annotated(chain.from_iterable(ready), job.networks, job.card.image_size, meter)
    for result in encoded(drawn, partial(encoder.submit, meter=meter), encoder.batch_size):
        if isinstance(result, Reject):
            rejected(result)
            continue
        made = result.squares
        meter.pictures += sum(map(len, result.codes.values()))
        codes = {role: values[0] if role in stills else values for role, values in result.codes.items()}
        row = Row(key=made.key, view=made.view, codes=codes, meta=made.meta)
        if made.view == views[0]:
            yield row
        else:
            later[made.view - views[0]].append(row)
    yield from chain.from_iterable(later)


def _squares(example: Example, job: Job, views: range, meter: Meter) -> Sequence[Squares | Reject]:
    meter.add_bytes(encoded_bytes(example))
    made = squares(example, job.look, views, meter)
    return [made] if isinstance(made, Reject) else made


def bytes_held(example: Example) -> int:
    """Returns the bytes of an example's media."""
    return sum(_media_bytes(media) for media in example.media.values())


def _media_bytes(media: Any) -> int:
    return sum(_still_bytes(still) for still in frames(media))


def encoded_bytes(example: Example) -> int:
    """Returns the bytes of an example's files, as far as it brings them as they are."""
    stills = (still for media in example.media.values() for still in frames(media))
    return sum(len(still.data) for still in stills if isinstance(still, Encoded))


def _still_bytes(still: Any) -> int:
    if isinstance(still, Encoded):
        return len(still.data)
    return still.bytes_held if isinstance(still, Drawn) else int(still.nbytes)
