"""How long commands take on a corpus of 100,000 shards and 1,000,000,000 rows, and how much memory.

    python benchmarks/facts_scale.py [--shards 100000] [--keep FOLDER]

The dataset is simulated: its facts, receipts, logs of workers and lists of rejects are real files, its shards are
sparse files of the size that their receipts say. Each command runs as its own process; the time is that of the whole
process, the memory its largest resident set. One read of `dataset.json` as plain JSON in a process of its own stands
beside them: no command that reads the facts can take less.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
from rich.console import Console
from rich.table import Table

from manifests.dataset import FACTS_FILE, DatasetFacts, config_digest, write_facts
from manifests.files import write_json
from manifests.schema import Schema
from manifests.shards import ShardInfo, receipt_name, rejects_name, shard_name
from pipelines.job import JOB_FILE, VERSION
from pipelines.resuming.listing import keys_digest, summary, write_units
from pipelines.sources.base import Item, Unit, cut_into_units
from pipelines.worklog import FOLDER, ShardLog, log_name
from tokenizer.load import load_card
from visent.progress import track

ROWS = 1_000_000_000
BYTES_PER_ROW = 480  # of a still role in Parquet, see benchmarks/storage.py
REJECTED_EACH = 100  # every so many shards rejected something
SECONDS, GIB = 10.0, 2.0  # what is required of each command
MACOS = sys.platform == "darwin"  # counts memory in bytes, others in KiB

LAUNCHER = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stdout, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""  # a small process of its own: a child's memory counts from what its parent had when it was forked

MANIFEST = """version = 1

[datasets]
photos = "photos"

[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.photos_16]
dataset = "photos"
kind = "natural"
sentence = ["image"]

[stages.images]
context = 256
share = { photos = 1.0 }

[stages.sequences]
context = 4096
share = { photos = 0.5, photos_16 = 0.5 }
"""


def main() -> None:
    """Makes the corpus, runs the commands, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="make the corpus here, or take the one that is there")
    arguments = parser.parse_args()
    if arguments.keep:
        results = measured(arguments.keep, arguments.shards)
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = measured(Path(folder), arguments.shards)
    table = Table("command", "seconds", "of the processor", "GiB", title=f"{arguments.shards:,} shards, {ROWS:,} rows")
    for name, result in results.items():
        table.add_row(name, *(f"{result[figure]:.2f}" for figure in ("seconds", "processor_seconds", "gib")))
    Console().print(table)
    required = {"seconds": SECONDS, "gib": GIB}
    machine.save("facts_scale", {"shards": arguments.shards, "rows": ROWS, "required": required, "commands": results})
    late = [name for name, result in results.items() if result["seconds"] > SECONDS or result["gib"] > GIB]
    sys.exit(f"over {SECONDS:g} s or {GIB:g} GiB: {', '.join(late)}" if late else 0)


def measured(root: Path, shards: int) -> dict[str, dict[str, float]]:
    """Runs every command on the corpus in `root`, which is made where it is not there."""
    dataset, manifest = root / "photos", root / "manifest.toml"
    if not (dataset / FACTS_FILE).exists():
        make(dataset, shards)
    manifest.write_text(MANIFEST)
    visent = [sys.executable, "-m", "visent"]
    plain = "import json, pathlib, sys; json.loads(pathlib.Path(sys.argv[1]).read_bytes())"
    unfinished = measured_unfinished([*visent, "status", str(dataset)], dataset / FACTS_FILE)
    return {
        "(dataset.json as plain JSON)": timed([sys.executable, "-c", plain, str(dataset / FACTS_FILE)]),
        "visent status": timed([*visent, "status", str(dataset)]),
        "visent status, all receipts, no dataset.json": unfinished,
        "visent manifest show": timed([*visent, "manifest", "show", str(manifest)]),
        "visent manifest check": timed([*visent, "manifest", "check", str(manifest)]),
        "visent manifest lock": timed([*visent, "manifest", "lock", str(manifest)]),
    }


def measured_unfinished(status: list[str], facts: Path) -> dict[str, float]:
    """Runs `visent status` with the facts out of the way, so that every receipt is read."""
    aside = facts.with_name(".aside")
    facts.rename(aside)
    try:
        return timed(status, expected=3)
    finally:
        aside.rename(facts)


def timed(command: list[str], expected: int = 0) -> dict[str, float]:
    """Runs a command; returns its seconds, those of its processor, and the most memory that it held."""
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *command], check=True, capture_output=True, text=True)
    status, output, seconds, processor, size = json.loads(done.stdout)
    if status != expected:
        sys.exit(f"{' '.join(command)} ended with {status}:\n{output}")
    return {"seconds": seconds, "processor_seconds": processor, "gib": size / (2**30 if MACOS else 2**20)}


def make(folder: Path, count: int) -> None:
    """Writes a finished dataset whose shards are sparse files."""
    (folder / FOLDER).mkdir(parents=True)
    schema = Schema(roles={"image": "still"}, card=load_card())
    tars = [Item(key=f"{number:08d}", files={"tar": f"{number:08d}.tar"}, size=300 << 20) for number in range(count)]
    units = cut_into_units(tars, 1, holdout=0.01)
    config: dict[str, Any] = {
        "version": VERSION, "source": "webdataset", "roots": {"root": "/data/tars"}, "options": {}, "format": "parquet",
        "items_per_shard": 1, "holdout": 0.01, "annotate": [], "annotators": {}, "models": {}, "tokenizer": "default",
        "preset": schema.card.preset, "precision": schema.card.precision, "fingerprint": schema.card.fingerprint,
        "augment": {"version": 1}, "keys_sha256": keys_digest(units), "listing": {"generations": [summary(units)]},
    }  # fmt: skip
    write_units(str(folder), 0, units)
    write_json(str(folder / JOB_FILE), config)
    digest = config_digest(config)
    shards = []
    with track("shards", count, "shards") as progress:
        for number, unit in enumerate(units):
            shards.append(shard(unit, number, count, digest))
            _write(folder, shards[-1])
            progress.advance()
    write_facts(str(folder), DatasetFacts(name=folder.name, schema=schema, shards=shards, config=config))


def shard(unit: Unit, number: int, count: int, digest: str) -> ShardInfo:
    """Describes the shard of a unit."""
    rows = ROWS * (number + 1) // count - ROWS * number // count
    sha256, keys = (hashlib.sha256(f"{what} {unit.id}".encode()).hexdigest() for what in ("bytes", "keys"))
    return ShardInfo(
        file=shard_name(unit.id), unit=unit.id, split=unit.split, first_view=0, last_view=0, rows=rows,
        rows_per_view=(rows,),
        bytes=rows * BYTES_PER_ROW, sha256=sha256, keys_sha256=keys, config_digest=digest,
        rejects={"not-an-image": 2} if number % REJECTED_EACH == 0 else {},
        made_with={"jax": "0.10.2", "device": "NVIDIA L4"},
    )  # fmt: skip


def _write(folder: Path, info: ShardInfo) -> None:
    with (folder / info.file).open("wb") as file:
        file.truncate(info.bytes)
    (folder / receipt_name(info.file)).write_text(json.dumps(info.to_json(), indent=1) + "\n")
    stages = {"read": 12.0, "decode": 80.0, "annotate": 0.0, "encode": 60.0, "write": 1.5}
    log = ShardLog(shard=info.file, state="done", host="worker", pid=7, started=1.7e9, ended=1.7e9 + 70,
                   pictures=info.rows, rows=info.rows, rejects=info.rejects, bytes_read=info.rows * 30_000,
                   bytes_written=info.bytes, seconds=stages)  # fmt: skip
    (folder / log_name(info.file)).write_text(json.dumps(log.to_json(), indent=1) + "\n")
    if info.rejects:
        lines = [{"key": f"{info.unit}/{n}", "source": "x.tar", "stage": "decode", "reason": "not-an-image",
                  "detail": ""} for n in range(sum(info.rejects.values()))]  # fmt: skip
        (folder / rejects_name(info.file)).write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
