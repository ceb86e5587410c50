"""The building site: a raster of the town to be, what is known of each of its cells, and the styles of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from scenes.grid import CLASS_ID, DRIVABLE, FREE

SIDEWALK, TERRAIN, OTHER_FLAT = (CLASS_ID[name] for name in ("sidewalk", "terrain", "other_flat"))
REACH = 52.0  # metres from the road beyond which nobody sees what stands there


@dataclass(frozen=True)
class Style:
    """How a part of town looks; lengths in metres.

    Attributes:
        share: how much of the town is like this.
        setback: how far houses stand from the pavement, lowest and highest.
        front, depth, height: sizes of houses, lowest and highest.
        gap: room between neighbouring houses.
        second_row: share of the places behind the first row that are built on.
        street_trees: distance between trees along the pavement, 0 for none.
        garden_trees: trees an are (100 m^2) of open ground.
        hedges: share of the fronts with a hedge or a fence.
        paved: whether the ground in front of the houses is paved.
    """

    name: str
    share: float
    setback: tuple[float, float]
    front: tuple[float, float]
    depth: tuple[float, float]
    height: tuple[float, float]
    gap: float
    second_row: float
    street_trees: float
    garden_trees: float
    hedges: float
    paved: bool


STYLES = (
    Style("centre", 0.3, (0.4, 1.2), (12, 28), (10, 15), (8, 20), 0.4, 0.5, 9.0, 0.25, 0.05, True),
    Style("houses", 0.34, (3.0, 6.0), (8, 14), (8, 11), (4, 7), 3.0, 0.5, 11.0, 0.8, 0.55, False),
    Style("blocks", 0.16, (5.0, 9.0), (20, 40), (10, 13), (9, 18), 6.0, 0.3, 9.0, 0.7, 0.3, False),
    Style("halls", 0.1, (6.0, 12.0), (22, 40), (16, 25), (5, 9), 5.0, 0.2, 0.0, 0.2, 0.3, True),
    Style("park", 0.1, (6.0, 14.0), (5, 8), (4, 6), (3, 4), 60.0, 0.0, 8.0, 2.2, 0.35, False),
)


@dataclass
class Site:
    """The raster under construction, and what is known of each cell.

    Attributes:
        cell: metres.
        ground, standing, bottom, top: as in `StaticWorld`, two layers: on the ground, and the crowns above.
        closed: cells where nothing may be put on the ground, bool (H, W).
        road: distance to the road, metres, float32 (H, W).
        paved: distance to road or sidewalk.
        heading: direction towards the road, radians.
        style: number in `STYLES` of each cell's part of town, uint8.
        rng: the source of all chance.
    """

    cell: float
    ground: np.ndarray
    standing: np.ndarray
    bottom: np.ndarray
    top: np.ndarray
    closed: np.ndarray
    road: np.ndarray
    paved: np.ndarray
    heading: np.ndarray
    style: np.ndarray
    rng: np.random.Generator

    def put(self, label: str, cells: tuple[np.ndarray, np.ndarray], bottom: float, top: float, layer: int = 0) -> None:
        """Stand a thing of that class, from bottom to top in metres, on the given cells (i, j)."""
        self.standing[layer][cells] = CLASS_ID[label]
        self.bottom[layer][cells] = round(bottom * 10)
        self.top[layer][cells] = round(top * 10)

    def vacant(self, i: int, j: int) -> bool:
        """Whether cell (i, j) lies on the raster and something may be stood on it."""
        height, width = self.ground.shape
        return 0 <= i < height and 0 <= j < width and not self.closed[i, j] and bool(self.standing[0, i, j] == FREE)

    def runs(self, cells: np.ndarray, length: float) -> np.ndarray:
        """A random number in [0, 1) for each of cells (N, 2), alike for neighbours within runs about `length` metres long."""
        size = max(int(length / self.cell), 1)
        places = np.unique(cells // size, axis=0)
        centres = (places + self.rng.uniform(0, 1, places.shape)) * size
        return self.rng.random(len(places))[cKDTree(centres).query(cells)[1]]


def survey(ground: np.ndarray, cell: float, seed: int, keep_clear: np.ndarray | None, recorded: Sequence[str]) -> Site:
    """Lay out the parts of town, the sidewalks (unless recorded) and the forecourts; arguments as in `scenes.grow.grow`."""
    rng = np.random.default_rng([seed, 43])
    is_road = ground == DRIVABLE
    road = _distance(is_road, cell)
    style = _styles(ground.shape, cell, rng)
    if "sidewalk" not in recorded:
        width = rng.uniform(1.8, 3.4, len(STYLES)).astype(np.float32)[style]
        ground[(ground == FREE) & _islands(is_road, road, cell)] = OTHER_FLAT
        ground[(ground == FREE) & (road > 0) & (road <= width)] = SIDEWALK
    paved = _distance(is_road | (ground == SIDEWALK), cell)
    smooth = ndimage.gaussian_filter(np.minimum(road, 60.0), 3.0 / cell)
    heading = np.arctan2(-np.gradient(smooth, axis=1), -np.gradient(smooth, axis=0)).astype(np.float32)
    forecourt = np.array([one.paved for one in STYLES])[style] & (ground == FREE) & (paved <= 14.0)
    ground[forecourt] = OTHER_FLAT
    clear = is_road if keep_clear is None else keep_clear
    standing = np.full((2, *ground.shape), FREE, dtype=np.uint8)
    bottom, top = np.zeros_like(standing), np.zeros_like(standing)
    return Site(cell, ground, standing, bottom, top, clear.copy(), road, paved, heading, style, rng)


def _islands(is_road: np.ndarray, road: np.ndarray, cell: float, half_width: float = 3.0, area: float = 12.0) -> np.ndarray:
    """Medians and traffic islands: strips between roads, up to twice half_width wide, with at least that area in m^2."""
    narrow = (_distance(road > half_width, cell) > half_width) & ~is_road
    number, count = ndimage.label(narrow)
    if not count:
        return narrow
    large = np.bincount(number.ravel()) * cell**2 >= area
    large[0] = False
    return large[number]


def _distance(mask: np.ndarray, cell: float) -> np.ndarray:
    if not mask.any():
        return np.full(mask.shape, np.float32(1e3))
    return (ndimage.distance_transform_edt(~mask) * cell).astype(np.float32)


def _styles(shape: tuple[int, ...], cell: float, rng: np.random.Generator) -> np.ndarray:
    """Parts of town: each cell belongs to the nearest of some random places, about 110 m apart."""
    size = np.array(shape) * cell
    places = rng.uniform(0, 1, (max(int(size.prod() / 110.0**2), 2), 2)) * size
    share = np.array([style.share for style in STYLES])
    kind = rng.choice(len(STYLES), len(places), p=share / share.sum()).astype(np.uint8)
    coarse = 8
    rows, columns = (np.arange(0, side, coarse) * cell for side in shape)
    nearest = cKDTree(places).query(np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1))[1]
    return kind[nearest].repeat(coarse, axis=0).repeat(coarse, axis=1)[: shape[0], : shape[1]]
