"""What a job takes, before it runs: images, accelerator hours, bytes, shards and cost, out of a probe and prices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.job import Job, Work, units_of
from pipelines.planning.prices import Chip, Prices
from pipelines.planning.probe import Probe, probe
from pipelines.prefetch import cores
from pipelines.sources.base import Unit
from visent.errors import UserError

WRITES_PER_SHARD = 4  # objects: shard, receipt, its log at begin and end; lists of rejects are few
READS_PER_SHARD = 1  # its receipt, at the end; what is read of the source is counted by itself
GIB = float(2**30)  # of machines and of bills


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What the source lists, and what becomes of it as a job."""

    items: int
    examples: int
    items_per_shard: int
    shards: int
    source_bytes: int | None  # that workers read; None where the probe could not tell
    shuffled_bytes: int  # that pass between workers: the descriptions of the units, no pixel and no code
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An estimate of a whole job. Cost is in the currency of the prices, None without any."""

    name: str
    probe: Probe
    amounts: Amounts
    accelerator: str  # its name, or what the machine here has
    images_per_second: float  # of one accelerator with its part of a machine, all stages
    bound: str  # what limits that rate
    how: str  # the encoding rate is known
    vcpus: float  # beside each accelerator
    costs: Mapping[str, float] | None = None
    storage_month: float | None = None
    currency: str = ""
    sources: tuple[str, ...] = field(default_factory=tuple)

    @property
    def rows(self) -> int:
        """Rows of the dataset."""
        return round(self.amounts.examples * self.probe.accepted)

    @property
    def images(self) -> int:
        """Pictures to encode, of all roles and frames."""
        return round(self.rows * self.probe.pictures_per_example)

    @property
    def hours(self) -> float:
        """Hours of accelerators, start-up and waste apart."""
        return self.images / self.images_per_second / 3600

    @property
    def rows_per_shard(self) -> float:
        """Rows in a shard, on average."""
        return self.rows / max(self.amounts.shards, 1)

    @property
    def storage_bytes(self) -> int:
        """Bytes of all shards."""
        return round(self.rows * self.probe.bytes_per_row)

    @property
    def cost(self) -> float | None:
        """Cost of the job, without keeping what it wrote."""
        return None if self.costs is None else sum(self.costs.values())

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        figures = {name: getattr(self, name)
                   for name in ("rows", "images", "hours", "rows_per_shard", "storage_bytes", "cost")}  # fmt: skip
        return {**asdict(self), "probe": self.probe.to_json(), **figures}


def make_plan(
    job: Job, *, count: int, encode_seconds: float, prices: Prices | None = None, accelerator: str | None = None,
    rate: float | None = None, examples: int | None = None,
) -> Plan:  # fmt: skip
    """Probes the source of a job and plans it, or so many `examples` like those that are here.

    `rate` is the pictures that one accelerator encodes in a second, where that is known.

    Raises:
        UserError: there is nothing to read, or the prices do not name the accelerator.
    """
    if accelerator and prices is None:
        raise UserError(f"--accelerator {accelerator} is of a price file; give one with --prices, as docs/prices.toml")
    chip = prices.chip(accelerator) if prices and accelerator else None
    items, note = job.source.listing()
    units = units_of(job, items)
    found = probe(job, items, count, encode_seconds)
    amounts = _amounts(job, units, found, note, examples)
    return estimate(job.name, found, amounts, prices=prices, chip=chip, rate=rate)


def _amounts(job: Job, units: list[Unit], found: Probe, note: str, examples: int | None) -> Amounts:
    items = [item for unit in units for item in unit.items]
    pictures = job.source.estimate(items)  # of one role
    if pictures is None and examples is None:
        raise UserError(f"{job.source.name} cannot tell how many examples {len(items)} items hold; give --examples")
    in_one_role = found.pictures_per_example / len(job.schema.roles)
    here = examples or 1 if pictures is None else max(round(pictures / in_one_role), 1)
    size = sum(item.size for item in items)
    if not all(item.size for item in items):
        size = round(here * found.bytes_per_example)
    amounts = Amounts(
        items=len(items), examples=here, items_per_shard=job.source.items_per_unit, shards=len(units),
        source_bytes=size or None, shuffled_bytes=sum(len(Work(unit=unit).to_json()) for unit in units), note=note,
    )  # fmt: skip
    return amounts if examples is None else scaled(amounts, examples)


def scaled(amounts: Amounts, examples: int) -> Amounts:
    """Returns the amounts of so many examples, in items like those that are here, as many to a shard as asked for."""
    times = examples / amounts.examples
    items = max(round(amounts.items * times), 1)
    return Amounts(
        items=items, examples=examples, items_per_shard=amounts.items_per_shard,
        shards=-(-items // amounts.items_per_shard),
        source_bytes=None if amounts.source_bytes is None else round(amounts.source_bytes * times),
        shuffled_bytes=round(amounts.shuffled_bytes * times), note=amounts.note,
    )  # fmt: skip


def estimate(
    name: str, found: Probe, amounts: Amounts, *, prices: Prices | None, chip: Chip | None, rate: float | None
) -> Plan:
    """Returns the plan of known amounts: pure arithmetic."""
    vcpus = chip.vcpus if chip else float(cores())
    if rate is not None:
        encoding, how = rate, "as given"
    elif chip:
        encoding, how = chip.rate(found.flops_per_picture, found.precision)
    else:
        encoding, how = found.images_per_second, f"measured here on {found.device}"
    device = 1 / encoding + found.annotate_seconds / max(found.encoded, 1)
    decoding = found.decode_per_picture / vcpus if vcpus else 0.0
    on_one_processor = chip is None and found.device == "cpu"  # which then does both
    seconds = device + decoding if on_one_processor else max(device, decoding)
    bound = f"decoding on {vcpus:g} vCPUs" if decoding > device else "encoding"
    plan = Plan(
        name=name, probe=found, amounts=amounts, accelerator=chip.name if chip else found.device,
        images_per_second=1 / seconds, bound=bound, how=how, vcpus=vcpus,
    )  # fmt: skip
    return plan if prices is None or chip is None else _priced(plan, prices, chip)


def _priced(plan: Plan, prices: Prices, chip: Chip) -> Plan:
    amounts = plan.amounts
    costs = {
        **hourly(prices, chip, plan.hours),
        "shuffle": amounts.shuffled_bytes / GIB * prices.rate("shuffle_gb"),
        "writes": amounts.shards * WRITES_PER_SHARD / 1000 * prices.rate("writes_per_1000"),
        "reads": (amounts.items + amounts.shards * READS_PER_SHARD) / 1000 * prices.rate("reads_per_1000"),
    }
    month = plan.storage_bytes / GIB * prices.rate("storage_gb_month")
    fields = {name: getattr(plan, name) for name in Plan.__dataclass_fields__}
    return Plan(**fields | {"costs": costs, "storage_month": month, "currency": prices.currency,
                            "sources": tuple(prices.sources(chip))})  # fmt: skip


def hourly(prices: Prices, chip: Chip, hours: float) -> dict[str, float]:
    """Returns what so many hours of an accelerator with its part of a machine cost."""
    billed = 0.0 if chip.machine_included else hours
    return {
        "accelerators": hours * chip.hour.price,
        "vCPUs": billed * chip.vcpus * prices.rate("vcpu_hour"),
        "memory": billed * chip.memory_gb * prices.rate("memory_gb_hour"),
        "disk": hours * chip.disk_gb * prices.rate("disk_gb_hour"),
    }
