"""The held-out rows of a dataset that a model is judged on: their codes, real pixels, classes and colours."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

from manifests import files, shards
from manifests.columns import ColumnCache
from manifests.dataset import DatasetFacts, load_facts
from manifests.legend import Legend
from manifests.pixels import PixelStore
from manifests.rows import DatasetReader
from manifests.schema import RoleKind
from tokenizer.card import TokenizerCard
from visent.errors import UserError, unknown
from visent.progress import Track, track

MANY = 20  # shards from which on reading something of each is shown as progress


@dataclass(frozen=True, kw_only=True, eq=False)
class EvalData:
    """The rows of one split of one dataset, in their original view; rows are numbered in the dataset's order.

    All rows have codes, so prompts may be taken from any. Samples are rows of `judged`: those whose pixels were made,
    all of them unless `visent pixels --most` made fewer.
    """

    name: str  # as `--data NAME=FOLDER` gives it
    folder: str
    split: str
    facts: DatasetFacts
    keys: Sequence[str]
    reader: DatasetReader
    cache: ColumnCache
    store: PixelStore | None  # None for rows that only prompts are taken from
    judged: Int64[np.ndarray, " p"]  # numbers of the rows that have pixels

    @classmethod
    def open(cls, name: str, folder: str, split: str, card: TokenizerCard, *, with_pixels: bool = True) -> "EvalData":
        """Opens a split of the dataset in `folder`, whose codes must be of the tokenizer that `card` describes.

        `with_pixels` is False for rows whose pixels nobody looks at: those that prompts are taken from.

        Raises:
            UserError: there is no such dataset, or it is of another tokenizer; the split has no rows or no pixels, or
                pixels of other rows.
        """
        facts = load_facts(folder)
        if facts.schema.card.fingerprint != card.fingerprint:
            raise UserError(
                f"dataset {name!r} ({folder}) holds tokens of tokenizer {facts.schema.card.name!r} "
                f"({facts.schema.card.fingerprint}), the model was trained on those of {card.name!r} "
                f"({card.fingerprint}): tokenize it again with the model's"
            )
        if not facts.examples(split):
            there = ", ".join(f"{other} ({facts.examples(other):,})" for other in facts.splits if facts.examples(other))
            raise UserError(
                f"dataset {name!r} ({folder}) has no rows in split {split!r}; those with rows: {there or 'none'}: name "
                f"one of them with {'--split' if with_pixels else '--prompt-split'}, or tokenize that split too"
            )
        cache = ColumnCache()
        originals = [info for info in facts.shards if info.split == split and info.first_view == 0]
        reader = DatasetReader(folder, facts.schema, originals, 1, cache)
        keys = _keys(reader, f"reading keys of {name}, {split}")
        store = PixelStore.open(folder, split) if with_pixels else None
        judged = np.empty(0, np.int64) if store is None else judged_rows(name, keys, store)
        return cls(name=name, folder=folder, split=split, facts=facts, keys=keys, reader=reader, cache=cache,
                   store=store, judged=judged)  # fmt: skip

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The roles of the dataset: stills and clips."""
        return self.facts.schema.roles

    @property
    def tokens_per_image(self) -> int:
        """Codes of one image."""
        return self.facts.schema.tokens_per_image

    def with_split(self, split: str) -> "EvalData":
        """Returns the rows of another split of the same dataset, without their pixels."""
        return EvalData.open(self.name, self.folder, split, self.facts.schema.card, with_pixels=False)

    def check_role(self, role: str, kind: RoleKind, part: str, *, is_judged: bool = False) -> None:
        """Refuses a dataset that lacks what a part needs; what `is_judged` needs pixels, too.

        Raises:
            UserError: it has no such role, its role is of the other kind, or has no pixels.
        """
        if role not in self.roles:
            raise UserError(
                f"dataset {self.name!r} has roles {', '.join(self.roles)}; part {part!r} needs {role}: tokenize it "
                "with a source that has it (`visent sources` lists them), or with --annotate where it can be drawn"
            )
        if self.roles[role] != kind:
            fix = "leave --stills out" if kind == "clip" else "with --stills"
            raise UserError(f"dataset {self.name!r} has role {role} as {self.roles[role]}; part {part!r} needs it as "
                            f"{kind}: tokenize it again, {fix}")  # fmt: skip
        if is_judged and self.store is not None:
            self.store.legend(role)  # says what to do where the role has no pixels

    def metas(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Returns what stands under these names in the meta of each row, as far as it is there.

        Raises:
            UserError: a shard is missing or changed.
        """
        found: list[dict[str, Any]] = []
        originals = [info for info in self.facts.shards if info.split == self.split and info.first_view == 0]
        with _tracked(f"reading {', '.join(names)} of each row", len(originals)) as progress:
            for info in originals:
                path = files.join(self.folder, info.file)
                with files.local_copy(path) as local:
                    self.cache.check(path, info, local)
                    rows = islice(shards.read_metas(local, self.facts.schema), info.examples)
                    found += [{name: meta[name] for name in names if name in meta} for _, meta in rows]
                progress.advance()
        return found

    def lengths(self, role: str) -> Int64[np.ndarray, "n"]:
        """Returns the number of frames of each row's clip."""
        return self.reader.lengths(role, *self._located(np.arange(len(self.keys))))

    def codes(
        self, role: str, numbers: Int64[np.ndarray, " m"], frames: int | None = None
    ) -> UInt16[np.ndarray, "m f t"]:
        """Returns the codes of a role, f = 1 for a still, else the first `frames` of each clip (all by default).

        Raises:
            UserError: no such role or row, a clip with too few frames, clips of unequal length where `frames` is not
                given, or a shard that is missing or changed.
        """
        if role not in self.roles:
            raise unknown(f"role of dataset {self.name!r}", role, self.roles)
        shard, row = self._located(numbers)
        count = 1 if self.roles[role] == "still" else self._frames(role, numbers, frames)
        frame = np.tile(np.arange(count), len(numbers))
        images = self.reader.gather(role, np.repeat(shard, count), np.repeat(row, count), frame)
        return images.reshape(len(numbers), count, self.tokens_per_image)

    def pixels(
        self, role: str, numbers: Int64[np.ndarray, " m"], frames: int | None = None
    ) -> UInt8[np.ndarray, "m f s s 3"]:
        """Returns the real pixels behind `codes`, of rows of `judged`.

        Raises:
            UserError: as `codes`, or rows or the role have no pixels.
        """
        self._located(numbers)
        if self.store is None:
            raise ValueError(f"the rows of split {self.split} were opened without their pixels")
        return self.store.read(role, numbers, frames if self.roles[role] == "clip" else None)

    @property
    def pixels_digest(self) -> str:
        """A name for the real pixels; another one after any change."""
        return "" if self.store is None else self.store.digest

    def legend(self, role: str) -> Legend | None:
        """Returns the colours of a role that is a label map; None for any other, and where the role has no pixels."""
        return self.store.legend(role) if self.store is not None and role in self.store.roles else None

    def _located(self, numbers: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
        wrong = numbers[(numbers < 0) | (numbers >= len(self.keys))]
        if len(wrong):
            raise UserError(f"dataset {self.name!r} has rows 0 to {len(self.keys) - 1} in split {self.split!r}; asked "
                            f"for row {wrong[0]}")  # fmt: skip
        return self.reader.locate(numbers, np.zeros_like(numbers))

    def _frames(self, role: str, numbers: Int64[np.ndarray, " m"], wanted: int | None) -> int:
        lengths = self.reader.lengths(role, *self._located(numbers))
        if wanted is None and len(set(lengths.tolist())) > 1:
            raise UserError(f"clips of dataset {self.name!r} have {lengths.min()} to {lengths.max()} frames: say how "
                            "many of each are read")  # fmt: skip
        count = int(lengths[0]) if wanted is None and len(lengths) else wanted or 0
        short = numbers[lengths < count]
        if len(short):
            raise UserError(f"{self.keys[short[0]]!r} of dataset {self.name!r} has {lengths[lengths < count][0]} "
                            f"frames, {count} are to be read")  # fmt: skip
        return count


def _tracked(title: str, shards: int) -> AbstractContextManager[Track]:
    return track(title, shards, "shards") if shards >= MANY else nullcontext(Track(title, shards, "shards"))


def _keys(reader: DatasetReader, title: str) -> list[str]:
    found: list[str] = []
    with _tracked(title, reader.units) as progress:
        for _, keys in reader.all_keys():
            found += [key.decode() for key in keys.tolist()]
            progress.advance()
    return found


def judged_rows(name: str, keys: Sequence[str], store: PixelStore) -> Int64[np.ndarray, " p"]:
    """Returns the numbers of the rows that have pixels.

    Raises:
        UserError: they are the pixels of other rows.
    """
    if list(keys) != store.keys:
        odd = next((f", such as {a!r} for {b!r}" for a, b in zip(keys, store.keys, strict=False) if a != b), "")
        raise UserError(f"dataset {name!r} has {len(keys)} rows and pixels of {len(store.keys)} others{odd}: make them "
                        "again with `visent pixels`")  # fmt: skip
    return store.numbers
