"""Adds up what the steps report, one step late so that the device never waits, and watches for divergence."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from trainer.step import StepMetrics


class Diverged(Exception):  # noqa: N818 (what happened, not a kind of error to handle by class)
    """The loss or the gradient of a step is not finite; `tasks` are those whose loss is not."""

    def __init__(self, step: int, what: str, value: float, tasks: list[str]) -> None:
        super().__init__(f"{what} {value} at step {step}")
        self.step, self.what, self.value, self.tasks = step, what, value, tasks


class Window:
    """The steps since the last line of metrics.jsonl."""

    def __init__(self, tasks: list[str]) -> None:
        self._tasks = tasks
        self._waiting: tuple[int, StepMetrics] | None = None
        self._loss = math.nan
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
        every = {name: float(values.sum()) for name, values in self._sums.items()}
        line = {
            "steps": self._steps,
            **_means(every),
            "learning_rate": self._rate,
            "gradient_norm": self._norm,
            "tokens_per_second": every["tokens"] / seconds,
            "input_wait": wait_seconds / seconds,
            "per_task": {name: self._task(i) for i, name in enumerate(self._tasks) if self._sums["tokens"][i]},
        }
        self._clear()
        return line

    def restart_clock(self) -> None:
        """Leaves the time since the last line out of the rate: something else than training took it."""
        self._began = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what happens in the block out of the rate; the steps before it are finished first.

        Raises:
            Diverged: the last step had a loss or gradient that is not finite.
        """
        self._collect()
        paused = time.monotonic()
        yield
        self._began += time.monotonic() - paused

    @property
    def loss(self) -> float:
        """The last loss known, in nats per token."""
        return self._loss

    def _task(self, i: int) -> dict[str, float]:
        return _means({name: values[i] for name, values in self._sums.items()})

    def _clear(self) -> None:
        self._steps = 0
        self._sums: dict[str, np.ndarray] = {}
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
                broken = [
                    task for task, loss in zip(self._tasks, host.tasks.loss, strict=True) if not np.isfinite(loss)
                ]
                raise Diverged(step, what, value, broken)
        self._steps += 1
        for name, values in host.tasks._asdict().items():
            if values is not None:  # a divergence is only there where there is a teacher
                self._sums[name] = self._sums.get(name, 0.0) + np.asarray(values, np.float64)


def _means(sums: dict[str, Any]) -> dict[str, float]:
    """Returns what each sum is for one token; that of hits is the accuracy."""
    tokens = float(sums["tokens"])
    names = {name: "accuracy" if name == "correct" else name for name in sums if name != "tokens"}
    return {shown: float(sums[name]) / tokens for name, shown in names.items()}
