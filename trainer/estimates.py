"""What a step takes of one device's memory, from shapes alone; `tests/trainer/test_estimates.py` holds it to XLA's own.

Counted by what the backward pass needs of each layer: `s` is the width in bytes of the type of products, and every
line names the arrays it counts. What XLA fuses, pads or keeps a little longer is not known before it compiles.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.attention import BY_BACKEND
from trainer.config import ComputeConfig, ModelConfig, Remat, StageConfig

FACTOR = 1.25  # XLA's own count lies within this factor of `memory`, either way, for the shapes of the test
SPARE = 0.85  # of a device's memory is planned with: kernels' workspaces, fragments and the input batches need the rest
REMATS: tuple[Remat, ...] = ("none", "dots", "full")  # from the fastest to the one that needs least
_BLOCK = 128  # positions of the blocks of attention in plain XLA, at most


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
    attention = BY_BACKEND.get(platform, "xla") if compute.attention == "auto" else compute.attention
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
    tokens, tensor = sentences * stage.context, mesh["tensor"]
    kept = tokens * _kept(model, compute, stage.context, tensor)
    layer = tokens * _worked_on(model, compute, stage.context, tensor) - kept
    if mesh["fsdp"] > 1:  # this layer's matrices and the next one's are gathered
        layer += 2 * _width(compute) * model.layer_parameters // tensor
    return model.layers * kept + max(layer, _logits(model, compute, tokens, tensor))


def cheapest_remat(
    model: ModelConfig, compute: ComputeConfig, stage: StageConfig, mesh: Mapping[str, int], limit: int | None
) -> Remat:
    """Returns the fastest of REMATS with which a step fits `limit` bytes of a device; without a limit, none.

    Where nothing fits, the one that needs least.
    """
    if limit is None:
        return "none"
    for remat in REMATS:
        tried = dataclasses.replace(compute, remat=remat)
        if memory(model, tried, stage, mesh).total <= SPARE * limit:
            return remat
    return REMATS[-1]


def teacher_bytes(teacher: ModelConfig, compute: ComputeConfig, mesh: Mapping[str, int]) -> int:
    """Returns what the parameters of a teacher take of each device, in the type of products."""
    return _width(compute) * teacher.parameters // (mesh["fsdp"] * mesh["tensor"])


def fewest_microbatches(
    model: ModelConfig, compute: ComputeConfig, stage: StageConfig, mesh: Mapping[str, int], limit: int
) -> int | None:
    """Returns in how few microbatches a stage fits `limit` bytes of each device, or None where it never does.

    Where remat is auto, it is chosen anew.
    """
    parts = mesh["data"] * mesh["fsdp"]
    for count in range(stage.microbatches, stage.batch_sentences // parts + 1):
        if stage.batch_sentences % (count * parts):
            continue
        split = dataclasses.replace(stage, microbatches=count)
        remat = compute.remat
        if remat == "auto":
            remat = cheapest_remat(model, compute, split, mesh, limit)
        if memory(model, dataclasses.replace(compute, remat=remat), split, mesh).total <= SPARE * limit:
            return count
    return None


def _kept(model: ModelConfig, compute: ComputeConfig, context: int, tensor: int) -> int:
    """Returns the bytes that one layer keeps of each token for the backward pass."""
    s, hidden, mlp = _width(compute), model.hidden, model.mlp
    if compute.remat == "full":  # its input
        return s * hidden
    attention = _around_attention(model, compute, tensor) + _scores_kept(model, compute, context) // tensor
    if compute.remat == "dots":  # not the normalised input; the result of out; gate and up
        return attention - s * hidden + (0 if compute.block_tokens else s * (hidden + 2 * mlp // tensor))
    return attention + (0 if compute.block_tokens else _after_attention(model, compute, tensor))


def _worked_on(model: ModelConfig, compute: ComputeConfig, context: int, tensor: int) -> int:
    """Returns the bytes of each token in one layer's backward pass: all that is computed again, and its gradients."""
    at_once = min(compute.block_tokens or context, context)
    after = _after_attention(model, compute, tensor) * at_once // context
    return 2 * (_around_attention(model, compute, tensor) + after) + _scores_at_once(model, compute, context) // tensor


def _around_attention(model: ModelConfig, compute: ComputeConfig, tensor: int) -> int:
    """Returns the bytes of a token's input, also normalised; query, key, value, and what attention gives.

    Input and result are there a second time, cut into blocks, where what follows is computed by blocks.
    """
    inputs, heads = (3, 5) if compute.block_tokens else (2, 4)
    return _width(compute) * (inputs * model.hidden + heads * model.hidden // tensor)


def _after_attention(model: ModelConfig, compute: ComputeConfig, tensor: int) -> int:
    """Returns the bytes of a token's sum with attention, also normalised; gate, up, and their product."""
    return _width(compute) * (2 * model.hidden + 3 * model.mlp // tensor)


def _scores_kept(model: ModelConfig, compute: ComputeConfig, context: int) -> int:
    """Returns the bytes that attention keeps of each token: one sum of each head, or with plain XLA all scores."""
    if compute.attention != "xla":
        return 4 * model.heads
    return (4 + _width(compute)) * model.heads * context  # exponentials, and weights in the type of products


def _scores_at_once(model: ModelConfig, compute: ComputeConfig, context: int) -> int:
    """Returns the bytes of scores and their gradients of each token that exist at once."""
    if compute.attention == "xla":
        return 2 * _scores_kept(model, compute, context)
    if compute.attention == "blocked":
        return 12 * model.heads * min(compute.block_tokens or _BLOCK, context) ** 2 // context
    return 4 * model.heads


def _logits(model: ModelConfig, compute: ComputeConfig, tokens: int, tensor: int) -> int:
    """Returns the bytes of the loss of one chunk: logits and their gradient, also in the type of products."""
    each = 8 if _width(compute) == 4 else 10
    return each * min(tokens, compute.loss_chunk_tokens) * model.vocabulary // tensor


def _width(compute: ComputeConfig) -> int:
    assert compute.precision != "auto", "settle the configuration first"
    return 2 if compute.precision == "bfloat16" else 4
