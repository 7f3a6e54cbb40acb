"""Peaks of chips: only of those that are known, by their exact name."""

import pytest

from trainer import chips
from visent.errors import UserError


def test_a_chip_is_found_by_each_name_that_jax_gives_it():
    assert chips.find("NVIDIA H200").flops == 989e12
    assert chips.find("nvidia a100-sxm4-80gb") is chips.find("NVIDIA A100 80GB PCIe")
    assert chips.find("TPU v5").flops == 459e12
    assert chips.find("TPU v5 lite").flops == 197e12
    kinds = [kind.lower() for chip in chips.CHIPS for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H200 NVL", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "Tesla T4", "TPU v9"])
def test_a_chip_that_is_not_listed_has_no_peak_even_if_its_name_is_similar(kind):
    assert chips.find(kind) is None


def test_an_unknown_chip_that_a_person_names_is_refused_with_the_nearest():
    assert chips.named("NVIDIA H200").memory_gb == 141.0
    with pytest.raises(UserError, match="did you mean 'NVIDIA H200'"):
        chips.named("NVIDIA H20")
