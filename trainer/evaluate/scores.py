"""What is known of one task's held-out sentences: loss, accuracy and perplexity, as a whole and by position."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

Losses = Float[np.ndarray, "n context"]
Hits = Bool[np.ndarray, "n context"]


def perplexity(loss: float) -> float:
    """exp(loss); infinite where that overflows."""
    return math.inf if loss >= 700 else math.exp(loss)


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Means at each of several positions; NaN where nothing is known."""

    loss: tuple[float, ...]  # nats per token
    accuracy: tuple[float, ...]

    @property
    def perplexity(self) -> tuple[float, ...]:
        """exp(loss) at each position."""
        return tuple(perplexity(loss) for loss in self.loss)

    def to_json(self) -> dict[str, list[float | None]]:
        """Returns lists of numbers of four digits, so that the line of an evaluation stays short."""
        parts = {"loss": self.loss, "accuracy": self.accuracy, "perplexity": self.perplexity}
        return {name: [_short(value) for value in values] for name, values in parts.items()}


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """How well one task's held-out sentences are predicted."""

    sentences: int
    tokens: int
    loss: float  # nats per token
    accuracy: float  # how often the likeliest code was right
    roles: tuple[str, ...]  # of the images of a sentence, in order
    by_image: Positions  # in the sentence
    by_token: Positions  # within an image, row by row

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return perplexity(self.loss)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "sentences": self.sentences,
            "tokens": self.tokens,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "perplexity": self.perplexity,
            "by_image": {"role": list(self.roles), **self.by_image.to_json()},
            "by_token": self.by_token.to_json(),
        }


def _short(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")


def task_score(loss: Losses, correct: Hits, roles: Sequence[str], known: Bool[np.ndarray, " context"]) -> TaskScore:
    """Returns the means of one task over its sentences; `known` are the positions that count.

    A sentence has one image for each of `roles`.
    """
    sentences, context = loss.shape
    shape = (sentences, len(roles), context // len(roles))
    weight = np.broadcast_to(known.astype(np.float64), loss.shape)
    total = float(weight.sum())

    def means(values: np.ndarray, *axes: int) -> tuple[float, ...]:
        added, counted = ((x * weight).reshape(shape).sum(axis=axes) for x in (values, np.ones_like(weight)))
        with np.errstate(invalid="ignore"):  # of an image of one token that does not count, nothing is known
            return tuple((added / counted).tolist())

    weighed = np.where(known, loss.astype(np.float64), 0.0)
    return TaskScore(
        sentences=sentences,
        tokens=int(total),
        loss=float(weighed.sum() / total),
        accuracy=float((correct * weight).sum() / total),
        roles=tuple(roles),
        by_image=Positions(loss=means(weighed, 0, 2), accuracy=means(correct, 0, 2)),
        by_token=Positions(loss=means(weighed, 0, 1), accuracy=means(correct, 0, 1)),
    )
