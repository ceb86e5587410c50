"""The report's figures, as SVG text that stands in a page by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from agents.evaluation.results import Results

COLOURS = ("#2563eb", "#d97706", "#0f9d76")
_INK, _QUIET, _LINE = "#1f2733", "#6b7686", "#e3e7ed"
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "occsora",  # the same report twice is the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _QUIET,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "xtick.color": _QUIET,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def ranking_figure(results: Results) -> str:
    """Mean score of each planner with its interval, a panel a world, in the order of the last world."""
    order = results.ranking(results.worlds[-1])[::-1]
    with _style() as pyplot:
        size = (9.4, 0.9 + 0.36 * len(order))
        figure, axes = pyplot.subplots(1, len(results.worlds), figsize=size, sharey=True, sharex=True, squeeze=False)
        for axis, world, colour in zip(axes[0], results.worlds, COLOURS, strict=False):
            found = [results.mean(world, planner, "score") for planner in order]
            for place, item in enumerate(found):
                axis.plot([item.low, item.high], [place, place], color=colour, lw=5, alpha=0.28, solid_capstyle="round")
                axis.plot(item.value, place, "o", color=colour, ms=7)
                axis.annotate(f"{item.value:.2f}", (item.value, place), (0, 7), textcoords="offset points", ha="center", size=8)
            axis.set_title(world, color=colour, loc="left", weight="bold")
            axis.set_yticks(range(len(order)), order)
            axis.set_ylim(-0.6, len(order) - 0.3)
            axis.set_xlabel("score")
        axes[0][0].set_xlim(-0.03, 1.03)
        return _svg(figure, pyplot)


def scatter_figure(results: Results, dream: str, reference: str) -> str:
    """Mean score of each planner in two worlds, with both intervals."""
    with _style() as pyplot:
        figure, axis = pyplot.subplots(figsize=(5.2, 4.9))
        axis.plot([0, 1], [0, 1], color=_QUIET, lw=1, ls=(0, (4, 4)), zorder=0)
        top = 0.05
        for place, planner in enumerate(results.ranking(reference)):
            x, y = (results.mean(world, planner, "score") for world in (reference, dream))
            axis.plot([x.low, x.high], [y.value, y.value], color=COLOURS[0], lw=3, alpha=0.22, solid_capstyle="round")
            axis.plot([x.value, x.value], [y.low, y.high], color=COLOURS[0], lw=3, alpha=0.22, solid_capstyle="round")
            axis.plot(x.value, y.value, "o", color=COLOURS[0], ms=7)
            beside = (8, 6 if place % 2 else -13)  # neighbours are often near each other
            axis.annotate(planner, (x.value, y.value), beside, textcoords="offset points", size=9)
            top = max(top, x.high, y.high)
        axis.set_xlim(-0.03, min(1.1 * top + 0.04, 1.05))
        axis.set_ylim(axis.get_xlim())
        axis.set_xlabel(f"score in {reference}")
        axis.set_ylabel(f"score in {dream}")
        axis.set_aspect("equal")
        return _svg(figure, pyplot)


@contextmanager
def _style() -> Iterator[Any]:
    """Matplotlib's pyplot, in the report's style inside the block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_SETTINGS):
        yield pyplot


def _svg(figure: Any, pyplot: Any) -> str:
    """The figure as an <svg> element without prologue."""
    buffer = io.StringIO()
    figure.tight_layout()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def shade(value: float, good: bool = True) -> str:
    """Background of a table's cell: the further from the good end of 0 to 1, the redder; none for what is not finite."""
    if not np.isfinite(value):
        return "transparent"
    bad = float(np.clip(1 - value if good else value, 0, 1))
    return f"rgba(220, 60, 50, {0.34 * bad:.3f})"
