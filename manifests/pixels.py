"""Reading the pixels behind a dataset's rows: what the tokenizer saw, as `visent pixels` wrote it."""

import io
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt8
from PIL import Image

from manifests import files
from manifests.canonical import digest_json
from manifests.dataset import DatasetFacts, load_facts
from manifests.legend import Legend
from manifests.pixel_files import (
    FOLDER,
    PixelFacts,
    PixelFile,
    chosen,
    groups_of,
    keys_digest,
    load_pixel_facts,
    make,
    shards_of,
)
from manifests.schema import RoleKind
from manifests.shards import read_keys
from visent.errors import UserError, said, unknown

MOST_OPEN = 32  # files; of a bucket each one open has its copy on the disk

Clips = UInt8[np.ndarray, "m f s s 3"]


class PixelStore:
    """The pixels of a split's rows, by their number in the split's view 0.

    Memory does not grow with the dataset: of a file only the few rows around those asked for are read. Threads may
    share a store.
    """

    def __init__(self, folder: str, facts: DatasetFacts, known: PixelFacts) -> None:
        self._folder, self._facts, self._known = folder, facts, known
        self._open: OrderedDict[str, _File] = OrderedDict()  # the last used stand at the end
        self._opening = threading.Lock()
        self._checked: set[str] = set()
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pixels")

    @classmethod
    def open(cls, folder: str, split: str) -> "PixelStore":
        """Opens the pixels of one split of a dataset.

        Raises:
            UserError: there is no such dataset or split, it has no pixels, or was changed since they were made.
        """
        facts = load_facts(folder)
        if split not in facts.splits:
            raise unknown(f"split of dataset {facts.name!r}", split, facts.splits)
        known = load_pixel_facts(folder, split)
        if known is None:
            raise UserError(f"dataset {folder} has no pixels of split {split}: make them with {make(folder, split)}")
        now = {shard.unit: shard.sha256 for shard in shards_of(facts, split)}
        then = {file.unit: file.shard_sha256 for file in known.files}
        stale = sum(now.get(unit) != then.get(unit) for unit in {**now, **then})
        made_of = (known.config_digest, known.image_size)
        if stale or made_of != (facts.config_digest, facts.schema.card.image_size):
            again = make(folder, split, () if len(known.roles) == len(facts.schema.roles) else known.roles, known.most)
            raise UserError(
                f"dataset {folder} has changed since the pixels of its split {split} were made ({stale} of {len(now)} "
                f"shards are others): bring them up to date with {again}"
            )
        there = set(files.list_names(files.join(folder, FOLDER)))
        gone = [file.file for file in known.files if file.file not in there]
        if gone:
            again = make(folder, split, () if len(known.roles) == len(facts.schema.roles) else known.roles, known.most)
            raise UserError(f"{files.join(folder, FOLDER, gone[0])} is gone: make it again with {again}")
        by_unit = {file.unit: file for file in known.files}
        return cls(folder, facts, replace(known, files=tuple(by_unit[unit] for unit in now)))

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The roles that have pixels."""
        return self._known.roles

    @property
    def image_size(self) -> int:
        """Pixels on each side."""
        return self._known.image_size

    @property
    def digest(self) -> str:
        """A name for all pixels of the split; another one after any change."""
        return digest_json(self._known.to_json())

    @cached_property
    def keys(self) -> list[str]:
        """The keys of all rows, in the order of the dataset, whether or not they have pixels."""
        return [key for own in self._keys for key in own]

    @cached_property
    def _keys(self) -> list[list[str]]:
        shards = shards_of(self._facts, self._known.split)
        return [read_keys(files.join(self._folder, shard.file), self._facts.schema)[: shard.examples]
                for shard in shards]  # fmt: skip

    @cached_property
    def _located(self) -> Int64[np.ndarray, "n 2"]:
        """The file of each row, and its place in the file; -1 where a row has no pixels."""
        parts = []
        for number, (own, rows) in enumerate(zip(self._keys, chosen(self._keys, self._known.most), strict=True)):
            info = self._known.files[number]
            if keys_digest([own[row] for row in rows]) != info.rows_sha256:
                raise self._damaged(info, "it holds other rows than the dataset")
            located = np.full((len(own), 2), -1, np.int64)
            located[rows] = np.stack([np.full(len(rows), number), np.arange(len(rows))], axis=1)
            parts.append(located)
        return np.concatenate([np.empty((0, 2), np.int64), *parts])

    @property
    def numbers(self) -> Int64[np.ndarray, " p"]:
        """The numbers of the rows that have pixels: all, unless they were made of some."""
        return np.flatnonzero(self._located[:, 0] >= 0)

    def legend(self, role: str) -> Legend | None:
        """Returns the classes and colours of a role that is a map of classes, else None."""
        self._check_role(role)
        return self._known.legends.get(role)

    def read(self, role: str, numbers: Int64[np.ndarray, " m"], frames: int | None = None) -> Clips:
        """Returns the pixels of rows, given by their numbers in any order; a still is a clip of one frame.

        Of clips all frames, or the first `frames`.

        Raises:
            UserError: the role has no pixels, a file is gone or damaged, or clips are too short or of several lengths.
            IndexError: a number is none of a row.
        """
        self._check_role(role)
        rows = self._encoded(role, numbers)
        length = self._length(role, numbers, [len(row) for row in rows], frames)
        size = self.image_size
        pictures = np.empty((len(numbers), length, size, size, 3), np.uint8)
        jobs = [(number, at, row[at]) for number, row in enumerate(rows) for at in range(length)]

        def decode(job: tuple[int, int, bytes]) -> None:
            pictures[job[0], job[1]] = _decoded(job[2], size)

        for _ in self._decoders.map(decode, jobs):
            pass
        return pictures

    def _encoded(self, role: str, numbers: Int64[np.ndarray, " m"]) -> list[list[bytes]]:
        """Returns the PNGs of the rows; each group of rows is read once."""
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self._located):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(self._located)}")
        in_files, places = self._located[numbers].T
        if (in_files < 0).any():
            raise UserError(
                f"row {self.keys[numbers[in_files < 0][0]]!r} of {self._folder} has no pixels, as only "
                f"{self._known.most} rows have: make those of all with {self._again()}"
            )
        rows: list[list[bytes]] = [[] for _ in numbers]
        for number in np.unique(in_files).tolist():
            wanted = np.flatnonzero(in_files == number)
            info = self._known.files[number]
            try:
                pngs = self._file(info).rows(role, places[wanted])
            except (pa.ArrowException, OSError, LookupError, AttributeError, ValueError, TypeError) as error:
                raise self._damaged(info, f"it does not hold its rows: {said(error)}") from error
            for at, own in zip(wanted.tolist(), pngs, strict=True):
                rows[at] = own
        return rows

    def _length(self, role: str, numbers: Int64[np.ndarray, " m"], lengths: Sequence[int], frames: int | None) -> int:
        """Returns how many frames of each row are read, after checking that all have as many."""
        wanted = frames if frames is not None else min(lengths, default=1)
        odd = [at for at, length in enumerate(lengths) if length < wanted or (frames is None and length != wanted)]
        if not odd:
            return wanted
        named = ", ".join(f"{self.keys[numbers[at]]!r} has {lengths[at]}" for at in odd[:3])
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise UserError(
            f"clips of {wanted} frames are wanted of role {role} of {self._folder}, but {named}{more}: ask for no more "
            "frames than the shortest has, or tokenize the dataset with more frames a clip"
        )

    def _check_role(self, role: str) -> None:
        if role in self.roles:
            return
        if role in self._facts.schema.roles:
            more = make(self._folder, self._known.split, [role], self._known.most)
            raise UserError(f"role {role!r} of {self._folder} has no pixels: make them with {more}")
        raise unknown(f"role of dataset {self._facts.name!r}", role, self.roles)

    def _file(self, info: PixelFile) -> "_File":
        """Returns a file, open; its sha256 is checked when it is first used, or fetched again."""
        with self._opening:
            found = self._open.pop(info.file, None)
            if found is None:
                found = self._opened(info)
                while len(self._open) >= MOST_OPEN:
                    self._open.popitem(last=False)
            self._open[info.file] = found
        return found

    def _opened(self, info: PixelFile) -> "_File":
        path = files.join(self._folder, FOLDER, info.file)
        try:
            found = _File(path)
            if files.is_url(path) or info.file not in self._checked:
                if files.sha256(found.local) != info.sha256:
                    raise self._damaged(info, "its content is another than its receipt says")
                self._checked.add(info.file)
            return found.opened()
        except FileNotFoundError as error:
            raise UserError(f"{path} is gone: make it again with {self._again()}") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise self._damaged(info, said(error)) from error

    def _damaged(self, info: PixelFile, reason: str) -> UserError:
        path = files.join(self._folder, FOLDER, info.file)
        return UserError(f"{path} is damaged ({reason}): remove it, then make it again with "
                         f"{self._again()}")  # fmt: skip

    def _again(self) -> str:
        roles = () if len(self.roles) == len(self._facts.schema.roles) else tuple(self.roles)
        return make(self._folder, self._known.split, roles)


class _File:
    """One file of pixels, of a bucket its copy on this disk, which goes with the last who reads it."""

    def __init__(self, path: str) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="visent-") if files.is_url(path) else None
        self.local = path
        if self._copy is not None:
            with files.local_copy(path) as local:
                self.local = str(Path(self._copy.name) / files.name(path))
                Path(local).replace(self.local)
        self._reading = threading.Lock()  # one reader of Parquet at a time; it costs little beside decoding PNGs

    def opened(self) -> "_File":
        """Reads the footer."""
        self._parquet = pq.ParquetFile(self.local, memory_map=True, pre_buffer=False)
        self._ends = np.cumsum(list(groups_of(self._parquet)), dtype=np.int64)
        return self

    def rows(self, role: str, places: Int64[np.ndarray, " m"]) -> list[list[bytes]]:
        """Returns the PNGs of each of some rows, one for a still."""
        found: list[list[bytes]] = [[] for _ in places]
        groups = np.searchsorted(self._ends, places, side="right")
        for group in np.unique(groups).tolist():
            with self._reading:
                column = self._parquet.read_row_group(group, columns=[role], use_threads=False).column(role)
            first = self._ends[group - 1] if group else 0
            for at in np.flatnonzero(groups == group).tolist():
                value = column[int(places[at] - first)].as_py()
                found[at] = value if isinstance(value, list) else [value]
        return found


def _decoded(png: bytes, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Decodes a PNG of the size that all have; Pillow lets other threads run meanwhile."""
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            if picture.size == (size, size) and picture.mode == "RGB":
                return np.asarray(picture)
            found = f"{picture.width} x {picture.height}, {picture.mode}"
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        found = said(error)
    raise UserError(f"a picture of the pixels is no PNG of {size} x {size} in RGB ({found}): remove the folder of "
                    "pixels and make it again with `visent pixels`")  # fmt: skip
