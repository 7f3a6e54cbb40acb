"""Peak resident memory of tokenizing many pictures against few: it must be bounded by what is decoded ahead.

Each size runs as a command in its own process, all pictures in one shard, with a small random tokenizer so that the
pictures and not the arithmetic decide the time.

    python benchmarks/memory.py --few 2000 --many 20000
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import machine
from pictures import write_pictures
from rich.console import Console
from rich.table import Table

from tokenizer.testing import tiny_tokenizer_dir

ALLOWED = 1.3  # the project's limit for ten times the pictures


def main() -> None:
    """Runs the benchmark and stores its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=2000)
    parser.add_argument("--many", type=int, default=20000)
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tokenizer = tiny_tokenizer_dir(root)
        for name in ("few", "many"):
            count = getattr(arguments, name)
            write_pictures(root / name, count)
            results[name] = {
                "pictures": count,
                "peak_mib": peak_mib(root / name, root / "corpus" / name, tokenizer, count),
            }
    results["ratio"] = results["many"]["peak_mib"] / results["few"]["peak_mib"]  # type: ignore[index]
    table = Table("pictures", "peak MiB", title=f"memory: ratio {results['ratio']:.3f}, allowed {ALLOWED}")
    for name in ("few", "many"):
        table.add_row(*(f"{value:,.0f}" for value in results[name].values()))  # type: ignore[attr-defined]
    Console().print(table)
    machine.save("memory", results)


def peak_mib(source: Path, out: Path, tokenizer: Path, count: int) -> float:
    """Tokenizes a folder into one shard in a new process and returns the most memory that it held."""
    arguments = [sys.executable, "-m", "visent", "tokenize", "folder", str(source), "--out", str(out),
                 "--annotate", "edge", "--items-per-shard", str(count), "--tokenizer", str(tokenizer)]  # fmt: skip
    process = os.posix_spawn(sys.executable, arguments, os.environ)
    _, status, usage = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the command failed; see above"
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
