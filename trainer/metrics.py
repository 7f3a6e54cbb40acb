"""Adds up what the steps report, one step late so that the device never waits, and watches for divergence."""

import math
import time
from typing import Any

import jax
import numpy as np

from trainer.losses import TaskSums
from trainer.step import StepMetrics


class Diverged(Exception):  # noqa: N818 (what happened, not a kind of error to handle by class)
    """The loss or the gradient of a step is not finite."""

    def __init__(self, step: int, what: str, value: float) -> None:
        super().__init__(f"{what} {value} at step {step}")
        self.step, self.what, self.value = step, what, value


class Window:
    """The steps since the last line of metrics.jsonl."""

    def __init__(self, tasks: list[str]) -> None:
        self._tasks = tasks
        self._waiting: tuple[int, StepMetrics] | None = None
        self._clear()

    def add(self, step: int, metrics: StepMetrics) -> None:
        """Takes what a step (counted from 1) reports; may still be running on the device.

        Raises:
            Diverged: the step before had a loss or gradient that is not finite.
        """
        self._collect()
        self._waiting = (step, metrics)

    def flush(self, wait_seconds: float) -> dict[str, Any]:
        """Returns the line of all steps so far and begins the next; `wait_seconds` were spent waiting for batches.

        Raises:
            Diverged: the last step had a loss or gradient that is not finite.
        """
        self._collect()
        assert self._steps, "flush without a step"
        seconds = max(time.monotonic() - self._began, 1e-9)
        loss, _, tokens = self._sums.sum(axis=1).tolist()
        line = {
            "steps": self._steps,
            "loss": loss / tokens,
            "learning_rate": self._rate,
            "gradient_norm": self._norm,
            "tokens_per_second": tokens / seconds,
            "input_wait": wait_seconds / seconds,
            "per_task": {name: self._task(i) for i, name in enumerate(self._tasks) if self._sums[2, i]},
        }
        self._clear()
        return line

    def restart_clock(self) -> None:
        """Leaves the time since the last line out of the rate: something else than training took it."""
        self._began = time.monotonic()

    @property
    def steps(self) -> int:
        """Steps taken in since the last line."""
        return self._steps + (self._waiting is not None)

    @property
    def loss(self) -> float:
        """The last loss known, in nats per token."""
        return self._loss

    _loss = math.nan

    def _task(self, i: int) -> dict[str, float]:
        loss, correct, tokens = self._sums[:, i].tolist()
        return {"loss": loss / tokens, "accuracy": correct / tokens}

    def _clear(self) -> None:
        self._steps = 0
        self._sums = np.zeros((len(TaskSums._fields), len(self._tasks)))
        self._rate = self._norm = 0.0
        self._began = time.monotonic()

    def _collect(self) -> None:
        if self._waiting is None:
            return
        step, metrics = self._waiting
        self._waiting = None
        host = jax.device_get(metrics)
        self._loss, self._norm, self._rate = float(host.loss), float(host.gradient_norm), float(host.learning_rate)
        for what, value in (("loss", self._loss), ("gradient norm", self._norm)):
            if not math.isfinite(value):
                raise Diverged(step, what, value)
        self._steps += 1
        self._sums = self._sums + np.stack(host.tasks).astype(np.float64)
