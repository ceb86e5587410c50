"""Ego motion recovered from voxels: where was the ego of one frame, seen from another, judging by what does not move.

Nothing here is told the commanded motion. Static classes, seen from above, become smooth images; a correlation over all
shifts and turns in reach gives starting points, and Gauss-Newton steps on the squared difference refine them below the size
of a voxel. Columns with an agent are left out, and columns that do not fit (things that vanished or were imagined) lose their
weight.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from scenes.grid import AGENTS, FLAT, STATIC_OBSTACLES, Grid, check_occupancy
from scenes.label_sets import to_occ3d
from scenes.motion import relative, rotate, transform

MAX_SHIFT = 16.0  # metres searched in each direction
MAX_YAW = math.radians(45)  # radians searched to each side
_YAW_STEP = math.radians(5)
_COARSE = 1.6  # metres between the points of the first search
_STARTS = 4
_LEVELS = ((2.0, 8, _STARTS), (1.0, 12, 2))  # smoothing in voxels, rounds at most, and poses kept, coarse to fine
_SETTLED = 1e-4  # metres and radians: a step below it ends the refinement
_FLAT = 1e-3  # slope of the images, a metre, below which a column says nothing
_OUTLIER = 0.3  # difference of two smoothed images at which a column has lost half its weight


def register(first: Tensor, second: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Pose of the ego of `second` in the frame of `first`, float64 (N, 3), and the residual that remains, float64 (N,).

    first, second: occupancy uint8 (N, X, Y, Z), in the classes of the grid, of whatever data set. Reach: MAX_SHIFT metres and
    MAX_YAW radians. The residual is the share of the common columns with structure that do not fit, softly counted, 0 to 1.
    Frames without any static structure give NaN.
    """
    check_occupancy(first, grid, "first")
    check_occupancy(second, grid, "second")
    first, second = to_occ3d(first, grid), to_occ3d(second, grid)
    pairs = [_register_pair(a, b, grid) for a, b in zip(first, second, strict=True)]
    return torch.stack([pose for pose, _ in pairs]), torch.stack([residual for _, residual in pairs])


def motion_errors(estimated: Tensor, commanded: Tensor) -> tuple[Tensor, Tensor]:
    """Distance in metres and angle in degrees, float64 (N,) each, between estimated and commanded poses (N, 3)."""
    off = relative(commanded.to(torch.float64), estimated.to(torch.float64))
    return off[:, :2].norm(dim=-1), off[:, 2].abs().rad2deg()


def static_images(occupancy: Tensor) -> tuple[Tensor, Tensor]:
    """Where each static class stands, seen from above: float32 (N, C, X, Y) of 0 and 1, and the columns to trust (N, 1, X, Y).

    occupancy: classes of Occ3D-nuScenes, uint8 (N, X, Y, Z). One image a flat class and one a static obstacle class; columns
    that hold an agent are not trusted.
    """
    images = torch.stack([(occupancy == c).any(-1) for c in FLAT + STATIC_OBSTACLES], dim=1)
    agent = torch.zeros(256, dtype=torch.bool, device=occupancy.device)
    agent[list(AGENTS)] = True
    return images.float(), (~agent[occupancy.int()].any(-1)).unsqueeze(1).float()


def _register_pair(first: Tensor, second: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    images, trust = static_images(torch.stack((first, second)))
    images = images[:, images.flatten(2).sum((0, 2)) > 0]
    if not images.shape[1] or not bool((images.flatten(2).std(-1) > 0).any()):
        return torch.full((3,), torch.nan, dtype=torch.float64), torch.tensor(torch.nan, dtype=torch.float64)
    poses = _search(images, trust, grid)
    for sigma, rounds, keep in _LEVELS:
        smooth, weight = _smooth(images, trust, sigma)
        poses, residual = _refine(smooth, weight, poses[:keep], rounds, grid)
    return poses[0].cpu(), residual[0].cpu()


def _smooth(images: Tensor, trust: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Images (N, C, X, Y) smoothed over trusted columns, and how far a column's surroundings are known, 0 to 1 (N, 1, X, Y)."""
    radius = math.ceil(3 * sigma)
    offset = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = kernel / kernel.sum()
    both = torch.cat((images * trust, trust), dim=1)
    channels = both.shape[1]
    both = F.conv2d(both, kernel.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1), padding=(radius, 0), groups=channels)
    both = F.conv2d(both, kernel.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1), padding=(0, radius), groups=channels)
    known = both[:, -1:]
    return both[:, :-1] / known.clamp(min=1e-3), ((known - 0.5) * 2).clamp(0, 1) * trust


def _sample(images: Tensor, xy: Tensor, grid: Grid) -> Tensor:
    """Images (N, C, X, Y) at points xy (N, P, 2) of their ego frame, bilinear, zero outside: (N, C, P)."""
    size = xy.new_tensor(grid.shape[:2]) * grid.voxel
    unit = (2 * (xy - xy.new_tensor(grid.origin[:2])) / size - 1).flip(-1).to(images.dtype)
    return F.grid_sample(images, unit.unsqueeze(1), align_corners=False)[:, :, 0]


def _search(images: Tensor, trust: Tensor, grid: Grid) -> Tensor:
    """Starting poses float64 (S, 3): the best shift of each of the best turns; all shifts at once by FFT."""
    smooth, weight = _smooth(images, trust, _COARSE / grid.voxel)
    nx, ny = (int(size * grid.voxel / _COARSE) for size in grid.shape[:2])
    x, y = (grid.origin[axis] + (torch.arange(n, dtype=torch.float64) + 0.5) * _COARSE for axis, n in enumerate((nx, ny)))
    points = torch.stack(torch.meshgrid(x, y, indexing="ij"), dim=-1).reshape(1, -1, 2).to(images.device)
    yaw = torch.arange(-MAX_YAW, MAX_YAW + 1e-6, _YAW_STEP, dtype=torch.float64, device=images.device)
    turned = rotate(points, -yaw[:, None])
    a = _sample(smooth[:1], points, grid).reshape(1, -1, nx, ny)
    wa = _sample(weight[:1], points, grid).reshape(1, 1, nx, ny)
    b = _sample(smooth[1:].expand(len(yaw), -1, -1, -1), turned, grid).reshape(len(yaw), -1, nx, ny)
    wb = _sample(weight[1:].expand(len(yaw), -1, -1, -1), turned, grid).reshape(len(yaw), 1, nx, ny)
    reach = int(MAX_SHIFT / _COARSE)
    cost = _shifted_difference(a, wa, b, wb, reach)
    best = cost.flatten(1).min(dim=1)
    pick = best.values.argsort()[:_STARTS]
    side = 2 * reach + 1
    shift = torch.stack((best.indices[pick] // side, best.indices[pick] % side), dim=-1) - reach
    return torch.cat((shift * _COARSE, yaw[pick, None]), dim=-1)


def _shifted_difference(a: Tensor, wa: Tensor, b: Tensor, wb: Tensor, reach: int) -> Tensor:
    """Mean weighted squared difference of a (1, C, X, Y), moved by each shift of `reach` cells or less, and b (K, C, X, Y).

    Returns (K, S, S), infinite where too little overlaps.
    """
    size = [n + reach for n in a.shape[-2:]]
    left = torch.cat((-2 * a * wa, wa, (a**2).sum(1, keepdim=True) * wa), dim=1)
    right = torch.cat((b * wb, (b**2).sum(1, keepdim=True) * wb, wb), dim=1)
    spectrum = torch.fft.rfft2(left, size) * torch.fft.rfft2(right, size).conj()
    total = torch.fft.irfft2(spectrum.sum(1), size)
    overlap = torch.fft.irfft2(torch.fft.rfft2(wa, size) * torch.fft.rfft2(wb, size).conj(), size)[:, 0]
    index = torch.arange(-reach, reach + 1, device=a.device)
    total, overlap = (t[:, index % size[0]][:, :, index % size[1]] for t in (total, overlap))
    return torch.where(overlap > 0.25 * wa.sum(), total / overlap.clamp(min=1.0), torch.inf)


def _refine(smooth: Tensor, weight: Tensor, poses: Tensor, rounds: int, grid: Grid) -> tuple[Tensor, Tensor]:
    """Gauss-Newton from poses float64 (S, 3): better poses, and the residual of each, float64 (S,), best first."""
    starts, channels = len(poses), smooth.shape[1]
    slope_x, slope_y = torch.gradient(smooth, spacing=grid.voxel, dim=(2, 3))
    useful = (((slope_x[1] ** 2 + slope_y[1] ** 2).sum(0) > _FLAT**2) & (weight[1, 0] > 0)).flatten()
    points = grid.column_centres(smooth.device).reshape(1, -1, 2)[:, useful]
    first = torch.cat((smooth[:1], slope_x[:1], slope_y[:1], weight[:1]), dim=1).expand(starts, -1, -1, -1)
    b, bx, by, wb = (t[1:].flatten(2)[:, :, useful] for t in (smooth, slope_x, slope_y, weight))
    residual = torch.full((starts,), torch.inf, dtype=torch.float64)
    for _ in range(rounds):
        moved = transform(poses, points)
        a, ax, ay, wa = _sample(first, moved, grid).split((channels, channels, channels, 1), dim=1)
        difference = a - b
        fit = 1 / (1 + (difference**2).sum(1) / _OUTLIER**2)
        both = (wa * wb)[:, 0]
        residual = ((1 - fit) * both).sum(1).double() / both.sum(1).clamp(min=1.0)
        cos, sin = poses[:, 2].cos().float()[:, None, None], poses[:, 2].sin().float()[:, None, None]
        slope = (ax + cos * bx - sin * by) / 2, (ay + sin * bx + cos * by) / 2
        step = _step(*slope, difference, both * fit**2, (moved - poses[:, None, :2]).float())
        poses = poses - step
        if float(step.abs().max()) < _SETTLED:
            break
    order = residual.argsort()
    return poses[order], residual[order]


def _step(gx: Tensor, gy: Tensor, difference: Tensor, weight: Tensor, arm: Tensor) -> Tensor:
    """Damped Gauss-Newton step float64 (S, 3) of x, y and yaw.

    gx, gy, difference: slopes and differences of the images (S, C, P). weight: (S, P). arm: points seen from the ego (S, P, 2).
    """
    xx, xy, yy = ((u * v).sum(1) * weight for u, v in ((gx, gx), (gx, gy), (gy, gy)))
    rx, ry = ((g * difference).sum(1) * weight for g in (gx, gy))
    ax, ay = arm.unbind(-1)
    turn_x, turn_y = ax * xy - ay * xx, ax * yy - ay * xy  # products of the slope along yaw with those along x and y
    rows = ((xx, xy, turn_x), (xy, yy, turn_y), (turn_x, turn_y, ax * turn_y - ay * turn_x))
    hessian = torch.stack([torch.stack([entry.sum(1) for entry in row], dim=-1) for row in rows], dim=-2).double()
    slope = torch.stack((rx.sum(1), ry.sum(1), (ax * ry - ay * rx).sum(1)), dim=-1).double()
    damping = 1e-3 * hessian.diagonal(dim1=1, dim2=2).clamp(min=1e-6)
    return torch.linalg.solve(hessian + torch.diag_embed(damping), slope)
