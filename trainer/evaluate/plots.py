"""Pictures of losses by position: a curve over the images of a sentence, a map over the tokens of an image."""

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from trainer.evaluate.scores import TaskScore

COLUMNS = 4
_SIZE = 3.4  # inches of a panel


def by_position(scores: Mapping[str, TaskScore], title: str) -> Image.Image:
    """Draws loss by image in the sentence, a line for each task, and a map of loss by token for each task."""
    from matplotlib.figure import Figure  # not pyplot: it would keep figures and choose a window system

    panels = 1 + len(scores)
    columns = min(panels, COLUMNS)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(_SIZE * columns, _SIZE * rows), layout="constrained", dpi=100)
    figure.suptitle(f"{title}: held-out loss, nats per token")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    _by_image(axes[0], scores)
    lowest, highest = _range(scores)
    shown: Any = None
    for axis, (task, score) in zip(axes[1:], scores.items(), strict=False):
        shown = axis.imshow(_map(score), vmin=lowest, vmax=highest, cmap="viridis")
        axis.set(title=f"{task}, by token of an image", xticks=[], yticks=[])
    for axis in axes[panels:]:
        axis.set_axis_off()
    figure.colorbar(shown, ax=axes.tolist(), shrink=0.8)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return Image.open(data)


def _by_image(axis: Any, scores: Mapping[str, TaskScore]) -> None:
    for task, score in scores.items():
        axis.plot(range(1, len(score.roles) + 1), score.by_image.loss, marker="o", markersize=3, label=task)
    axis.set(title="by image of a sentence", xlabel="image")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _range(scores: Mapping[str, TaskScore]) -> tuple[float, float]:
    losses = np.concatenate([score.by_token.loss for score in scores.values()])
    return float(np.nanmin(losses)), float(np.nanmax(losses))


def _map(score: TaskScore) -> np.ndarray:
    """Returns the losses as the grid that the codes of an image are, or as one row where they make no square."""
    losses = np.array(score.by_token.loss)
    side = math.isqrt(len(losses))
    return losses.reshape(side, side) if side**2 == len(losses) else losses[None]
