"""MATLAB's .mat files, which some publishers keep annotations or pictures in."""

import io
from typing import Any

import numpy as np

from pipelines.sources import places
from tokenizer.images import ImageError


def variable(data: bytes, name: str) -> Any:
    """Returns a variable of a .mat file (format 5; not the HDF5 of version 7.3) as scipy gives it.

    Raises:
        ImageError: the bytes are no such file, or it holds no such variable.
    """
    from scipy.io import loadmat

    try:
        return loadmat(io.BytesIO(data), variable_names=[name])[name]
    except KeyError as error:
        raise ImageError("missing-variable", f"the .mat file holds no {name!r}") from error
    except Exception as error:  # scipy's parser raises many types on damaged files
        raise ImageError("damaged", f"no readable .mat file: {error}") from error


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
