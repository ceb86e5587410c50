"""Connected components of maps of classes: which cells of one class hang together, all worlds at once."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import on_triton

MAX_CELLS = 2**31 - 1
_FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))  # steps to the neighbours that come later, from the first to the last of them


def connected_components(classes: Tensor) -> Tensor:
    """Label of the component of each cell, int64 (N, X, Y): 1 + the largest flat index i * Y + j in it, or 0 in empty cells.

    classes: int8, int16, int32 or int64 (N, X, Y), negative where a cell is empty. Cells of a map belong together that have one
    class and touch by a side or a corner, or are joined by a chain of such cells. Raises ValueError where classes are not so.
    """
    signed = classes.dtype in (torch.int8, torch.int16, torch.int32, torch.int64)
    if classes.ndim != 3 or not signed or classes.numel() > MAX_CELLS:
        found = f"{classes.dtype} {tuple(classes.shape)}"
        raise ValueError(
            f"connected_components: classes must be signed integers (N, X, Y), up to 2^31 - 1 cells, found {found}"
        )
    if on_triton(classes):
        from kernels.components_triton import connected_components_triton

        return connected_components_triton(classes)
    return connected_components_torch(classes)


def connected_components_torch(classes: Tensor) -> Tensor:
    """The definition of `connected_components` in plain torch: trees of cells that grow together, for maps of any size.

    Every cell points to its last neighbour and so to the root of a tree, its largest cell. In a round each root hooks onto the
    largest root that its tree touches, and the trees are flattened again (Shiloach and Vishkin, 1982, with maxima). The number
    of rounds is fixed by the size of the map, so that nothing is asked of the GPU: two rounds at least halve the trees of an
    unfinished component. For a tree that hooks in neither of them was hooked onto by a neighbour in the first: had each
    neighbour found a larger root, the tree would touch that in the second, and hook onto it.
    """
    count, rows, columns = classes.shape
    pairs = [(_cut(step), _cut((-step[0], -step[1]))) for step in _FORWARD]
    joined = [(classes[later] == classes[earlier]) & (classes[earlier] >= 0) for later, earlier in pairs]
    index = torch.arange(rows * columns, device=classes.device).view(rows, columns)
    root = index.repeat(count, 1, 1)
    for (later, earlier), same in zip(pairs, joined, strict=True):
        root[earlier] = torch.where(same, index.expand_as(root)[later], root[earlier])
    flat = _flatten(root.flatten(1), (rows * columns).bit_length())
    # Of a square of 2 x 2 cells a component has at most one without a later neighbour: so many roots it has at most.
    most = ((rows + 1) // 2) * ((columns + 1) // 2)
    # Two rounds a level: fewer than 2^level roots before, so trees less than 2^level deep, and half as many roots after.
    for level in (level for level in range(most.bit_length(), 1, -1) for _ in range(2)):
        before, flat = flat, _flatten(_hook(flat, joined, pairs, classes.shape), level)
        if _settled(before, flat):
            break
    return (flat.view(classes.shape) + 1) * (classes >= 0)


def _cut(step: tuple[int, int]) -> tuple[slice, ...]:
    """The part of a map (N, X, Y) that lies one step further than the part for the opposite step."""
    return (slice(None), *(slice(max(s, 0), min(s, 0) or None) for s in step))


def _hook(root: Tensor, joined: list[Tensor], pairs: list, shape: torch.Size) -> Tensor:
    """Roots (N, X * Y) after each of them has hooked onto the largest root that cells of its tree touch."""
    here = root.view(shape)
    best = here.clone()
    for (later, earlier), same in zip(pairs, joined, strict=True):
        largest = torch.maximum(here[later], here[earlier]) * same
        for side in (later, earlier):
            torch.maximum(best[side], largest, out=best[side])
    return root.scatter_reduce(1, root, best.view_as(root), "amax")


def _flatten(root: Tensor, jumps: int) -> Tensor:
    """Trees (N, X * Y) less than 2^jumps deep, every cell pointing to its root."""
    for _ in range(jumps):
        before, root = root, root.gather(1, root)
        if _settled(before, root):
            break
    return root


def _settled(before: Tensor, after: Tensor) -> bool:
    """Whether nothing changed, which is asked of the CPU only: a GPU would have to be waited for."""
    return after.device.type == "cpu" and torch.equal(before, after)
