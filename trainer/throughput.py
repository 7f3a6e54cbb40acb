"""How fast a run is for its chips: model FLOP utilization (PaLM, appendix B), and how full its memory is."""

import resource
import sys
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from trainer import chips
from trainer.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """The FLOPs that each token of a stage takes, and those that the run's devices could do.

    Only what the model needs is counted: nothing that is computed again in the backward pass, and no teacher.
    """

    model: ModelConfig
    context: int
    devices: int
    device_kind: str

    @classmethod
    def of(cls, model: ModelConfig, context: int, mesh: Mesh) -> "Throughput":
        """Returns that of a stage on the devices of a mesh."""
        return cls(
            model=model, context=context, devices=mesh.devices.size, device_kind=mesh.devices.flat[0].device_kind
        )

    def figures(self, tokens_per_second: float) -> dict[str, float]:
        """Returns the TFLOP/s of each device and, on a known chip, both ways of counting the utilization.

        `mfu` counts of attention what the causal mask leaves, as the TFLOP/s do; `mfu_full` all pairs of positions,
        as PaLM does.
        """
        causal, full = (self.model.flops_per_token(self.context, causal=causal) for causal in (True, False))
        rate = tokens_per_second / self.devices
        found = {"teraflops_per_device": rate * causal / 1e12}
        chip = chips.find(self.device_kind)
        return (
            found
            if chip is None
            else {**found, "mfu": rate * causal / chip.flops, "mfu_full": rate * full / chip.flops}
        )

    def explanation(self) -> str:
        """Returns what the figures are made of: the formula, with its numbers, and the peak with its source."""
        m = self.model
        causal, full = (m.flops_per_token(self.context, causal=causal) for causal in (True, False))
        attention = m.layers * m.hidden * self.context
        formula = (
            f"FLOPs of a token = 6 x {(causal - 6 * attention) / 6:,.0f} matrix parameters + 6 x {m.layers} layers x "
            f"{m.hidden} hidden x {self.context} context = {causal:.4g} (with the whole square of attention, 12 in "
            f"place of the second 6, {full:.4g}); nothing that is computed again counts"
        )
        chip = chips.find(self.device_kind)
        if chip is None:
            return f"no MFU: the peak of a {self.device_kind!r} is not known; {formula}"
        return (
            f"MFU = tokens/s x FLOPs of a token / ({self.devices} x {chip.flops / 1e12:g} TFLOP/s, dense bfloat16 of a "
            f"{self.device_kind}; {chip.source}); {formula}"
        )


def memory() -> dict[str, int]:
    """Returns the most bytes used so far: of this process, and of the fullest of its devices where that is known."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [int(found["peak_bytes_in_use"]) for found in stats if "peak_bytes_in_use" in found]
    return {"host_memory_bytes": used} | ({"device_memory_bytes": max(peaks)} if peaks else {})
