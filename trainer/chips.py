"""Peak rates and memory of accelerators, by the name that JAX gives a device.

Only chips whose makers' figures are public are listed, and a name must be equal: a variant with a similar name (an
H200 NVL, a slice of an A100) has another peak. Rates are those of dense bfloat16 products; data sheets of NVIDIA print
twice as much, with sparsity. Chips without bfloat16 products (V100, T4) are left out.
"""

from dataclasses import dataclass

from visent.errors import unknown


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One device as JAX counts them: a GPU, a TPU chip, or on TPU v3 one of a chip's two cores."""

    kinds: tuple[str, ...]  # jax.Device.device_kind
    flops: float  # a second, dense bfloat16
    memory_gb: float  # 1e9 bytes
    source: str

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.kinds[0]


_A100 = "NVIDIA A100 data sheet: 312 TFLOP/s"
CHIPS = (
    Chip(
        kinds=("NVIDIA H200",), flops=989e12, memory_gb=141.0, source="NVIDIA H200 data sheet, SXM: 1979 TFLOP/s sparse"
    ),
    Chip(
        kinds=("NVIDIA H100 80GB HBM3",),
        flops=989e12,
        memory_gb=80.0,
        source="NVIDIA H100 data sheet, SXM: 1979 TFLOP/s sparse",
    ),
    Chip(
        kinds=("NVIDIA H100 PCIe",),
        flops=756e12,
        memory_gb=80.0,
        source="NVIDIA H100 data sheet, PCIe: 1513 TFLOP/s sparse",
    ),
    Chip(
        kinds=("NVIDIA B200",), flops=2250e12, memory_gb=180.0, source="NVIDIA HGX B200 data sheet: 4.5 PFLOP/s sparse"
    ),
    Chip(kinds=("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"), flops=312e12, memory_gb=80.0, source=_A100),
    Chip(kinds=("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"), flops=312e12, memory_gb=40.0, source=_A100),
    Chip(kinds=("NVIDIA L4",), flops=121e12, memory_gb=24.0, source="NVIDIA L4 data sheet: 242 TFLOP/s sparse"),
    Chip(kinds=("TPU v6 lite", "TPU v6e"), flops=918e12, memory_gb=32.0, source="docs.cloud.google.com/tpu/docs/v6e"),
    Chip(kinds=("TPU v5p", "TPU v5"), flops=459e12, memory_gb=95.0, source="docs.cloud.google.com/tpu/docs/v5p"),
    Chip(kinds=("TPU v5 lite", "TPU v5e"), flops=197e12, memory_gb=16.0, source="docs.cloud.google.com/tpu/docs/v5e"),
    Chip(kinds=("TPU v4",), flops=275e12, memory_gb=32.0, source="docs.cloud.google.com/tpu/docs/v4"),
    Chip(kinds=("TPU v3",), flops=61.5e12, memory_gb=16.0, source="docs.cloud.google.com/tpu/docs/v3, half a chip"),
)


def find(device_kind: str) -> Chip | None:
    """Returns the chip of a device, or None where its peak is not known."""
    wanted = device_kind.lower()
    return next((chip for chip in CHIPS if wanted in (kind.lower() for kind in chip.kinds)), None)


def named(name: str) -> Chip:
    """Returns the chip that a person named.

    Raises:
        UserError: no such chip is listed.
    """
    chip = find(name)
    if chip is None:
        raise unknown("chip", name, [kind for chip in CHIPS for kind in chip.kinds])
    return chip
