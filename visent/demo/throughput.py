"""How much each step of the demo did, and how fast, start-up included."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.dataset import DatasetFacts, load_facts
from visent.demo.plots import read_lines
from visent.demo.steps import DATASETS, Step, command_line


def table(out: Path, steps: Sequence[Step], record: Mapping[str, Any]) -> list[dict[str, object]]:
    """Returns a row for each step: what it did, seconds, how much of what, and the rate."""
    rows: list[dict[str, object]] = []
    for step in steps:
        seconds = record[command_line(step)]["seconds"]
        count, unit = work(out, step)
        rate = f"{count / seconds:,.1f} {unit}/s" if unit else ""
        rows.append({"step": step.title, "seconds": seconds, "work": f"{count:,} {unit}" if unit else "", "rate": rate})
    return rows


def work(out: Path, step: Step) -> tuple[int, str]:
    """Returns how much a step did and its unit; 0 and "" where nothing is worth counting."""
    command, *rest = step.arguments
    if command == "tokenize" and rest[0] == "--views-from":
        return sum(images(load_facts(str(out / "corpus" / name)), augmented=True) for name in DATASETS), "images"
    if command == "tokenize":
        return images(load_facts(rest[rest.index("--out") + 1]), augmented=False), "images"
    if command == "verify":
        return sum(shard.rows for folder in rest for shard in load_facts(folder).shards), "rows"
    if command == "train":
        return trained_tokens(out / "run"), "tokens"
    if command == "generate":
        made = json.loads((Path(rest[rest.index("--out") + 1]) / "generated.json").read_text())
        return sum(len(sample["codes"]) for sample in made["samples"]), "tokens"
    if command == "evaluate":
        rows = json.loads((Path(rest[rest.index("--out") + 1]) / "evaluation.json").read_text())["rows"]
        return sum(row["samples"] for row in rows), "samples"
    return 0, ""


def images(facts: DatasetFacts, *, augmented: bool) -> int:
    """Returns the images that a dataset's codes stand for: those of augmented views, or those of the originals."""
    kinds = list(facts.schema.roles.values())
    stills, clips = kinds.count("still"), kinds.count("clip")
    total = 0
    for shard in facts.shards:
        if (shard.first_view > 0) == augmented:
            frames = sum(length * rows for length, rows in shard.frames.items()) * len(shard.rows_per_view)
            total += shard.rows * stills + frames * clips
    return total


def trained_tokens(run: Path) -> int:
    """Returns the tokens of all steps of a finished run."""
    lock = json.loads((run / "manifest.lock.json").read_text())
    stages = json.loads((run / "config.json").read_text())["config"]["stages"]
    return sum(s["steps"] * s["batch_sentences"] * int(lock["stages"][name]["context"]) for name, s in stages.items())


def training_rates(metrics: Path) -> list[dict[str, object]]:
    """Returns the tokens per second of each stage: the median over the lines of metrics.jsonl."""
    lines = read_lines(metrics)
    rows: list[dict[str, object]] = []
    for stage in dict.fromkeys(line["stage"] for line in lines):
        rates = sorted(line["tokens_per_second"] for line in lines if line["stage"] == stage)
        rows.append({"stage": stage, "steps": max(line["stage_step"] for line in lines if line["stage"] == stage),
                     "tokens per second": round(rates[len(rates) // 2])})  # fmt: skip
    return rows
