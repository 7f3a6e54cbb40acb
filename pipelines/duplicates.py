"""Keys that occur in several shards of a dataset.

Each key is 8 bytes of hash in a temporary folder, and one of 64 parts of them is in memory at a time.
"""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from manifests import files
from manifests.dataset import DatasetFacts
from manifests.shards import read_keys

PARTS = 64  # by the first bits of the hash; a billion keys are 125 MB in each
LOOKED_UP = 1000  # doubled hashes whose keys are read again, to name them
NAMED = 3


class SeenKeys:
    """Remembers keys as hashes in a temporary folder; use it in a `with` block."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="visent-keys-")

    def __enter__(self) -> "SeenKeys":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def add(self, keys: Iterable[str]) -> None:
        """Adds the keys of one shard; a key that comes twice in the same call counts once."""
        hashes = np.unique(hashes_of(set(keys)))
        edges = np.searchsorted(hashes >> np.uint64(58), np.arange(PARTS + 1, dtype=np.uint64))
        for part in range(PARTS):
            if edges[part] < edges[part + 1]:
                with (Path(self._folder.name) / str(part)).open("ab") as file:
                    hashes[edges[part] : edges[part + 1]].tofile(file)

    def doubled(self) -> UInt64[np.ndarray, "n"]:
        """Returns the hashes that came in several calls of `add`."""
        found = [np.empty(0, np.uint64)]
        for path in sorted(Path(self._folder.name).iterdir()):
            hashes = np.sort(np.fromfile(path, np.uint64))
            found.append(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]))
        return np.concatenate(found)


def hashes_of(keys: Iterable[str]) -> UInt64[np.ndarray, "n"]:
    """Returns 8 bytes of BLAKE2b of each key."""
    joined = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(joined, np.uint64)


def doubled_keys(folder: str, facts: DatasetFacts, seen: SeenKeys) -> list[str]:
    """Returns a problem that names some of the keys that occur in several shards, or none.

    Up to `LOOKED_UP` of them are compared as text, so that two keys of equal hash are not taken for one.
    """
    hashes = seen.doubled()
    if not len(hashes):
        return []
    wanted = set(hashes[:LOOKED_UP].tolist())
    places: dict[str, list[str]] = {}
    for shard in facts.shards:
        if shard.first_view == 0:
            keys = set(read_keys(files.join(folder, shard.file), facts.schema)[: shard.examples])
            for key in sorted(keys):
                if int(hashes_of([key])[0]) in wanted:
                    places.setdefault(key, []).append(shard.file)
    doubled = {key: where for key, where in places.items() if len(where) > 1}
    count = len(hashes) - len(wanted) + len(doubled)
    if not count:
        return []
    named = "; ".join(f"{key!r} in {' and '.join(where)}" for key, where in list(doubled.items())[:NAMED])
    more = f"; and {count - NAMED:,} more" if count > NAMED else ""
    return [f"{count:,} keys occur in several shards ({named}{more}): a key names one example, in one split"]
