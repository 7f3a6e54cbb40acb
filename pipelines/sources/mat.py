"""MATLAB's .mat files, which some publishers keep annotations or pictures in."""

import io
import struct
import zlib
from typing import Any

import numpy as np

from pipelines.sources import places
from pipelines.sources.reading import MAX_BYTES
from tokenizer.images import ImageError

_PACKED, _STEP = 15, 1 << 20


def variable(data: bytes, name: str) -> Any:
    """Returns a variable of a .mat file (format 5; not the HDF5 of version 7.3) as scipy gives it.

    Raises:
        ImageError: the bytes are no such file, or it holds no such variable.
    """
    from scipy.io import loadmat

    try:
        _check_size(data)
        return loadmat(io.BytesIO(data), variable_names=[name])[name]
    except KeyError as error:
        raise ImageError("missing-variable", f"the .mat file holds no {name!r}") from error
    except Exception as error:  # scipy's parser raises many types on damaged files
        raise ImageError("damaged", f"no readable .mat file: {error}") from error


def _check_size(data: bytes) -> None:
    """Refuses a file whose packed variables are bombs, by unpacking them step by step without keeping anything.

    The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf: 128 bytes, then elements of a type,
    a length, and content; type 15 is a variable packed by zlib.

    Raises:
        ValueError: they would unpack to more than `MAX_BYTES`.
    """
    order = "<" if data[126:128] == b"IM" else ">"
    at, left = 128, MAX_BYTES
    while at + 8 <= len(data):
        kind, length = struct.unpack(order + "II", data[at : at + 8])
        if kind == _PACKED:
            part, rest = zlib.decompressobj(), data[at + 8 : at + 8 + length]
            while rest and left >= 0:
                left -= len(part.decompress(rest, _STEP))
                rest = part.unconsumed_tail
            if left < 0:
                raise ValueError(f"its variables unpack to more than {MAX_BYTES:,} bytes")
        at += 8 + length


def shape_of(path: str, name: str) -> tuple[int, ...]:
    """Returns the shape of a variable without loading it.

    Raises:
        ImageError: as `variable` does.
    """
    from scipy.io import whosmat

    try:
        with places.openable(path) as file:
            shapes = {found: shape for found, shape, _ in whosmat(file)}
    except Exception as error:  # as above
        raise ImageError("damaged", f"no readable .mat file: {error}") from error
    if name not in shapes:
        raise ImageError("missing-variable", f"the .mat file holds {sorted(shapes)}, not {name!r}")
    return tuple(int(side) for side in np.atleast_1d(shapes[name]))
