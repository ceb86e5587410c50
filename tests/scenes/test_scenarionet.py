"""Recordings in ScenarioNet's format: what becomes of them, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scenes.grid import CLASS_ID, CLASSES, DRIVABLE, FREE
from scenes.motion import motion_from_poses
from scenes.scenarionet import load_scenario, occupied, scenario_name
from scenes.scenarionet_classes import NUSCENES_CATEGORIES, class_of, light_state
from scenes.scenarionet_nuscenes import retime, smooth

FRAMES = 61
TIME = np.arange(FRAMES) * 0.1


def _track(kind: str, category: str | None, x: np.ndarray, y: float, size: tuple[float, float, float]) -> dict[str, Any]:
    full = np.ones(FRAMES)
    return {
        "type": kind,
        "state": {
            "position": np.stack((x, full * y, full * 0), axis=-1),
            "heading": np.zeros(FRAMES),
            "velocity": np.zeros((FRAMES, 2)),
            "valid": full.copy(),
            **{key: full[:, None] * value for key, value in zip(("length", "width", "height"), size, strict=True)},
        },
        "metadata": {"type": category},
    }


def _recording(dataset: str = "nuscenes") -> dict[str, Any]:
    names = {"car": "vehicle.car", "cone": "movable_object.trafficcone", "person": "human.pedestrian.adult"}
    category = names.get if dataset == "nuscenes" else {}.get
    tracks = {
        "ego": _track("VEHICLE", category("car"), 500 + 8 * TIME, 300.0, (1.73, 4.08, 1.56)),
        "lead": _track("VEHICLE", category("car"), 520 + 6 * TIME, 300.0, (4.5, 1.9, 1.6)),
        "parked": _track("VEHICLE", category("car"), 540 + 0 * TIME, 305.0, (4.5, 1.9, 1.6)),
        "cone": _track("TRAFFIC_CONE", category("cone"), 530 + 0 * TIME, 303.0, (0.4, 0.4, 1.0)),
        "walker": _track("PEDESTRIAN", category("person"), 535 + TIME, 309.0, (0.7, 0.7, 1.8)),
    }
    tracks["cone"]["state"]["valid"][20:] = 0
    tracks["walker"]["state"]["valid"][30:35] = 0
    corners = np.array([[300.0, 294.0], [800.0, 294.0], [800.0, 306.0], [300.0, 306.0]])
    lane = {"type": "LANE_SURFACE_STREET", "polyline": np.array([[300.0, 297.0], [800.0, 297.0]])}
    features: dict[str, Any] = {"1": lane}
    if dataset == "nuscenes":
        lane["polygon"] = corners
    else:
        features["2"] = {"type": "LANE_SURFACE_STREET", "polyline": np.array([[300.0, 303.0], [800.0, 303.0]])}
        features["edge"] = {"type": "ROAD_EDGE_BOUNDARY", "polyline": np.array([[300.0, 293.5], [800.0, 293.5]])}
    return {
        "id": "made-1",
        "metadata": {"dataset": dataset, "sdc_id": "ego", "ts": TIME},
        "tracks": tracks,
        "map_features": features,
        "dynamic_map_states": {
            "7": {
                "type": "TRAFFIC_LIGHT",
                "state": {"object_state": ["LANE_STATE_STOP"] * 30 + ["LANE_STATE_GO"] * 31},
                "lane": "1",
                "stop_point": np.array([600.0, 297.0, 0.0]),
            }
        },
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    def to_file(recording: Any) -> Path:
        path = tmp_path / "recording.pkl"
        path.write_bytes(pickle.dumps(recording))
        return path

    return to_file


def test_a_nuscenes_recording_becomes_a_scene(write: Callable[[Any], Path]) -> None:
    scene = load_scenario(write(_recording()))
    assert (scene.source, scene.dt, scene.frames) == ("nuscenes/made-1", 0.1, FRAMES)
    assert scene.tracks.ids[0] == "ego"
    assert scene.egos == (0, scene.tracks.ids.index("lead"))
    poses = scene.ego_poses(0, torch.tensor([0.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(poses[1, :2] - poses[0, :2], torch.tensor([16.0, 0.0], dtype=torch.float64), atol=1e-3, rtol=0)
    assert float((scene.tracks.poses[0, 0, :2] - poses[0, :2]).norm()) == pytest.approx(1.39, abs=1e-3)
    assert scene.tracks.sizes[0].tolist() == pytest.approx([4.08, 1.73, 1.56])
    names = {name: CLASSES[int(label)] for name, label in zip(scene.tracks.ids, scene.tracks.classes, strict=True)}
    assert names == {"ego": "car", "lead": "car", "parked": "car", "cone": "traffic_cone", "walker": "pedestrian"}


def test_the_name_is_that_of_the_scene(write: Callable[[Any], Path]) -> None:
    recording = _recording()
    assert scenario_name(write(recording)) == load_scenario(write(recording)).name == "made-1"
    del recording["id"]
    assert scenario_name(write(recording)) == load_scenario(write(recording)).name == "recording"
    with pytest.raises(ValueError, match=r"recording\.pkl: expected a dict"):
        scenario_name(write([]))


def test_gaps_close_and_fixtures_stay(write: Callable[[Any], Path]) -> None:
    recording = _recording()
    recording["tracks"]["walker"]["state"]["position"][30:35] = np.nan
    scene = load_scenario(write(recording))
    valid = dict(zip(scene.tracks.ids, scene.tracks.valid, strict=True))
    assert bool(valid["cone"].all())
    assert bool(valid["walker"].all())
    recording["tracks"]["walker"]["state"]["valid"][20:45] = 0
    valid = dict(zip(scene.tracks.ids, load_scenario(write(recording)).tracks.valid, strict=True))
    assert int(valid["walker"].sum()) == FRAMES - 25


@pytest.mark.parametrize("dataset", ["nuscenes", "waymo"])
def test_the_road_is_recorded_and_the_rest_grown_clear_of_everybody(write: Callable[[Any], Path], dataset: str) -> None:
    scene = load_scenario(write(_recording(dataset)))
    static = scene.static
    assert static.recorded == ("driveable_surface",)
    assert {"sidewalk", "terrain"} <= set(static.grown)
    shift = scene.tracks.poses[0, 0, :2] - torch.tensor([500.0 + (1.39 if dataset == "nuscenes" else 0.0), 300.0])

    def ground(x: float, y: float) -> int:
        i, j, inside = static.cells(torch.tensor([x, y], dtype=torch.float64) + shift)
        assert bool(inside)
        return int(static.ground[i, j])

    if dataset == "nuscenes":
        assert ground(520.0, 294.5) == ground(520.0, 305.5) == DRIVABLE
        assert ground(520.0, 306.5) != DRIVABLE
    else:  # 1.8 m about each centre line, and on to the edge that is recorded on one side
        assert ground(520.0, 294.1) == ground(520.0, 298.5) == ground(520.0, 304.5) == DRIVABLE
        assert ground(520.0, 292.9) != DRIVABLE
        assert ground(520.0, 305.5) != DRIVABLE
    under_boxes = occupied(scene.tracks, static.origin, static.cell, tuple(static.ground.shape), margin=0.0)
    assert int(under_boxes.sum()) > 100
    assert bool((static.standing[0][under_boxes] == FREE).all())


def test_lights_stand_at_their_stop_line_facing_along_the_lane(write: Callable[[Any], Path]) -> None:
    scene = load_scenario(write(_recording("waymo")))
    assert scene.lights.states.shape == (1, FRAMES)
    assert scene.lights.states[0, [0, 29, 30, 60]].tolist() == [1, 1, 3, 3]
    assert float(scene.lights.poses[0, 0] - scene.tracks.poses[0, 0, 0]) == pytest.approx(100.0)
    assert float(scene.lights.poses[0, 2]) == pytest.approx(0.0)
    assert [light_state(name) for name in ("LANE_STATE_ARROW_CAUTION", "TRAFFIC_LIGHT_GREEN", "LANE_STATE_UNKNOWN", None)] == [
        2,
        3,
        0,
        0,
    ]


def test_every_class_of_the_table_exists_and_sizes_tell_vehicles_apart() -> None:
    assert set(NUSCENES_CATEGORIES.values()) <= set(CLASSES)
    for category, name in NUSCENES_CATEGORIES.items():
        assert class_of("VEHICLE", category, 30.0, 4.0) == CLASS_ID[name]
    assert [CLASSES[class_of("VEHICLE", None, length, height)] for length, height in ((4.5, 1.6), (7.0, 2.4), (12.0, 3.2))] == [
        "car",
        "truck",
        "bus",
    ]
    assert CLASSES[class_of("CYCLIST", "CYCLIST", 1.8, 1.7)] == "bicycle"
    assert CLASSES[class_of("something new", None, 1.0, 1.0)] == "others"


def _without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def change(recording: dict[str, Any]) -> Any:
        inner = recording
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        return recording

    return change


def _with(value: Any, *keys: str) -> Callable[[dict[str, Any]], Any]:
    def change(recording: dict[str, Any]) -> Any:
        inner = recording
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return recording

    return change


_NAN = np.full((FRAMES, 3), np.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda recording: [1, 2], "expected a dict"),
        (_without("tracks"), "no 'tracks'"),
        (_without("metadata"), "no 'metadata'"),
        (_without("map_features"), "no 'map_features'"),
        (_with({}, "tracks"), "'tracks' is empty"),
        (_without("metadata", "sdc_id"), "no 'sdc_id'"),
        (_without("metadata", "ts"), "no 'ts'"),
        (_with(np.zeros(FRAMES), "metadata", "ts"), "rise evenly"),
        (_with(np.append(TIME[:-1], np.nan), "metadata", "ts"), "rise evenly and be finite"),
        (_with(np.zeros(1), "metadata", "ts"), "two time stamps or more"),
        (_without("tracks", "ego"), "the ego's track 'ego' is not among the 4 tracks"),
        (_with(np.zeros(FRAMES), "tracks", "ego", "state", "valid"), "valid at no frame"),
        (_without("tracks", "lead", "state"), "track 'lead' has no 'state'"),
        (_without("tracks", "lead", "state", "heading"), "track 'lead' has no 'heading'"),
        (_with(np.zeros((FRAMES - 1, 3)), "tracks", "lead", "state", "position"), r"'position' should have 61 rows.*\(60, 3\)"),
        (_with(np.zeros(FRAMES), "tracks", "lead", "state", "position"), "two or three columns"),
        (_with(_NAN, "tracks", "lead", "state", "position"), "track 'lead': position or heading is not finite at frame 0"),
        (_with(_NAN, "tracks", "ego", "state", "position"), "track 'ego': position or heading is not finite"),
        (_with(["a"] * FRAMES, "tracks", "lead", "state", "valid"), "'valid' should hold numbers"),
        (_with(np.ones((FRAMES, 2)), "tracks", "lead", "state", "length"), "'length' should be one number a time step"),
        (_with(np.full((4, 2), np.nan), "map_features", "1", "polygon"), "map feature: expected finite points"),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_the_file(
    write: Callable[[Any], Path], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = write(change(copy.deepcopy(_recording())))
    with pytest.raises(ValueError, match=message) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(str(path))


def test_lost_bus_messages_are_made_good() -> None:
    true = np.stack((10 * TIME + 0.2 * TIME**2, 0 * TIME, 0 * TIME), axis=-1)
    measured = TIME + 0.02 * (np.arange(FRAMES)[:, None] > np.array([12, 30, 31])).sum(1)
    rows = np.stack((10 * measured + 0.2 * measured**2, 0 * TIME, 0 * TIME), axis=-1)
    assert np.abs(rows - true).max() > 0.6
    assert np.abs(retime(rows, 0.1) - true)[:-1].max() < 0.03
    np.testing.assert_allclose(retime(true, 0.1), true, atol=1e-6)
    rows[-3:] = true[-3:]  # the messages end, key frames take over
    assert np.abs(retime(rows, 0.1) - true).max() < 0.03


def test_smoothing_takes_the_jumps_and_leaves_the_path() -> None:
    knots = np.cumsum([5.0, 6.0, 4.5, 6.5, 5.0, 5.5, 6.0, 4.0, 5.0, 6.0, 5.0, 5.5, 5.0])
    x = np.interp(TIME, np.arange(13) * 0.5, knots)
    poses = np.stack((x, 0.1 * x, np.full(FRAMES, 3.1)), axis=-1)
    valid = np.ones(FRAMES, dtype=bool)
    valid[40:43] = False
    smoothed = smooth(poses, valid)
    assert np.abs(smoothed - poses).max() < 0.5
    assert np.abs(np.diff(smoothed[:40, 0], 2)).max() < 0.5 * np.abs(np.diff(poses[:40, 0], 2)).max()
    np.testing.assert_allclose(smoothed[[0, 39, 43, 60]], poses[[0, 39, 43, 60]], atol=1e-9)
    straight = np.stack((8 * TIME, 0 * TIME, 0 * TIME), axis=-1)
    np.testing.assert_allclose(smooth(straight, valid), straight, atol=1e-9)


def _slip(poses: torch.Tensor, dt: float) -> float:
    """How far ahead of its rear axle a car's poses (T, 3) are: what moves sideways as the car turns."""
    motion = motion_from_poses(poses)[1:].double() / dt
    yaw_rate = motion[:, 2]
    sideways = motion[:, 1] - motion[:, 0] * yaw_rate * dt / 2  # of the chord, in the direction half way round
    return float((sideways * yaw_rate).sum() / yaw_rate.square().sum())


def test_real_recordings_load_and_their_egos_move_like_rear_axles(shared_data: Path) -> None:
    paths = sorted((shared_data / "nuscenes_mini").glob("*.pkl"))[-2:] + sorted((shared_data / "waymo").glob("*.pkl"))
    for path in paths:
        scene = load_scenario(path)
        times = torch.arange(0, scene.duration, 0.5, dtype=torch.float64)
        poses = scene.ego_poses(0, times)
        speed = motion_from_poses(poses)[1:, :2].norm(dim=-1) / 0.5
        assert float(speed.diff().abs().max()) / 0.5 < 5.0
        assert abs(_slip(poses, 0.5)) < 0.7  # the middle of a box would show 1.4 m or more
        assert len(scene.egos) > 3
        path_cells = scene.static.cells(poses[:, :2])
        assert float((scene.static.ground[path_cells[0], path_cells[1]] == DRIVABLE).float().mean()) > 0.95
    assert scene.source.startswith("waymo/")
    assert set(scene.lights.states.unique().tolist()) >= {1, 3}
