"""Files of codes: a `.npz` of plain arrays that numpy reads without pickle, or a `.npy` of codes alone."""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt16

from tokenizer.card import TokenizerCard
from tokenizer.output import whole
from visent.errors import UserError
from visent.untrusted.arrays import NPY, ZIP, names_in, read_array, read_arrays
from visent.untrusted.documents import parse_json

MAX_BYTES = 8 << 30  # of all arrays: sixteen million pictures of 256 codes
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest of a zip: equal codes give equal bytes on any day


@dataclass(frozen=True)
class CodesFile:
    """What a file of codes holds."""

    codes: Integer[np.ndarray, "n ..."]  # as stored; not checked against a tokenizer
    names: Sequence[str]
    card: Mapping[str, Any]  # of the tokenizer, as its version wrote it; empty where the file does not say
    fingerprint: str  # of the tokenizer; "" where the file does not say

    def check_made_by(self, card: TokenizerCard, path: Path) -> None:
        """Checks that the tokenizer of `card` made the codes; with which preset and precision makes no difference here.

        Raises:
            UserError: another one did.
        """
        if self.fingerprint in ("", card.fingerprint) or self.card.get("weights_sha256") == card.weights_sha256:
            return
        raise UserError(
            f"{path} was made by tokenizer {self.card.get('name', '')!r}, fingerprint {self.fingerprint}; this is "
            f"{card.name!r}, {card.fingerprint}, to which these codes mean something else: give the first one by "
            "--tokenizer, or --any-tokenizer to decode them all the same"
        )

    def rows(self, card: TokenizerCard, path: Path) -> Integer[np.ndarray, "n t"]:
        """Returns whole grids of codes for the tokenizer of `card`, row by row.

        Raises:
            UserError: the shape or the range does not fit.
        """
        codes, tokens = self.codes, card.tokens_per_image
        if codes.shape[1:] == (card.grid, card.grid):
            codes = codes.reshape(-1, tokens)
        if codes.shape[1:] != (tokens,):
            raise UserError(
                f"{path} holds codes of shape {codes.shape}, expected (pictures, {tokens}) or (pictures, {card.grid}, "
                f"{card.grid}) for {card.name!r}; name the tokenizer that made them by --tokenizer"
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < card.codebook_size:
            raise UserError(
                f"{path} holds codes of {codes.min()}..{codes.max()}, expected 0..{card.codebook_size - 1} for "
                f"{card.name!r}; name the tokenizer that made them by --tokenizer"
            )
        return codes


def write_codes(
    path: Path, codes: UInt16[np.ndarray, "n t"], names: Sequence[str], card: TokenizerCard, *, nearest: bool
) -> None:
    """Writes a `.npz` of codes, names, card (JSON), fingerprint and nearest; the same input gives the same bytes.

    Raises:
        UserError: it cannot be written; what was there before is then untouched.
    """
    arrays = {
        "codes": codes,
        "names": np.array(names, np.str_),
        "card": np.array(json.dumps(card.to_json(), sort_keys=True)),
        "fingerprint": np.array(card.fingerprint),
        "nearest": np.array(nearest),
    }
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
            entry.create_system = 3  # as on Unix, wherever it is written
            with file.open(entry, "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array, allow_pickle=False)


def read_codes(path: Path) -> CodesFile:
    """Reads a `.npz` as `write_codes` writes it, or a `.npy` of codes; without names rows are numbered.

    Raises:
        UserError: there is no such file, it is damaged, or it holds something else.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
            file.seek(0)
            if start[:4] == ZIP:
                return _from_npz(path, file)
            if start == NPY:
                return _checked(path, {"codes": read_array(file, MAX_BYTES)})
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; give a .npz or .npy file of codes") from error
    except ValueError as error:
        if "pickled" in str(error):
            raise UserError(f"{path}: {error}; save the codes as a plain integer array") from error
        raise UserError(f"{path} is cut or damaged ({error}): copy it again, or encode again") from error
    raise UserError(f"{path} is neither .npz nor .npy: expected a file of `visent tokenizer encode`")


def _from_npz(path: Path, file: io.BufferedReader) -> CodesFile:
    if "codes" not in (there := names_in(file)):
        raise UserError(f"{path} holds the arrays {there}, expected one called 'codes'")
    return _checked(path, read_arrays(file, ("codes", "names", "fingerprint", "card"), MAX_BYTES))


def _checked(path: Path, arrays: dict[str, np.ndarray]) -> CodesFile:
    codes = arrays["codes"]
    if codes.dtype.kind not in "ui" or codes.ndim < 2:
        raise UserError(
            f"{path} holds codes of type {codes.dtype} and shape {codes.shape}, expected whole numbers of shape "
            "(images, tokens per image)"
        )
    width = len(str(max(len(codes) - 1, 0)))
    names = arrays.get("names", np.array([f"{i:0{width}d}" for i in range(len(codes))], np.str_))
    if names.dtype.kind != "U" or names.shape != (len(codes),):
        raise UserError(
            f"{path} holds names of type {names.dtype} and shape {names.shape}, expected one text for each of the "
            f"{len(codes)} rows of codes"
        )
    card = _card(arrays["card"]) if "card" in arrays else {}
    return CodesFile(codes, names.tolist(), card, str(arrays.get("fingerprint", "")))


def _card(stored: np.ndarray) -> dict[str, Any]:
    try:
        values = parse_json(str(stored))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def png_names(names: Sequence[str], path: Path) -> list[str]:
    """Returns the name of a PNG below some folder for each row: the row's own, its ending replaced.

    Where two rows would differ only in the ending, it is kept.

    Raises:
        UserError: a name leads out of the folder, or two are the same.
    """
    for name in names:
        if not name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise UserError(f"{path} holds the name {name!r}, which is no path below a folder: rename that row")
    stems = Counter(str(PurePosixPath(name).with_suffix("")) for name in names)
    kept = [str(PurePosixPath(name).with_suffix("")) for name in names]
    result = [f"{stem if stems[stem] == 1 else name}.png" for stem, name in zip(kept, names, strict=True)]
    if len(set(result)) < len(result):
        name, _ = Counter(result).most_common(1)[0]
        raise UserError(f"{path} holds two rows that would both be written to {name}: names must differ")
    return result
