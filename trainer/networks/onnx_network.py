"""Any network in an ONNX file that judges, described by a TOML file beside it and run by onnxruntime.

C3D, by whose probabilities the Inception Score of clips is made, comes this way; docs/networks.md has its card.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from manifests import files
from trainer.networks.network import Network, Outputs, Pixels
from trainer.networks.onnx_card import AXES, MOST_SIDE, NetworkCard, read_card, read_mean
from trainer.networks.resizing import resized
from trainer.networks.running import parts
from trainer.networks.weights import sha256_of_files
from visent.errors import UserError, said, unknown
from visent.untrusted.names import stays_below
from visent.untrusted.onnx_sessions import TYPES, open_session

FLOATS = ("tensor(float)", "tensor(float16)")
# An entry of a tensor whose numbers lie in another file (TensorProto.external_data): "location" and a name's length.
EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])")
SLACK = 1e-3  # that probabilities may sum to more or less than one


def recognises(path: str | Path) -> bool:
    """Tells by its name whether a file is an ONNX network, or the TOML file that describes one."""
    return Path(path).suffix in (".onnx", ".toml") and Path(path).is_file()


def load(path: str | Path) -> Network:
    """Opens a network by its file or its card, and runs it once on black.

    Its hash is that of the card, the network with its files of numbers, and its file of means, as each of them changes
    what it says.

    Raises:
        UserError: onnxruntime or a file is missing, the file is not the card's, or the network does not fit it.
    """
    described = Path(path).with_suffix(".toml")
    card = read_card(described)
    model = described.parent / card.file
    _check_hash(model, card, described)
    mean, session = read_mean(card, described.parent), open_session(model)
    describe, batch = _opened(session, card, mean, model)
    first = describe(np.zeros((batch, *_pixels_of(card)), np.uint8))

    def run(pixels: Pixels) -> Outputs:
        _check_pixels(pixels, card)
        found = [describe(part) for part in parts(pixels, batch)]
        probabilities = [one.probabilities for one in found if one.probabilities is not None]
        features = np.concatenate([one.features for one in found])[: len(pixels)]
        return Outputs(features, np.concatenate(probabilities)[: len(pixels)] if probabilities else None)

    used = {described.name, model.name, *_numbers_of(model), *([card.mean_file] if card.mean_file else [])}
    return Network(
        name=card.name or card.port_of,
        where=str(path),
        sha256=sha256_of_files(described.parent, used),
        same_as_papers="port" if card.port_of else "no",
        takes="clips" if card.takes == "clips" else "images",
        fewest_frames=card.frames,
        most_frames=card.frames,
        features=first.features.shape[1],
        classes=None if first.probabilities is None else first.probabilities.shape[1],
        run=run,
    )


def prepared(card: NetworkCard, mean: Float32[np.ndarray, "..."], pixels: Pixels) -> Float32[np.ndarray, "n ..."]:
    """Returns the network's input for pictures or clips."""
    colours = pixels[..., ::-1] if card.colours == "BGR" else pixels
    values = resized(colours, (card.size[0], card.size[1]), card.resize)  # type: ignore[arg-type]
    top, left = ((side - part) // 2 for side, part in zip(card.size, card.crop, strict=True))
    values = values[..., top : top + card.crop[0], left : left + card.crop[1], :]
    values = values.transpose([AXES[card.takes].index(axis) for axis in card.layout])
    std = np.array(card.std, np.float32).reshape(card.channels)
    result: np.ndarray = (values / np.float32(card.scale) - mean) / std
    return result


def _opened(
    session: Any, card: NetworkCard, mean: Float32[np.ndarray, "..."], model: Path
) -> tuple[Callable[[Pixels], Outputs], int]:
    """Returns a function of one batch, and the batch's size."""
    name, kind, batch = _input(session, card, model)
    wanted = [output for output in (card.features, card.probabilities or card.logits) if output]
    known = [output.name for output in session.get_outputs()]
    for output in wanted:
        if output not in known:
            raise unknown(f"output of {model}", output, known)

    def describe(pixels: Pixels) -> Outputs:
        given = np.ascontiguousarray(prepared(card, mean, pixels), kind)
        try:
            found = session.run(wanted, {name: given})
        except Exception as error:  # onnxruntime's own have no common class
            raise UserError(f"{model} fails on {given.shape} pixels: {said(error)[:300]}; export it again") from error
        rows = [_rows(one, len(pixels), output, model) for output, one in zip(wanted, found, strict=True)]
        return Outputs(rows[0], _probabilities(rows[1], card, model) if len(rows) > 1 else None)

    return describe, batch


def _input(session: Any, card: NetworkCard, model: Path) -> tuple[str, Any, int]:
    """Returns the name, type and batch size of the input, compared with the card."""
    inputs = session.get_inputs()
    shape, kind = (inputs[0].shape, inputs[0].type) if inputs else ([], "")
    sides = zip(shape[1:], card.shape, strict=False)
    fits = len(shape) == len(card.layout) and all(not isinstance(a, int) or a == b for a, b in sides)
    batch = shape[0] if fits and isinstance(shape[0], int) else card.batch_size
    if len(inputs) != 1 or not fits or kind not in FLOATS or not 1 <= batch <= MOST_SIDE:
        got = ", ".join(f"{one.name}: {one.type}{one.shape}" for one in inputs)
        raise UserError(
            f"{model} takes {got}; by its TOML it should take one float {card.layout} (n, {str(card.shape)[1:]}"
        )
    return inputs[0].name, TYPES[kind], batch


def _rows(output: Any, count: int, name: str, model: Path) -> Float32[np.ndarray, "n d"]:
    """Returns one row of numbers for each picture or clip; axes of 1 may stand around them."""
    found = np.asarray(output)
    one_row = found.ndim > 1 and len(found) == count and sorted(found.shape[1:])[:-1] == [1] * (found.ndim - 2)
    if not one_row or not found.size or found.dtype.kind not in "fiu":
        raise UserError(
            f"{model}: output {name!r} is {found.dtype}{list(found.shape)} for a batch of {count}, expected one row of "
            "numbers each: name the output of a pooled or a linear layer"
        )
    if not np.isfinite(found).all():
        raise UserError(f"{model}: output {name!r} has values that are not finite; give a network in float32")
    return found.reshape(count, -1).astype(np.float32)


def _probabilities(rows: Float32[np.ndarray, "n c"], card: NetworkCard, model: Path) -> Float32[np.ndarray, "n c"]:
    if card.logits:
        shares = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)
    sums: Float[np.ndarray, " n"] = rows.sum(axis=1, dtype=np.float64)
    if rows.min() < 0 or np.abs(sums - 1).max() > SLACK:
        raise UserError(
            f"{model}: output {card.probabilities!r} is no list of probabilities: from {rows.min():.3g} and with sums "
            f"of {sums.min():.3g} to {sums.max():.3g}; where they come before a softmax, name the output as logits"
        )
    return rows


def _pixels_of(card: NetworkCard) -> tuple[int, ...]:
    frames = (card.frames,) if card.takes == "clips" else ()
    return (*frames, *card.size, 3)


def _check_pixels(pixels: Pixels, card: NetworkCard) -> None:
    got = f"clips of {pixels.shape[1]} frames" if pixels.ndim == 5 else "pictures"
    wanted = f"clips of {card.frames} frames" if card.takes == "clips" else "pictures"
    if got != wanted:
        raise UserError(f"{card.name or card.port_of} judges {wanted}, got {got}")


def _numbers_of(model: Path) -> set[str]:
    """Returns the files beside a network that its numbers lie in, as those over 2 GB and of torch's exporter do."""
    content, names = model.read_bytes(), set()
    for one in EXTERNAL.finditer(content):
        length = sum((byte & 127) << (7 * place) for place, byte in enumerate(one[1]))
        names.add(content[one.end() : one.end() + length].decode(errors="replace"))
    return {name for name in names if stays_below(name) and (model.parent / name).is_file()}


def _check_hash(model: Path, card: NetworkCard, described: Path) -> None:
    if not model.is_file():
        raise UserError(f"{described} names the network {model}, which is not there")
    found = files.sha256(model)
    if found != card.sha256.lower():
        raise UserError(
            f"{model} has sha256 {found}, by {described.name} it should have {card.sha256[:80]!r}: fetch the file that "
            "was described, or describe this one"
        )
