"""Clips that are wrong on purpose: what a distance between clips has to tell from true ones."""

from __future__ import annotations

from dataclasses import replace

import torch

from scenes.clip import Clip
from scenes.grid import Grid


def shuffled_frames(clip: Clip, seed: int) -> Clip:
    """The frames in random order, the motion as it was: every frame is true, their sequence is not."""
    order = torch.randperm(len(clip.occupancy), generator=torch.Generator().manual_seed(seed))
    return replace(clip, occupancy=clip.occupancy[order])


def voxel_noise(clip: Clip, grid: Grid, share: float, seed: int) -> Clip:
    """A share of all cells replaced by classes drawn with the frequency they have in the clip itself."""
    generator = torch.Generator().manual_seed(seed)
    cells = clip.occupancy.flatten()
    hit = torch.rand(len(cells), generator=generator) < share
    frequency = torch.bincount(cells, minlength=grid.num_classes).float()
    drawn = torch.multinomial(frequency, int(hit.sum()), replacement=True, generator=generator)
    noisy = cells.clone()
    noisy[hit] = drawn.to(torch.uint8)
    return replace(clip, occupancy=noisy.reshape(clip.occupancy.shape))


def frozen(clip: Clip) -> Clip:
    """Copies of the first frame, the motion as it was: a photograph that the ego does not move through."""
    return replace(clip, occupancy=clip.occupancy[:1].expand_as(clip.occupancy).clone())
