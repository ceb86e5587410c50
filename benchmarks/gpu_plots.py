"""Plots of a run: steps a second by number of worlds, and the time of a step by part."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_DOTS_PER_INCH = 120


def plot(parts: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write step.png and parts.png from the results of those parts; says of each what was written, or why not."""
    if importlib.util.find_spec("matplotlib") is None:
        return {"skipped": "needs matplotlib: python -m pip install matplotlib"}
    import matplotlib

    matplotlib.use("Agg")
    step = [row for row in parts.get("step", {}).get("rows", []) if "steps_per_s" in row]
    roofline = [row for row in parts.get("roofline", {}).get("rows", []) if "ms" in row]
    found = {}
    for name, rows, draw in (("step.png", step, _steps), ("parts.png", roofline, _parts)):
        if rows:
            draw(rows, folder / name)
        found[name] = "written" if rows else "skipped: nothing was measured for it"
    return found


def _steps(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    presets = sorted({row["preset"] for row in rows})
    figure = Figure(figsize=(5 * len(presets), 4), layout="constrained")
    for axes, preset in zip(figure.subplots(1, len(presets), squeeze=False)[0], presets, strict=True):
        for way in dict.fromkeys(row["way"] for row in rows):
            line = sorted((row["worlds"], row["steps_per_s"]) for row in rows if (row["preset"], row["way"]) == (preset, way))
            if line:
                axes.plot(*zip(*line, strict=True), marker="o", label=way)
        axes.set(xscale="log", yscale="log", xlabel="worlds", ylabel="environment steps/s, all worlds", title=preset)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _parts(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    names = [row["part"] for row in rows][::-1]
    figure = Figure(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [row["ms"] for row in rows][::-1], label="measured")
    floors = [row.get("floor_ms", 0.0) for row in rows][::-1]
    if any(floors):
        axes.barh(names, floors, height=0.4, label="floor by measured ceilings")
    axes.set(xlabel=f"milliseconds of a step, {rows[0]['preset']}, {rows[0]['worlds']} worlds")
    axes.legend()
    figure.savefig(path, dpi=_DOTS_PER_INCH)
