"""The ground that a recorded map knows, as a raster: drivable surface and sidewalk from polygons, rings and centre lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from scenes.grid import CLASS_ID, DRIVABLE, FREE

LANE_HALF_WIDTH = 1.8  # metres, around a centre line that comes without a polygon
LANE_CLEAR = 1.2  # metres around a centre line that no road edge can run through
LANE_GAP = 1.6  # metres, widest gap between lanes that is closed
SHOULDER = 3.0  # metres that a road built from centre lines may widen towards a recorded road edge
_POLYGONS = {
    "ROAD_EDGE_SIDEWALK": "sidewalk",
    "CROSSWALK": "driveable_surface",
    "SPEED_BUMP": "driveable_surface",
    "DRIVEWAY": "driveable_surface",
}
_EDGES = ("ROAD_EDGE_BOUNDARY", "ROAD_EDGE_MEDIAN")

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def ground_raster(features: dict[str, Any], origin: tuple[float, float], cell: float, shape: tuple[int, int]) -> Tensor:
    """Class ids uint8 (H, W) of the surface that the map features of a ScenarioNet recording know, free elsewhere.

    `origin` is the lower corner in the coordinates of the features, `cell` the edge length, both in metres. A map with lane
    polygons or drivable-area rings (nuScenes, nuPlan) is drivable inside them; from centre lines alone (Waymo, Argoverse 2)
    roads are built by widening each, up to the road edges where those are recorded.
    """
    raster = _Raster(origin, cell, shape)
    lanes = {key: feature for key, feature in features.items() if str(feature.get("type", "")).startswith("LANE_")}
    drivable = np.zeros(shape, dtype=bool)
    for key, feature in features.items():
        if str(key).startswith("boundary_"):  # rings around the drivable area: exteriors and holes, so even-odd
            drivable ^= raster.inside(_points(feature.get("polyline")))
    known = bool(drivable.any())
    for feature in lanes.values():
        drivable |= raster.inside(_points(feature.get("polygon")))
    if not known and not drivable.any():
        drivable = _roads_from_lines(raster, list(lanes.values()), list(features.values()))
    ground = np.full(shape, FREE, dtype=np.uint8)
    for feature in features.values():
        name = _POLYGONS.get(str(feature.get("type", "")))
        if name is not None:
            ground[raster.inside(_points(feature.get("polygon")))] = CLASS_ID[name]
    ground[drivable] = DRIVABLE
    return torch.from_numpy(ground)


class _Raster:
    """Raster cells of one piece of the world, and which of them geometry covers."""

    def __init__(self, origin: tuple[float, float], cell: float, shape: tuple[int, int]) -> None:
        self.origin, self.cell, self.shape = np.asarray(origin), cell, shape

    def inside(self, points: np.ndarray[Any, Any]) -> Mask:
        """Cells (H, W) whose centre lies inside the polygon with corners (N, 2)."""
        if len(points) < 3:
            return np.zeros(self.shape, dtype=bool)
        shapely = _shapely()
        return self._inside(shapely.make_valid(shapely.Polygon(points)))

    def _inside(self, geometry: Any) -> Mask:
        shapely = _shapely()
        mask = np.zeros(self.shape, dtype=bool)
        bounds = np.asarray(shapely.bounds(geometry)).reshape(2, 2)
        low = np.clip(np.floor((bounds[0] - self.origin) / self.cell).astype(int), 0, self.shape)
        high = np.clip(np.ceil((bounds[1] - self.origin) / self.cell).astype(int), 0, self.shape)
        if (high <= low).any():
            return mask
        corners = (*(self.origin + low * self.cell), *(self.origin + high * self.cell))
        geometry = shapely.intersection(geometry, shapely.box(*corners))
        shapely.prepare(geometry)
        x, y = (self.origin[axis] + (np.arange(low[axis], high[axis]) + 0.5) * self.cell for axis in (0, 1))
        mask[low[0] : high[0], low[1] : high[1]] = shapely.contains_xy(geometry, *np.meshgrid(x, y, indexing="ij"))
        return mask

    def around(self, points: np.ndarray[Any, Any], distance: float) -> Mask:
        """Cells (H, W) whose centre lies within `distance` metres of the line through the points (N, 2)."""
        if len(points) < 2:
            return np.zeros(self.shape, dtype=bool)
        shapely = _shapely()
        return self._inside(shapely.buffer(shapely.LineString(points), distance))

    def any_of(self, masks: Iterable[Mask]) -> Mask:
        """Union of masks (H, W); of none, nothing."""
        union = np.zeros(self.shape, dtype=bool)
        for mask in masks:
            union |= mask
        return union

    def along(self, points: np.ndarray[Any, Any]) -> Mask:
        """Cells (H, W) that a line through the points (N, 2) crosses, without gaps between neighbours."""
        mask = np.zeros(self.shape, dtype=bool)
        if len(points) < 2:
            return mask
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        along = np.concatenate(([0.0], np.cumsum(steps)))
        want = np.linspace(0.0, along[-1], int(along[-1] / (self.cell / 3)) + 2)
        dense = np.stack([np.interp(want, along, points[:, axis]) for axis in (0, 1)], axis=-1)
        index = np.floor((dense - self.origin) / self.cell).astype(int)
        index = index[((index >= 0) & (index < self.shape)).all(1)]
        mask[index[:, 0], index[:, 1]] = True
        return mask


def _roads_from_lines(raster: _Raster, lanes: list[dict[str, Any]], features: list[dict[str, Any]]) -> Mask:
    """Cells (H, W) of roads built from centre lines: a lane's width around each, and up to a road edge that is close."""
    lines = [_points(lane.get("polyline")) for lane in lanes]
    rims = [_points(f.get("polyline")) for f in features if str(f.get("type", "")) in _EDGES]
    centres = raster.any_of(raster.along(line) for line in lines)
    passage = raster.any_of(raster.around(line, LANE_CLEAR) for line in lines)
    edges = raster.any_of(raster.along(rim) for rim in rims)
    edges &= ~ndimage.binary_dilation(edges & passage, iterations=round(LANE_CLEAR / raster.cell))  # on another level
    lane_wide = raster.any_of(raster.around(line, LANE_HALF_WIDTH) for line in lines)
    road_wide = raster.any_of(raster.around(line, LANE_HALF_WIDTH + SHOULDER) for line in lines)
    by_edge = raster.any_of(raster.around(rim, SHOULDER + raster.cell) for rim in rims)
    roads = ndimage.binary_propagation(centres, mask=(lane_wide | (road_wide & by_edge)) & ~edges)
    closed = ndimage.binary_closing(roads, iterations=max(1, round(LANE_GAP / 2 / raster.cell)))
    return roads | (closed & ~edges)


def _points(value: Any) -> np.ndarray[Any, Any]:
    """Corner points (N, 2) float64 of a polyline or polygon, empty where there is none."""
    if value is None or len(value) == 0:
        return np.zeros((0, 2))
    points = np.asarray(value, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points[:, :2]).all():
        raise ValueError(f"map feature: expected finite points (N, 2 or 3), found shape {points.shape}")
    return points[:, :2]


def _shapely() -> Any:
    try:
        import shapely
    except ImportError as error:
        raise ImportError("recorded maps need shapely: pip install 'occsora-gym[data]'") from error
    return shapely
