"""Standing things thinner than a voxel, widened to one: else they would slip between the voxels' middles and come and go."""

from __future__ import annotations

from functools import reduce
from itertools import product
from operator import and_, or_

import torch
from torch import Tensor

from scenes.grid import FREE


def widen(standing: Tensor, width: int) -> Tensor:
    """How thin things in layers of standing things, class ids (L, H, W), become `width` cells wide, towards higher indices.

    Thin is what no full square of that many cells covers. Returns codes, uint8 (L, H, W): cell (i, j) shows what stands in cell
    (i - code // width, j - code % width). The code is 0 but for free cells beside something thin.
    """
    solid = standing != FREE
    offsets = list(product(range(width), repeat=2))
    full = reduce(and_, (_moved(solid, -i, -j) for i, j in offsets))
    thin = solid & ~reduce(or_, (_moved(full, i, j) for i, j in offsets))
    code = torch.zeros_like(standing)
    for i, j in reversed(offsets[1:]):  # the nearest cell is the last to be written
        code = torch.where(_moved(thin, i, j) & ~solid, i * width + j, code)
    return code


def _moved(raster: Tensor, i: int, j: int) -> Tensor:
    """Raster bool (L, H, W) moved by some cells along both axes, false where nothing comes in."""
    _, height, width = raster.shape
    moved = torch.zeros_like(raster)
    to = slice(max(i, 0), height + min(i, 0)), slice(max(j, 0), width + min(j, 0))
    start = slice(max(-i, 0), height + min(-i, 0)), slice(max(-j, 0), width + min(-j, 0))
    moved[:, *to] = raster[:, *start]
    return moved
