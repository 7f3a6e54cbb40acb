"""DeLVM's corpus: `train.bin`, one JSON object with the tokens of a sentence a line, and `train.bin.meta`.

It is InternLM's format. Of github.com/InternLM/InternLM, tools/tokenizer.py: "transfer the list into dic, key is str
'tokens', value is tokens", `saved_bin = str.encode(json.dumps(data) + "\\n")`, and "meta is a list of tuple(cur,
length); cur: the start index of each line; length: the token amount of each line", saved by `np.save` as int32. Of
github.com/ggjy/DeLVM, data_generation/generate/img_to_token.py: the same lines, and
`np.array(cu_seq_len_list, dtype=np.int64)` in `train.bin.meta`. InternLM's reader (internlm/data/single_dataset.py)
takes `meta[:, 0]` as byte offsets and `meta[:, -1]` as lengths, and leaves out sentences of fewer than 50 tokens.

A line is 512 tokens there (image and annotation) or 3,072 (six such pairs); any length is read.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from manifests import files
from manifests.exchange.sentences import Selection
from visent.errors import UserError
from visent.untrusted.arrays import read_array
from visent.untrusted.documents import parse_json

MAX_BYTES = 8 << 30  # of the meta: half a billion sentences


def write(selection: Selection, path: str) -> None:
    """Writes sentences as `path` (`.../train.bin`) and `path`.meta; the meta appears first, as readers ask for it.

    Raises:
        UserError: the name does not end in .bin, the target cannot be written, or a shard is missing or changed.
    """
    if not path.endswith(".bin"):
        raise UserError(f"--out is {path}: DeLVM reads files that end in .bin, as {files.join(path, 'train.bin')}")
    with files.writing(path) as temporary, files.writing(f"{path}.meta") as meta:
        _write(selection, files.name(path), temporary, meta)


def _write(selection: Selection, name: str, path: str, meta: str) -> None:
    index = np.lib.format.open_memmap(meta, mode="w+", dtype=np.int64, shape=(len(selection), 2))
    offset, number = 0, 0
    with Path(path).open("wb") as file:
        for codes in selection.codes(f"write {name}"):
            for sentence in codes.tolist():
                line = json.dumps({"tokens": sentence}).encode() + b"\n"
                index[number] = offset, len(sentence)
                offset, number = offset + file.write(line), number + 1
    index.flush()


def read_meta(path: str) -> Int64[np.ndarray, "n 2"]:
    """Returns byte offset and number of tokens of each line of `path`, from `path`.meta; both are local.

    Raises:
        UserError: it is missing, or no such table.
    """
    try:
        with Path(f"{path}.meta").open("rb") as file:
            meta = read_array(file, MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError(f"{path}.meta is missing: DeLVM's train.bin comes with train.bin.meta beside it") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}.meta is no array of numpy ({error}): make it again from the lines of {path}"
        ) from error
    if meta.ndim != 2 or meta.shape[1] != 2 or meta.dtype.kind not in "iu":
        raise UserError(f"{path}.meta holds {meta.dtype}{meta.shape}, expected whole numbers of shape (lines, 2)")
    return np.asarray(meta, np.int64)


def lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields the lines with their numbers from 1, compared with the meta as they come; `path` is local.

    Raises:
        UserError: the meta does not describe these lines.
    """
    meta, offset, number = read_meta(path), 0, 0
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if number > len(meta) or meta[number - 1, 0] != offset:
                said = f"byte {meta[number - 1, 0]}" if number <= len(meta) else "nowhere"
                raise UserError(f"{path}, line {number} begins at byte {offset}, {path}.meta says {said}: they do not "
                                "belong together")  # fmt: skip
            yield number, line
            offset += len(line)
    if number != len(meta):
        raise UserError(f"{path} has {number} lines, {path}.meta says {len(meta)}: the copy is not whole")


def parse(line: bytes) -> Int64[np.ndarray, "t"]:
    """Returns the tokens of a line.

    Raises:
        ValueError: the line is no sentence of DeLVM's; says why.
    """
    value = parse_json(line)
    found = value.get("tokens") if isinstance(value, dict) else None
    tokens = np.array(found if isinstance(found, list) else None)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or b"true" in line or b"false" in line:
        raise ValueError('expected {"tokens": [whole numbers]}')
    return tokens.astype(np.int64)
