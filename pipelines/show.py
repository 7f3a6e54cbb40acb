"""Looking at what is stored: rows of a dataset, and sentences of a manifest, decoded."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from manifests import files
from manifests.corpus import Corpus
from manifests.dataset import DatasetFacts, load_facts
from manifests.lock import Lock, load_lock, resolve
from manifests.schema import Row
from manifests.shards import ShardInfo, read_rows
from pipelines.sheet import Line, draw
from tokenizer.card import TokenizerCard
from tokenizer.load import load
from tokenizer.tokenizer import Tokenizer
from visent.errors import UserError, unknown

FRAMES_SHOWN = 8  # of a clip, evenly spaced


def show_dataset(folder: str, out: str, *, count: int, view: int, split: str, tokenizer: str | None, **_: Any) -> str:
    """Draws `count` rows spread over the shards of a split: one line a row, all its roles. Returns the path.

    Raises:
        UserError: there is no such dataset, split or view, or its tokenizer is not at hand.
    """
    facts = load_facts(folder)
    if split not in facts.splits:
        raise unknown("split", split, facts.splits)
    shards = [shard for shard in facts.shards if shard.split == split and shard.first_view <= view <= shard.last_view]
    if not shards:
        raise UserError(f"dataset {facts.name} has {facts.views(split)} views in split {split}, none is number {view}")
    coder = tokenizer_of(tokenizer, facts.config, facts.schema.card)
    rows = _spread(folder, facts, shards, view, count)
    lines = [_row_line(row, facts, coder) for row in rows]
    return draw(f"{facts.name}, split {split}, view {view}: {len(lines)} of {facts.examples(split)} rows", lines, out)


def _spread(folder: str, facts: DatasetFacts, shards: list[ShardInfo], view: int, count: int) -> list[Row]:
    """Takes evenly spaced rows of one view."""
    total = sum(shard.examples for shard in shards)
    wanted = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)) if total else np.array([], int)
    rows: list[Row] = []
    start = 0
    for shard in shards:
        here = wanted[(wanted >= start) & (wanted < start + shard.examples)] - start
        first = (view - shard.first_view) * shard.examples
        for row in _picked(files.join(folder, shard.file), facts, [first + int(at) for at in here]):
            rows.append(row)
        start += shard.examples
    return rows


def _picked(path: str, facts: DatasetFacts, places: list[int]) -> list[Row]:
    if not places:
        return []
    return [row for at, row in enumerate(islice(read_rows(path, facts.schema), max(places) + 1)) if at in places]


def _row_line(row: Row, facts: DatasetFacts, coder: Tokenizer) -> Line:
    codes, labels = [], []
    for role in facts.schema.roles:
        images = np.atleast_2d(row.codes[role])
        shown = np.unique(np.linspace(0, len(images) - 1, min(FRAMES_SHOWN, len(images))).round().astype(int))
        codes += [images[at] for at in shown]
        labels += [role if len(images) == 1 else f"{role} {at}" for at in shown]
    return Line(caption=_caption(row), pictures=list(coder.decode(np.stack(codes))), labels=labels)


def _caption(row: Row) -> str:
    told = [f"{name} {row.meta[name]}" for name in ("crop", "rotate", "flip", "vflip", "turn") if name in row.meta]
    return ", ".join([row.key, *told])


def show_manifest(path: str, out: str, *, count: int, split: str, stage: str | None, task: str | None, seed: int,
                  tokenizer: str | None, **_: Any) -> str:  # fmt: skip
    """Draws the first `count` visual sentences of a task, or of every task of a stage. Returns the path.

    Raises:
        UserError: the manifest, stage or task does not exist, or has no rows in this split.
    """
    lock = load_lock(path) if path.endswith(".json") else resolve(path)
    if stage is None:
        raise UserError(f"which stage? give --stage, one of: {', '.join(lock.stages)}")
    corpus = Corpus(lock, split=split)
    names = [task] if task is not None else corpus.task_names(stage)
    each = max(count // len(names), 1)
    first = load_facts(lock.folder(next(iter(lock.datasets))))
    coder = tokenizer_of(tokenizer, first.config, lock.card)
    lines = [line for name in names for line in _sentences(corpus, lock, stage, name, each, seed, coder)]
    context = lock.stage(stage).context
    return draw(f"stage {stage}, context {context}, split {split}, seed {seed}", lines, out)


def _sentences(
    corpus: Corpus, lock: Lock, stage: str, task: str, count: int, seed: int, coder: Tokenizer
) -> list[Line]:
    codes = corpus.task_sentences(stage, task, np.arange(count, dtype=np.int64), seed)
    lines = []
    for number, sentence in enumerate(codes):
        slots = corpus.describe(stage, task, number, seed)
        labels = [_slot(slot) for slot in slots]
        pictures = coder.decode(sentence.reshape(-1, lock.card.tokens_per_image))
        keys = list(dict.fromkeys(slot["key"] for slot in slots))
        more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
        caption = f"{task} {number}: {', '.join(keys[:4])}{more}"
        lines.append(Line(caption=caption, pictures=list(pictures), labels=labels))
    return lines


def _slot(slot: Mapping[str, Any]) -> str:
    frame = "" if slot["frame"] is None else f" {slot['frame']}"
    view = f" v{slot['view']}" if slot["view"] else ""
    return f"{slot['role']}{frame}{view}"


def tokenizer_of(given: str | None, config: Mapping[str, Any], card: TokenizerCard) -> Tokenizer:
    """Loads the tokenizer that a dataset was made with.

    Raises: `UserError` when it is another one, or is not there.
    """
    name = given or config.get("tokenizer", "default")
    coder = load(name, preset=card.preset, precision=card.precision)
    if coder.card.fingerprint != card.fingerprint:
        raise UserError(
            f"the codes are of tokenizer {card.name} ({card.fingerprint}), {name} is {coder.card.fingerprint}; "
            "give the right one with --tokenizer"
        )
    return coder
