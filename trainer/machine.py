"""The devices that a plan is made for, and how fast they are taken to be: those here, or so many of a named chip."""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from trainer import chips
from trainer.config import ComputeConfig, ModelConfig
from trainer.model import dtype_of

OF_PEAK = 0.4  # of a chip's peak, assumed; published training of such models reaches 0.31 to 0.46, causally counted
OF_PRODUCT = 0.5  # of one large product's speed; on two CPU cores, steps of model tiny reach 0.4 to 0.6
_TOKENS = 2048  # of the product that is timed
_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices that compute a run together."""

    name: str
    platform: str  # cpu, gpu or tpu
    devices: int
    memory: int | None  # bytes of each device, None where no limit is known
    flops: float  # a second, of all together, that a step is taken to reach
    basis: str  # where that is from


def of_chip(name: str, devices: int) -> Machine:
    """Returns so many devices of a chip, of which none need be here.

    Raises:
        UserError: the chip is not listed.
    """
    chip = chips.named(name)
    platform = "tpu" if chip.name.startswith("TPU") else "gpu"
    flops, basis = _of_peak(chip, devices)
    memory = int(chip.memory_gb * 1e9)
    return Machine(name=chip.name, platform=platform, devices=devices, memory=memory, flops=flops, basis=basis)


def here(model: ModelConfig, compute: ComputeConfig) -> Machine:
    """Returns this run's devices; where their peak is not known, a product of the model's size is timed on one."""
    device, count = jax.devices()[0], jax.device_count()
    chip = chips.find(device.device_kind)
    flops, basis = _timed(model, compute) if chip is None else _of_peak(chip, count)
    limit = (device.memory_stats() or {}).get("bytes_limit")
    kind = device.device_kind
    return Machine(name=kind, platform=device.platform, devices=count, memory=limit, flops=flops, basis=basis)


def measured_flops(model: ModelConfig, compute: ComputeConfig) -> float:
    """Times the first product of the model's feed-forward network on one device, and returns its FLOPs a second."""
    kind = dtype_of(compute)
    x, matrix = jnp.ones((_TOKENS, model.hidden), kind), jnp.ones((model.hidden, model.mlp), kind)
    product = jax.jit(jnp.matmul)
    product(x, matrix).block_until_ready()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < _SECONDS:
        start = time.perf_counter()
        product(x, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * _TOKENS * model.hidden * model.mlp / best


def _of_peak(chip: chips.Chip, devices: int) -> tuple[float, str]:
    """Returns FLOPs a second, and where they are from."""
    basis = (
        f"{devices} x {chip.flops / 1e12:g} TFLOP/s (dense bfloat16; {chip.source}) x {OF_PEAK:.0%}, an assumption: "
        "nothing was measured; a run says what share it reaches (mfu)"
    )
    return devices * chip.flops * OF_PEAK, basis


def _timed(model: ModelConfig, compute: ComputeConfig) -> tuple[float, str]:
    """Returns FLOPs a second, and where they are from."""
    speed, device = measured_flops(model, compute), jax.devices()[0]
    together = 1 if device.platform == "cpu" else jax.device_count()  # CPU devices share the cores that were timed
    basis = (
        f"{together} x a product of {_TOKENS} x {model.hidden} by {model.hidden} x {model.mlp} in "
        f"{dtype_of(compute).name}, timed now at {speed / 1e12:.3g} TFLOP/s, of which a step is assumed to reach "
        f"{OF_PRODUCT:.0%}"
    )
    return together * speed * OF_PRODUCT, basis
