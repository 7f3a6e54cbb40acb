"""Line plots as SVG, for pages that need no other file."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; a dashed one is what others are compared with."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def lines(
    curves: Sequence[Line], *, x: str, y: str, logarithmic: bool = False, ticks: Sequence[tuple[float, str]] = ()
) -> str:
    """Draws curves over a common axis; `ticks` are places of x with their names. Same curves, same SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # not pyplot: it would keep figures and choose a window system

    with mpl.rc_context({"svg.hashsalt": "visent", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.5, 3.4), layout="constrained")
        axis = figure.subplots()
        for curve in curves:
            axis.plot(curve.x, curve.y, "--" if curve.dashed else "-", marker="" if curve.dashed else "o",
                      color="gray" if curve.dashed else None, markersize=4, label=curve.label)  # fmt: skip
        if logarithmic:
            axis.set_xscale("log")
        if ticks:
            axis.set_xticks([place for place, _ in ticks], [name for _, name in ticks])
            axis.minorticks_off()
        axis.set(xlabel=x, ylabel=y)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
        data = io.BytesIO()
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    drawn = data.getvalue().decode()
    return re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
