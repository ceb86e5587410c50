"""Growing a town: what is known stays, what is missing comes, nothing stands in the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.grow import grow
from scenes.grow_raster import fill_polygon, keep_apart, turned_window

CELL = 0.4


def _crossroads(side: float = 130.0, width: float = 8.0) -> torch.Tensor:
    cells = int(side / CELL)
    low, high = int((side - width) / 2 / CELL), int((side + width) / 2 / CELL)
    ground = torch.full((cells, cells), FREE, dtype=torch.uint8)
    ground[low:high] = DRIVABLE
    ground[:, low:high] = DRIVABLE
    return ground


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_known_ground_stays_and_all_is_filled(seed: int) -> None:
    ground = _crossroads()
    before = ground.clone()
    world = grow(ground, (3.0, -7.0), CELL, seed)
    assert torch.equal(ground, before)
    assert (world.ground != FREE).all()
    assert torch.equal(world.ground == DRIVABLE, before == DRIVABLE)
    assert world.origin == (3.0, -7.0)
    assert set(world.recorded).isdisjoint(world.grown)
    assert (world.top[world.standing != FREE] > world.bottom[world.standing != FREE]).all()
    assert (world.standing[:, before == DRIVABLE] == FREE).all(), "the road is kept clear"


def test_the_town_has_all_it_needs() -> None:
    counts = torch.zeros(len(CLASS_ID), dtype=torch.long)
    for seed in range(4):
        world = grow(_crossroads(), (0.0, 0.0), CELL, seed)
        counts += torch.bincount(torch.cat((world.ground.flatten(), world.standing.flatten())).long(), minlength=len(CLASS_ID))
    for name in ("sidewalk", "terrain", "manmade", "vegetation", "barrier", "traffic_cone", "others", "other_flat"):
        assert counts[CLASS_ID[name]] > 0, name


def test_same_seed_same_town() -> None:
    first, again, other = (grow(_crossroads(), (0.0, 0.0), CELL, seed) for seed in (4, 4, 5))
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("ground", "standing", "bottom", "top"))
    assert not torch.equal(first.standing, other.standing)


def test_nothing_stands_on_cells_to_keep_clear() -> None:
    ground = _crossroads()
    clear = torch.zeros(ground.shape, dtype=torch.bool)
    clear[:, : ground.shape[1] // 2] = True
    world = grow(ground, (0.0, 0.0), CELL, 3, clear)
    assert (world.standing[0][clear] == FREE).all()
    assert (world.standing[0][~clear] != FREE).any()


def test_recorded_sidewalk_is_not_widened() -> None:
    ground = _crossroads()
    ground[100:104, 100:104] = CLASS_ID["sidewalk"]
    world = grow(ground, (0.0, 0.0), CELL, 3, recorded=("driveable_surface", "sidewalk"))
    assert torch.equal(world.ground == CLASS_ID["sidewalk"], ground == CLASS_ID["sidewalk"])
    assert "sidewalk" in world.recorded
    assert "sidewalk" not in world.grown


def test_a_place_without_roads_is_terrain() -> None:
    world = grow(torch.full((20, 30), FREE, dtype=torch.uint8), (0.0, 0.0), CELL, 1)
    assert (world.ground == CLASS_ID["terrain"]).all()
    assert (world.standing == FREE).all()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="grow: expected ground uint8"):
        grow(torch.zeros(4, 4), (0.0, 0.0), CELL, 0)
    with pytest.raises(ValueError, match="expected keep_clear"):
        grow(_crossroads(), (0.0, 0.0), CELL, 0, torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="pavement"):
        grow(_crossroads(), (0.0, 0.0), CELL, 0, recorded=("pavement",))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_polygons_are_filled_as_shapely_says(data: st.DataObject) -> None:
    shapely = pytest.importorskip("shapely")
    angles = sorted(data.draw(st.lists(st.floats(0, 6.28), min_size=3, max_size=9, unique=True)))
    radii = data.draw(st.lists(st.floats(0.5, 9.0), min_size=len(angles), max_size=len(angles)))
    outline = np.array([[5 + r * np.cos(a), 4 + r * np.sin(a)] for a, r in zip(angles, radii, strict=True)])
    raster = np.zeros((25, 22), dtype=np.uint8)
    fill_polygon(raster, (-1.0, -2.0), 0.5, outline, 1)
    x, y = np.meshgrid(-1.0 + 0.5 * (np.arange(25) + 0.5), -2.0 + 0.5 * (np.arange(22) + 0.5), indexing="ij")
    polygon = shapely.Polygon(outline)
    if not polygon.is_valid:
        return
    sure = np.asarray(shapely.distance(polygon.exterior, shapely.points(x, y))) > 1e-6
    assert (raster.astype(bool) == shapely.contains_xy(polygon, x, y))[sure].all()


def test_turned_window_has_the_area_of_its_rectangle() -> None:
    rows, columns, inside = turned_window((50.3, 40.7), 0.6, 20.0, 10.0, (100, 100)) or pytest.fail("left the raster")
    assert inside.shape == (rows.stop - rows.start, columns.stop - columns.start)
    assert abs(int(inside.sum()) - 200) < 15
    assert turned_window((2.0, 2.0), 0.6, 20.0, 10.0, (100, 100)) is None


def test_kept_apart_and_dense() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 30, (400, 2))
    chosen = points[keep_apart(points, 4.0, rng)]
    gaps = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1)
    assert (gaps[~np.eye(len(chosen), dtype=bool)] > 4.0).all()
    assert (np.linalg.norm(points[:, None] - chosen[None], axis=-1).min(1) <= 4.0).all()
