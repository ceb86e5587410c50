"""What a window imagines as unchanged stays as it was shown, so that windows meet without a seam.

A window that is decoded anew never looks quite like the one before: whatever codes or planes lose, they lose a little
differently, and where two windows meet, the whole street seems to flicker once. But such a window begins with frames that were
shown before, and so it says itself what it means to change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.warp import UNKNOWN, warp_chunk
from scenes.grid import Grid, is_agent
from scenes.label_sets import to_occ3d


def keep_unchanged(decoded: Tensor, last: Tensor, shown: Tensor, motion: Tensor, grid: Grid) -> Tensor:
    """New frames in which a cell that the window does not change holds what was shown there.

    decoded: new frames of the window, uint8 (B, F, X, Y, Z). last: the frame before them as the window decodes it, (B, X, Y,
    Z); shown: the same frame as it was shown. motion: (B, F, 3) from that frame on. A cell is unchanged where a new frame holds
    what `last`, carried along rigidly, holds there. Agents, which move of themselves, are always those of the new frames.
    """
    before, said = (warp_chunk(frame, motion, grid) for frame in (shown, last))
    agents = is_agent(to_occ3d(decoded, grid)) | is_agent(to_occ3d(before, grid))
    return torch.where((decoded == said) & (before != UNKNOWN) & ~agents, before, decoded)
