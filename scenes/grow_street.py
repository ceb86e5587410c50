"""Street furniture: poles, signs, barriers along kerbs, bins and boxes, shelters, work zones with cones."""

from __future__ import annotations

import numpy as np

from scenes.grid import DRIVABLE, FREE
from scenes.grow_raster import keep_apart, turned_window
from scenes.grow_site import Site

ZONES_PER_HECTARE_OF_ROAD = 2.2


def furnish(site: Site) -> None:
    """Put up everything that stands along kerbs, clear of where agents go."""
    _work_zones(site)
    _barriers(site)
    _rows(site)
    _shelters(site)


def _kerb(site: Site, low: float, high: float) -> np.ndarray:
    """Cells (N, 2) at that distance from the road, on open ground."""
    open_ground = ~site.closed & (site.standing[0] == FREE) & (site.ground != DRIVABLE)
    return np.argwhere(open_ground & (site.road > low) & (site.road <= high))


def _rows(site: Site) -> None:
    """Lamps, signs, bins, boxes and bollards: single cells, kept apart along the kerb."""
    for label, low, high, spacing, heights in (
        ("manmade", 0.2, 0.9, 22.0, (6.0, 8.0)),
        ("manmade", 0.2, 0.9, 27.0, (2.2, 3.0)),
        ("others", 0.6, 3.5, 32.0, (0.9, 1.3)),
        ("manmade", 0.6, 3.5, 45.0, (1.2, 1.9)),
    ):
        cells = _kerb(site, low, high)
        cells = site.rng.permutation(cells)[: int(len(cells) * 4.0 / spacing)]
        for i, j in cells[keep_apart(cells * site.cell, spacing, site.rng)]:
            site.put(label, (np.array([i]), np.array([j])), 0.0, site.rng.uniform(*heights))


def _barriers(site: Site) -> None:
    """Guard rails and jersey barriers along some stretches of kerb."""
    cells = _kerb(site, 0.0, 0.5)
    if len(cells):
        chosen = cells[site.runs(cells, 16.0) < 0.05]
        site.put("barrier", (chosen[:, 0], chosen[:, 1]), 0.0, 0.9)


def _shelters(site: Site) -> None:
    """Small flat roofed things beside the pavement: bus shelters, kiosks, substations."""
    cells = np.argwhere(~site.closed & (site.standing[0] == FREE) & (site.paved > 0.8) & (site.paved < 1.6))
    cells = site.rng.permutation(cells)[: len(cells) // 8]
    for i, j in cells[keep_apart(cells * site.cell, 60.0, site.rng)]:
        _block(site, "manmade", (i, j), float(site.heading[i, j]), 1.4, site.rng.uniform(2.0, 4.5), site.rng.uniform(2.0, 2.8))


def _block(site: Site, label: str, at: tuple[int, int], yaw: float, length: float, width: float, height: float) -> None:
    window = turned_window((at[0] + 0.5, at[1] + 0.5), yaw, length / site.cell, width / site.cell, site.ground.shape)
    if window is None:
        return
    rows, columns, inside = window
    a, b = (inside & ~site.closed[rows, columns] & (site.standing[0][rows, columns] == FREE)).nonzero()
    site.put(label, (a + rows.start, b + columns.start), 0.0, height)


def _work_zones(site: Site) -> None:
    """Cones along the edge of the road, barriers and material beside it."""
    hectares = float((site.ground == DRIVABLE).sum()) * site.cell**2 / 1e4
    kerb = np.argwhere((site.road > 0.3) & (site.road <= 0.8) & ~site.closed)
    kerb = site.rng.permutation(kerb)[:4000]
    chosen = keep_apart(kerb * site.cell, 35.0, site.rng)[: int(hectares * ZONES_PER_HECTARE_OF_ROAD) + 1]
    for i, j in kerb[chosen]:
        _work_zone(site, int(i), int(j))


def _work_zone(site: Site, i: int, j: int) -> None:
    to_road = np.array([np.cos(site.heading[i, j]), np.sin(site.heading[i, j])], dtype=np.float64)
    along = np.array([-to_road[1], to_road[0]])
    length, offset = site.rng.uniform(8, 22), site.rng.uniform(-0.2, 1.6)
    line = np.arange(-length / 2, length / 2, 2.0)[:, None] * along + offset * to_road
    for a, b in np.rint(line / site.cell).astype(int) + np.array([i, j]):
        if site.vacant(a, b):
            site.put("traffic_cone", (np.array([a]), np.array([b])), 0.0, 0.8)
    for label, behind, share, depth, height in (("barrier", 1.2, 0.45, 0.5, 1.0), ("others", 2.0, 0.25, 1.2, 1.1)):
        a, b = (int(value) for value in np.array([i, j]) - behind / site.cell * to_road)
        if site.rng.random() < 0.8:
            _block(site, label, (a, b), float(site.heading[i, j]) + np.pi / 2, share * length, depth, height)
