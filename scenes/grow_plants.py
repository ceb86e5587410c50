"""Vegetation: street trees in rows, trees in gardens and parks, hedges along fronts, bushes."""

from __future__ import annotations

import numpy as np

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.grow_raster import keep_apart
from scenes.grow_site import OTHER_FLAT, REACH, STYLES, Site

MEDIAN_REACH = 1.2  # other_flat this close to the road is a median or an island


def plant(site: Site) -> None:
    """Plant everything; trees have a trunk in the lower layer and a crown in the upper one, never over the road."""
    _hedges(site)
    _street_trees(site)
    _garden_trees(site)
    _bushes(site)


def _free(site: Site) -> np.ndarray:
    return ~site.closed & (site.standing[0] == FREE) & (site.ground != DRIVABLE)


def _hedges(site: Site) -> None:
    near = _free(site) & (site.paved > 0.5) & (site.paved <= 1.4) & (site.ground != OTHER_FLAT)
    cells = np.argwhere(near)
    if not len(cells):
        return
    chance = np.array([style.hedges for style in STYLES])[site.style[cells[:, 0], cells[:, 1]]]
    draw = site.runs(cells, 12.0)
    for low, high, label, top in ((0.0, 0.45, "vegetation", 1.4), (0.45, 0.65, "vegetation", 2.0), (0.65, 1.0, "manmade", 1.2)):
        pick = (draw >= low * chance) & (draw < high * chance)
        if label == "manmade":  # fences and walls are thin
            pick &= site.paved[cells[:, 0], cells[:, 1]] > 0.9
        chosen = cells[pick]
        site.put(label, (chosen[:, 0], chosen[:, 1]), 0.0, top)


def _street_trees(site: Site) -> None:
    verge = _free(site) & (((site.paved > 1.2) & (site.paved <= 2.2)) | ((site.road > 0.3) & (site.road <= 1.0)))
    cells = np.argwhere(verge)
    spacing = np.array([style.street_trees for style in STYLES])[site.style[cells[:, 0], cells[:, 1]]]
    lined = site.runs(cells, 70.0) < 0.75
    for distance in np.unique(spacing[spacing > 0]):
        mine = cells[lined & (spacing == distance)]
        mine = site.rng.permutation(mine)[: int(len(mine) * site.cell)]
        for i, j in mine[keep_apart(mine * site.cell, distance, site.rng)]:
            _tree(site, int(i), int(j), site.rng.uniform(1.2, 2.2))


def _garden_trees(site: Site) -> None:
    open_ground = np.argwhere(_free(site) & (site.paved > 2.0) & (site.road < REACH))
    density = np.array([style.garden_trees for style in STYLES])[site.style[open_ground[:, 0], open_ground[:, 1]]]
    paved = site.ground[open_ground[:, 0], open_ground[:, 1]] == OTHER_FLAT
    chance = density * np.where(paved, 0.15, 1.0) * site.cell**2 / 100
    mine = open_ground[site.rng.random(len(open_ground)) < 2 * chance]
    for i, j in mine[keep_apart(mine * site.cell, 3.0, site.rng)]:
        _tree(site, int(i), int(j), site.rng.uniform(1.2, 3.0))


def _tree(site: Site, i: int, j: int, radius: float) -> None:
    """A trunk of one cell and a rounded crown above head height."""
    reach = int(radius / site.cell) + 1
    height, width = site.ground.shape
    if i < reach or j < reach or i + reach >= height or j + reach >= width:
        return
    stem = site.rng.uniform(1.8, 2.6)
    crown = stem + radius * site.rng.uniform(1.2, 2.0)
    site.put("vegetation", (np.array([i]), np.array([j])), 0.0, stem + 0.4)
    rows, columns = slice(i - reach, i + reach + 1), slice(j - reach, j + reach + 1)
    step = np.arange(-reach, reach + 1)
    away = np.hypot(step[:, None], step[None, :]) * site.cell / radius
    open_air = (site.ground[rows, columns] != DRIVABLE) & (site.standing[0][rows, columns] != CLASS_ID["manmade"])
    for low, high, bottom, top in ((0.0, 0.7, stem, crown), (0.7, 1.0, stem + 0.5, crown - 0.3 * radius)):
        a, b = ((away >= low) & (away < high) & open_air).nonzero()
        site.put("vegetation", (a + rows.start, b + columns.start), bottom, top, layer=1)


def _bushes(site: Site) -> None:
    """Bushes in the open, and rows of them on medians."""
    open_ground = _free(site) & (site.road < REACH)
    lawn = np.argwhere(open_ground & (site.paved > 1.0) & (site.ground != OTHER_FLAT))
    mine = lawn[site.rng.random(len(lawn)) < 0.004]
    for i, j in mine:
        reach = int(site.rng.integers(0, 3))
        block = (slice(max(i - reach, 0), i + reach + 1), slice(max(j - reach, 0), j + reach + 1))
        a, b = _free_block(site, block)
        site.put("vegetation", (a + block[0].start, b + block[1].start), 0.0, site.rng.uniform(0.5, 1.6))
    median = np.argwhere(open_ground & (site.ground == OTHER_FLAT) & (site.road <= MEDIAN_REACH))
    if len(median):
        green = median[site.runs(median, 15.0) < 0.4]
        site.put("vegetation", (green[:, 0], green[:, 1]), 0.0, 0.9)


def _free_block(site: Site, block: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    open_ground = ~site.closed[block] & (site.standing[0][block] == FREE) & (site.paved[block] > 0.6)
    a, b = open_ground.nonzero()
    return a, b
