"""The pictures show what is in the voxels: right side up, right colour, nothing hidden that should be seen."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from occworld_env.drawing import FRAME_SIZE, Readout, draw_frame
from occworld_env.drawing_bev import Overlay, draw_bev, to_pixels
from occworld_env.drawing_light import light_volume
from occworld_env.drawing_sight import Camera
from occworld_env.drawing_voxels import draw_voxels
from scenes.grid import CLASS_ID, COLOURS, DRIVABLE, FREE, MINI, OCC3D, Grid

GRIDS = pytest.mark.parametrize("grid", [MINI, OCC3D], ids=["mini", "occ3d"])


def street(grid: Grid) -> np.ndarray:
    """A road across the whole grid, with sidewalks to both sides."""
    occupancy = np.full(grid.shape, FREE, dtype=np.uint8)
    across = np.abs(grid.y_centres.numpy())
    occupancy[:, :, grid.ground_index] = np.where(across < 6, DRIVABLE, CLASS_ID["sidewalk"])
    return occupancy


def put(occupancy: np.ndarray, grid: Grid, name: str, x: tuple[float, float], y: tuple[float, float], top: float) -> None:
    """Fill the voxels whose centres lie in a box that stands on the ground."""
    inside = [
        (centres.numpy() > low) & (centres.numpy() < high)
        for centres, (low, high) in zip((grid.x_centres, grid.y_centres, grid.z_centres), (x, y, (0, top)), strict=True)
    ]
    occupancy[np.ix_(*inside)] = CLASS_ID[name]


def likeness(image: np.ndarray, name: str) -> np.ndarray:
    """Where the hue of image (H, W, 3) is that of a class, bool (H, W), whatever the brightness."""
    tone = np.asarray(COLOURS[CLASS_ID[name]], dtype=np.float64)
    pixels = image.astype(np.float64)
    cosine = pixels @ tone / (np.linalg.norm(pixels, axis=-1) + 1e-9) / np.linalg.norm(tone)
    return (cosine > 0.985) & (image.max(axis=-1) > 60)


def middle(mask: np.ndarray) -> tuple[float, float]:
    """Mean row and column of a mask."""
    assert mask.any()
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


@GRIDS
@pytest.mark.parametrize(("x", "y"), [(20.0, 0.0), (-20.0, 0.0), (10.0, 9.0), (10.0, -9.0), (-15.0, 25.0)])
def test_bev_puts_forward_up_and_left_left(grid: Grid, x: float, y: float) -> None:
    occupancy = street(grid)
    put(occupancy, grid, "bus", (x - 5, x + 5), (y - 1.5, y + 1.5), 3.0)
    row, column = middle(likeness(draw_bev(occupancy, grid, 480), "bus"))
    want_column, want_row = to_pixels(np.array([[x, y]]), grid, 480)[0]
    metre = 480 / (grid.shape[0] * grid.voxel)
    assert abs(row - want_row) < grid.voxel * metre
    assert abs(column - want_column) < grid.voxel * metre
    assert (row < 240) == (x > 0)


@GRIDS
def test_bev_shows_the_highest_voxel_of_a_column(grid: Grid) -> None:
    occupancy = street(grid)
    occupancy[60:, 60:, -1] = CLASS_ID["vegetation"]
    image = draw_bev(occupancy, grid, 240)
    column, row = to_pixels(np.array([[float(grid.x_centres[-8]), float(grid.y_centres[-8])]]), grid, 240)[0].astype(int)
    assert likeness(image, "vegetation")[row, column]


def test_bev_draws_route_under_agents_and_over_the_road() -> None:
    occupancy = street(MINI)
    put(occupancy, MINI, "car", (8, 13), (-1, 1), 1.6)
    route = np.array([[-30.0, 0.0], [30.0, 0.0]])
    plain, marked = draw_bev(occupancy, MINI), draw_bev(occupancy, MINI, overlay=Overlay(route=route))
    changed = (plain != marked).any(axis=-1)
    column, row = to_pixels(np.array([[20.0, 0.0], [10.5, 0.0]]), MINI, 480).astype(int).T
    assert changed[row[0], column[0]]
    assert not changed[row[1], column[1]]
    assert abs(middle(changed)[1] - 240) < 1


@GRIDS
def test_chase_view_keeps_left_left_and_far_small(grid: Grid) -> None:
    sizes = []
    for x, y in ((8.0, 5.0), (8.0, -5.0), (26.0, 5.0)):
        occupancy = street(grid)
        put(occupancy, grid, "car", (x - 2.3, x + 2.3), (y - 1, y + 1), 1.6)
        seen = likeness(draw_voxels(occupancy, grid), "car")
        assert (middle(seen)[1] < 360) == (y > 0)
        sizes.append(int(seen.sum()))
    assert sizes[2] < 0.6 * sizes[0]
    assert abs(sizes[1] - sizes[0]) < 0.15 * sizes[0]


def test_chase_view_hides_what_stands_behind_a_wall() -> None:
    occupancy = street(MINI)
    put(occupancy, MINI, "motorcycle", (20, 21), (9, 10), 1.8)
    open_view = likeness(draw_voxels(occupancy, MINI), "motorcycle").sum()
    put(occupancy, MINI, "manmade", (12, 16), (4, 14), 5.6)
    assert open_view > 20
    assert likeness(draw_voxels(occupancy, MINI), "motorcycle").sum() == 0


def test_top_of_a_box_is_lighter_than_its_sides() -> None:
    occupancy = street(MINI)
    put(occupancy, MINI, "bus", (10, 20), (-1.5, 1.5), 3.2)
    image = draw_voxels(occupancy, MINI)
    seen = likeness(image, "bus")
    rows = np.nonzero(seen.any(axis=1))[0]
    top, side = rows[0] + 3, rows[-1] - 3
    brightness = image.max(axis=-1).astype(float)
    assert brightness[top][seen[top]].mean() > 1.2 * brightness[side][seen[side]].mean()


def ego_pixels(image: np.ndarray) -> int:
    """Bright white pixels around the place where the ego is drawn."""
    return int((image[290:410, 320:400].min(axis=-1) > 190).sum())


@GRIDS
def test_nothing_between_camera_and_ego_hides_it(grid: Grid) -> None:
    clear = draw_voxels(street(grid), grid)
    blocked = street(grid)
    put(blocked, grid, "vegetation", (-12, -4), (-6, 6), 5.6)
    image = draw_voxels(blocked, grid)
    assert ego_pixels(clear) > 500
    assert ego_pixels(image) > 0.9 * ego_pixels(clear)
    assert likeness(image, "vegetation").any()  # only what is in the way is cut out


def test_ego_shows_through_a_truck_close_behind() -> None:
    blocked = street(MINI)
    put(blocked, MINI, "truck", (-12, -2), (-2, 2), 4.0)
    with_ego = draw_voxels(blocked, MINI).astype(int)
    elsewhere = draw_voxels(blocked, MINI, overlay=Overlay(length=0.01, width=0.01, height=0.01, rear=0.0)).astype(int)
    assert (np.abs(with_ego - elsewhere)[290:410, 320:400].sum(axis=-1) > 40).mean() > 0.2


@GRIDS
def test_same_voxels_same_picture_from_numpy_and_torch(grid: Grid) -> None:
    occupancy = np.random.default_rng(0).integers(0, 18, grid.shape).astype(np.uint8)
    first = draw_frame(occupancy, grid)
    assert first.shape == (FRAME_SIZE[1], FRAME_SIZE[0], 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, draw_frame(torch.from_numpy(occupancy), grid))


def test_empty_world_and_full_world_are_drawn() -> None:
    for kind in (FREE, CLASS_ID["manmade"]):
        assert draw_frame(np.full(MINI.shape, kind, dtype=np.uint8), MINI).std() > 0


def test_readout_is_written() -> None:
    occupancy = street(MINI)
    quiet = draw_frame(occupancy, MINI)
    loud = draw_frame(occupancy, MINI, readout=Readout(speed=9.0, note="collision", terms={"progress": 0.5}))
    changed = (quiet != loud).any(axis=-1)
    assert changed[:100, 480:].sum() > 200
    assert changed[480:, :].sum() > 200
    assert not changed[100:480].any()


@pytest.mark.parametrize("word", ["x" * 400, ""])
def test_any_length_of_text_fits(word: str) -> None:
    draw_frame(street(MINI), MINI, readout=Readout(action=word, caption=word, note=word))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"occupancy: expected uint8 \(96, 96, 8\)"):
        draw_bev(np.zeros((96, 96), dtype=np.uint8), MINI)
    with pytest.raises(ValueError, match="class ids below 18, found 200"):
        draw_voxels(np.full(MINI.shape, 200, dtype=np.uint8), MINI)
    with pytest.raises(ValueError, match=r"Camera\.height"):
        draw_voxels(street(MINI), MINI, camera=Camera(height=4.0))


def test_shadows_fall_away_from_the_sun_as_the_ego_turns() -> None:
    solid = np.zeros((40, 40, 8), dtype=bool)
    solid[19:21, 19:21, 1:6] = True
    centres = []
    for heading in (0.0, np.pi / 2):
        shadow = 1.2 - light_volume(solid, heading)[:, :, 1]
        shadow[17:23, 17:23] = 0
        shadow[shadow < 0.3] = 0
        at = np.argwhere(shadow > 0)
        centres.append((at - 19.5).mean(axis=0))
    x, y = centres[0]
    assert np.hypot(x, y) > 2
    assert np.allclose(centres[1], (y, -x), atol=0.6)


def test_drawing_is_fast_enough_for_every_step() -> None:
    for grid, limit in ((MINI, 0.06), (OCC3D, 0.3)):
        occupancy = street(grid)
        put(occupancy, grid, "manmade", (-30, 30), (9, 20), 5.0)
        draw_voxels(occupancy, grid)
        best = min(_seconds(occupancy, grid) for _ in range(5))
        assert best < 3 * limit, f"{grid.shape}: {best:.3f} s"  # room for a slower machine


def _seconds(occupancy: np.ndarray, grid: Grid) -> float:
    start = time.thread_time()  # of this thread alone, whatever else the machine does
    draw_voxels(occupancy, grid)
    return time.thread_time() - start
