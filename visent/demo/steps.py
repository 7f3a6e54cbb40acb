"""The demo's steps: the very commands a user would type, run one after another and timed."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from visent.errors import UserError

DATASETS = ("photos", "clips", "depth")
SENTENCE_TASKS = ("clips", "edge", "colorization", "inpainting", "depth")  # of the second stage
# By the hash of a file's name: `photos` and `clips` name the movies alike, so one held out is held out of both.
HOLDOUT = 0.25
SAMPLES = 3  # generated for each of them
SENTENCES = 4  # drawn of each of them
JUDGED = 24  # held-out samples of each of them
REPORT_COLUMNS = 110  # width of the summary tables, which the report quotes


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the demo, without the leading `visent`, and what it shows."""

    title: str
    arguments: tuple[str, ...]
    once: bool = False  # shows or makes the state of its time, which a later run would not find again


def command_line(step: Step) -> str:
    """Returns the command as a user would type it."""
    return shlex.join(["visent", *step.arguments])


def plan(out: Path, train: Sequence[str] = ()) -> list[Step]:
    """Returns the demo's commands in order, all reading and writing below `out`.

    `train` holds further arguments of `visent train`, to shorten a trial.
    """
    manifest, run = out / "manifest.toml", out / "run"
    return [*_tokenize(out), *_balance(out, manifest), *_draw(out, manifest), *_train(out, manifest, run, train)]


def _step(title: str, *arguments: object, once: bool = False) -> Step:
    return Step(title=title, arguments=tuple(str(argument) for argument in arguments), once=once)


def _tokenize(out: Path) -> list[Step]:
    media, corpus = out / "media", out / "corpus"
    return [
        _step("Photos and video frames become rows of image, edge, gray and holes",
              "tokenize", "folder", media / "photos", media / "movies", "--video-stills", 8,
              "--annotate", "edge,gray,holes", "--holdout", HOLDOUT, "--items-per-shard", 64,
              "--max-reject-fraction", 0.1, "--out", corpus / "photos"),
        _step("Videos become clips of four frames",
              "tokenize", "videos", "--root", media, "--fps", 8, "--frames-per-clip", 4, "--holdout", HOLDOUT,
              "--out", corpus / "clips"),
        _step("One picture with measured disparity becomes a row of image and depth",
              "tokenize", "pairs", media / "depth", "--out", corpus / "depth"),
        _step("Every shard is read back and checked", "verify", *(corpus / name for name in DATASETS)),
    ]  # fmt: skip


def _balance(out: Path, manifest: Path) -> list[Step]:
    return [
        _step("Shares before balancing", "manifest", "show", manifest, "--plot", out / "before.png", once=True),
        _step("The balance asks for views of the long tail", "manifest", "balance", manifest, once=True),
        _step("The missing views are tokenized", "tokenize", "--views-from", manifest),
        _step("Shares after balancing", "manifest", "show", manifest, "--plot", out / "after.png"),
        _step("The manifest is resolved into a lock", "manifest", "lock", manifest),
    ]


def _draw(out: Path, manifest: Path) -> list[Step]:
    sheets = [
        _step(f"Visual sentences of the task {task}", "show", manifest, "--stage", "sequences", "--task", task,
              "--count", SENTENCES, "--out", out / f"task-{task}.png")
        for task in SENTENCE_TASKS
    ]  # fmt: skip
    photos = out / "media" / "photos"
    quality = _step("The tokenizer's round trip on pictures it has not seen",
                    "tokenizer", "eval", photos, "--sheet", out / "round-trips.png")  # fmt: skip
    return [quality, *sheets]


def _train(out: Path, manifest: Path, run: Path, train: Sequence[str]) -> list[Step]:
    generate = [
        _step(f"Images are generated for the task {task}", "generate", run, "--task", task,
              "--split", "train" if task == "depth" else "val",  # depth has one picture, which cannot be held out
              "--count", SAMPLES, "--out", out / "generated" / task)
        for task in SENTENCE_TASKS
    ]  # fmt: skip
    training = _step("A small model trains through both stages", "train", "tiny", "--manifest", manifest,
                     "--out", run, *train)  # fmt: skip
    return [training, *generate, *_judge(out, run)]


def _judge(out: Path, run: Path) -> list[Step]:
    held_out = (out / "corpus" / "photos", out / "corpus" / "clips")
    return [
        _step("The pictures behind held-out rows are kept to judge by", "pixels", *held_out, "--split", "val"),
        _step("The model is judged on its tasks, beside the tokenizer's ceiling", "evaluate", run, "--protocol",
              "tasks", "--network", "images=efficientnet-lite0", "--most", JUDGED, "--out", out / "evaluation"),
    ]  # fmt: skip


def run_all(steps: Sequence[Step], record: Path, cache: Path) -> dict[str, Any]:
    """Runs the steps and returns, by command line, the title, seconds and output of each.

    `record` keeps that as JSON, also from an earlier try; `cache` keeps compiled programs between the steps.

    Raises:
        UserError: a command failed; its own message stands above.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    done: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    started = time.monotonic()
    for number, step in enumerate(steps, 1):
        if step.once and command_line(step) in done:
            continue
        passed = time.monotonic() - started
        console.print(f"\n[bold]\\[{number}/{len(steps)}, {passed:.0f} s] {step.title}[/bold]")
        console.print(command_line(step), style="dim", markup=False)
        seconds, output = _run(step, cache)
        # A step that finds its work done ends at once: the first time is the one worth reporting.
        done.setdefault(command_line(step), {"title": step.title, "seconds": round(seconds, 2), "output": output})
        record.write_text(json.dumps(done, indent=1))
    return done


def _run(step: Step, cache: Path) -> tuple[float, str]:
    """Runs one command, its progress going to the terminal; returns seconds and what it printed."""
    begun = time.monotonic()
    environment = {
        **os.environ,
        "COLUMNS": str(REPORT_COLUMNS),
        "JAX_COMPILATION_CACHE_DIR": str(cache.resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
    }
    command = [sys.executable, "-m", "visent", *step.arguments]
    result = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, env=environment)  # nosec B603
    print(result.stdout, end="", flush=True)
    if result.returncode:
        raise UserError(f"the demo stopped at `{command_line(step)}`: its message stands above; mend it and run again")
    return time.monotonic() - begun, result.stdout
