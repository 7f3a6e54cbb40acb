"""Says what to change where the memory of a device does not suffice."""

import contextlib
from collections.abc import Iterator

import jax
from jax.sharding import AbstractMesh, Mesh

from trainer.config import RunConfig, StageConfig
from trainer.mesh import batch_parts
from visent.errors import UserError

# In messages of XLA, of CUDA and of its libraries.
_LACKS = ("RESOURCE_EXHAUSTED", "Out of memory", "CUDA_ERROR_OUT_OF_MEMORY", "STATUS_ALLOC_FAILED")
_SMALLEST_CHUNK = 1024  # tokens; smaller ones save next to nothing
_LONG = 1024  # tokens of a sentence from which blocks of positions save much


@contextlib.contextmanager
def explained(config: RunConfig, stage: str, mesh: Mesh) -> Iterator[None]:
    """Turns a lack of device memory in a stage into a `UserError` that names the settings to change."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = _lack(error)
        if reason is None:
            raise
        fixes = "; ".join(f"{change} ({why})" for change, why in remedies(config, stage, mesh))
        raise UserError(
            f"out of device memory in stage {stage!r} ({reason}; {_size(config, mesh)}). Nothing saved is lost: run "
            f"the same command with one or more of: {fixes or 'a smaller --model, or more devices'}"
        ) from error


@contextlib.contextmanager
def advised(when: str, fix: str) -> Iterator[None]:
    """Turns a lack of device memory in work that trains nothing into a `UserError` that says what to change."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = _lack(error)
        if reason is None:
            raise
        raise UserError(f"out of device memory {when} ({reason}): {fix}") from error


def _lack(error: Exception) -> str | None:
    """Returns the first line of an error that tells of a lack of memory, None of any other."""
    if not any(word in str(error) for word in _LACKS):
        return None
    return str(error).strip().splitlines()[0][:200].rstrip(".")


def remedies(config: RunConfig, stage: str, mesh: Mesh | AbstractMesh) -> list[tuple[str, str]]:
    """Returns settings that need less memory, each with what it costs; the results of a run stay the same.

    First what makes a step smaller, then what spreads parameters over more devices.
    """
    compute, settings = config.compute, config.stages[stage]
    found = []
    parts = _more_microbatches(settings, mesh)
    if parts is not None:
        found.append((f"--set stages.{stage}.microbatches={parts}", f"now {settings.microbatches}"))
    if compute.remat != "full":
        found.append(("--set compute.remat=full", f"now {compute.remat}; a third more work"))
    context = settings.context or 0
    if context >= _LONG and not compute.block_tokens:
        found.append((f"--set compute.block_tokens={context // 4}", "positions are computed in blocks"))
    if compute.loss_chunk_tokens > _SMALLEST_CHUNK and config.classify is None:
        half = max(_SMALLEST_CHUNK, compute.loss_chunk_tokens // 4)
        found.append((f"--set compute.loss_chunk_tokens={half}", f"now {compute.loss_chunk_tokens}"))
    devices = int(mesh.shape["data"] * mesh.shape["fsdp"])
    if mesh.shape["data"] > 1 and config.model.hidden % (devices * mesh.shape["tensor"]) == 0:
        found.append((f"--set compute.fsdp={devices} --set compute.data=1",
                      f"parameters and moments over {devices} devices, now {mesh.shape['fsdp']}"))  # fmt: skip
    return found


def _more_microbatches(stage: StageConfig, mesh: Mesh | AbstractMesh) -> int | None:
    """Returns the next number of microbatches that the batch divides into, or None where each has one row a device."""
    rows = stage.batch_sentences // batch_parts(mesh)  # of each device
    finer = (parts for parts in range(stage.microbatches + 1, rows + 1) if rows % parts == 0)
    return next(finer, None)


def _size(config: RunConfig, mesh: Mesh) -> str:
    """Returns what the devices have, where they say so, and what the state of a run takes of it."""
    limit = (mesh.local_devices[0].memory_stats() or {}).get("bytes_limit")
    each = f" of {limit / 2**30:.1f} GiB" if limit else ""
    state = 12 * config.model.parameters / (mesh.shape["fsdp"] * mesh.shape["tensor"]) / 2**30  # three of 4 bytes
    many = "1 device" if mesh.devices.size == 1 else f"{mesh.devices.size} devices"
    return f"{many}{each}, parameters and moments alone take {state:.1f} GiB of each"
