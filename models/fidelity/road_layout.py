"""The layout of the road about the ego, told from voxels: the classes of the inception score."""

from __future__ import annotations

import torch
from torch import Tensor

from models.fidelity.colour_map import top_classes
from scenes.grid import DRIVABLE, Grid, is_agent
from scenes.label_sets import to_occ3d

LAYOUTS = ("no road", "dead end", "straight", "bend", "fork", "crossing")
_POINTS = 180  # on the circle: one every two degrees
_GAP = 3.0  # metres of circle: shorter gaps in the road are closed, shorter stretches of road are none
_OPPOSITE = 30.0  # degrees by which two arms of a straight road may miss being opposite


def road_layout(occupancy: Tensor, grid: Grid) -> Tensor:
    """Index into LAYOUTS of each frame, int64 (N,), from occupancy uint8 (N, X, Y, Z).

    Counts the arms of the road that cross a circle about the middle of the grid, half-way to its nearest edge: none, one (dead
    end), two that are opposite within 30 degrees (straight) or not (bend), three (fork), four and more (crossing). Columns with
    an agent count as road where the ground under it is hidden.
    """
    road, size = _road_on_circle(occupancy, grid)
    road = _without_short_runs(road, size, value=False)
    road = _without_short_runs(road, size, value=True)
    starts = road & ~road.roll(1, dims=1)
    arms = starts.sum(1).clamp(max=4)
    layout = torch.tensor([0, 1, 2, 4, 5], device=arms.device)[arms]
    layout[road.all(1)] = LAYOUTS.index("crossing")  # an open place
    two = (arms == 2).nonzero().squeeze(1)
    for number in two.tolist():
        if not _opposite(road[number], starts[number]):
            layout[number] = LAYOUTS.index("bend")
    return layout


def _road_on_circle(occupancy: Tensor, grid: Grid) -> tuple[Tensor, float]:
    """Whether there is road at each point of the circle, bool (N, POINTS), and the metres between the points."""
    nx, ny = grid.shape[:2]
    radius = min(nx, ny) / 4
    angle = torch.arange(_POINTS, dtype=torch.float64) * 2 * torch.pi / _POINTS
    i = (nx / 2 + radius * angle.cos()).floor().long()
    j = (ny / 2 + radius * angle.sin()).floor().long()
    columns = occupancy[:, i, j]
    drivable = (to_occ3d(columns, grid) == DRIVABLE).any(-1)
    return drivable | is_agent(to_occ3d(top_classes(columns, grid), grid)), float(radius * grid.voxel * 2 * torch.pi / _POINTS)


def _without_short_runs(ring: Tensor, size: float, value: bool) -> Tensor:
    """The ring bool (N, POINTS) with runs of `value` shorter than _GAP metres turned into their surroundings."""
    reach = max(int(_GAP / size), 1)
    same = ring == value
    # Erosion, then dilation: what is left of the runs are those of at least `reach` points.
    windows = torch.stack([same.roll(-shift, dims=1) for shift in range(reach)]).all(0)
    kept = torch.stack([windows.roll(shift, dims=1) for shift in range(reach)]).any(0)
    return kept if value else ~kept


def _opposite(road: Tensor, starts: Tensor) -> bool:
    """Whether the middles of the two runs of a ring bool (POINTS,) lie opposite each other."""
    first, second = starts.nonzero().squeeze(1).tolist()
    middles = []
    for start in (first, second):
        run = road.roll(-start, dims=0)
        length = int((~run).nonzero()[0])
        middles.append(start + (length - 1) / 2)
    apart = abs(middles[1] - middles[0]) * 360 / _POINTS
    return abs(apart - 180) <= _OPPOSITE
