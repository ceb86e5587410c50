"""Houses: rectangles in rows along the road, turned to face it, at each style's distance from the pavement."""

from __future__ import annotations

import numpy as np

from scenes.grid import DRIVABLE, FREE
from scenes.grow_raster import turned_window
from scenes.grow_site import OTHER_FLAT, REACH, STYLES, TERRAIN, Site, Style


def build_houses(site: Site) -> None:
    """Build a first row along every pavement, smaller houses in its gaps, and rows behind."""
    taken = (site.paved <= 0.3) | site.closed
    for row in range(3):
        for number, style in enumerate(STYLES):
            setback = site.rng.uniform(*style.setback)
            depth = site.rng.uniform(*style.depth)
            for attempt in range(2):
                shrink = 1.0 if attempt == 0 else 0.62
                distance = setback + depth * shrink / 2 + row * (style.depth[1] + 7.0)
                ring = (site.style == number) & (np.abs(site.paved - distance) < 0.5 * site.cell)
                _build_ring(site, style, taken, ring, row, depth * shrink, shrink)


def _build_ring(site: Site, style: Style, taken: np.ndarray, ring: np.ndarray, row: int, depth: float, shrink: float) -> None:
    cells = np.argwhere(ring & ~taken & (site.road < REACH))
    cells = site.rng.permutation(cells)[: max(int(len(cells) * site.cell / 2.0), 1)]
    for i, j in cells:
        if taken[i, j] or (row and site.rng.random() > style.second_row):
            continue
        front = site.rng.uniform(*style.front) * shrink
        _try_house(site, style, taken, (i + 0.5, j + 0.5), float(site.heading[i, j]), depth, front)


def _try_house(
    site: Site, style: Style, taken: np.ndarray, centre: tuple[float, float], facing: float, depth: float, front: float
) -> None:
    cell = site.cell
    plot = turned_window(centre, facing, (depth + 0.4) / cell, (front + style.gap) / cell, site.ground.shape)
    house = turned_window(centre, facing, depth / cell, front / cell, site.ground.shape)
    if plot is None or house is None or taken[plot[0], plot[1]][plot[2]].any():
        return
    rows, columns, inside = house
    i, j = inside.nonzero()
    cells = (i + rows.start, j + columns.start)
    taken[plot[0], plot[1]] |= plot[2]
    height = site.rng.uniform(*style.height)
    site.put("manmade", cells, 0.0, height)
    built_on = site.ground[cells]
    site.ground[cells] = np.where(built_on == DRIVABLE, DRIVABLE, OTHER_FLAT if style.paved else TERRAIN)
    site.closed[cells] = True
    if style.name == "houses" and site.rng.random() < 0.6:
        _garage(site, taken, centre, facing, front)


def _garage(site: Site, taken: np.ndarray, centre: tuple[float, float], facing: float, front: float) -> None:
    """A low garage on one side of a house, with a drive to the street."""
    cell, side = site.cell, facing + float(site.rng.choice((-1, 1))) * np.pi / 2
    away = (front / 2 + 1.9) / cell
    middle = (centre[0] + away * np.cos(side), centre[1] + away * np.sin(side))
    window = turned_window(middle, facing, 6.0 / cell, 3.2 / cell, site.ground.shape)
    if window is None:
        return
    rows, columns, inside = window
    occupied = (site.standing[0][rows, columns] != FREE) | (site.paved[rows, columns] < 0.5) | site.closed[rows, columns]
    if (occupied & inside).any():
        return
    i, j = inside.nonzero()
    site.put("manmade", (i + rows.start, j + columns.start), 0.0, 2.6)
    taken[rows, columns] |= inside
    ahead = 6.5 / cell
    before = (middle[0] + ahead * np.cos(facing), middle[1] + ahead * np.sin(facing))
    drive = turned_window(before, facing, 7.0 / cell, 3.0 / cell, site.ground.shape)
    if drive is not None:
        rows, columns, inside = drive
        unbuilt = np.isin(site.ground[rows, columns], (TERRAIN, FREE)) & (site.standing[0][rows, columns] == FREE)
        site.ground[rows, columns][inside & unbuilt] = OTHER_FLAT
        taken[rows, columns] |= inside
