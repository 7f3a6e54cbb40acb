"""The precisions that a tokenizer's network can compute in; the choice decides tokens and is in the fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from visent.errors import unknown

Products = Literal["float32", "tf32", "bf16x3", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How the network multiplies. Sums, norms and distances to the codebook are float32 in all of them."""

    name: str
    products: Products  # of convolutions and attention; "bfloat16" also stores the features between them so
    last: Products  # the same for the coarsest level and all behind it in the encoder, where few operations are
    about: str


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        precision.name: precision
        for precision in (
            Precision(name="float32", products="float32", last="float32", about="float32 on every device"),
            Precision(name="tf32", products="tf32", last="tf32", about="factors rounded to 10 bits (TF32)"),
            Precision(name="bf16x3", products="bf16x3", last="bf16x3", about="each factor as two bfloat16, 3 products"),
            Precision(
                name="bfloat16-tail32", products="bfloat16", last="float32", about="bfloat16, last level float32"
            ),
            Precision(name="bfloat16", products="bfloat16", last="bfloat16", about="bfloat16 features and products"),
        )
    }
)


def precision(name: str) -> Precision:
    """Returns the precision of a name.

    Raises:
        UserError: there is no such precision.
    """
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    return PRECISIONS[name]
