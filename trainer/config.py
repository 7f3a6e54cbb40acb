"""What a training run is: model, stages and bookkeeping, as frozen dataclasses with typed overrides."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A LLaMA decoder: RMSNorm, RoPE, SwiGLU, no biases, input and output embeddings apart.

    The vocabulary is the tokenizer's codebook and one token more, which begins every sentence.
    """

    name: str
    hidden: int
    mlp: int
    heads: int
    layers: int
    codebook_size: int = 8192
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False  # recompute each layer in the backward pass: less memory, about a third more work
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("hidden", "mlp", "heads", "layers", "codebook_size"):
            _require(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "a positive number")
        _require(
            self.hidden % (2 * self.heads) == 0, "model.hidden", self.hidden, f"a multiple of 2 x {self.heads} heads"
        )
        _require(
            self.compute_dtype in ("float32", "bfloat16"),
            "model.compute_dtype",
            self.compute_dtype,
            "float32 or bfloat16",
        )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def vocabulary(self) -> int:
        """Codes and the begin token."""
        return self.codebook_size + 1

    @property
    def begin(self) -> int:
        """The token that begins every sentence; it is never generated."""
        return self.codebook_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer's matrices."""
        return 4 * self.hidden**2 + 3 * self.hidden * self.mlp

    @property
    def parameters(self) -> int:
        """All parameters: embeddings, matrices and norms."""
        norms = self.hidden * (2 * self.layers + 1)
        return self.layers * self.layer_parameters + 2 * self.vocabulary * self.hidden + norms

    def flops_per_token(self, context: int) -> float:
        """Multiply-adds of one trained token times two, forward and backward; attention counted causally."""
        matrices = self.layers * self.layer_parameters + self.vocabulary * self.hidden
        return 6.0 * matrices + 6.0 * self.layers * self.hidden * context


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of training: a stage of the manifest, with its own schedule.

    The learning rate rises linearly over `warmup_steps`, then follows half a cosine down to `final_learning_rate`.
    """

    steps: int
    batch_sentences: int
    learning_rate: float
    final_learning_rate: float
    warmup_steps: int = 0
    context: int | None = None  # tokens per sentence; None takes the manifest's
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0  # of the whole gradient; None does not clip
    reset_moments: bool = False  # forget Adam's moments where the stage begins

    def __post_init__(self) -> None:
        _require(self.steps >= 0, "steps", self.steps, "0 or more")
        _require(self.batch_sentences > 0, "batch_sentences", self.batch_sentences, "a positive number")
        _require(
            0 <= self.warmup_steps <= max(self.steps, 0), "warmup_steps", self.warmup_steps, f"0 to {self.steps} steps"
        )
        for name in ("learning_rate", "final_learning_rate", "weight_decay"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, value, "0 or more")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 up to, not including, 1")
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "more than 0, or none")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run: the model and its stages in order. Recipes return one."""

    recipe: str
    model: ModelConfig
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    seed: int = 0
    log_every: int = 10  # steps between lines of metrics.jsonl
    checkpoint_every: int = 1000  # steps between checkpoints; a stage's end always has one
    keep_checkpoints: int = 2
    evaluate_every: int = 0  # steps between held-out evaluations besides those at a stage's end; 0 for none
    evaluate_sentences: int = 64  # of each task, at most
    loss_chunk_tokens: int = 16_384  # logits exist for at most this many tokens at once

    def __post_init__(self) -> None:
        for name in ("log_every", "checkpoint_every", "keep_checkpoints", "evaluate_sentences", "loss_chunk_tokens"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        _require(self.evaluate_every >= 0, "evaluate_every", self.evaluate_every, "0 or more")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 up to 2**32 - 1")

    def to_json(self) -> dict[str, Any]:
        """Returns the configuration as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RunConfig":
        """Reads what `to_json` wrote.

        Raises:
            UserError: a field is missing or unknown.
        """
        try:
            stages = {name: StageConfig(**stage) for name, stage in data["stages"].items()}
            return cls(**{**data, "model": ModelConfig(**data["model"]), "stages": stages})
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"run configuration does not fit this version of visent ({error}): "
                "use the version that wrote it, or start a new run"
            ) from error


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise UserError(f"{name} is {got!r}: expected {expected}; change it with --set")
