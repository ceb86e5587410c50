"""Which cells a prediction is judged on, and the sums of what was found there."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models import metrics
from models.warp import UNKNOWN
from scenes.grid import AGENTS, Grid, is_agent
from scenes.motion import accumulate, relative, transform


def seen_columns(history: Tensor, motion: Tensor, grid: Grid) -> Tensor:
    """Columns of future frames that some history frame saw, bool (B, F, X, Y).

    history: motion (B, T, 3) of the history frames; motion: (B, F, 3) of the frames that follow. A column is seen if its centre
    lies on the grid of one of the T frames.
    """
    (batch, frames), past = motion.shape[:2], history.shape[1]
    line = accumulate(torch.cat((history, motion), dim=1))
    pose = relative(line[:, :past, None].expand(-1, -1, frames, -1), line[:, None, past:].expand(-1, past, -1, -1))
    low = pose.new_tensor(grid.origin[:2])
    high = low + pose.new_tensor(grid.shape[:2]) * grid.voxel
    centres = grid.column_centres(pose.device).reshape(-1, 2)
    seen = torch.zeros(batch, frames, len(centres), dtype=torch.bool, device=pose.device)
    for frame in range(past):
        xy = transform(pose[:, frame], centres)
        seen |= ((xy >= low) & (xy < high)).all(-1)
    return seen.reshape(batch, frames, *grid.shape[:2])


def moved_cells(frames: Tensor, carried: Tensor) -> Tensor:
    """Cells that changed because agents moved, bool (N, X, Y, Z).

    frames: uint8 (N, X, Y, Z); carried: the last known frame, warped to each of them, UNKNOWN where it saw nothing. A cell that
    an agent took or left counts if the other frame has no agent of that class in the same or a neighbouring column (a voxel's
    rounding is no movement); cells next to such ones count too, where the two frames differ and either has an agent.
    """
    moved = _unexplained(frames, carried) | _unexplained(carried, frames)
    around = F.max_pool2d(moved.movedim(-1, 1).float(), 3, stride=1, padding=1).movedim(1, -1) > 0
    agent = is_agent(frames) | is_agent(carried)
    return around & agent & (frames != carried) & (carried != UNKNOWN)


def _unexplained(a: Tensor, b: Tensor) -> Tensor:
    near = torch.zeros_like(a, dtype=torch.bool)
    padded = F.pad(b, (0, 0, 1, 1, 1, 1), value=UNKNOWN)
    nx, ny = a.shape[1:3]
    for i in range(3):
        for j in range(3):
            near |= a == padded[:, i : i + nx, j : j + ny]
    return is_agent(a) & ~near & (b != UNKNOWN)


def subset_masks(truth: Tensor, predictions: list[Tensor], carried: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """Masks bool (N, X, Y, Z) by name of subset; truth, predictions, carried: uint8 (N, X, Y, Z); seen: bool (N, X, Y).

    `seen_static`, `new` and `agents` divide all cells: `new` are those that no history frame saw, `agents` those seen cells
    where the truth or one of the predictions changed because agents moved, the same for every method. `agents_truth` is the
    part of `agents` in which the truth changed.
    """
    known = seen.unsqueeze(-1).expand_as(truth)
    true = moved_cells(truth, carried) & known
    agents = true.clone()
    for prediction in predictions:
        agents |= moved_cells(prediction, carried) & known
    return {
        "all": torch.ones_like(known, memory_format=torch.contiguous_format),
        "seen_static": known & ~agents,
        "new": ~known,
        "agents": agents,
        "agents_truth": true,
    }


class Scores:
    """Confusion matrices by method and subset, added up over batches; the method that is measured is called "model"."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        size = grid.num_classes
        self._sums: dict[str, dict[str, Tensor]] = defaultdict(lambda: defaultdict(lambda: torch.zeros(size, size).long()))

    def add(self, truth: Tensor, predictions: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
        """Count predictions uint8 by method against the truth, all of one shape, on each subset's mask of that shape."""
        for method, prediction in predictions.items():
            for name, mask in masks.items():
                found = metrics.confusion(truth, prediction, self.grid.num_classes, None if name == "all" else mask)
                self._sums[name][method] += found.cpu()

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets counted so far."""
        return tuple(self._sums)

    def subset(self, name: str) -> dict[str, Any]:
        """Figures of a subset: `miou`, `accuracy` and `iou` of the model, and `miou_<method>` and so on of the others."""
        sums = self._sums[name]
        out: dict[str, Any] = {"cells": int(sums["model"].sum())} if "model" in sums else {}
        for figure, make in (("miou", metrics.miou), ("accuracy", metrics.accuracy), ("iou", metrics.iou_occupied)):
            for method, matrix in sums.items():
                out[key(figure, method)] = number(make(matrix))
        if name in ("all", "agents", "agents_truth"):
            for method, matrix in sums.items():
                out[key("miou_of_agents", method)] = number(metrics.miou(matrix, AGENTS))
        if name == "all":
            for method, matrix in sums.items():
                out[key("miou_papers", method)] = number(metrics.miou_papers(matrix))
        return out

    def per_class(self) -> dict[str, dict[str, float | None]]:
        """IoU of each class that the truth holds, by method, over all cells."""
        table = {method: metrics.class_iou(matrix) for method, matrix in self._sums["all"].items()}
        return {
            name: {key("iou", method): number(float(iou[index])) for method, iou in table.items()}
            for index, name in enumerate(self.grid.classes[:-1])
            if any(not math.isnan(float(iou[index])) for iou in table.values())
        }


def key(figure: str, method: str) -> str:
    """Name of a figure in the results: plain for the model itself, with the method behind it for all others."""
    return figure if method == "model" else f"{figure}_{method}"


def number(value: float | Tensor, digits: int = 5) -> float | None:
    """A float that JSON can hold: rounded, and None for NaN and infinity."""
    return round(float(value), digits) if math.isfinite(value) else None
