"""The sums that a part's figures are made of: which ones, of what, and where they are kept.

Figures of real pictures and of the ceiling do not depend on the model, so their sums are kept under a digest of all
that decides them, and a second model or another setting takes them from there.
"""

import contextlib
import functools
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from manifests import canonical, files
from tokenizer.card import TokenizerCard
from trainer.figures.closeness import Closeness
from trainer.figures.foreground import Foreground
from trainer.figures.inception_score import PARTS, InceptionScore
from trainer.figures.moments import Moments
from trainer.figures.overlap import Overlap
from trainer.networks.network import Network, Slot
from trainer.protocols.cases import Cases
from trainer.protocols.part import FigureName, Part
from trainer.protocols.samples import Samples
from visent import __version__
from visent.errors import UserError
from visent.untrusted.arrays import read_arrays

Sum = Moments | InceptionScore | Overlap | Foreground | Closeness
Kind = Literal["moments", "score", "overlap", "foreground", "closeness"]
Source = Literal["real", "ceiling", "model"]
SOURCES: tuple[Source, ...] = ("real", "ceiling", "model")
KINDS: Mapping[Kind, type[Sum]] = {
    "moments": Moments, "score": InceptionScore, "overlap": Overlap, "foreground": Foreground, "closeness": Closeness,
}  # fmt: skip
MADE_OF: Mapping[FigureName, tuple[Kind, Slot | None]] = {
    "fid": ("moments", "images"), "is": ("score", "images"), "fvd": ("moments", "clips"),
    "clip-is": ("score", "actions"), "miou": ("overlap", None), "foreground-miou": ("foreground", None),
    "psnr": ("closeness", None), "ssim": ("closeness", None),
}  # fmt: skip
CODE = ("trainer/figures/*.py", "trainer/networks/*.py", "trainer/protocols/*.py", "tokenizer/*.py")
MOST_BYTES = 1 << 31  # of a file: moments of 16,000 features


@dataclass(frozen=True)
class SumOf:
    """One sum over all results of a source; of features or probabilities where a network has its slot."""

    source: Source
    kind: Kind
    slot: Slot | None


def wanted(part: Part, networks: Mapping[Slot, Network]) -> list[SumOf]:
    """Returns the sums of all figures that can be made, each once. What is compared with real pixels has none of them.

    An Inception Score needs a network that names classes.
    """
    found: dict[SumOf, None] = {}
    for figure in part.figures:
        kind, slot = MADE_OF[figure]
        if lacks(figure, networks):
            continue
        for source in SOURCES if slot is not None else SOURCES[1:]:
            found[SumOf(source, kind, slot)] = None
    return list(found)


def lacks(figure: FigureName, networks: Mapping[Slot, Network]) -> Slot | None:
    """Returns the slot without whose network a figure cannot be made."""
    kind, slot = MADE_OF[figure]
    if slot is None or (slot in networks and (kind != "score" or networks[slot].classes is not None)):
        return None
    return slot


def empty(of: SumOf, cases: Cases, networks: Mapping[Slot, Network]) -> Sum:
    """Returns a sum of nothing. Scores of images have the parts of ADM's evaluator, those of clips the usual ten."""
    if of.slot is not None:
        network = networks[of.slot]
        if of.kind == "moments":
            return Moments(network.features)
        assert network.classes is not None
        if network.takes == "images":
            return InceptionScore.in_parts_of(network.classes, len(cases) * cases.frames)
        return InceptionScore.in_parts(network.classes, len(cases), min(PARTS, len(cases)))
    if of.kind == "overlap":
        assert cases.legend is not None
        return Overlap(cases.legend.ids, cases.legend.ignored)
    return Foreground() if of.kind == "foreground" else Closeness()


class Digests:
    """Names for sums: of all that decides them, so that what has the same name is the same."""

    def __init__(
        self, part: Part, cases: Cases, card: TokenizerCard, networks: Mapping[Slot, Network], samples: Samples,
        pixels: str,
    ) -> None:  # fmt: skip
        """Takes in `pixels` what names the real pixels of the dataset."""
        truth = np.ascontiguousarray(cases.truth_codes, "<u2")
        legend = None if cases.legend is None else cases.legend.to_json()
        self._networks = networks
        self._of: dict[Source, dict[str, Any]] = {}
        self._of["real"] = {
            "code": _code(), "pixels": pixels, "role": part.made, "frames": cases.frames,
            "keys": list(cases.keys), "classes": list(cases.classes), "legend": legend,
        }  # fmt: skip
        decoded = {**self._of["real"], "tokenizer": card.fingerprint}
        self._of["ceiling"] = {**decoded, "codes": hashlib.sha256(truth.data).hexdigest()}
        self._of["model"] = {**decoded, "cases": cases.digest, "samples": files.name(samples.folder)}
        self._short = {source: canonical.digest_json(value) for source, value in self._of.items()}

    def name(self, of: SumOf) -> str:
        """Returns the name of a sum."""
        sha256 = None if of.slot is None else self._networks[of.slot].sha256
        return canonical.digest_json([of.source, self._short[of.source], of.kind, sha256])[:24]


def places(source: Source, folder: str) -> list[str]:
    """Returns where sums of a source may lie, the first choice first; `folder` is the last.

    What other models' evaluations need, too, is kept below VISENT_CACHE; several hosts share none.
    """
    cache = Path(os.environ.get("VISENT_CACHE") or Path.home() / ".cache" / "visent").expanduser() / "sums"
    if source == "model" or jax.process_count() > 1:
        return [folder]
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    return [str(cache), folder]


def read_one(paths: Sequence[str], kind: Kind) -> Sum | None:
    """Reads a sum from the first place that has it whole; None where none has.

    Raises:
        UserError: the last place cannot be read.
    """
    found = None
    for path in paths[:-1]:
        with contextlib.suppress(UserError):
            found = found or read(path, {"sum": kind})
    found = found or read(paths[-1], {"sum": kind})
    return found["sum"] if found else None


def write_one(paths: Sequence[str], one: Sum) -> None:
    """Writes a sum to the first place that takes it.

    Raises:
        UserError: none does; of the last one.
    """
    for path in paths[:-1]:
        with contextlib.suppress(UserError):
            return write(path, {"sum": one})
    write(paths[-1], {"sum": one})


def write(path: str, sums: Mapping[str, Sum]) -> None:
    """Writes sums by name as one `.npz`."""
    arrays = {f"{name}/{part}": array for name, one in sums.items() for part, array in one.to_arrays().items()}
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    files.write_bytes(path, data.getvalue())


def read(path: str, kinds: Mapping[str, Kind]) -> dict[str, Sum] | None:
    """Reads sums of these kinds by name; None where the file is missing, damaged or holds others."""
    try:
        arrays = read_arrays(io.BytesIO(files.read_bytes(path)), None, MOST_BYTES)
        return {name: KINDS[kind].from_arrays(dict(_own(arrays, name))) for name, kind in kinds.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):
        return None


def merged(a: Sum, b: Sum) -> Sum:
    """Returns two sums of one kind together."""
    assert type(a) is type(b)
    together: Sum = a.merged(b)  # type: ignore[arg-type]
    return together


@functools.cache
def _code() -> str:
    """Returns a name for what computes sums: kept ones are not those of another version, nor of other code."""
    root, digest = Path(__file__).parents[2], hashlib.sha256(__version__.encode())
    for pattern in CODE:
        for path in sorted(root.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _own(arrays: Mapping[str, np.ndarray], name: str) -> Iterator[tuple[str, np.ndarray]]:
    for path, array in arrays.items():
        owner, _, part = path.rpartition("/")
        if owner == name:
            yield part, array
