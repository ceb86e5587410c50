"""Whether a clip that was generated chunk by chunk shows where the chunks meet."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def border_transitions(transitions: int, chunk_frames: int, first_frames: int | None = None) -> Tensor:
    """Which transitions, from frame i to i + 1, cross a chunk border, bool (transitions,).

    first_frames: frames before the first border, by default a chunk's; a clip without history begins with a whole window,
    which is longer where windows overlap. Raises ValueError unless there are transitions of both kinds.
    """
    frame = torch.arange(1, transitions + 1) - (chunk_frames if first_frames is None else first_frames)
    border = (frame >= 0) & (frame % max(chunk_frames, 1) == 0)
    if chunk_frames < 2 or not bool(border.any()):
        raise ValueError(
            f"seams: clips of {transitions + 1} frames have no border and inside of chunks of {chunk_frames} frames to compare"
        )
    return border


def seam_ratio(counts: Tensor, chunk_frames: int, first_frames: int | None = None) -> float:
    """Change at chunk borders over change inside chunks: 1 without a seam; NaN where nothing changes inside.

    counts: int64 (N, T - 1, 2), cells that changed and cells that count at each transition of N clips, as
    `models.metrics.change_counts` gives them, after carrying the former frame along under the ego's motion. first_frames and
    errors are those of `border_transitions`.
    """
    total = counts.sum(0)
    border = border_transitions(len(total), chunk_frames, first_frames).to(total.device)
    at, inside = (float(total[rows, 0].sum() / total[rows, 1].sum()) for rows in (border, ~border))
    return at / inside if inside > 0 else math.nan
