"""The ground of a SUMO network as a raster of classes: lanes, junctions, sidewalks, crossings, medians."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.grow_raster import fill_polygon
from scenes.sumo_network import MEDIAN, MOTOR, OTHER, PARKING, WALK, Lane, Network

SIDEWALK, OTHER_FLAT = CLASS_ID["sidewalk"], CLASS_ID["other_flat"]


def draw_ground(network: Network, cell: float = 0.4, margin: float = 48.0) -> tuple[np.ndarray, tuple[float, float]]:
    """Classes of the network's surfaces, uint8 (H, W), free elsewhere, and the world position of the raster's lower corner.

    cell and margin (around the outermost road) are metres.
    """
    points = np.concatenate([lane.shape for lane in network.lanes.values() if lane.kind == MOTOR])
    low, high = points.min(0) - margin, points.max(0) + margin
    origin = (float(np.floor(low[0])), float(np.floor(low[1])))
    ground = np.full(np.ceil((high - origin) / cell).astype(int), FREE, dtype=np.uint8)
    lanes = list(network.lanes.values())
    for outline in network.junctions:
        fill_polygon(ground, origin, cell, outline, DRIVABLE)
    for lane in lanes:
        if lane.kind == WALK and lane.function in ("normal", "walkingarea"):
            fill_polygon(ground, origin, cell, _outline(lane, 0.1), SIDEWALK)
    for lane in lanes:
        if lane.kind == MEDIAN or (lane.kind == OTHER and lane.function == "normal"):
            fill_polygon(ground, origin, cell, _outline(lane, 0.05), OTHER_FLAT)
    road = np.zeros(ground.shape, dtype=np.uint8)
    for lane in lanes:
        if lane.function == "crossing" or lane.kind not in (WALK, MEDIAN, OTHER):
            fill_polygon(road, origin, cell, _outline(lane, 0.25 if lane.function == "crossing" else 0.05), 1)
    ground[road > 0] = DRIVABLE
    return _mended(ground), origin


def motor_cells(network: Network, shape: tuple[int, int], origin: tuple[float, float], cell: float) -> np.ndarray:
    """Cells that vehicles drive over, bool (H, W): all lanes but those for parking, junctions and crossings."""
    driven = np.zeros(shape, dtype=np.uint8)
    for lane in network.lanes.values():
        if lane.kind not in (WALK, MEDIAN, OTHER, PARKING) or lane.function == "crossing":
            fill_polygon(driven, origin, cell, _outline(lane, 0.2), 1)
    for outline in network.junctions:
        fill_polygon(driven, origin, cell, outline, 1)
    return driven > 0


def _outline(lane: Lane, wider: float) -> np.ndarray:
    """Outline of a lane, `wider` metres wider to each side; a walking area is one already."""
    import shapely

    if lane.function == "walkingarea" or len(lane.shape) < 2:
        return lane.shape if len(lane.shape) >= 3 else np.zeros((3, 2))
    band = shapely.LineString(lane.shape).buffer(lane.width / 2 + wider, cap_style="flat", join_style="mitre")
    if band.geom_type == "MultiPolygon":
        band = max(band.geoms, key=lambda part: part.area)
    return np.asarray(band.exterior.coords)[:-1]


def _mended(ground: np.ndarray) -> np.ndarray:
    """Fill the hairline gaps between lanes, and between lanes and junctions, that cell centres fell into."""
    for label in (DRIVABLE, SIDEWALK):
        closed = ndimage.binary_closing(ground == label, structure=np.ones((3, 3), dtype=bool), iterations=2)
        ground[closed & (ground == FREE)] = label
    return ground
