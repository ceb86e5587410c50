"""The learning curve of a training: as a table and a line of bars in the terminal, and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Episode:
    """An episode of the training: environment steps in all worlds when it ended, its return, its length in steps."""

    step: int
    total: float
    length: int


@dataclass(frozen=True)
class Stretch:
    """A part of the training: step of its last episode, mean return, mean length and number of its episodes."""

    step: int
    total: float
    length: float
    count: int


def curve(episodes: Sequence[Episode], bins: int) -> list[Stretch]:
    """Means over the episodes that ended in each of `bins` equal stretches of the training, those without any left out."""
    end = max((episode.step for episode in episodes), default=0)
    stretches = []
    for index in range(bins):
        here = [item for item in episodes if min(item.step * bins // (end + 1), bins - 1) == index]
        if here:
            total, length = fmean(item.total for item in here), fmean(item.length for item in here)
            stretches.append(Stretch(here[-1].step, total, length, len(here)))
    return stretches


def sparkline(values: list[float]) -> str:
    """Values as a line of bars, the lowest one short and the highest one tall."""
    low, high = min(values), max(values)
    return "".join(_BARS[round((value - low) / max(high - low, 1e-9) * (len(_BARS) - 1))] for value in values)


def show(episodes: Sequence[Episode], title: str, console: Console) -> None:
    """Print the learning curve."""
    rows = curve(episodes, 8)
    if not rows:
        console.print(f"{title}: no episode ended, so there is no learning curve yet")
        return
    table = Table(title=title, title_justify="left")
    for name in ("steps", "mean return", "mean length", "episodes"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(f"{row.step}", f"{row.total:+.2f}", f"{row.length:.1f}", f"{row.count}")
    console.print(table)
    fine = curve(episodes, 40)
    console.print(f"return {fine[0].total:+.1f} {sparkline([row.total for row in fine])} {fine[-1].total:+.1f}")


def plot(episodes: Sequence[Episode], title: str, path: Path) -> Path:
    """Write the learning curve as a picture: every episode's return and the mean over stretches of the training."""
    from matplotlib.figure import Figure

    partial = path.with_name(f".{path.stem}.partial.png")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    if episodes:
        axes.plot([item.step for item in episodes], [item.total for item in episodes], ".", alpha=0.35, label="episode")
        rows = curve(episodes, 20)
        axes.plot([row.step for row in rows], [row.total for row in rows], linewidth=2, label="mean")
        axes.legend()
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return of an episode")
    axes.set_title(title)
    figure.savefig(partial, dpi=120)
    os.replace(partial, path)
    return path
