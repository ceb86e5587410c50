"""The route raster: where the task leads, and the known drivable area, seen from above in the ego frame."""

from __future__ import annotations

import torch
from torch import Tensor

from scenes.grid import DRIVABLE, Grid
from scenes.motion import to_local, transform
from scenes.scene import StaticWorld

ROUTE_POINTS = 512
ROUTE_HALF_WIDTH = 2.0  # metres to each side of the route's line
_STAMPS = 512  # of the points and middles of a route, the nearest ones, that are drawn: 512 m of route within sight
ROUTE_CHANNELS = 2  # route corridor, known drivable surface


def resample_route(route: Tensor, spacing: float = 2.0, points: int = ROUTE_POINTS) -> Tensor:
    """Route (M, 2) as exactly `points` world points float64 `spacing` metres apart; the last point is repeated at its end."""
    route = route.to(torch.float64)
    if route.ndim != 2 or route.shape[1] != 2 or not len(route):
        raise ValueError(f"route: expected world points (M, 2) with M >= 1, found {tuple(route.shape)}")
    step = (route[1:] - route[:-1]).norm(dim=-1)
    along = torch.cat((step.new_zeros(1), step.cumsum(0)))
    keep = torch.cat((step.new_ones(1, dtype=torch.bool), step > 1e-9))
    route, along = route[keep], along[keep]
    if len(route) == 1:
        return route.expand(points, 2).clone()
    want = (torch.arange(points, dtype=torch.float64, device=route.device) * spacing).clamp(max=float(along[-1]))
    high = torch.searchsorted(along, want).clamp(1, len(along) - 1)
    weight = ((want - along[high - 1]) / (along[high] - along[high - 1])).unsqueeze(-1)
    return route[high - 1] + weight * (route[high] - route[high - 1])


def route_raster(routes: Tensor, poses: Tensor, statics: list[StaticWorld] | None, grid: Grid) -> Tensor:
    """Route corridor and known drivable cells, uint8 0 or 1 (B, 2, X, Y), seen from world poses (B, 3).

    routes: world points (B, M, 2), see `resample_route`. statics: one world an entry of the batch, or None where no map is
    known, which leaves the second channel empty.
    """
    (batch, _), (nx, ny, _) = poses.shape, grid.shape
    raster = torch.zeros(batch, ROUTE_CHANNELS, nx, ny, dtype=torch.uint8, device=poses.device)
    raster[:, 0] = _corridor(to_local(poses, routes), grid)
    if statics is not None:
        centres = grid.column_centres(poses.device).reshape(nx * ny, 2)
        for world, static in enumerate(statics):
            i, j, inside = static.cells(transform(poses[world], centres))
            raster[world, 1] = ((static.ground[i, j] == DRIVABLE) & inside).reshape(nx, ny)
    return raster


def _corridor(local: Tensor, grid: Grid) -> Tensor:
    """Columns within ROUTE_HALF_WIDTH of the route's points local (B, M, 2): uint8 (B, X, Y)."""
    batch, (nx, ny, _) = len(local), grid.shape
    # 2 m between points and a half width of 2 m: stamping a disc at each point and at each middle covers the line.
    dense = torch.cat((local, (local[:, 1:] + local[:, :-1]) / 2), dim=1)
    repeated = torch.nn.functional.pad((local[:, 1:] == local[:, :-1]).all(-1), (1, 0))
    distance = dense.norm(dim=-1).masked_fill(torch.cat((repeated, repeated[:, 1:]), dim=1), torch.inf)
    nearest = distance.topk(min(_STAMPS, dense.shape[1]), dim=1, largest=False, sorted=False).indices
    dense = dense.gather(1, nearest.unsqueeze(-1).expand(-1, -1, 2))
    reach = int(ROUTE_HALF_WIDTH / grid.voxel + 1)
    offset = torch.arange(-reach, reach + 1, device=local.device)
    cells, gaps = [], []  # of the columns around each point along an axis, (B, M, 2 * reach + 1)
    for axis in (0, 1):
        place = dense[..., axis, None]
        cell = ((place - grid.origin[axis]) / grid.voxel).floor().long() + offset
        cells.append(cell)
        gaps.append((grid.origin[axis] + (cell.to(local.dtype) + 0.5) * grid.voxel - place).square())
    rows, columns = cells[0].unsqueeze(-1), cells[1].unsqueeze(-2)
    close = gaps[0].unsqueeze(-1) + gaps[1].unsqueeze(-2) <= ROUTE_HALF_WIDTH**2
    close &= ((rows >= 0) & (rows < nx)) & ((columns >= 0) & (columns < ny))
    # What is not close goes to a cell of its own behind the raster, so that no shape depends on the data.
    flat = (rows * ny + columns).masked_fill(~close, nx * ny).flatten(1)
    raster = torch.zeros(batch, nx * ny + 1, dtype=torch.uint8, device=local.device).scatter_(1, flat, 1)
    return raster[:, :-1].reshape(batch, nx, ny)
