"""The squares of a shard's rows made again from their source, and packed as PNG."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from manifests import files, shards
from manifests.dataset import DatasetFacts
from manifests.shards import ShardInfo
from pipelines.annotate.networks import annotated
from pipelines.examples import Look, Squares, squares
from pipelines.faults import spared
from pipelines.job import Job, Work
from pipelines.prefetch import ahead
from pipelines.rehearsal import faults_of
from pipelines.sources.base import Example, Reject, Unit
from pipelines.units import bytes_held
from visent.errors import UserError

AHEAD = 32  # examples decoded, and as many packed, ahead of the writer
CLIPS_AHEAD = 8
# Fast, and within 3 % of the smallest for photos; repeated colours of maps become runs.
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)


@dataclass(frozen=True, kw_only=True)
class ShardRows:
    """What a shard holds of view 0, to know its rows again."""

    keys: Sequence[str]
    sizes: Sequence[Any]  # width and height of the first role's picture, as tokenized; None where it is not told
    lengths: Sequence[int] | None  # of clips

    def only(self, rows: Sequence[int]) -> "ShardRows":
        """Returns some of the rows."""
        lengths = None if self.lengths is None else [self.lengths[row] for row in rows]
        return ShardRows(keys=[self.keys[row] for row in rows], sizes=[self.sizes[row] for row in rows],
                         lengths=lengths)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A row's pictures: for each role the PNGs of its frames, one for a still."""

    key: str
    size: Any  # as in `ShardRows`
    pictures: Mapping[str, Sequence[bytes]]


def shard_rows(folder: str, facts: DatasetFacts, shard: ShardInfo) -> ShardRows:
    """Reads the keys of view 0 of a shard, and what is known of the pictures.

    Raises: `UserError` when the shard is gone or damaged.
    """
    path = files.join(folder, shard.file)
    clips = facts.schema.clips
    try:
        with files.local_copy(path) as local:
            found = list(islice(shards.read_metas(local, facts.schema), shard.examples))
            offsets = shards.read_codes(local, facts.schema, clips[0])[1] if clips else None
    except FileNotFoundError as error:
        raise UserError(f"{path} is gone: run the same `visent tokenize` again") from error
    lengths = None if offsets is None else np.diff(offsets)[: len(found)].tolist()
    return ShardRows(keys=[key for key, _ in found], sizes=[meta.get("size") for _, meta in found], lengths=lengths)


def packed_rows(job: Job, unit: Unit, shard: ShardInfo, roles: Sequence[str], everything: ShardRows,
                rows: ShardRows) -> Iterator[Packed]:  # fmt: skip
    """Gives the pictures of some of a shard's rows in their order; decodes and packs ahead in threads.

    Raises:
        UserError: the source no longer gives a row, gives others or in another order, or a picture or clip of another
            size or length. One that was replaced by another of the same size is not noticed.
    """
    rejects: dict[str, Reject] = {}
    again = _Again(job=job, unit=unit, shard=shard, wanted=set(rows.keys), known=set(everything.keys), rejects=rejects)
    made = _packed(again, roles)
    for at, key in enumerate(rows.keys):
        found = next(made, None)
        while isinstance(found, Reject):
            rejects.setdefault(found.key, found)
            found = next(made, None)
        if fault := _fault(key, rows.sizes[at], rows.lengths[at] if rows.lengths else None, found, rejects.get(key)):
            raise UserError(
                f"{shard.file}: the source no longer gives row {key!r} as it was tokenized: {fault}; put its files "
                "back as they were, or tokenize into another folder"
            )
        assert isinstance(found, Packed)  # for type checkers
        yield found


def _fault(key: str, size: Any, length: int | None, found: Packed | None, reject: Reject | None) -> str:
    """Says how what the source gives differs from a row, "" where it does not."""
    if found is None or found.key != key:
        if reject is not None:
            return f"{reject.reason} ({reject.source}{': ' if reject.detail else ''}{reject.detail})"
        return "it is gone" if found is None else f"{found.key!r} comes in its place"
    if found.size != size:
        return f"its picture is {found.size}, was {size}"
    frames = {len(pngs) for pngs in found.pictures.values()}
    if length is not None and frames != {length}:
        return f"its clip has {max(frames)} frames, had {length}"
    return ""


@dataclass(frozen=True, kw_only=True)
class _Again:
    """One reading of a unit for some of its rows; what the source rejects is noted in `rejects`."""

    job: Job
    unit: Unit
    shard: ShardInfo
    wanted: set[str]
    known: set[str]  # keys of all rows
    rejects: dict[str, Reject]

    def examples(self) -> Iterator[Example]:
        """Yields the examples that are wanted: of those that share a key the first, as when they were tokenized."""
        left = set(self.wanted)
        for result in self._results():
            if isinstance(result, Reject):
                self.rejects.setdefault(result.key, result)
            elif result.key in left:
                left.remove(result.key)
                yield result

    def _results(self) -> Iterator[Example | Reject]:
        """Reads the items that may give a wanted row; what kills its reader is known from the list of rejects."""
        source = self.job.source
        others = self.known - self.wanted  # an item that is a row by itself has that one's key
        faults = faults_of(self.job, Work(unit=self.unit, keys_sha256=self.shard.keys_sha256), died=False)
        if not faults:
            items = tuple(item for item in self.unit.items if item.key not in others)
            yield from source.examples(replace(self.unit, items=items))
            return
        for index, item in enumerate(self.unit.items):
            if item.key not in others:
                own = [fault for fault in faults if fault.item == index]
                yield from spared(source.examples(replace(self.unit, items=(item,))), item, own)


def _packed(again: _Again, roles: Sequence[str]) -> Iterator[Packed | Reject]:
    job = again.job
    first, *others = job.source.roles
    look = replace(job.look, roles=(first, *(role for role in others if role in roles)))
    most = CLIPS_AHEAD if job.schema.clips else AHEAD
    made = ahead(again.examples(), partial(_squares, look=look), bytes_held, most)
    drawn = annotated(made, job.networks, job.card.image_size)
    yield from ahead(drawn, partial(_pack, roles=roles), _bytes, most)


def _squares(example: Example, look: Look) -> Squares | Reject:
    made = squares(example, look, [0])
    return made if isinstance(made, Reject) else made[0]


def _bytes(made: Squares | Reject) -> int:
    return 0 if isinstance(made, Reject) else sum(pictures.nbytes for pictures in made.pictures.values())


def _pack(made: Squares | Reject, roles: Sequence[str]) -> Packed | Reject:
    if isinstance(made, Reject):
        return made
    pictures = {role: [png(picture) for picture in made.pictures[role]] for role in roles}
    return Packed(key=made.key, size=made.meta.get("size"), pictures=pictures)


def png(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Returns a picture in RGB as PNG."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]), PNG)
    assert done  # of what OpenCV says no more; a picture in memory always packs
    return data.tobytes()
