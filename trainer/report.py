"""What a stage says of itself, to metrics.jsonl, eval.jsonl, TensorBoard and the terminal."""

import io
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from PIL import Image
from rich.console import Console

from manifests import files
from trainer import hosts
from trainer.evaluate import plots
from trainer.evaluate.scores import TaskScore
from trainer.evaluate.tables import by_task
from trainer.generated import GeneratedScore
from trainer.throughput import Throughput, memory
from visent.progress import SECONDS_BETWEEN_LINES

if TYPE_CHECKING:
    from trainer.loop import Run


class Report:
    """The voice of one stage; the first host alone speaks."""

    def __init__(self, run: "Run", stage: str, throughput: Throughput) -> None:
        self._run, self._stage, self._throughput = run, stage, throughput
        self._console = Console(stderr=True)
        self._said, self._line = -math.inf, ""

    def begin(self, *how: str) -> None:
        """Says how the stage is computed, and what the figures of utilization are made of."""
        self._say(f"{self._stage}: {'; '.join((*how, self._throughput.explanation()))}")

    def metrics(self, step: int, stage_step: int, found: Mapping[str, Any], *, last: bool) -> None:
        """Writes a line of metrics.jsonl, and the same to TensorBoard; to a terminal at most every ten seconds."""
        figures = self._throughput.figures(found["tokens_per_second"])
        line = {"stage": self._stage, "step": step, "stage_step": stage_step, **found, **figures, **memory()}
        self._run.metrics.write(line)
        self._run.board.scalars(step, dict(_training_scalars(line)))
        self._line = in_words(line)
        if self._console.is_terminal and (last or time.monotonic() - self._said > SECONDS_BETWEEN_LINES):
            self._say(f"{self._stage}, step {step}: {self._line}")
            self._said = time.monotonic()

    def note(self, loss: float) -> str:
        """Returns what stands beside the bar: the last loss; in a log file, which has no lines above, the last line."""
        if self._line and not self._console.is_terminal:
            return self._line
        return f"loss {loss:.3f}" if math.isfinite(loss) else ""

    def evaluation(
        self,
        step: int,
        stage_step: int,
        scores: Mapping[str, TaskScore],
        without_heldout: list[str],
        generated: Mapping[str, GeneratedScore],
    ) -> None:
        """Writes a line of eval.jsonl, and the same to TensorBoard and the terminal."""
        made = {task: {"samples": score.samples, **score.figures()} for task, score in generated.items()}
        self._run.evaluations.write(
            {
                "stage": self._stage,
                "step": step,
                "stage_step": stage_step,
                "per_task": {task: score.to_json() for task, score in scores.items()},
                "without_heldout": without_heldout,
                **({"generated": made} if made else {}),
            }
        )
        if not scores or not hosts.first():
            return
        self._run.board.scalars(step, dict(_heldout_scalars(self._stage, scores)))
        if generated:
            self._run.board.scalars(step, dict(_generated_scalars(self._stage, generated)))
        self._run.board.picture(step, f"heldout_by_position/{self._stage}", plots.by_position(scores, self._stage))
        self._run.flush()  # the evaluation at a stage's end comes after its checkpoint
        self._console.print(by_task(scores, f"held-out, stage {self._stage}, step {step}"))
        for task, score in generated.items():
            figures = ", ".join(f"{name} {value:.4g}" for name, value in score.figures().items())
            self._say(f"{self._stage}, step {step}, {score.samples} generated of {task}: {figures}")

    def sheet(self, step: int, sheet: Image.Image | None) -> None:
        """Writes a sheet of samples into the run's folder and to TensorBoard; None where no task has held-out rows."""
        if sheet is None or not hosts.first():
            return
        data = io.BytesIO()
        sheet.save(data, format="PNG")
        path = files.join(self._run.folder.samples, f"{self._stage}-{step:07d}.png")
        files.make_folder(self._run.folder.samples)
        files.write_bytes(path, data.getvalue())
        self._run.board.picture(step, f"samples/{self._stage}", sheet)
        self._say(f"{self._stage}, step {step}: {path}")

    def _say(self, text: str) -> None:
        if hosts.first():
            print(text, file=sys.stderr, flush=True)  # a bar that is being drawn makes room for it


def in_words(line: Mapping[str, Any]) -> str:
    """Returns a line of metrics for a person."""
    parts = [f"loss {line['loss']:.3f}"]
    if len(line["per_task"]) > 1:
        by_task = (f"{task} {found['loss']:.3f}" for task, found in line["per_task"].items())
        parts[0] += f" ({', '.join(by_task)})"
    if "divergence" in line:
        parts.append(f"divergence {line['divergence']:.3f}")
    parts.append(f"rate {line['learning_rate']:.2e}, gradient {line['gradient_norm']:.2f}")
    parts.append(f"{line['tokens_per_second']:,.0f} tokens/s, waited {line['input_wait']:.1%}")
    if "mfu" in line:
        parts.append(f"MFU {line['mfu']:.1%} causal, {line['mfu_full']:.1%} full")
    if "device_memory_bytes" in line:
        parts.append(f"memory {line['device_memory_bytes'] / 2**30:.1f} GiB")
    return ", ".join(parts)


def _training_scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    groups = {"tokens_per_second": "throughput", "teraflops_per_device": "throughput", "mfu": "throughput",
              "mfu_full": "throughput", "input_wait": "throughput", "host_memory_bytes": "memory",
              "device_memory_bytes": "memory"}  # fmt: skip
    for name, value in line.items():
        if isinstance(value, float | int) and name not in ("step", "stage_step", "steps"):
            yield f"{groups.get(name, 'train')}/{name}", float(value)
    for task, found in line["per_task"].items():
        for name, value in found.items():
            yield f"train_{name}/{task}", value


def _heldout_scalars(stage: str, scores: Mapping[str, TaskScore]) -> Iterator[tuple[str, float]]:
    for task, score in scores.items():
        for name in ("loss", "accuracy", "perplexity"):
            yield f"heldout_{name}/{stage}/{task}", getattr(score, name)
        for image, loss in enumerate(score.by_image.loss, 1):
            if len(score.roles) > 1:
                yield f"heldout_loss_by_image/{stage}/{task}/{image:02d}", loss


def _generated_scalars(stage: str, generated: Mapping[str, GeneratedScore]) -> Iterator[tuple[str, float]]:
    for task, score in generated.items():
        for name, value in score.figures().items():
            yield f"generated_{name}/{stage}/{task}", value
