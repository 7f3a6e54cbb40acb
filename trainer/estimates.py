"""What a step takes of one device's memory, from shapes alone; `tests/trainer/test_estimates.py` holds it to XLA's own.

Counted by what the backward pass needs of each layer: `s` is the width in bytes of the type of products, and every
line names the arrays it counts. What XLA fuses, pads or keeps a little longer is not known before it compiles.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.config import ComputeConfig, ModelConfig, RunConfig, StageConfig

FACTOR = 1.3  # XLA's own count lies within this factor of `memory`, either way, for the shapes of the test
SPARE = 0.85  # of a device's memory is planned with: kernels' workspaces, fragments and the input batches need the rest
REMATS = ("none", "dots", "full")  # from the fastest to the one that needs least
KERNELS = {"cpu": "blocked", "gpu": "cudnn", "cuda": "cudnn", "rocm": "xla", "tpu": "splash"}  # what auto stands for
_BLOCKED = 0.55  # of all scores are formed by blocks of queries, each up to its own end


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each device of a mesh."""

    parameters: int  # float32, and Adam's two moments
    gradients: int  # with the copies of matrices in the type of products
    activations: int  # kept for the backward pass, and the most that is worked on at once

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.activations


def settled(compute: ComputeConfig, platform: str) -> ComputeConfig:
    """Returns the configuration with what `auto` stands for on a platform (cpu, gpu or tpu), but for remat."""
    precision = compute.precision
    if precision == "auto":
        precision = "float32" if platform == "cpu" else "bfloat16"
    attention = KERNELS.get(platform, "xla") if compute.attention == "auto" else compute.attention
    return dataclasses.replace(compute, precision=precision, attention=attention)  # type: ignore[arg-type]


def memory(model: ModelConfig, compute: ComputeConfig, stage: StageConfig, mesh: Mapping[str, int]) -> Memory:
    """Returns what a training step needs on each device.

    `compute` is `settled` and its remat is not auto; `mesh` has the sizes of data, fsdp and tensor, as `Mesh.shape`.
    """
    parts = mesh["fsdp"] * mesh["tensor"]
    width = _width(compute)
    held = 4 + (width if width < 4 else 0) + (4 if stage.microbatches > 1 else 0)  # gradient, copies, their sum
    return Memory(
        parameters=12 * model.parameters // parts,
        gradients=held * model.parameters // parts,
        activations=activation_bytes(model, compute, stage, mesh),
    )


def activation_bytes(model: ModelConfig, compute: ComputeConfig, stage: StageConfig, mesh: Mapping[str, int]) -> int:
    """Returns what a step needs on each device beside parameters, moments and gradients.

    That is what every layer keeps for the backward pass, and the larger of the loss's logits and one layer's backward
    pass, which are not there at the same time. `compute` is `settled` and its remat is not auto.
    """
    assert stage.context is not None, "fit the configuration first"
    assert compute.remat != "auto", "choose one of REMATS"
    sentences = -(-stage.batch_sentences // (stage.microbatches * mesh["data"] * mesh["fsdp"]))
    tokens = sentences * stage.context
    kept = tokens * _kept(model, compute, stage.context, mesh["tensor"])
    at_once = sentences * min(compute.block_tokens or stage.context, stage.context)
    layer = at_once * _kept(model, _whole(compute), stage.context, mesh["tensor"])
    if mesh["fsdp"] > 1:  # this layer's matrices and the next one's are gathered
        layer += 2 * _width(compute) * model.layer_parameters // mesh["tensor"]
    return int(model.layers * kept + max(layer, _logits(model, compute, tokens, mesh["tensor"])))


def cheapest_remat(
    model: ModelConfig, compute: ComputeConfig, stage: StageConfig, mesh: Mapping[str, int], limit: int | None
) -> str:
    """Returns the fastest of REMATS with which a step fits `limit` bytes of a device; without a limit, none.

    Where nothing fits, the one that needs least.
    """
    if limit is None:
        return "none"
    for remat in REMATS:
        tried = dataclasses.replace(compute, remat=remat)  # type: ignore[arg-type]
        if memory(model, tried, stage, mesh).total <= SPARE * limit:
            return remat
    return REMATS[-1]


def fewest_microbatches(config: RunConfig, stage: StageConfig, mesh: Mapping[str, int], limit: int) -> int | None:
    """Returns in how few microbatches a stage fits `limit` bytes of each device, or None where it never does."""
    parts = mesh["data"] * mesh["fsdp"]
    for count in range(stage.microbatches, stage.batch_sentences // parts + 1):
        if stage.batch_sentences % (count * parts):
            continue
        split = dataclasses.replace(stage, microbatches=count)
        remat = config.compute.remat
        if remat == "auto":
            remat = cheapest_remat(config.model, config.compute, split, mesh, limit)  # type: ignore[assignment]
        compute = dataclasses.replace(config.compute, remat=remat)
        if memory(config.model, compute, split, mesh).total <= SPARE * limit:
            return count
    return None


def _kept(model: ModelConfig, compute: ComputeConfig, context: int, tensor: int) -> float:
    """Returns the bytes that one layer keeps of each token."""
    s, hidden, mlp = _width(compute), model.hidden, model.mlp
    if compute.block_tokens:  # its input, and all keys and values; each block is computed again
        return s * (hidden + 2 * hidden / tensor)
    if compute.remat == "full":  # its input
        return s * hidden
    if compute.remat == "dots":  # its input, results of out and down; query, key, value; gate, up
        return s * (3 * hidden + 3 * hidden / tensor + 2 * mlp / tensor)
    norms = 2 * (12 + s) * hidden  # input twice and result in float32, result in the type of products
    projections = 4 * s * hidden / tensor  # rotated query and key, value, what attention gives
    feed_forward = 6 * s * mlp / tensor  # gate, up, three of silu, their product
    return norms + projections + feed_forward + _scores(model, compute, context) / tensor


def _scores(model: ModelConfig, compute: ComputeConfig, context: int) -> float:
    """Returns the bytes that attention keeps of each token: scores, or one sum of each head where a kernel has them."""
    if compute.attention in ("cudnn", "splash"):
        return 4 * model.heads
    seen = _BLOCKED if compute.attention == "blocked" and context > 128 else 1.0
    return (9 + _width(compute)) * model.heads * context * seen  # mask, masked scores, exponentials, weights


def _logits(model: ModelConfig, compute: ComputeConfig, tokens: int, tensor: int) -> float:
    """Returns the bytes of the loss of one chunk: logits and their gradient, in float32."""
    return 8 * min(tokens, compute.loss_chunk_tokens) * model.vocabulary / tensor


def _whole(compute: ComputeConfig) -> ComputeConfig:
    """Returns how one layer is computed in the backward pass: nothing of it is left out."""
    return dataclasses.replace(compute, remat="none", block_tokens=0)


def _width(compute: ComputeConfig) -> int:
    assert compute.precision != "auto", "settle the configuration first"
    return 2 if compute.precision == "bfloat16" else 4
