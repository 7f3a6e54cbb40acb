"""Variables of TensorFlow's SavedModels, for networks of ours: the graph itself is a program and is not run.

A graph may read and write any file of this machine. Its numbers alone are taken, so the network also runs on devices
that TensorFlow does not know. Reading them needs tensorflow.
"""

from pathlib import Path

import numpy as np

from manifests import files
from visent.errors import UserError, said

VARIABLES = Path("variables", "variables")  # before .index and .data-00000-of-00001


def has_variables(folder: str | Path, name: str) -> bool:
    """Tells, without tensorflow, whether the index of a SavedModel's variables holds `name`.

    The index is a sorted table that abbreviates names by the one before, so ask for part of the first.
    """
    index = Path(folder) / VARIABLES.with_suffix(".index")
    return index.is_file() and name.encode() in files.read_bytes(index)


def read_variables(folder: str | Path) -> dict[str, np.ndarray]:
    """Returns the variables of floating point by name.

    Raises:
        UserError: tensorflow is not installed, or they are missing or damaged.
    """
    try:
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"{folder} is a SavedModel, whose numbers tensorflow reads: pip install 'visent[tensorflow]'"
        ) from error
    try:
        reader = tensorflow.train.load_checkpoint(str(Path(folder) / VARIABLES))
        kinds = reader.get_variable_to_dtype_map()
        return {name: np.asarray(reader.get_tensor(name)) for name, kind in kinds.items() if kind.is_floating}
    except (tensorflow.errors.OpError, RuntimeError, ValueError, LookupError, OSError) as error:
        raise UserError(
            f"cannot read the variables of {folder}: {said(error)[:300]}; a file is missing or damaged: fetch it again"
        ) from error
