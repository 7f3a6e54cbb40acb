"""The accelerators that Dataflow lends to workers: machine types, and the option that asks for them.

Sources: cloud.google.com/dataflow/docs/gpu/use-gpus and .../tpu/tpu-support, cloud.google.com/compute/docs/gpus. What a
region has, and what a project may use of it (quota), only Google's console tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from visent.errors import UserError, unknown

DRIVER = "install-nvidia-driver:5xx"  # JAX's CUDA 12 needs driver 525 or newer; without :5xx some GPUs get an older one


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A kind of GPU or TPU: on a worker with so many of them (the key) goes such a machine."""

    type: str
    machines: Mapping[int, str]
    topologies: Mapping[int, str] = field(default_factory=dict)  # of TPUs only

    def devices(self, wanted: int | None) -> int:
        """Returns how many a worker has; the fewest there are without a wish.

        Raises: `UserError` when no machine has so many.
        """
        if wanted is None:
            return min(self.machines)
        if wanted not in self.machines:
            known = ", ".join(map(str, sorted(self.machines)))
            raise UserError(f"no machine has {wanted} of {self.type}: --devices-per-worker is one of {known}")
        return wanted

    def option(self, devices: int) -> str:
        """Returns Dataflow's service option that asks for so many on each worker."""
        if self.topologies:
            return f"worker_accelerator=type:{self.type};topology:{self.topologies[devices]}"
        return f"worker_accelerator=type:{self.type};count:{devices};{DRIVER}"


def _in_steps(name: str, *counts: int) -> dict[int, str]:
    return {count: name.format(count) for count in counts}


GPUS = {
    "nvidia-l4": Accelerator(
        type="nvidia-l4",
        machines={1: "g2-standard-8", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"},
    ),
    "nvidia-tesla-t4": Accelerator(
        type="nvidia-tesla-t4", machines={1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"}
    ),
    "nvidia-tesla-v100": Accelerator(
        type="nvidia-tesla-v100",
        machines={1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32", 8: "n1-standard-64"},
    ),
    "nvidia-tesla-a100": Accelerator(
        type="nvidia-tesla-a100", machines={**_in_steps("a2-highgpu-{}g", 1, 2, 4, 8), 16: "a2-megagpu-16g"}
    ),
    "nvidia-a100-80gb": Accelerator(type="nvidia-a100-80gb", machines=_in_steps("a2-ultragpu-{}g", 1, 2, 4, 8)),
    "nvidia-h100-80gb": Accelerator(type="nvidia-h100-80gb", machines=_in_steps("a3-highgpu-{}g", 1, 2, 4, 8)),
}
SHORT = {
    "l4": "nvidia-l4",
    "t4": "nvidia-tesla-t4",
    "v100": "nvidia-tesla-v100",
    "a100": "nvidia-tesla-a100",
    "a100-80gb": "nvidia-a100-80gb",
    "h100": "nvidia-h100-80gb",
}
TPUS = {
    "v5e": Accelerator(
        type="tpu-v5-lite-podslice",
        machines=_in_steps("ct5lp-hightpu-{}t", 1, 4, 8),
        topologies={1: "1x1", 4: "2x2", 8: "2x4"},
    ),
    "v5p": Accelerator(type="tpu-v5p-slice", machines=_in_steps("ct5p-hightpu-{}t", 4), topologies={4: "2x2x1"}),
    "v6e": Accelerator(
        type="tpu-v6e-slice",
        machines=_in_steps("ct6e-standard-{}t", 1, 4, 8),
        topologies={1: "1x1", 4: "2x2", 8: "2x4"},
    ),
}


def gpu(name: str) -> Accelerator:
    """Returns a kind of GPU by Google's name, or a short one: `l4`, `a100`.

    Raises: `UserError` for an unknown name.
    """
    found = GPUS.get(SHORT.get(name.lower(), name.lower()))
    if found is None:
        raise unknown("GPU", name, (*GPUS, *SHORT))
    return found


def tpu(name: str) -> Accelerator:
    """Returns a kind of TPU by its generation (`v5e`) or by Google's name (`tpu-v5-lite-podslice`).

    Raises: `UserError` for an unknown name.
    """
    found = {**TPUS, **{kind.type: kind for kind in TPUS.values()}}.get(name.lower())
    if found is None:
        raise unknown("TPU", name, (*TPUS, *(kind.type for kind in TPUS.values())))
    return found
