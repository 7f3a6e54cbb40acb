"""Reads layers models of TensorFlow.js: `model.json` with `.bin` shards, or both as npm packages carry them, in `.js`.

A package's `model.min.js` holds the model as an object of JavaScript, and each `<shard>.min.js` its bytes in base64.
None of it is run: the object is read as the little more than JSON that it is.
"""

import base64
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visent.errors import UserError, said
from visent.untrusted.documents import is_shallow, parse_json
from visent.untrusted.names import is_plain

MODELS = ("model.json", "model.min.js")
STORED = {"float32": "<f4", "float16": "<f2", "uint8": "u1", "uint16": "<u2"}
TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<name>[A-Za-z_$][\w$]*)|(?P<flag>![01])'
    r"|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<mark>[{}\[\]:,]))"
)
WORDS = ("null", "true", "false")
SHARD = re.compile(rb'exports\s*=\s*"([A-Za-z0-9+/=]*)"')
DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError)


def model_file(folder: Path) -> Path | None:
    """Returns the file that describes a model, None where a folder holds none."""
    return next((folder / name for name in MODELS if (folder / name).is_file()), None)


def read_model(folder: Path) -> tuple[Mapping[str, Any], dict[str, np.ndarray]]:
    """Returns a model's configuration as Keras writes it, and its weights as float32 by name.

    Raises:
        UserError: a file is missing, cut or damaged.
    """
    file = model_file(folder)
    if file is None:
        raise UserError(f"{folder} holds neither {' nor '.join(MODELS)}")
    try:
        model = _parsed(file)
        topology = model["modelTopology"]
        config = topology.get("model_config", topology)["config"]
        return config, dict(part for group in model["weightsManifest"] for part in _weights(folder, group))
    except DAMAGE as error:
        raise UserError(
            f"cannot read {file}: {said(error)[:300]}; it is cut or damaged, or no layers model of TensorFlow.js"
        ) from error


def _parsed(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".js":
        start = re.search(r"exports\s*=\s*(?=\{)", text)
        if start is None:
            raise ValueError("no exported object")
        text = "".join(_as_json(text, start.end()))
    found = parse_json(text)
    if not is_shallow(found):
        raise ValueError("lists or objects nested too deeply")
    return found


def _as_json(text: str, place: int) -> Iterator[str]:
    """Yields the tokens of an object of JavaScript as JSON's, up to its end."""
    depth = 0
    while True:
        token = TOKEN.match(text, place)
        if token is None:
            raise ValueError(f"no object of plain values at character {place:,}")
        place, found = token.end(), token.group(token.lastgroup or 0)
        if token.lastgroup == "name":
            yield found if found in WORDS else f'"{found}"'
        elif token.lastgroup == "flag":
            yield "true" if found == "!0" else "false"
        elif token.lastgroup == "number":
            yield found if found.lstrip("-").isdigit() else repr(float(found))
        else:
            yield found
        depth += (found in "{[") - (found in "}]")
        if depth == 0:
            return


def _weights(folder: Path, group: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the weights of a group, whose shards are one run of bytes."""
    data, place = b"".join(_shards(folder, group["paths"])), 0
    for one in group["weights"]:
        squeezed = one.get("quantization", {})
        stored = np.dtype(STORED[squeezed.get("dtype", one["dtype"])])
        shape = tuple(int(side) for side in one["shape"])
        size = math.prod(shape) * stored.itemsize
        if min(shape, default=1) < 0 or place + size > len(data):
            raise ValueError(f"the shards hold {len(data):,} bytes, {one['name']} lies beyond")
        values = np.frombuffer(data, stored, math.prod(shape), place).astype(np.float32).reshape(shape)
        place += size
        if "scale" in squeezed:
            values = values * np.float32(squeezed["scale"]) + np.float32(squeezed["min"])
        yield str(one["name"]), values
    if place != len(data):
        raise ValueError(f"the shards hold {len(data):,} bytes, the weights {place:,}")


def _shards(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        if not is_plain(str(name)):
            raise ValueError(f"shard {str(name)[:80]!r} is not the name of a file beside the model")
        packed = folder / f"{name}.min.js"
        if not packed.is_file():
            yield (folder / name).read_bytes()
            continue
        found = SHARD.search(packed.read_bytes())
        if found is None:
            raise ValueError(f"{packed.name} holds no base64")
        yield base64.b64decode(found[1], validate=True)
