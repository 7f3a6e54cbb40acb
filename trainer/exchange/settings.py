"""`config.json` of a Llama folder: read in transformers' old and new layouts, written so that both read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import ModelConfig
from visent.errors import UserError
from visent.untrusted.documents import parse_json

OURS = "visent"  # the key of what transformers has no field for; it keeps and ignores it
_ONLY = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a folder says of its model."""

    hidden: int
    mlp: int
    heads: int
    layers: int
    vocabulary: int
    positions: int  # the longest input it was made for
    rope_theta: float
    norm_epsilon: float
    init_std: float
    tied: bool  # one table for input and output embeddings
    begin: int | None  # bos_token_id
    ours: Mapping[str, Any] = field(default_factory=dict)  # what an export of visent adds

    def model(self, name: str, codebook_size: int, begin: int | None) -> ModelConfig:
        """Returns the model here: the vocabulary is a codebook and special tokens, one of which may begin sentences."""
        return ModelConfig(
            name=name,
            hidden=self.hidden,
            mlp=self.mlp,
            heads=self.heads,
            layers=self.layers,
            codebook_size=codebook_size,
            special_tokens=self.vocabulary - codebook_size,
            begins_with=None if begin is None else begin - codebook_size,
            rope_theta=self.rope_theta,
            norm_epsilon=self.norm_epsilon,
            init_std=self.init_std,
        )


def read_settings(folder: Path) -> Settings:
    """Reads what a folder says of its model.

    Raises:
        UserError: there is no such file, or it describes a model that cannot be computed here.
    """
    path = folder / "config.json"
    try:
        data = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _nothing_there(folder) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): fetch it again") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds {type(data).__name__}, expected a JSON object")
    _check(data, path)
    begin, ours = data.get("bos_token_id"), data.get(OURS)
    return Settings(
        hidden=data["hidden_size"],
        mlp=data["intermediate_size"],
        heads=data["num_attention_heads"],
        layers=data["num_hidden_layers"],
        vocabulary=data["vocab_size"],
        positions=int(_number(data, "max_position_embeddings", 2048.0, path)),
        rope_theta=_theta(data, path),
        norm_epsilon=_number(data, "rms_norm_eps", 1e-6, path),
        init_std=_number(data, "initializer_range", 0.02, path),
        tied=bool(data.get("tie_word_embeddings", False)),
        begin=begin if isinstance(begin, int) else None,
        ours=ours if isinstance(ours, dict) else {},
    )


def _nothing_there(folder: Path) -> UserError:
    if folder.is_dir():
        return UserError(f"{folder} has no config.json: expected a run, or a folder of Hugging Face's Llama")
    is_id = not folder.is_absolute() and len(folder.parts) == 2
    fetch = f"; if it is one on the hub, fetch it: hf download {folder} --local-dir {folder.name}" if is_id else ""
    return UserError(f"there is no folder {folder}{fetch}")


def _check(data: Mapping[str, Any], path: Path) -> None:
    for name, value in _ONLY.items():
        if data.get(name, value) != value:
            raise _refused(path, name, data[name], repr(value), "models here are Llamas without biases")
    if "model_type" not in data:
        raise _refused(path, "model_type", None, "'llama'", "it describes no model of transformers")
    for name in _SIZES:
        if not isinstance(data.get(name), int) or data[name] < 1:
            raise _refused(path, name, data.get(name), "a positive whole number", "fetch the file again")
    heads, hidden = data["num_attention_heads"], data["hidden_size"]
    if hidden % (2 * heads):
        raise _refused(path, "hidden_size", hidden, f"a multiple of 2 x {heads} heads", "fetch the file again")
    for name, same in (("num_key_value_heads", heads), ("head_dim", hidden // heads)):
        if data.get(name) not in (None, same):
            raise _refused(path, name, data[name], str(same), "heads here are all alike and fill the width")
    if data.get("quantization_config"):
        raise _refused(path, "quantization_config", data["quantization_config"], "none", "save it with plain numbers")


def _theta(data: Mapping[str, Any], path: Path) -> float:
    """Returns rope_theta: since transformers 5 inside `rope_parameters`, before beside a `rope_scaling`."""
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise _refused(path, "rope_parameters", rope, "an object", "fetch the file again")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _refused(path, "rope_parameters", dict(rope), "rope_type 'default'", "positions here are not scaled")
    given = {_number(place, "rope_theta", 0.0, path) for place in (data, rope) if place.get("rope_theta") is not None}
    if len(given) > 1:
        raise _refused(path, "rope_theta", sorted(given), "one value", "keep the one that it was trained with")
    return given.pop() if given else 10_000.0


def _number(data: Mapping[str, Any], name: str, default: float, path: Path) -> float:
    value = data.get(name, default)
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise _refused(path, name, value, "a positive number", "fetch the file again")
    return float(value)


def _refused(path: Path, name: str, got: object, expected: str, why: str) -> UserError:
    return UserError(f"{path}: {name} is {got!r}, expected {expected}: {why}")


def to_config(model: ModelConfig, positions: int, dtype: str, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a model.

    Nothing is an end or a padding token: every token below `vocab_size` is a code or special.
    """
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": model.begin,
        "dtype": dtype,
        "eos_token_id": None,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "hidden_size": model.hidden,
        "initializer_range": model.init_std,
        "intermediate_size": model.mlp,
        "max_position_embeddings": positions,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.heads,
        "pad_token_id": None,
        "pretraining_tp": 1,
        "rms_norm_eps": model.norm_epsilon,
        "rope_parameters": {"rope_theta": model.rope_theta, "rope_type": "default"},
        "rope_theta": model.rope_theta,  # of transformers 4, as torch_dtype
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": model.vocabulary,
        OURS: dict(ours),
    }


def to_generation_config(model: ModelConfig) -> dict[str, Any]:
    """Returns the `generation_config.json`: only codes are drawn, and as many as are asked for.

    Padding is the last special token, which nothing uses: transformers hides padding from attention, also where it
    stands for something else, such as the begin token.
    """
    special = list(range(model.codebook_size, model.vocabulary))
    said = {"bos_token_id": model.begin, "pad_token_id": next((t for t in special[::-1] if t != model.begin), None)}
    return {**{name: token for name, token in said.items() if token is not None}, "suppress_tokens": special or None}
