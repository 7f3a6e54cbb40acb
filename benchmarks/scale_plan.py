"""DataComp-1B planned and simulated: the tables of docs/scale.md.

    python benchmarks/scale_plan.py [--probe 1000] [--encode-seconds 60] [--write]

The probe is real: pictures of the sizes that img2dataset leaves, in tars of samples, are read, decoded, cut and encoded
by the f16 network (8192 codes; random weights cost what trained ones do), and written as a shard. What follows from it
for 1.4 billion samples in tars of 10,000 is arithmetic with the prices of docs/prices.toml, and a simulation. Beside
each plan stands the limit: the hours that the operations alone take at the peak of the chip.
"""

import argparse
import io
import json
import math
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
from pictures import write_pictures
from tokenizer_f16 import pictures, share

from pipelines.job import Job, Work
from pipelines.planning.choices import Saved, best, choices, saved
from pipelines.planning.plan import Amounts, Plan, estimate
from pipelines.planning.prices import Prices, load_prices
from pipelines.planning.probe import Probe, probe
from pipelines.sources.base import cut_into_units
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.webdataset import Webdataset

DOCS = Path(__file__).parents[1] / "docs"
SAMPLES, PER_TAR = 1_400_000_000, 10_000  # of DataComp-1B, and of a tar as download_upstream.py writes it
TARS_HERE = 20
CHIPS = ("nvidia-l4", "nvidia-tesla-a100", "nvidia-a100-80gb")
PRECISIONS = ("float32", "tf32", "bfloat16")
CHOSEN = ("nvidia-l4", "tf32")  # that is simulated
WORKERS = (100, 200, 500, 1000)
ROWS = (1_000, 10_000, 50_000, 200_000)
RATES = (0.0, 0.02, 0.1, 0.5)  # preemptions of a machine in an hour
ROUGH = {"start": 300.0, "preemptions": 0.05, "slow": 0.02, "slow_factor": 2.0, "spread": 0.1, "per_unit": 5.0,
         "replace": 120.0, "seed": 0}  # fmt: skip
DAYS = 14.0


def main() -> None:
    """Probes, plans, simulates, prints and saves; with --write the page's tables are replaced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", type=int, default=1000)
    parser.add_argument("--encode-seconds", type=float, default=60.0)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    arguments = parser.parse_args()
    prices = load_prices(str(DOCS / "prices.toml"))
    found, work_bytes = probed(arguments.probe, arguments.encode_seconds)
    plans = {(chip, name): planned(found, work_bytes, prices, chip, name) for chip in CHIPS for name in PRECISIONS}
    base = saved(json.loads(json.dumps(plans[CHOSEN].to_json())))
    tables = {
        "probe": probe_table(found),
        "chips": chips_table(plans, prices),
        "sizes": sizes_table(base),
        "preemptions": preemptions_table(base),
    }
    for name, table in tables.items():
        print(f"\n{name}\n\n{table}")
    results = {"probe": found.to_json(), "samples": SAMPLES, "per_tar": PER_TAR, "fleet": ROUGH,
               "plans": {"/".join(key): plan.to_json() for key, plan in plans.items()}, "tables": tables}  # fmt: skip
    machine.save("scale_plan", results)
    if arguments.write:
        write(DOCS / "scale.md", tables)


def probed(count: int, encode_seconds: float) -> tuple[Probe, int]:
    """Probes tars of pictures; returns also the bytes that describe one tar's unit of work."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_tars(root, max(count, TARS_HERE))
        share(root, pictures(2))
        source = DatasetSource(name="webdataset", dataset=Webdataset(root=str(root / "tars")), items_per_unit=1)
        job = Job(out=str(root / "out"), name="datacomp", source=source, tokenizer=str(root / "vqvae"))
        items, _ = source.listing()
        unit = cut_into_units(items, 1, 0.0)[0]
        return probe(job, items, count, encode_seconds), len(Work(unit=unit).to_json())


def write_tars(root: Path, count: int) -> None:
    """Writes samples as img2dataset does: picture, caption and json side by side."""
    write_pictures(root / "pictures", count, per_folder=math.ceil(count / TARS_HERE))
    (root / "tars").mkdir()
    for number, folder in enumerate(sorted((root / "pictures").iterdir())):
        with tarfile.open(root / "tars" / f"{number:08d}.tar", "w") as tar:
            for path in sorted(folder.iterdir()):
                about = json.dumps({"uid": f"{int(path.stem):032x}", "caption": "a photo", "status": "success"})
                for ending, data in (("jpg", path.read_bytes()), ("txt", b"a photo"), ("json", about.encode())):
                    entry = tarfile.TarInfo(f"{path.stem}.{ending}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))


def planned(found: Probe, work_bytes: int, prices: Prices, chip: str, precision: str) -> Plan:
    """Plans DataComp-1B on a chip in a precision."""
    tars = SAMPLES // PER_TAR
    amounts = Amounts(
        items=tars, examples=SAMPLES, items_per_shard=1, shards=tars, shuffled_bytes=tars * work_bytes,
        source_bytes=round(SAMPLES * found.bytes_per_example),
    )  # fmt: skip
    return estimate("datacomp", replace(found, precision=precision), amounts, prices=prices, chip=prices.chip(chip),
                    rate=None)  # fmt: skip


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def probe_table(found: Probe) -> str:
    """What was measured."""
    rows = [
        ("examples read and decoded", f"{found.looked_at:,}"),
        ("bytes of a picture", f"{found.bytes_per_example:,.0f}"),
        ("decoded and cut by one core", f"{1 / found.decode_per_picture:,.0f} images/s"),
        (f"encoded on {found.device}", f"{found.images_per_second:.2f} images/s ({found.encoded:,} images)"),
        ("operations of an image", f"{found.flops_per_picture / 1e9:.1f} GFLOP"),
        ("bytes of a row in Parquet", f"{found.bytes_per_row:,.0f}"),
    ]
    return markdown(("of the probe", ""), rows)


def chips_table(plans: dict[tuple[str, str], Plan], prices: Prices) -> str:
    """Hours and cost on each chip, and the limit."""
    rows = []
    for (name, precision), plan in plans.items():
        peak = prices.chip(name).tflops[precision]
        limit = plan.images * plan.probe.flops_per_picture / (peak * 1e12) / 3600
        assert plan.cost is not None
        rows.append((f"{name}, {precision}", f"{plan.images_per_second:,.0f}", plan.bound, f"{plan.hours:,.0f}",
                     f"{limit:,.0f}", f"{plan.cost:,.0f} {plan.currency}"))  # fmt: skip
    return markdown(("", "images/s of one", "limited by", "hours", "hours at its peak", "cost"), rows)


def sizes_table(base: Saved) -> str:
    """Every unit size with every worker count, on machines that are slow, late and taken away."""
    found = choices(base, WORKERS, ROWS, ROUGH)
    chosen = best(found, DAYS)
    rows = []
    for choice in found:
        out = choice.outcome
        parts = [f"{part / out.paid:.1%}" for part in (out.lost, out.starting, out.idle, out.useful)]
        cells = [f"{choice.workers:,}", f"{choice.rows_per_shard:,}", f"{choice.unit_seconds / 60:,.1f}",
                 f"{out.wall / 24:,.1f}", *parts, f"{choice.cost:,.0f}"]  # fmt: skip
        rows.append([f"**{cell}**" for cell in cells] if choice is chosen else cells)
    head = ("workers", "rows of a shard", "minutes of a unit", "days", "lost", "starting", "idle", "useful", "cost")
    return markdown(head, rows)


def preemptions_table(base: Saved) -> str:
    """Part of the paid hours that is useful, by rate and size, beside what theory says of lost work alone."""
    rows = []
    for size in ROWS:
        cells = [f"{size:,}"]
        for rate in RATES:
            (choice,) = choices(base, [500], [size], {**ROUGH, "preemptions": rate})
            hours = rate * (choice.unit_seconds + float(ROUGH["per_unit"])) / 3600
            theory = hours / math.expm1(hours) if hours else 1.0
            cells.append(f"{choice.outcome.efficiency:.1%} (at most {theory:.1%})")
        rows.append(cells)
    return markdown(("rows of a shard", *(f"{rate:g} an hour" for rate in RATES)), rows)


def write(path: Path, tables: dict[str, Any]) -> None:
    """Replaces the tables between their marks."""
    text = path.read_text()
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"{path} has no marks for {name}"
        text = f"{before}{begin}\n{table}\n{end}{after}"
    path.write_text(text)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
