"""Loss curves of a run, by stage and task."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visent.errors import UserError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a JSON-lines file.

    Raises:
        UserError: the file is not there: training has not run.
    """
    if not path.is_file():
        raise UserError(f"no {path.name} in {path.parent}: expected a finished run; run the demo again")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def loss_curves(metrics: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draws a panel for each stage with a line for each task, in nats per token, and returns `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    stages = list(dict.fromkeys(record["stage"] for record in metrics))
    figure, axes = plt.subplots(1, len(stages), figsize=(6 * len(stages), 4), squeeze=False, layout="constrained")
    for axis, stage in zip(axes[0], stages, strict=True):
        records = [record for record in metrics if record["stage"] == stage]
        for task in dict.fromkeys(name for record in records for name in record["per_task"]):
            points = [(r["step"], r["per_task"][task]["loss"]) for r in records if task in r["per_task"]]
            axis.plot(*zip(*points, strict=True), label=task)
        axis.set(title=f"stage {stage}", xlabel="step", ylabel="loss, nats per token")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
