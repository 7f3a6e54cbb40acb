"""A few examples of a source, read, decoded and encoded for real: what planning needs to know of all of them."""

import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from manifests.schema import Row
from manifests.shards import ShardWriter, shard_name
from pipelines.encoder import Encoder, shared_encoder
from pipelines.examples import frames, squares
from pipelines.job import Job
from pipelines.meter import Meter
from pipelines.sources.base import Example, Item, Reject, Unit
from pipelines.units import bytes_held, encoded_bytes, rows
from tokenizer.cost import flops_per_image
from tokenizer.load import load
from visent.errors import UserError
from visent.progress import track

ITEMS = 16  # that a probe takes its examples from, where an item holds many: tars, tables, long videos
ROWS_WRITTEN = 1024  # at least, to learn what a row takes
BYTES_KEPT = 256 << 20  # of media, between decoding and encoding


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was seen and measured of the examples of a probe. Seconds are of one core unless said otherwise."""

    looked_at: int  # examples, rejects included
    rejects: Mapping[str, int] = field(default_factory=dict)  # reason -> examples
    media_bytes: int  # of those that were decoded, as they lie in the source; 0 where the source decodes (videos)
    pictures: int  # of all roles and frames, in the examples that were decoded
    read_seconds: float
    decode_seconds: float  # of processor time: decoding, aligning, drawing, cutting
    encoded: int  # pictures
    encode_seconds: float  # in which the device was at work
    annotate_seconds: float  # of the networks of those that were encoded
    rows: int  # of the shard that was written, repeated ones included
    shard_bytes: int
    flops_per_picture: float
    precision: str
    device: str

    @property
    def accepted(self) -> float:
        """Part of the examples that give a row."""
        return 1 - sum(self.rejects.values()) / self.looked_at

    @property
    def pictures_per_example(self) -> float:
        """Pictures to encode for each example that gives a row."""
        return self.pictures / (self.looked_at - sum(self.rejects.values()))

    @property
    def bytes_per_example(self) -> float:
        """Bytes of media of one example that gives a row."""
        return self.media_bytes / (self.looked_at - sum(self.rejects.values()))

    @property
    def bytes_per_row(self) -> float:
        """Bytes of a shard for each row."""
        return self.shard_bytes / self.rows

    @property
    def decode_per_picture(self) -> float:
        """Core seconds of one picture before it is encoded."""
        return self.decode_seconds / self.pictures

    @property
    def images_per_second(self) -> float:
        """Pictures that the device here encodes in a second."""
        return self.encoded / max(self.encode_seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as plain JSON values."""
        return {**asdict(self), "rejects": dict(self.rejects)}


def probe(job: Job, items: Sequence[Item], count: int, encode_seconds: float) -> Probe:
    """Reads and decodes `count` examples from all over the source, and encodes them until `encode_seconds` are over.

    Raises:
        UserError: there is nothing to read, or nothing that was read gives a row.
    """
    rejects: Counter[str] = Counter()
    kept: list[Example] = []
    pictures = media_bytes = looked_at = held = 0
    read_seconds = decode_seconds = 0.0
    with track("probe: decode", count, "examples") as progress:
        examples = itertools.islice(_spread(job, items, count), count)
        while True:
            began = time.perf_counter()
            example = next(examples, None)
            read_seconds += time.perf_counter() - began
            if example is None:
                break
            looked_at += 1
            began = time.process_time()
            made = example if isinstance(example, Reject) else squares(example, job.look, range(1))
            decode_seconds += time.process_time() - began
            progress.advance()
            if isinstance(made, Reject):
                rejects[made.reason] += 1
                continue
            assert isinstance(example, Example)
            media_bytes += encoded_bytes(example)
            pictures += sum(len(squares) for squares in made[0].pictures.values())
            pictures += sum(len(frames(example.media[job.look.roles[0]])) for _ in job.networks)
            held += bytes_held(example)
            if held <= BYTES_KEPT or not kept:
                kept.append(example)
    if not kept:
        reasons = ", ".join(f"{number} {reason}" for reason, number in rejects.most_common(3)) or "none was found"
        raise UserError(f"none of {looked_at} examples of {job.source.name} gives a row ({reasons}); mend the source")
    return Probe(
        looked_at=looked_at, rejects=dict(rejects), media_bytes=media_bytes, pictures=pictures,
        read_seconds=read_seconds, decode_seconds=decode_seconds, **_encode(job, kept, encode_seconds),
    )  # fmt: skip


def _spread(job: Job, items: Sequence[Item], count: int) -> Iterator[Example | Reject]:
    """Gives examples of items drawn at random (the same each time), of each item at most its part."""
    if not items:
        raise UserError(f"{job.source.name} lists nothing; expected media to probe")
    estimate = job.source.estimate(items[:ITEMS])
    each = max((estimate or 0) / len(items[:ITEMS]), 1.0)  # examples of an item, about
    wanted = min(len(items), max(-(-count // int(each)), min(ITEMS, len(items))))
    drawn = random.Random(0).sample(range(len(items)), wanted)
    most = -(-count // wanted)
    for place in drawn:
        unit = Unit(id="probe-00000-of-00001", split=items[place].split or "train", items=(items[place],))
        yield from itertools.islice(job.source.examples(unit), most)


def _encode(job: Job, kept: Sequence[Example], seconds: float) -> dict[str, Any]:
    """Encodes examples as a job would, and writes them as a shard; returns what `Probe` says of that."""
    encoder = shared_encoder(job.tokenizer, job.preset, job.precision)
    meter, made, rejects = Meter(), list[Row](), list[Reject]()
    busy, before, began = encoder.clock.busy, encoder.pictures, time.monotonic()
    stream: Any = rows(job, iter(kept), range(1), encoder, rejects.append, meter)
    with track("probe: encode", len(kept), "examples") as progress, closing(stream):
        for row in stream:
            made.append(row)
            progress.advance()
            if time.monotonic() - began > seconds:
                break
    if not made:
        raise UserError(f"none of {len(kept)} examples could be annotated ({rejects[0].reason}); mend the source")
    written, size = _shard_of(job, made, encoder)
    return {
        "encoded": encoder.pictures - before, "encode_seconds": encoder.clock.busy - busy,
        "annotate_seconds": meter.seconds.get("annotate", 0.0), "rows": written, "shard_bytes": size,
        "flops_per_picture": flops_per_image(load(job.tokenizer, preset=job.preset, precision=job.precision)),
        "precision": job.card.precision, "device": encoder.made_with["device"],
    }  # fmt: skip


def _shard_of(job: Job, made: Sequence[Row], encoder: Encoder) -> tuple[int, int]:
    """Writes a shard; returns its rows and bytes.

    Few rows are repeated, each time with their codes in another order, so that what a file takes by itself (64 KiB
    steps of ArrayRecord, the schema of Parquet) counts no more than in a shard of thousands.
    """
    rng = np.random.default_rng(0)
    times = -(-ROWS_WRITTEN // len(made))
    with tempfile.TemporaryDirectory(prefix="visent-") as folder:
        path = str(Path(folder, shard_name("probe-00000-of-00001", format=job.format)))
        with ShardWriter(path, job.schema, made_with=encoder.made_with) as writer:
            writer.append(made)
            for number in range(1, times):
                writer.append([_another(row, number, rng) for row in made])
            info = writer.close()
    return info.rows, info.bytes


def _another(row: Row, number: int, rng: np.random.Generator) -> Row:
    codes = {role: rng.permuted(values, axis=-1) for role, values in row.codes.items()}
    return replace(row, key=f"{row.key}-{number}", codes=codes)
