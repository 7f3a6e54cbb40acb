"""A file of prices and chips: each number with its source and the day it was read, so that nobody takes it for more.

currency = "USD"

[rates.vcpu_hour]                  # the others: memory_gb_hour, disk_gb_hour, shuffle_gb, storage_gb_month,
price = 0.056                      # writes_per_1000, reads_per_1000; what is not there costs nothing
source = "https://..."
read = 2026-11-21

[accelerators.nvidia-l4]           # any name; --accelerator takes it
price = 0.672                      # of one, an hour
source = "https://..."
read = 2026-11-21
machine = "g2-standard-8"          # what each accelerator comes with
vcpus = 8
memory_gb = 32
machine_included = false           # true where the price covers the machine, as of TPUs; vcpus still decode
tflops = { bfloat16 = 121.0, tf32 = 60.0, float32 = 30.3 }   # peak of dense products, by precision
tflops_source = "https://..."
of_peak = 0.3                      # part of the peak that encoding is taken to reach
images_per_second = 1500.0         # optional: as measured on one; takes the place of tflops and of_peak
"""

import datetime
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests import files
from visent.errors import UserError, unknown

RATES = ("vcpu_hour", "memory_gb_hour", "disk_gb_hour", "shuffle_gb", "storage_gb_month", "writes_per_1000",
         "reads_per_1000")  # fmt: skip
_KEYS = ("price", "source", "read")
_NUMBERS = ("vcpus", "memory_gb", "disk_gb", "of_peak", "images_per_second")
_CHIP = ("machine", "machine_included", "tflops", "tflops_source", *_NUMBERS)
_AS = {"bf16x3": ("bfloat16", 3.0), "bfloat16-tail32": ("bfloat16", 1.0)}  # precision -> whose peak, products for one


@dataclass(frozen=True, kw_only=True)
class Price:
    """One price, where it was read, and when."""

    price: float
    source: str
    read: str  # a date, as 2026-11-21


@dataclass(frozen=True, kw_only=True)
class Chip:
    """An accelerator with its part of a machine. Rates are of one."""

    name: str
    hour: Price
    machine: str = ""
    vcpus: float = 0.0
    memory_gb: float = 0.0
    disk_gb: float = 0.0
    machine_included: bool = False  # vCPUs and memory are in the price of an hour
    tflops: Mapping[str, float] = field(default_factory=dict)  # precision -> peak of dense products
    tflops_source: str = ""
    of_peak: float | None = None
    images_per_second: float | None = None  # measured

    def rate(self, flops: float, precision: str) -> tuple[float, str]:
        """Returns the pictures that it encodes in a second, and how that is known.

        Raises: `UserError` when the file has neither a measured rate nor the peak for this precision.
        """
        if self.images_per_second:
            return self.images_per_second, "as measured, says the price file"
        products, times = _AS.get(precision, (precision, 1.0))
        if products not in self.tflops or not self.of_peak:
            raise UserError(f"accelerator {self.name} has no tflops for precision {precision!r} with of_peak, and no "
                            f"images_per_second; it has tflops for {', '.join(self.tflops) or 'none'}: add what is "
                            "missing, give --rate, or another --precision")  # fmt: skip
        peak = self.tflops[products] / times
        return peak * 1e12 * self.of_peak / flops, f"{self.of_peak:.0%} of {peak:g} TFLOP/s, an assumption"


@dataclass(frozen=True, kw_only=True)
class Prices:
    """All that a price file says."""

    path: str
    currency: str
    rates: Mapping[str, Price]
    chips: Mapping[str, Chip]

    def chip(self, name: str) -> Chip:
        """Returns an accelerator.

        Raises: `UserError` when the file has none of this name.
        """
        if name not in self.chips:
            raise unknown(f"accelerator of {self.path}", name, self.chips)
        return self.chips[name]

    def rate(self, name: str) -> float:
        """Returns the price of one of something; what the file does not name costs nothing."""
        return self.rates[name].price if name in self.rates else 0.0

    def sources(self, chip: Chip) -> list[str]:
        """Returns where each price comes from, one line each."""
        named = {f"{chip.name} an hour": chip.hour, **self.rates}
        return [f"{name}: {self.currency} {price.price:g}, {price.source}, read {price.read}"
                for name, price in named.items()]  # fmt: skip


def load_prices(path: str) -> Prices:
    """Reads a price file.

    Raises: `UserError` when there is none, or something in it is not as it should be.
    """
    try:
        fields = tomllib.loads(files.read_bytes(path).decode())
    except FileNotFoundError as error:
        raise UserError(f"no price file at {path}; docs/prices.toml of visent is one to start from") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}; expected a file as docs/prices.toml") from error
    for name in fields:
        if name not in ("currency", "rates", "accelerators"):
            raise unknown(f"table of {path}", name, ("currency", "rates", "accelerators"))
    rates, chips = (_tables(fields.get(name, {}), f"{path}: {name}") for name in ("rates", "accelerators"))
    for name in rates:
        if name not in RATES:
            raise unknown(f"rate of {path}", name, RATES)
    return Prices(
        path=path, currency=_text(fields.get("currency"), f"{path}: currency"),
        rates={name: _price(value, f"{path}: rates.{name}", ()) for name, value in rates.items()},
        chips={name: _chip(name, value, f"{path}: accelerators.{name}") for name, value in chips.items()},
    )  # fmt: skip


def _tables(value: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        raise UserError(f"{where} is {value!r}, expected tables as [rates.vcpu_hour]")
    return value


def _price(value: Mapping[str, Any], where: str, further: tuple[str, ...]) -> Price:
    for name in value:
        if name not in (*_KEYS, *further):
            raise unknown(f"key of {where}", name, (*_KEYS, *further))
    read = value.get("read")
    if not isinstance(read, datetime.date):
        raise UserError(f"{where}: read is {read!r}, expected the day the price was read, as 2026-11-21")
    return Price(price=_number(value.get("price"), f"{where}: price", at_least=0.0),
                 source=_text(value.get("source"), f"{where}: source"), read=read.isoformat())  # fmt: skip


def _chip(name: str, value: Mapping[str, Any], where: str) -> Chip:
    hour = _price(value, where, _CHIP)
    tflops = value.get("tflops", {})
    if not isinstance(tflops, dict):
        raise UserError(f"{where}: tflops is {tflops!r}, expected {{ bfloat16 = 121.0 }}")
    if tflops:
        _text(value.get("tflops_source"), f"{where}: tflops_source")
    known = [key for key in _NUMBERS if key in value]
    numbers = {key: _number(value[key], f"{where}: {key}", at_least=0.0) for key in known}
    if numbers.get("of_peak", 0.0) > 1:
        raise UserError(f"{where}: of_peak is {numbers['of_peak']:g}, expected a part, from 0 to 1")
    if not isinstance(included := value.get("machine_included", False), bool):
        raise UserError(f"{where}: machine_included is {included!r}, expected true or false")
    return Chip(
        name=name, hour=hour, machine=str(value.get("machine", "")), machine_included=included,
        tflops={key: _number(peak, f"{where}: tflops.{key}", at_least=0.0) for key, peak in tflops.items()},
        tflops_source=str(value.get("tflops_source", "")), **numbers,
    )  # fmt: skip


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{where} is {value!r}, expected text")
    return value


def _number(value: Any, where: str, at_least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not at_least <= value < math.inf:
        raise UserError(f"{where} is {value!r}, expected a number of {at_least:g} or more")
    return float(value)
