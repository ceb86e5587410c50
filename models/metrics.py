"""Exact figures about voxels: confusion matrices and the IoUs made from them, codebook use, class drift and flicker.

A confusion matrix is int64 (C, C): entry (t, p) counts the cells whose true class is t and whose predicted class is p.
Matrices of several batches are added, and an IoU is taken from the sum, never averaged over batches. Free space is the last
class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.warp import UNKNOWN, warp
from scenes.grid import Grid, is_agent
from scenes.label_sets import to_occ3d


def confusion(truth: Tensor, prediction: Tensor, num_classes: int, mask: Tensor | None = None) -> Tensor:
    """Confusion matrix int64 (C, C) of class ids uint8, any one shape; `mask`, bool of that shape, selects cells.

    Raises ValueError where shapes differ or an id is not below `num_classes`.
    """
    if truth.shape != prediction.shape or (mask is not None and mask.shape != truth.shape):
        found = [tuple(tensor.shape) for tensor in (truth, prediction, mask) if tensor is not None]
        raise ValueError(f"confusion: expected truth, prediction and mask of one shape, found {found}")
    if mask is not None:
        truth, prediction = truth[mask], prediction[mask]
    if truth.numel() and max(int(truth.max()), int(prediction.max())) >= num_classes:
        raise ValueError(f"confusion: expected class ids below {num_classes}")
    pair = truth.to(torch.int32) * num_classes + prediction
    return torch.bincount(pair.reshape(-1), minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(matrix: Tensor) -> Tensor:
    """IoU of each class, TP / (TP + FP + FN), float64 (C,); NaN for a class that the truth does not hold."""
    hit = matrix.diagonal().to(torch.float64)
    truth, predicted = matrix.sum(1), matrix.sum(0)
    return torch.where(truth > 0, hit / (truth + predicted - hit), torch.nan)


def miou(matrix: Tensor, classes: tuple[int, ...] | None = None) -> float:
    """Mean IoU, 0 to 1, over the classes that the truth holds, free space left out; NaN where it holds none.

    `classes` restricts the mean to those ids. A class that is predicted but never true has no IoU of its own: its cells count
    as missed in the classes they should have had, so that methods are compared over the same classes.
    """
    iou = class_iou(matrix)[:-1]
    iou = iou if classes is None else iou[list(classes)]
    return float(iou.nanmean())


def miou_papers(matrix: Tensor) -> float:
    """Mean IoU, 0 to 1, as OccWorld and its successors print it: all classes but free, an absent class counts as 1."""
    return float(class_iou(matrix)[:-1].nan_to_num(nan=1.0).mean())


def iou_occupied(matrix: Tensor) -> float:
    """IoU, 0 to 1, of occupied against free, whatever the class; NaN where nothing is occupied in the truth."""
    both, either = matrix[:-1, :-1].sum(), matrix.sum() - matrix[-1, -1]
    return float(both / either) if int(matrix[:-1].sum()) else float("nan")


def accuracy(matrix: Tensor) -> float:
    """Share, 0 to 1, of the counted cells that have the true class, free cells included; NaN where no cell counts."""
    return float(matrix.diagonal().sum() / matrix.sum()) if int(matrix.sum()) else float("nan")


def codebook_use(codes: Tensor, num_codes: int) -> tuple[float, float]:
    """Share of the codes that occur and perplexity, both means over the G codebooks of codes, integers (..., G).

    Perplexity is exp of the entropy of the code histogram, 1 to `num_codes`. Raises ValueError for ids outside [0, num_codes).
    """
    flat = codes.reshape(-1, codes.shape[-1]).long()
    if not flat.numel() or int(flat.min()) < 0 or int(flat.max()) >= num_codes:
        raise ValueError(f"codebook_use: expected code ids in [0, {num_codes}), at least one")
    counts = torch.stack([torch.bincount(group, minlength=num_codes) for group in flat.T]).to(torch.float64)
    share = counts / counts.sum(1, keepdim=True)
    perplexity = torch.special.entr(share).sum(1).exp()
    return float((counts > 0).to(torch.float64).mean()), float(perplexity.mean())


def class_histogram(occupancy: Tensor, num_classes: int) -> Tensor:
    """Number of cells of each class, int64 (C,), in occupancy uint8 of any shape."""
    return torch.bincount(occupancy.reshape(-1), minlength=num_classes)


def histogram_distance(a: Tensor, b: Tensor) -> float:
    """Total variation distance, 0 to 1, between two class histograms (C,), free space left out; 1 if one is empty."""
    return share_distance(a[:-1], b[:-1])


def share_distance(a: Tensor, b: Tensor) -> float:
    """Total variation distance, 0 to 1, between two histograms (bins,) of counts, each taken as shares; 1 if one is empty."""
    if bool(a.any()) != bool(b.any()):
        return 1.0
    share = [counts.to(torch.float64) / counts.sum().clamp(min=1) for counts in (a, b)]
    return float((share[0] - share[1]).abs().sum() / 2)


def flicker_counts(frames: Tensor, motion: Tensor, grid: Grid, chunk_frames: int) -> Tensor:
    """Static cells that change from frame to frame after carrying along the ego's motion: int64 (2, 2).

    frames: uint8 (B, N + 1, X, Y, Z), the first of them the frame before a chunk border. motion: (B, N, 3) into frames 1 to N.
    Rows of the result: transitions within a chunk, transitions across a chunk border. Columns as in `change_counts`.
    """
    counts = change_counts(frames, motion, grid).sum(0)
    border = torch.arange(len(counts), device=frames.device) % chunk_frames == 0
    return torch.stack([counts[rows].sum(0) for rows in (~border, border)])


def change_counts(frames: Tensor, motion: Tensor, grid: Grid, *, agents: bool = False) -> Tensor:
    """Cells that change with each transition after carrying along the ego's motion, and cells that count: int64 (B, N, 2).

    frames: uint8 (B, N + 1, X, Y, Z). motion: (B, N, 3) into frames 1 to N. A cell counts if the frame before saw it, not both
    frames are free there, and neither has an agent, unless `agents` asks for those cells too.
    """
    batch, count = motion.shape[:2]
    if frames.shape[:2] != (batch, count + 1):
        raise ValueError(f"change_counts: {count} motions need {count + 1} frames, found {tuple(frames.shape[:2])}")
    before = warp(frames[:, :-1].reshape(-1, *grid.shape), motion.reshape(-1, 3), grid).reshape(batch, count, -1)
    after = frames[:, 1:].reshape(batch, count, -1)
    counts = (before != UNKNOWN) & ((before != grid.free) | (after != grid.free))
    if not agents:
        counts &= ~(is_agent(to_occ3d(before, grid)) | is_agent(to_occ3d(after, grid)))
    changed = counts & (before != after)
    return torch.stack((changed.sum(-1), counts.sum(-1)), dim=-1)
