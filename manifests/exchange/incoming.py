"""Foreign token files as a visent dataset: each sentence cut into images, and these into rows.

A sentence of n x `tokens_per_image` tokens is n images. As a clip role it is one row of n frames, in order; as still
roles, say image and depth, it is n / 2 rows of one image each, taken in turn. Keys are the file's name and the line's
number, `train.bin/00000012`, and for stills the row's place in the line after it, `train.bin/00000012/3`. Where
several files are given, the name is their path below the folder that they share.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt16

from manifests import files
from manifests.dataset import DatasetFacts, has_facts, load_facts, write_facts
from manifests.schema import RoleKind, Row, Schema
from manifests.shards import Format, ShardInfo, ShardWriter, read_receipt, shard_name, write_receipt
from tokenizer.card import CARD_FILE, PRETRAINED, TokenizerCard, read_card
from visent.errors import UserError
from visent.progress import track

Kind = Literal["lvm", "delvm"]
MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How a sentence becomes rows: one clip role, or still roles taken in turn."""

    clip: str | None = None
    stills: tuple[str, ...] = ()
    images_per_sentence: int | None = None  # None takes any number

    def __post_init__(self) -> None:
        if (self.clip is None) == (not self.stills):
            raise UserError("rows are of one clip role or of still roles: give --clip NAME or --stills NAME,NAME")
        count = self.images_per_sentence
        if count is not None and (count < 1 or (self.stills and count % len(self.stills))):
            raise UserError(
                f"--images-per-sentence is {count}, expected a multiple of the {len(self.stills) or 1} roles"
            )

    @property
    def roles(self) -> dict[str, RoleKind]:
        """The dataset's roles."""
        return {self.clip: "clip"} if self.clip else dict.fromkeys(self.stills, "still")

    def rows(self, key: str, images: UInt16[np.ndarray, "n t"], meta: dict[str, Any]) -> Iterator[Row]:
        """Yields the rows of one sentence.

        Raises:
            ValueError: the sentence has another number of images; says which.
        """
        if self.images_per_sentence not in (None, len(images)):
            raise ValueError(f"it has {len(images)} images, --images-per-sentence says {self.images_per_sentence}")
        if self.clip:
            yield Row(key=key, view=0, codes={self.clip: images}, meta=meta)
            return
        if len(images) % len(self.stills):
            raise ValueError(f"it has {len(images)} images, no multiple of the {len(self.stills)} roles")
        for place in range(0, len(images), len(self.stills)):
            codes = dict(zip(self.stills, images[place : place + len(self.stills)], strict=True))
            yield Row(key=f"{key}/{place // len(self.stills)}", view=0, codes=codes, meta=meta)


def find_card(name_or_path: str) -> TokenizerCard:
    """Returns a card by a tokenizer's name, its folder, a card.json, or a dataset that was made with it.

    Raises:
        UserError: there is none.
    """
    path = Path(name_or_path)
    if has_facts(name_or_path):
        return load_facts(name_or_path).schema.card
    for folder in (PRETRAINED / name_or_path, path, *([path.parent] if path.name == CARD_FILE else [])):
        if (folder / CARD_FILE).is_file():
            return read_card(folder)
    raise UserError(f"no tokenizer card at {name_or_path}: expected a name such as 'default', a tokenizer's folder, "
                    "its card.json, or a dataset that visent made with it")  # fmt: skip


def import_files(
    paths: Sequence[str], kind: Kind, out: str, card: TokenizerCard, cut: Cut, *, split: str = "train",
    sentences_per_shard: int = 1000, format: Format = "parquet",
) -> DatasetFacts:  # fmt: skip
    """Makes a dataset of foreign files, shard by shard; a run that was stopped goes on where it was.

    One shard's rows are in memory. The shards' bytes follow from the files and the options.

    Raises:
        UserError: a file is missing or not of this kind, a sentence does not fit the card or the cut (says which line),
            or `out` holds another dataset.
    """
    names = _names(paths)
    config = {"source": "import", "from": kind, "card": card.fingerprint, "roles": cut.roles, "split": split,
              "files": dict(zip(names, _checksums(paths), strict=True)),
              "images_per_sentence": cut.images_per_sentence, "sentences_per_shard": sentences_per_shard,
              "format": format}  # fmt: skip
    schema = Schema(roles=cut.roles, card=card)
    empty = DatasetFacts(name=files.name(out), schema=schema, shards=(), config=config)
    _check_out(out, empty)
    with track("count", None, "sentences") as counted:
        for _ in _lines(paths, names, kind):
            counted.advance()
    total = counted.done
    if not total:
        raise UserError(f"{', '.join(paths)} hold no sentence: expected one a line")
    units = -(-total // sentences_per_shard)
    shards: list[ShardInfo] = []
    with track(f"import {empty.name}", total, "sentences") as progress:
        lines = _lines(paths, names, kind)
        for unit in range(units):
            file = shard_name(f"{split}-{unit:05d}-of-{units:05d}", (0, 0), format)
            block = list(islice(lines, sentences_per_shard))
            info = read_receipt(out, file)
            if info is None or info.config_digest != empty.config_digest:
                with ShardWriter(
                    files.join(out, file), schema, split=split, config_digest=empty.config_digest
                ) as writer:
                    for name, number, line in block:
                        writer.append(list(_rows(name, number, line, kind, card, cut)))
                    info = writer.close()
                write_receipt(out, info)
            shards.append(info)
            progress.advance(len(block))
    facts = DatasetFacts(name=empty.name, schema=schema, shards=shards, config=config)
    write_facts(out, facts)
    return facts


def _module(kind: Kind) -> ModuleType:
    from manifests.exchange import delvm, lvm

    return {"lvm": lvm, "delvm": delvm}[kind]


def _names(paths: Sequence[str]) -> list[str]:
    for path in paths:
        if not files.exists(path):
            raise UserError(f"no file at {path}: expected a JSON Lines file of LVM, or a train.bin of DeLVM")
    if len(paths) == 1:
        return [files.name(paths[0])]
    shared = os.path.commonpath([files.parent(path) for path in paths])
    return [os.path.relpath(path, shared) for path in paths]


def _checksums(paths: Sequence[str]) -> list[str]:
    found = []
    with track("checksum", None, "MB") as progress:
        for path in paths:
            digest = hashlib.sha256()
            with files.local_copy(path) as local, Path(local).open("rb") as file:
                while block := file.read(MEGABYTE):
                    digest.update(block)
                    progress.advance()
            found.append(digest.hexdigest())
    return found


def _check_out(out: str, wanted: DatasetFacts) -> None:
    """Makes the folder, or refuses one with other content."""
    if has_facts(out) and load_facts(out).config_digest != wanted.config_digest:
        raise UserError(
            f"{out} holds another dataset, or the same with other options: name another --out, or remove it"
        )
    odd = [name for name in files.list_names(out) if not name.endswith((".json", f".{wanted.config['format']}"))]
    if odd:
        raise UserError(f"{out} holds {odd[0]}, which is no part of an imported dataset: name an empty folder as --out")
    files.make_folder(out)
    files.remove_temporaries(out)


def _lines(paths: Sequence[str], names: Sequence[str], kind: Kind) -> Iterator[tuple[str, int, bytes]]:
    for path, name in zip(paths, names, strict=True):
        with _local(path, kind) as local:
            for number, line in _module(kind).lines(local):
                yield name, number, line


def _local(path: str, kind: Kind) -> Any:
    if files.is_url(path) and kind == "delvm":
        raise UserError(f"{path} is a URL: copy train.bin and train.bin.meta to a local folder first")
    return files.local_copy(path)


def _rows(name: str, number: int, line: bytes, kind: Kind, card: TokenizerCard, cut: Cut) -> Iterator[Row]:
    try:
        images = _images(_module(kind).parse(line), card)
        yield from cut.rows(f"{name}/{number:08d}", images, {"source": name, "line": number})
    except ValueError as error:  # of which JSONDecodeError is one
        raise UserError(f"{name}, line {number}: {error}") from error


def _images(tokens: Int64[np.ndarray, "n"], card: TokenizerCard) -> UInt16[np.ndarray, "images t"]:
    size = card.tokens_per_image
    if not len(tokens) or len(tokens) % size:
        raise ValueError(f"it has {len(tokens)} tokens, expected a multiple of the {size} of an image of {card.name!r}")
    if tokens.min() < 0 or tokens.max() >= card.codebook_size:
        raise ValueError(f"its tokens are {tokens.min()} to {tokens.max()}, expected codes below the codebook's "
                         f"{card.codebook_size}: is {card.name!r} the right card?")  # fmt: skip
    return tokens.reshape(-1, size).astype(np.uint16)
