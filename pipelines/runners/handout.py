"""The way of units to the workers: through small files, since a job's description may not hold many of them.

Dataflow takes a description of 10 MB at most; the units of a billion pictures are more.
"""

import hashlib
from collections.abc import Iterator, Sequence

from manifests import files
from pipelines.job import Work
from pipelines.worklog import FOLDER

MAX_BYTES = 1 << 20  # of one file


def hand_out(folder: str, works: Sequence[Work]) -> list[str]:
    """Writes the works into files below the dataset's log and returns their names, of their content.

    Raises: `UserError` when the folder cannot be written.
    """
    files.make_folder(files.join(folder, FOLDER))
    names = []
    for data in _pieces(works):
        names.append(_name(data))
        files.write_bytes(files.join(folder, names[-1]), data)
    return names


def names_of(works: Sequence[Work]) -> list[str]:
    """Returns the names that `hand_out` gives, without writing."""
    return [_name(data) for data in _pieces(works)]


def taken(folder: str, name: str) -> list[str]:
    """Returns the works in a file, each as JSON."""
    return files.read_bytes(files.join(folder, name)).decode("ascii").splitlines()


def take_back(folder: str, names: Sequence[str]) -> None:
    """Removes the files of a local job that has ended; of a bucket they stay, and are small."""
    if not files.is_url(folder):
        for name in names:
            files.discard(files.join(folder, name))


def _name(data: bytes) -> str:
    return f"{FOLDER}/units-{hashlib.sha256(data).hexdigest()[:16]}.jsonl"


def _pieces(works: Sequence[Work]) -> Iterator[bytes]:
    """Gives the works' lines in pieces of about a mebibyte."""
    lines: list[bytes] = []
    held = 0
    for work in works:
        line = work.to_json().encode("ascii") + b"\n"
        if lines and held + len(line) > MAX_BYTES:
            yield b"".join(lines)
            lines, held = [], 0
        lines.append(line)
        held += len(line)
    if lines:
        yield b"".join(lines)
