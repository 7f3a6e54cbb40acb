"""Tiny datasets with pixels: codes and pictures of a row are decided by its key, wherever the row lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from manifests import files
from manifests.dataset import DatasetFacts, write_facts
from manifests.legend import Legend
from manifests.order import key_of
from manifests.pixel_files import PixelFacts, PixelFile, PixelSink, chosen, facts_path, keys_digest
from manifests.schema import RoleKind, Row, Schema
from manifests.shards import ShardInfo, ShardWriter, write_receipt
from manifests.testing import TINY_CARD, random_row
from tokenizer.card import TokenizerCard

PAIR: Mapping[str, RoleKind] = {"image": "still", "edge": "still"}


@dataclass(frozen=True)
class Made:
    """A row to be."""

    key: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 0


def rows(prefix: str, count: int) -> list[Made]:
    """Returns plain rows."""
    return [Made(f"{prefix}/{i:03d}") for i in range(count)]


def picture(key: str, role: str, frames: int = 1, size: int = 32) -> np.ndarray:
    """Returns the pixels uint8[f s s 3] of a row."""
    random = np.random.default_rng(key_of("picture", key, role))
    return random.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def codes(key: str, roles: Mapping[str, RoleKind] = PAIR, frames: int = 0, card: TokenizerCard = TINY_CARD) -> Any:
    """Returns the codes of a row by role."""
    return random_row("made", key, 0, Schema(roles=roles, card=card), frames).codes


def write_data(
    folder: Path,
    units: Mapping[str, Sequence[Sequence[Made]]],
    roles: Mapping[str, RoleKind] = PAIR,
    *,
    card: TokenizerCard = TINY_CARD,
    pixels: Sequence[str] = ("val",),
    most: int | None = None,
    legends: Mapping[str, Legend] | None = None,
    options: Mapping[str, Any] | None = None,
) -> DatasetFacts:
    """Writes a dataset, for each split its units with their rows, and the pixels of some splits."""
    schema, shards = Schema(roles=roles, card=card), []
    files.make_folder(folder)
    for split, of_split in units.items():
        for number, made in enumerate(of_split):
            path = folder / f"{split}-{number:05d}-of-{len(of_split):05d}.parquet"
            with ShardWriter(str(path), schema) as writer:
                writer.append([_row(one, schema) for one in made])
            assert writer.info is not None
            write_receipt(str(folder), writer.info)
            shards.append(writer.info)
    config = {"source": "made", "options": dict(options or {})}
    facts = DatasetFacts(name=folder.name, schema=schema, shards=shards, config=config)
    write_facts(str(folder), facts)
    for split in pixels:
        mine = [shard for shard in shards if shard.split == split]
        _write_pixels(folder, facts, split, mine, units[split], most, legends or {})
    return facts


def _row(made: Made, schema: Schema) -> Row:
    row = random_row("made", made.key, 0, schema, made.frames)
    return Row(key=row.key, view=0, codes=row.codes, meta=made.meta)


def _write_pixels(
    folder: Path, facts: DatasetFacts, split: str, shards: Sequence[ShardInfo], units: Sequence[Sequence[Made]],
    most: int | None, legends: Mapping[str, Legend],
) -> None:  # fmt: skip
    found = []
    files.make_folder(folder / "pixels")
    for shard, made, taken in zip(shards, units, chosen([[m.key for m in u] for u in units], most), strict=True):
        path, mine = folder / "pixels" / shard.file, [made[i] for i in taken]
        roles, size = facts.schema.roles, facts.schema.card.image_size
        with PixelSink(str(path), roles) as sink:
            for one in mine:
                frames = {role: one.frames if kind == "clip" else 1 for role, kind in roles.items()}
                sink.append(one.key, {role: _pngs(picture(one.key, role, frames[role], size)) for role in roles})
        found.append(
            PixelFile(file=shard.file, unit=shard.unit, shard_sha256=shard.sha256, keys_sha256=shard.keys_sha256,
                      rows=len(mine), rows_sha256=keys_digest([m.key for m in mine]), roles=tuple(roles),
                      bytes=path.stat().st_size, sha256=files.sha256(path))
        )  # fmt: skip
    told = PixelFacts(dataset=facts.name, split=split, config_digest=facts.config_digest, most=most,
                      image_size=facts.schema.card.image_size, roles=facts.schema.roles, legends=legends,
                      files=tuple(found))  # fmt: skip
    files.write_json(facts_path(str(folder), split), told.to_json())


def _pngs(frames: np.ndarray) -> list[bytes]:
    found = []
    for frame in frames:
        file = BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        found.append(file.getvalue())
    return found
