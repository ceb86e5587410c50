"""Statistics of clips that need no network: classes, heights, sizes of agents, and how steady the static world is."""

from __future__ import annotations

import torch
from torch import Tensor

from models.agents import agent_blobs
from scenes.grid import Grid
from scenes.label_sets import to_occ3d

AGENT_AREAS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # m^2: edges between the bins of the agents' footprints
_LOG_AGENTS = 5.0  # brings the logarithm of their number to the size of a share


def frame_histograms(occupancy: Tensor, grid: Grid) -> dict[str, Tensor]:
    """Histograms of each frame of occupancy uint8 (T, X, Y, Z), int64 (T, bins) each.

    classes: cells of each class. heights: occupied cells of each level. agents: number of agents by the area of their
    footprint, bins between AGENT_AREAS; an agent is a set of connected columns of one class of Occ3D-nuScenes, whatever the
    classes of the grid.
    """
    frames = len(occupancy)
    offset = torch.arange(frames, device=occupancy.device).reshape(-1, 1, 1, 1) * grid.num_classes
    classes = torch.bincount((occupancy + offset).flatten(), minlength=frames * grid.num_classes)
    return {
        "classes": classes.reshape(frames, grid.num_classes),
        "heights": (occupancy != grid.free).sum((1, 2)),
        "agents": torch.stack([_agent_areas(blobs, grid) for blobs in agent_blobs(to_occ3d(occupancy, grid))[1]]),
    }


def _agent_areas(blobs: Tensor, grid: Grid) -> Tensor:
    """Histogram (bins,) of the areas of the agents of a map int64 (X, Y) of their numbers, 0 where there is none."""
    _, columns = blobs[blobs > 0].unique(return_counts=True)
    bins = torch.bucketize(columns * grid.voxel**2, torch.tensor(AGENT_AREAS, device=blobs.device), right=True)
    return torch.bincount(bins, minlength=len(AGENT_AREAS) + 1)


def frame_vector(histograms: dict[str, Tensor]) -> Tensor:
    """The histograms of T frames as features (T, D), float32: roots of shares, and the logarithm of the number of agents.

    Roots, so that the Euclidean distance of two vectors is the Hellinger distance of the shares and rare classes count.
    """
    classes = histograms["classes"].float()
    agents = histograms["agents"].sum(-1, keepdim=True).float()
    counts = (classes[:, :-1], histograms["heights"].float(), histograms["agents"].float())
    shares = [count / count.sum(-1, keepdim=True).clamp(min=1) for count in counts]
    occupied = classes[:, :-1].sum(-1, keepdim=True) / classes.sum(-1, keepdim=True)
    return torch.cat((*(share.sqrt() for share in shares), occupied.sqrt(), agents.log1p() / _LOG_AGENTS), dim=-1)
