"""Small datasets of random codes, for tests and benchmarks of everything that reads rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from manifests import files
from manifests.dataset import DatasetFacts, write_facts
from manifests.order import key_of
from manifests.schema import RoleKind, Row, Schema
from manifests.shards import Format, ShardInfo, ShardWriter, shard_name, write_receipt
from tokenizer.card import TokenizerCard

TINY_CARD = TokenizerCard(
    name="random", weights_sha256="0" * 64, preset="crop", image_size=32, grid=4, codebook_size=64
)


def random_row(name: str, key: str, view: int, schema: Schema, frames: int = 0) -> Row:
    """Returns a row whose codes are decided by (dataset, key, view)."""
    random = np.random.default_rng(key_of(name, key, view))
    codes = {}
    for role, kind in schema.roles.items():
        shape = (schema.tokens_per_image,) if kind == "still" else (frames, schema.tokens_per_image)
        codes[role] = random.integers(0, schema.card.codebook_size, shape, dtype=np.uint16)
    return Row(key=key, view=view, codes=codes, meta={"source": f"{name}/{key}.png"})


def write_random_dataset(
    folder: str,
    roles: Mapping[str, RoleKind],
    *,
    examples: Mapping[str, int],
    views: int = 1,
    frames: tuple[int, ...] = (16,),
    rows_per_shard: int = 8,
    card: TokenizerCard = TINY_CARD,
    format: Format = "parquet",
    options: Mapping[str, Any] | None = None,
    meta: Callable[[int], Mapping[str, Any]] | None = None,
) -> DatasetFacts:
    """Writes a complete dataset: so many `examples` in each split, clip lengths taken in turn from `frames`.

    `options` are recorded as those of the source; `meta` gives what the row of an example has besides. Training
    examples get `views` views, those after the original in a shard of their own per unit.
    """
    schema, name = Schema(roles=roles, card=card), files.name(folder)
    files.make_folder(folder)
    shards: list[ShardInfo] = []
    for split, count in examples.items():
        units = -(-count // rows_per_shard)
        for unit in range(units):
            first = unit * rows_per_shard
            keys = range(first, min(first + rows_per_shard, count))
            extra = [(1, views - 1)] if views > 1 and split == "train" else []
            for span in [(0, 0), *extra]:
                file = shard_name(f"{split}-{unit:05d}-of-{units:05d}", span, format)
                with ShardWriter(files.join(folder, file), schema, views=span) as writer:
                    for view in range(span[0], span[1] + 1):
                        rows = _rows(name, split, keys, view, schema, frames)
                        more = [dict(meta(i)) if meta else {} for i in keys]
                        writer.append([replace(r, meta={**r.meta, **m}) for r, m in zip(rows, more, strict=True)])
                    info = writer.close()
                write_receipt(folder, info)
                shards.append(info)
    facts = DatasetFacts(
        name=name, schema=schema, shards=shards, config={"source": "random", "options": dict(options or {})}
    )
    write_facts(folder, facts)
    return facts


def _rows(name: str, split: str, keys: range, view: int, schema: Schema, frames: tuple[int, ...]) -> Iterator[Row]:
    for i in keys:
        yield random_row(name, f"{split}/{i:05d}", view, schema, frames[i % len(frames)])
