"""What a million pictures cost on Dataflow's GPUs, by formula from docs/prices.toml; the tables of docs/dataflow.md and
docs/tpu.md.

    images/s     = peak of the chip in that precision x of_peak / FLOP of a picture
    worker hour  = chip + vCPUs x vcpu_hour + GB x memory_gb_hour + GB of disk x disk_gb_hour
    a million    = worker hour x 1,000,000 / (images/s x 3,600)

Nothing is measured here: `of_peak` in the price file is an assumption. A TPU's price is in no source at hand, so the
TPU's table says what its hour may cost to be as cheap as an L4.

    python benchmarks/cloud_costs.py [--write]
"""

import argparse

import machine
from scale_plan import DOCS, markdown, write

from pipelines.planning.plan import hourly
from pipelines.planning.prices import Chip, Prices, load_prices

FLOP = 213e9  # of a picture of 256 x 256 in the network of aMUSEd and LVM, as benchmarks/tokenizer_f16.py counts them
PRECISIONS = ("float32", "tf32", "bfloat16")
TPUS = {"v5e": 197.0, "v5p": 459.0, "v6e": 918.0}  # TFLOP/s in bfloat16 of a chip: cloud.google.com/tpu/docs
MILLION = 1_000_000


def main() -> None:
    """Computes, prints and saves; with --write the pages' tables are replaced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/dataflow.md and docs/tpu.md")
    arguments = parser.parse_args()
    prices = load_prices(str(DOCS / "prices.toml"))
    tables = {"costs": costs_table(prices), "tpu": tpu_table(prices)}
    for name, table in tables.items():
        print(f"\n{name}\n\n{table}")
    machine.save("cloud_costs", {"flops_per_image": FLOP, "tables": tables})
    if arguments.write:
        write(DOCS / "dataflow.md", {"costs": tables["costs"]})
        write(DOCS / "tpu.md", {"tpu": tables["tpu"]})


def worker_hour(prices: Prices, chip: Chip) -> float:
    """Returns what a worker with one accelerator costs in an hour."""
    return sum(hourly(prices, chip, 1.0).values())


def costs_table(prices: Prices) -> str:
    """Returns the cost of a million pictures on each chip in each precision it has."""
    head = [
        "GPU",
        "machine",
        f"worker hour, {prices.currency}",
        "precision",
        "images/s",
        f"a million, {prices.currency}",
    ]
    rows = []
    for chip in prices.chips.values():
        hour = worker_hour(prices, chip)
        for precision in (name for name in PRECISIONS if name in chip.tflops):
            rate = chip.rate(FLOP, precision)[0]
            million = f"{hour * MILLION / rate / 3600:,.2f}"
            rows.append([chip.name, chip.machine, f"{hour:.3f}", precision, f"{rate:,.0f}", million])
    return markdown(head, rows)


def tpu_table(prices: Prices) -> str:
    """Returns what a chip's hour may cost where it shall encode a picture for what it costs on an L4."""
    l4 = prices.chip("nvidia-l4")
    per_tflops = worker_hour(prices, l4) / l4.tflops["bfloat16"]
    rows = [[name, f"{peak:g}", f"{per_tflops * peak:.2f}"] for name, peak in TPUS.items()]
    return markdown(["chip", "TFLOP/s in bfloat16", f"as cheap as an L4 below ({prices.currency} a chip-hour)"], rows)


if __name__ == "__main__":
    main()
