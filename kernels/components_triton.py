"""`connected_components` as Triton kernels: a forest of cells that is joined by atomics (union-find).

Every cell points to a later one of its component or, a root, to itself. Pointers only ever grow, so an old value that a thread
still sees is an ancestor all the same, and what counts is decided by `atomic_max` alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


@triton.jit
def _place(cells, rows, columns, BLOCK: tl.constexpr):
    """Of this program's cells the flat number over all maps, row, column, and whether they exist."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return cell, cell // columns % rows, cell % columns, cell < cells


@triton.jit
def _neighbours(classes, cell, row, column, real, rows, columns):
    """Which of the neighbours below left, below, below right and to the right are of the same class."""
    own = tl.load(classes + cell, mask=real, other=-1)
    full = own >= 0
    under, left, right = full & (row + 1 < rows), column > 0, column + 1 < columns
    below = cell + columns
    below_left = under & left & (tl.load(classes + below - 1, mask=under & left, other=-1) == own)
    straight = under & (tl.load(classes + below, mask=under, other=-1) == own)
    below_right = under & right & (tl.load(classes + below + 1, mask=under & right, other=-1) == own)
    beside = full & right & (tl.load(classes + cell + 1, mask=full & right, other=-1) == own)
    return below_left, straight, below_right, beside


@triton.jit
def link_kernel(classes, parents, cells, rows, columns, BLOCK: tl.constexpr):
    """parents int32 (N, X, Y): each cell's neighbour below, or another later one, or itself; classes (N, X, Y)."""
    cell, row, column, real = _place(cells, rows, columns, BLOCK)
    below_left, straight, below_right, beside = _neighbours(classes, cell, row, column, real, rows, columns)
    parent = tl.where(beside, cell + 1, cell)
    parent = tl.where(below_right, cell + columns + 1, parent)
    parent = tl.where(below_left, cell + columns - 1, parent)
    tl.store(parents + cell, tl.where(straight, cell + columns, parent), mask=real)


@triton.jit
def _root(parents, cell, active):
    """The root above each active cell, or a cell that was one a moment ago."""
    climbing = active
    while tl.max(climbing.to(tl.int32), axis=0) > 0:
        parent = tl.load(parents + cell, mask=climbing, other=0, volatile=True)
        climbing = climbing & (parent != cell)
        cell = tl.where(climbing, parent, cell)
    return cell


@triton.jit
def join_kernel(classes, parents, cells, rows, columns, BLOCK: tl.constexpr):
    """Join the trees of `link_kernel` that touch.

    A cell with a neighbour below hangs together with its other neighbours through that one. Without it, the pointer went
    below left, and what is left to join is the neighbour to the right or, where there is none, below right.
    """
    cell, row, column, real = _place(cells, rows, columns, BLOCK)
    below_left, straight, below_right, beside = _neighbours(classes, cell, row, column, real, rows, columns)
    active = below_left & (beside | below_right) & ~straight
    one, other = cell, tl.where(beside, cell + 1, cell + columns + 1)
    while tl.max(active.to(tl.int32), axis=0) > 0:
        one, other = _root(parents, one, active), _root(parents, other, active)
        active = active & (one != other)
        low, high = tl.minimum(one, other), tl.maximum(one, other)
        held = tl.atomic_max(parents + low, high, mask=active, sem="relaxed")
        # Where low was no root any more, the tree it hangs in meanwhile has to be joined with the other one.
        active = active & (held != low) & (held != high)
        one, other = tl.where(active, held, one), tl.where(active, high, other)


@triton.jit
def label_kernel(classes, parents, labels, cells, rows, columns, BLOCK: tl.constexpr):
    """labels int64 (N, X, Y): 1 + the root's number within its map, 0 where the class is negative."""
    cell, _, _, real = _place(cells, rows, columns, BLOCK)
    full = tl.load(classes + cell, mask=real, other=-1) >= 0
    root = _root(parents, cell, full)
    tl.store(labels + cell, tl.where(full, root % (rows * columns) + 1, 0).to(tl.int64), mask=real)


def connected_components_triton(classes: Tensor) -> Tensor:
    """Launch the kernels; see `kernels.components.connected_components` for the argument."""
    labels = torch.empty(classes.shape, dtype=torch.int64, device=classes.device)
    if not classes.numel():
        return labels
    classes, parents = classes.contiguous(), torch.empty(classes.shape, dtype=torch.int32, device=classes.device)
    sizes, grid = (classes.numel(), *classes.shape[1:]), (triton.cdiv(classes.numel(), BLOCK),)
    link_kernel[grid](classes, parents, *sizes, BLOCK=BLOCK, num_warps=4)
    join_kernel[grid](classes, parents, *sizes, BLOCK=BLOCK, num_warps=4)
    label_kernel[grid](classes, parents, labels, *sizes, BLOCK=BLOCK, num_warps=4)
    return labels
