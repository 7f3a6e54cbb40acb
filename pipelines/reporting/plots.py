"""The drawings of a report, as SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from pipelines.worklog import ShardLog
from visent.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREEN, ORANGE = "#4c78a8", "#54a24b", "#e4883a"
BINS = 100  # of time
IDLE = 60.0  # seconds without work that are left out of the plot over time


def _figure(height: float) -> "Figure":
    """Raises: `UserError` when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("a report needs matplotlib: install visent[train] or visent[demo]") from error
    return Figure(figsize=(7, height), layout="constrained")


def _svg(figure: "Figure") -> str:
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "visent"}):  # text as text; the same each time
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :]


def _plain(panel: Any, **labels: str) -> None:
    panel.set(**labels)
    panel.spines[["top", "right"]].set_visible(False)


def codebook(counts: Mapping[str, Int64[np.ndarray, "codes"]]) -> str:
    """Draws how often each code occurs, from the most frequent to the rarest, a line for each role."""
    figure = _figure(3.2)
    panel = figure.subplots()
    for role, count in counts.items():
        share = np.sort(count)[::-1] / max(count.sum(), 1)
        used = share[share > 0]
        panel.plot(np.arange(1, len(used) + 1), 100 * used, label=role)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.legend(frameon=False)
    _plain(panel, xlabel="code, by rank", ylabel="% of all codes")
    return _svg(figure)


def histogram(values: Sequence[float], unit: str) -> str:
    """Draws how many shards have which size."""
    figure = _figure(2.6)
    panel = figure.subplots()
    panel.hist(values, bins=min(40, max(len(values) // 2, 8)), color=BLUE)
    _plain(panel, xlabel=unit, ylabel="shards")
    return _svg(figure)


def bars(values: Mapping[str, float], unit: str, colour: str = ORANGE) -> str:
    """Draws a bar for each name, the first on top."""
    figure = _figure(0.9 + 0.3 * len(values))
    panel = figure.subplots()
    panel.barh(list(values), list(values.values()), color=colour)
    panel.invert_yaxis()
    _plain(panel, xlabel=unit)
    return _svg(figure)


def over_time(logs: Sequence[ShardLog]) -> str:
    """Draws pictures a second over the time of work; breaks between runs are left out."""
    began, rate, width = rates(logs)
    figure = _figure(2.8)
    panel = figure.subplots()
    unit, name = (3600, "hours") if began[-1] > 7200 else (60, "minutes") if began[-1] > 180 else (1, "seconds")
    panel.bar(began / unit, rate, width / unit, align="edge", color=GREEN)
    _plain(panel, xlabel=f"{name} of work", ylabel="images/s")
    return _svg(figure)


def rates(logs: Sequence[ShardLog]) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns the start of each bin of working time, pictures a second in it, and the width of a bin, in seconds.

    A shard's pictures are spread evenly over the time it took.
    """
    done = sorted((log for log in logs if log.wall > 0), key=lambda log: log.started)
    spans, skipped, until = [], 0.0, done[0].started
    for log in done:
        if log.started > until + IDLE:
            skipped += log.started - until
        until = max(until, log.ended or 0.0)
        spans.append((log.started - skipped - done[0].started, log.wall, log.pictures))
    width = max(start + wall for start, wall, _ in spans) / BINS
    edges = np.arange(BINS) * width
    rate = np.zeros(BINS)
    for start, wall, pictures in spans:
        inside = np.clip(np.minimum(edges + width, start + wall) - np.maximum(edges, start), 0, None)
        rate += inside * pictures / wall / width
    return edges, rate, width
