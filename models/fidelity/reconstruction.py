"""How well a tokenizer rebuilds clips, by class and frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from models import metrics
from models.evaluation_cells import number
from scenes.grid import Grid


class ReconstructionTally:
    """Confusion matrices of each frame index, added up over clips."""

    def __init__(self, grid: Grid, frames: int) -> None:
        self.grid, self.frames = grid, frames
        self.matrices = torch.zeros(frames, grid.num_classes, grid.num_classes, dtype=torch.int64)
        self.clips = 0

    def add(self, truth: Tensor, rebuilt: Tensor) -> None:
        """Count clips uint8 (B, T, X, Y, Z), both of one shape with the T of the tally."""
        if truth.shape[1] != self.frames:
            raise ValueError(f"reconstruction: expected clips of {self.frames} frames, found {truth.shape[1]}")
        for index in range(self.frames):
            found = metrics.confusion(truth[:, index], rebuilt[:, index].to(truth.device), self.grid.num_classes)
            self.matrices[index] += found.cpu()
        self.clips += len(truth)

    def report(self) -> dict[str, Any]:
        """Figures as JSON holds them; None where nothing was counted.

        miou, iou: from one matrix over all frames, the mean over the classes that occur. miou_papers, iou_papers: as OccWorld
        and OccSora print them, the mean over frame indices of the figure accumulated for each, an absent class counting as 1.
        per_class and per_class_papers likewise; by_frame has miou_papers of each index.
        """
        whole = self.matrices.sum(0)
        each = torch.stack([metrics.class_iou(matrix)[:-1] for matrix in self.matrices]).nan_to_num(nan=1.0)
        by_frame = [metrics.miou_papers(matrix) for matrix in self.matrices]
        occupied = torch.tensor([metrics.iou_occupied(matrix) for matrix in self.matrices])
        names = self.grid.classes[:-1]
        return {
            "clips": self.clips,
            "frames": self.frames,
            "miou": number(metrics.miou(whole)),
            "iou": number(metrics.iou_occupied(whole)),
            "miou_papers": number(sum(by_frame) / len(by_frame)),
            "iou_papers": number(float(occupied.nanmean())),
            "per_class": dict(zip(names, map(number, metrics.class_iou(whole)[:-1].tolist()), strict=True)),
            "per_class_papers": dict(zip(names, map(number, each.mean(0).tolist()), strict=True)),
            "by_frame": [number(value) for value in by_frame],
        }


def commonest_classes(clips: Iterable[Tensor], grid: Grid) -> Tensor:
    """The class that each cell has most often in clips uint8 (T, X, Y, Z): uint8 (X, Y, Z), the lowest id where several lead.

    Shown for every frame it is the reconstruction of who keeps nothing of a clip: the baseline 'class frequency'.
    """
    counts = torch.zeros(grid.num_classes, *grid.shape, dtype=torch.int32)
    for occupancy in clips:
        for index in range(grid.num_classes):
            counts[index] += (occupancy == index).sum(0, dtype=torch.int32).cpu()
    return counts.argmax(0).to(torch.uint8)
