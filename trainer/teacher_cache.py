"""What a teacher thought likeliest of a stage's sentences, in files: their format, and how it is read.

A folder has one folder for each stage: `teacher.json` (what was computed), files `00000.npy`, ... of a range of
sentences each, and beside each its receipt `00000.json`. A file is one numpy array of records, a sentence each:
`codes` uint16[t k] and `log_probabilities` float16[t k], natural logarithms at temperature 1, likeliest first. Inside
a file, sentences stand as `batches.numbers(0, sentences)` orders them: what one host reads of a batch stands together.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from manifests import files
from manifests.lock import Lock
from trainer.batches import Likeliest, numbers
from trainer.run_facts import differences
from visent import __version__
from visent.errors import UserError, unknown

FACTS = "teacher.json"
FILE_BYTES = 64 << 20  # of a file, about
_LANES = 64  # a full file has a multiple of so many sentences


@dataclass(frozen=True, kw_only=True)
class CacheFacts:
    """What the files of one stage hold; two with the same facts, but for `sentences`, have the same sentences."""

    lock_digest: str
    fingerprint: str  # of the tokenizer
    codebook_size: int
    stage: str
    seed: int
    context: int
    top_k: int
    precision: str
    teacher: Mapping[str, Any]
    sentences: int
    version: str = __version__

    @property
    def record(self) -> np.dtype:
        """The type of one sentence."""
        shape = (self.context, self.top_k)
        return np.dtype([("codes", "<u2", shape), ("log_probabilities", "<f2", shape)])

    @property
    def sentences_per_file(self) -> int:
        """How many sentences a full file has."""
        return _LANES * max(1, FILE_BYTES // (_LANES * self.record.itemsize))

    @property
    def files(self) -> int:
        """How many files the sentences take."""
        return -(-self.sentences // self.sentences_per_file)

    def numbers(self, file: int) -> range:
        """Returns which sentences a file has."""
        first = file * self.sentences_per_file
        return range(first, min(first + self.sentences_per_file, self.sentences))

    def check_same(self, other: "CacheFacts", folder: str) -> None:
        """Raises a `UserError` where `other` is not of the same sentences and teacher."""
        free = {"sentences", "version"}
        old, new = ({k: v for k, v in asdict(facts).items() if k not in free} for facts in (self, other))
        found = differences(old, new)
        if found:
            raise UserError(f"{folder} holds what another teacher said or of other sentences ({'; '.join(found)}): "
                            "choose another --out folder, or repeat the command that began it")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Says that a file is whole."""

    file: str
    first: int  # sentence
    sentences: int
    offset: int  # bytes before the first record
    bytes: int  # of the whole file
    sha256: str


def file_name(number: int) -> str:
    """Returns the name of a file without its ending."""
    return f"{number:05d}"


def in_file(sentences: int) -> Int64[np.ndarray, " n"]:
    """Returns the order of sentences in a file, as their distances from its first."""
    return numbers(0, sentences)


def write_file(folder: str, number: int, first: int, records: np.ndarray) -> None:
    """Writes the records of a file, whole or not at all, then its receipt.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    name = file_name(number)
    path = files.join(folder, f"{name}.npy")
    with files.writing(path) as temporary:
        with Path(temporary).open("wb") as file:
            np.lib.format.write_array(file, records, allow_pickle=False)
        digest, size = files.sha256(temporary), Path(temporary).stat().st_size
    receipt = Receipt(file=f"{name}.npy", first=first, sentences=len(records), offset=size - records.nbytes,
                      bytes=size, sha256=digest)  # fmt: skip
    files.write_json(files.join(folder, f"{name}.json"), asdict(receipt))


def read_facts(folder: str) -> CacheFacts:
    """Reads what the files of a stage hold.

    Raises:
        FileNotFoundError: there is nothing.
        UserError: the file cannot be read.
    """
    path = files.join(folder, FACTS)
    facts: CacheFacts = _of_json(CacheFacts, files.read_json(path), path)
    return facts


def read_receipt(folder: str, number: int) -> Receipt | None:
    """Reads a file's receipt; None where it is not finished.

    Raises:
        UserError: the receipt cannot be read.
    """
    path = files.join(folder, f"{file_name(number)}.json")
    try:
        receipt: Receipt = _of_json(Receipt, files.read_json(path), path)
    except FileNotFoundError:
        return None
    return receipt


def _of_json(kind: Any, data: Any, path: str) -> Any:
    try:
        return kind(**data)
    except TypeError as error:
        raise UserError(f"{path} does not fit visent {__version__} ({error}): make these files again with "
                        "`visent teacher`") from error  # fmt: skip


class TeacherCache:
    """The files of one stage, to be read by the numbers of sentences."""

    def __init__(self, folder: str, facts: CacheFacts, receipts: list[Receipt]) -> None:
        self.folder, self.facts = folder, facts
        self._receipts = receipts

    def read(self, wanted: Int64[np.ndarray, " b"]) -> Likeliest:
        """Returns what the teacher thought of these sentences; no other sentence is read.

        Raises:
            UserError: a file is gone or cut short.
        """
        records = np.empty(len(wanted), self.facts.record)
        file = wanted // self.facts.sentences_per_file
        for number in np.unique(file).tolist():
            here = np.flatnonzero(file == number)
            receipt = self._receipts[number]
            place = np.argsort(in_file(receipt.sentences))[wanted[here] - receipt.first]
            order = np.argsort(place)
            records[here[order]] = self._records(receipt, place[order])
        return Likeliest(records["codes"], records["log_probabilities"])

    def _records(self, receipt: Receipt, places: Int64[np.ndarray, " n"]) -> np.ndarray:
        """Returns records at rising places of a file; neighbours are read at once."""
        size = self.facts.record.itemsize
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
        ranges = [(receipt.offset + int(run[0]) * size, receipt.offset + (int(run[-1]) + 1) * size) for run in runs]
        path = files.join(self.folder, receipt.file)
        try:
            data = b"".join(files.read_ranges(path, ranges))
        except FileNotFoundError as error:
            raise UserError(f"{path} is gone: run the `visent teacher` command that wrote it again") from error
        if len(data) != size * len(places):
            raise UserError(f"{path} is cut short: run the `visent teacher` command that wrote it again")
        return np.frombuffer(data, self.facts.record)


def open_cache(root: str, lock: Lock, stage: str, seed: int, sentences: int) -> TeacherCache:
    """Opens the files of a stage of which `sentences` will be read, and checks that they are all there.

    Raises:
        UserError: they are of another lock, stage, seed, tokenizer or context, or do not go as far.
    """
    folder = files.join(root, stage)
    again = f"run `visent teacher RUN --stage {stage} --out {root}` with --steps and --batch of this stage"
    try:
        facts = read_facts(folder)
    except FileNotFoundError:
        there = [name for name in files.list_names(root) if files.exists(files.join(root, name, FACTS))]
        if there:
            raise UserError(f"{unknown('stage of the cached teacher', stage, there)}; {again}") from None
        raise UserError(f"{root} holds no teacher's predictions: {again}") from None
    ours = {"lock_digest": lock.digest, "fingerprint": lock.card.fingerprint, "codebook_size": lock.card.codebook_size,
            "stage": stage, "seed": seed, "context": lock.stage(stage).context}  # fmt: skip
    found = differences({name: getattr(facts, name) for name in ours}, ours)
    if found:
        raise UserError(f"{folder} holds what a teacher said of other sentences ({'; '.join(found)}): use the manifest "
                        f"and seed of then, or {again} in another folder")  # fmt: skip
    if facts.sentences < sentences:
        raise UserError(f"{folder} has the teacher's predictions of {facts.sentences:,} sentences, this stage reads "
                        f"{sentences:,}: {again}; it adds what is missing")  # fmt: skip
    return TeacherCache(folder, facts, _receipts(folder, facts, sentences, again))


def _receipts(folder: str, facts: CacheFacts, sentences: int, again: str) -> list[Receipt]:
    """Returns the receipts of the files that hold the first `sentences`, after a look at each file's size."""
    receipts, there = [], set(files.list_names(folder))
    for number in range(-(-sentences // facts.sentences_per_file)):
        name = file_name(number)
        receipt = read_receipt(folder, number) if f"{name}.json" in there else None
        wanted = min(facts.sentences_per_file, sentences - number * facts.sentences_per_file)
        whole = receipt is not None and receipt.sentences >= wanted and is_whole(folder, receipt)
        if not whole or receipt is None:
            raise UserError(f"{files.join(folder, name)}.npy, the teacher's predictions of sentences from "
                            f"{number * facts.sentences_per_file:,}, is missing or cut short: {again}")  # fmt: skip
        receipts.append(receipt)
    return receipts


def is_whole(folder: str, receipt: Receipt, *, by_content: bool = False) -> bool:
    """Returns whether a file has the size that its receipt says, and if asked for, the content."""
    path = files.join(folder, receipt.file)
    try:
        same = files.stamp(path)[0] == receipt.bytes
        return same and (not by_content or files.sha256(path) == receipt.sha256)
    except FileNotFoundError:
        return False
