"""LVM's corpus: JSON Lines, one visual sentence a line, its tokens as base64 of little-endian int32.

The writers of github.com/ytongbai/LVM, tokenize_examples/tokenize_paired_dataset_muse.py, end with
`all_tokens = np.memmap(..., dtype='i4')`, `data = {'tokens': b64encode(tokens.tobytes()).decode('utf-8'),}` and
`fout.write(json.dumps(data) + '\\n')`. Its reader, EasyLM/data.py, takes a field `{tokens}` by
`np.frombuffer(base64.b64decode(example[field]), dtype='i4')` and skips empty lines. A sentence there is 16 images of
256 tokens; the reader takes any length.
"""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from manifests import files
from manifests.exchange.sentences import Selection
from visent.untrusted.documents import parse_json


def write(selection: Selection, path: str) -> None:
    """Writes sentences as one JSON Lines file.

    Raises:
        UserError: the target cannot be written, or a shard is missing or changed.
    """
    with files.writing(path) as temporary, Path(temporary).open("wb") as file:
        for codes in selection.codes(f"write {files.name(path)}"):
            for sentence in codes.astype("<i4"):
                file.write(b'{"tokens": "' + base64.b64encode(sentence.tobytes()) + b'"}\n')


def lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not empty, with their numbers from 1; `path` is local."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def parse(line: bytes) -> Int64[np.ndarray, "t"]:
    """Returns the tokens of a line.

    Raises:
        ValueError: the line is no sentence of LVM's; says why.
    """
    value = parse_json(line)
    text = value.get("tokens") if isinstance(value, dict) else None
    try:
        if not isinstance(text, str):
            raise ValueError('expected {"tokens": "base64 of int32"}')  # noqa: TRY004 - of the file, not of a caller
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"its tokens are not base64: {error}") from error
    if len(raw) % 4:
        raise ValueError(f"its tokens are {len(raw)} bytes, expected a multiple of 4: int32 each")
    return np.frombuffer(raw, "<i4").astype(np.int64)
