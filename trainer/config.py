"""What a training run is: model, stages, how it is computed, and bookkeeping, as frozen dataclasses."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from trainer.classify.config import ClassifyConfig
from visent.errors import UserError, unknown

Precision = Literal["auto", "float32", "bfloat16"]
Remat = Literal["none", "dots", "full", "auto"]
Kernel = Literal["auto", "cudnn", "splash", "xla", "blocked"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A LLaMA decoder: RMSNorm, RoPE, SwiGLU, no biases, input and output embeddings apart.

    The vocabulary is the tokenizer's codebook and a few tokens more, one of which begins every sentence. Imported
    models may have been trained without (LVM's); they know nothing of a sentence's first code.
    """

    name: str
    hidden: int
    mlp: int
    heads: int
    layers: int
    codebook_size: int = 8192
    special_tokens: int = 64  # after the codes, never generated; so many that the vocabulary divides into tiles
    begins_with: int | None = 0  # number of the special token that begins every sentence; None for none
    embedding: Literal["learned", "codebook"] = "learned"  # codebook: the tokenizer's, frozen, and a learned projection
    codebook_width: int = 64  # of each vector of the frozen codebook
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("hidden", "mlp", "heads", "layers", "codebook_size", "codebook_width"):
            _require(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "a positive number")
        for name in ("rope_theta", "norm_epsilon", "init_std"):
            _require(0 < getattr(self, name) < math.inf, f"model.{name}", getattr(self, name), "a positive number")
        special, first = self.special_tokens, self.begins_with
        _require(special >= 0, "model.special_tokens", special, "0 or more")
        _require(
            first is None or 0 <= first < special,
            "model.begins_with",
            first,
            f"one of {special} special tokens, or none",
        )
        _require(
            self.hidden % (2 * self.heads) == 0, "model.hidden", self.hidden, f"a multiple of 2 x {self.heads} heads"
        )
        _require_one_of(self.embedding, ("learned", "codebook"), "model.embedding")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def vocabulary(self) -> int:
        """Codes and special tokens."""
        return self.codebook_size + self.special_tokens

    @property
    def begin(self) -> int | None:
        """The token that begins every sentence, if one does; it is never generated."""
        return None if self.begins_with is None else self.codebook_size + self.begins_with

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer's matrices."""
        return 4 * self.hidden**2 + 3 * self.hidden * self.mlp

    @property
    def embedding_parameters(self) -> int:
        """Trained parameters of the input embedding; a frozen codebook is not among them."""
        rows = self.vocabulary if self.embedding == "learned" else self.codebook_width + self.special_tokens
        return rows * self.hidden

    @property
    def parameters(self) -> int:
        """All trained parameters: embeddings, matrices and norms."""
        norms = self.hidden * (2 * self.layers + 1)
        return self.layers * self.layer_parameters + self.embedding_parameters + self.vocabulary * self.hidden + norms

    def flops_per_token(self, context: int, *, causal: bool = True) -> float:
        """Multiply-adds of one trained token times two, forward and backward, without recomputation.

        6 for each matrix parameter, and 12 x layers x hidden x context for attention (PaLM, appendix B), half of it
        where only what the causal mask leaves is counted.
        """
        matrices = self.layers * self.layer_parameters + self.vocabulary * self.hidden
        if self.embedding == "codebook":
            matrices += self.codebook_width * self.hidden
        return 6.0 * matrices + (6.0 if causal else 12.0) * self.layers * self.hidden * context


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How a model is computed. None of this changes what it is: a run may go on with other values.

    The devices form a mesh of `data` x `fsdp` x `tensor`: batches are split over the first two, parameters and moments
    over the last two; `data` 0 takes the devices that the others leave.
    """

    precision: Precision = "auto"  # of products; parameters and sums are float32. auto: bfloat16 on accelerators
    remat: Remat = "auto"  # what the backward pass computes again: nothing, all but products, all, or what memory needs
    attention: Kernel = "auto"  # auto: cudnn on GPU, splash on TPU (both tried at the start), blocked on CPU
    block_tokens: int = 0  # blockwise parallel transformer: positions per block of attention and mlp; 0 for whole
    loss_chunk_tokens: int = 16_384  # logits exist for at most this many tokens of a device at once
    data: int = 0
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        _require_one_of(self.precision, get_args(Precision), "compute.precision")
        _require_one_of(self.remat, get_args(Remat), "compute.remat")
        _require_one_of(self.attention, get_args(Kernel), "compute.attention")
        for name in ("loss_chunk_tokens", "fsdp", "tensor"):
            _require(getattr(self, name) > 0, f"compute.{name}", getattr(self, name), "a positive number")
        for name in ("block_tokens", "data"):
            _require(getattr(self, name) >= 0, f"compute.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """A teacher (DeLVM): cross-entropy x `cross_entropy` + T squared x KL(teacher, student) x `divergence`.

    The teacher is either a run, whose newest checkpoint is computed beside the student, or a folder of the likeliest
    codes that `visent teacher` wrote before.
    """

    teacher: str | None = None  # folder of a run
    cached: str | None = None  # folder of its cached logits
    cross_entropy: float = 1.0
    divergence: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _require(not (self.teacher and self.cached), "distill.cached", self.cached, "none beside distill.teacher")
        for name in ("cross_entropy", "divergence"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, f"distill.{name}", value, "0 or more")
        _require(0 < self.temperature < math.inf, "distill.temperature", self.temperature, "more than 0")

    @property
    def on(self) -> bool:
        """Whether there is a teacher."""
        return bool(self.teacher or self.cached)


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
    microbatches: int = 1  # a batch is computed in so many equal parts, one after the other
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0  # of the whole gradient; None does not clip
    reset_moments: bool = False  # forget Adam's moments where the stage begins

    def __post_init__(self) -> None:
        _require(self.steps >= 0, "steps", self.steps, "0 or more")
        _require(self.batch_sentences > 0, "batch_sentences", self.batch_sentences, "a positive number")
        parts = self.microbatches
        _require(
            parts > 0 and self.batch_sentences % parts == 0,
            "microbatches",
            parts,
            f"a divisor of {self.batch_sentences}",
        )
        most = self.steps or math.inf  # a stage of no steps is left out, whatever else it says
        _require(0 <= self.warmup_steps <= most, "warmup_steps", self.warmup_steps, f"0 to {self.steps} steps")
        for name in ("learning_rate", "final_learning_rate", "weight_decay"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, value, "0 or more")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 up to, not including, 1")
        _require(0 < self.epsilon < math.inf, "epsilon", self.epsilon, "a positive number")
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "more than 0, or none")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run: the model and its stages in order. Recipes return one."""

    recipe: str
    model: ModelConfig
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    classify: ClassifyConfig | None = None  # of the recipe `classify` alone
    start: str | None = None  # folder of a run whose newest checkpoint gives the first parameters
    tokenizer: str = "default"  # that of the shards, by name or folder: for its codebook, and for pictures of samples
    seed: int = 0
    log_every: int = 10  # steps between lines of metrics.jsonl
    checkpoint_every: int = 1000  # steps between checkpoints; a stage's end always has one
    keep_checkpoints: int = 2  # the newest so many are kept, and those of stages' ends
    keep_every: int = 0  # checkpoints of steps divisible by this are kept for good; 0 for none
    evaluate_every: int = 0  # steps between held-out evaluations besides those at a stage's end; 0 for none
    evaluate_sentences: int = 64  # of each task, at most
    sample_every: int = 0  # steps between sheets of generated images; 0 for none
    sample_sentences: int = 4  # of each task, on such a sheet
    figures_every: int = 0  # steps between figures of generated images, with a held-out evaluation each; 0 for none
    figures_samples: int = 16  # of each task, at most

    def __post_init__(self) -> None:
        for name in ("log_every", "checkpoint_every", "keep_checkpoints", "evaluate_sentences", "sample_sentences",
                     "figures_samples"):  # fmt: skip
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        for name in ("evaluate_every", "sample_every", "figures_every", "keep_every"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
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
            parts = {"model": ModelConfig, "compute": ComputeConfig, "distill": DistillConfig}
            made: dict[str, Any] = {name: kind(**data[name]) for name, kind in parts.items()}
            if data.get("classify") is not None:
                made["classify"] = ClassifyConfig(**data["classify"])
            return cls(**{**data, **made, "stages": stages})
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"run configuration does not fit this version of visent ({error}): "
                "use the version that wrote it, or start a new run"
            ) from error


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise UserError(f"{name} is {got!r}: expected {expected}; change it with --set")


def _require_one_of(value: str, names: tuple[str, ...], setting: str) -> None:
    if value not in names:
        raise unknown(setting, value, names)
