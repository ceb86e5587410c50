"""Whether a clip that was generated chunk by chunk shows where the chunks meet."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def border_transitions(transitions: int, chunk_frames: int) -> Tensor:
    """Which transitions, from frame i to i + 1, cross a chunk border, bool (transitions,), where a clip begins with a chunk.

    Raises ValueError unless there are transitions of both kinds.
    """
    border = torch.arange(1, transitions + 1) % max(chunk_frames, 1) == 0
    if chunk_frames < 2 or not bool(border.any()):
        raise ValueError(
            f"seams: clips of {transitions + 1} frames have no border and inside of chunks of {chunk_frames} frames to compare"
        )
    return border


def seam_ratio(counts: Tensor, chunk_frames: int) -> float:
    """Change at chunk borders over change inside chunks: 1 without a seam; NaN where nothing changes inside.

    counts: int64 (N, T - 1, 2), cells that changed and cells that count at each transition of N clips, as
    `models.metrics.change_counts` gives them, after carrying the former frame along under the ego's motion.
    """
    total = counts.sum(0)
    border = border_transitions(len(total), chunk_frames).to(total.device)
    at, inside = (float(total[rows, 0].sum() / total[rows, 1].sum()) for rows in (border, ~border))
    return at / inside if inside > 0 else math.nan
