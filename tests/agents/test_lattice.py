"""The lattice planner promises what the car can do, foresees what moves, stops for walls and goes round a parked car."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import occworld_env
from agents.driver import Setting
from agents.forecast import clearance, velocities
from agents.lattice import Lattice
from agents.lattice_candidates import Candidates, LatticeOptions, drive_candidates
from agents.load import load_planner
from agents.planner import Situation
from models.warp import WarpWorldModel
from occworld_env import BEV_CHANNELS
from scenes.grid import CLASS_ID, MINI
from scenes.scene import Lights, Scene

gymnasium.register_envs(occworld_env)
Street = Callable[[float | None], Scene]
SETTING, OPTIONS = Setting(), LatticeOptions()
CAR = SETTING.config.bicycle


def situation(speed: float = 8.0, bend: float = 0.0, **more: float) -> Situation:
    """One world on a road of constant curvature `bend`, 1/m, and parallel to it."""
    arc = np.arange(0.0, 41.0, 5.0)
    turned = bend * arc
    x = np.where(np.abs(bend) < 1e-9, arc, np.sin(turned) / (bend or 1.0))
    y = np.where(np.abs(bend) < 1e-9, 0.0, (1 - np.cos(turned)) / (bend or 1.0))
    values = dict.fromkeys(("acceleration", "steering", "yaw_rate", "deviation", "heading"), 0.0) | {"light": np.inf} | more
    values |= {"speed": speed, "target_speed": 10.0, "left": 100.0}
    parts = {name: np.array([value]) for name, value in values.items()}
    return Situation(route=np.stack((x, y - values["deviation"]), axis=-1)[None], **parts)


def raster() -> dict[str, np.ndarray]:
    """Empty layers of an image, by name."""
    return {name: np.zeros(MINI.shape[:2], dtype=np.uint8) for name in BEV_CHANNELS}


def box(x: float, y: float, length: float = 4.6, width: float = 1.9) -> tuple[np.ndarray, ...]:
    """Cells whose middles lie in a box, metres in the ego frame."""
    return np.ix_(np.abs(MINI.x_centres.numpy() - x) <= length / 2, np.abs(MINI.y_centres.numpy() - y) <= width / 2)


def image(layers: dict[str, np.ndarray]) -> np.ndarray:
    """The layers as the environment gives them."""
    return np.stack([layers[name] for name in BEV_CHANNELS])


@settings(max_examples=40, deadline=None)
@given(
    speed=st.floats(0, 20),
    bend=st.floats(-0.08, 0.08),
    steering=st.floats(-0.5, 0.5),
    deviation=st.floats(-8, 8),
    heading=st.floats(-3, 3),
)
def test_candidates_stay_within_the_bounds_of_the_car(
    speed: float, bend: float, steering: float, deviation: float, heading: float
) -> None:
    now = situation(speed, bend, steering=steering, deviation=deviation, heading=heading)
    found = drive_candidates(now, OPTIONS, SETTING)
    assert found.poses.shape == (1, len(OPTIONS.offsets) * len(OPTIONS.accelerations), 2 * OPTIONS.steps, 3)
    start = np.broadcast_to([0.0, 0.0, 0.0], (*found.poses.shape[:2], 1, 3))
    poses = np.concatenate((start, found.poses.numpy()), axis=2)
    speeds = np.concatenate((np.full((*found.speed.shape[:2], 1), speed), found.speed.numpy()), axis=2)
    dt, low, high = (
        SETTING.frame_dt,
        np.minimum(speeds[..., 1:], speeds[..., :-1]),
        np.maximum(speeds[..., 1:], speeds[..., :-1]),
    )
    assert (speeds >= 0).all()
    assert (speeds <= CAR.max_speed + 1e-9).all()
    gain = np.diff(speeds) / dt
    assert (gain <= CAR.max_acceleration + 1e-6).all()
    assert (gain >= -CAR.max_braking - 1e-6).all()
    moved = np.linalg.norm(np.diff(poses[..., :2], axis=2), axis=-1)
    assert (moved <= high * dt + 1e-6).all()
    turn = np.abs((np.diff(poses[..., 2]) + np.pi) % (2 * np.pi) - np.pi)
    assert (turn <= high * dt * np.tan(CAR.max_steering) / CAR.wheelbase + 1e-6).all()
    grip = SETTING.config.max_lateral_acceleration * dt / np.maximum(low, 1e-3)
    assert (turn <= 1.25 * grip + 1e-6).all()  # the bound is that of the speed at the beginning of each integration step


@settings(max_examples=20, deadline=None)
@given(speed=st.floats(3, 10), deviation=st.floats(-2, 2))
def test_candidates_end_at_their_offsets_on_a_straight_road(speed: float, deviation: float) -> None:
    options = replace(OPTIONS, accelerations=(0.0,), steps=12)
    found = drive_candidates(situation(speed, deviation=deviation), options, SETTING)
    ended = found.poses[0, :, -1, 1].numpy() + deviation
    assert np.allclose(ended, options.offsets, atol=0.2)
    assert np.allclose(found.arc[0, :, -1], 6 * speed, atol=3.0)


def test_candidates_brake_for_the_bend() -> None:
    sharp = drive_candidates(situation(8.0, bend=0.06), OPTIONS, SETTING)
    assert float(sharp.speed[..., -1].max()) == pytest.approx(np.sqrt(2.2 / 0.06), rel=0.1)


@settings(max_examples=40, deadline=None)
@given(x=st.floats(-20, 20), y=st.floats(-20, 20), vx=st.floats(-15, 15), vy=st.floats(-15, 15))
def test_velocity_is_recovered_to_the_cell(x: float, y: float, vx: float, vy: float) -> None:
    now, before = np.zeros((2, *MINI.shape[:2]), dtype=np.uint8)
    now[box(x, y)] = 255
    before[box(x - 0.25 * vx, y - 0.25 * vy)] = 255
    things, velocity = velocities(now, before, MINI, 0.25)
    found = velocity[things[box(x, y)]].reshape(-1, 2)
    assert np.ptp(found, axis=0).max() == 0  # one car, one velocity
    if np.hypot(*found[0]) > 0:
        assert np.abs(found[0] - (vx, vy)).max() <= MINI.voxel / 0.25
    else:
        assert np.hypot(vx, vy) < 2.0 + 1.5 * MINI.voxel / 0.25 or np.hypot(vx, vy) > 20.0 - 1.5 * MINI.voxel / 0.25


def test_a_moving_car_is_expected_ahead_and_where_it_would_brake() -> None:
    layers = raster()
    layers["vehicle"][box(0.0, 8.0)] = 255
    layers["agents_before"][box(-2.4, 8.0)] = 255  # 9.6 m/s
    layers["static_obstacle"][box(20.0, -8.0)] = 255
    near = clearance(image(layers), MINI, 0.25, np.array([0.0, 2.0, 3.2]))

    def at(x: float, y: float) -> np.ndarray:
        return near[:, int((x - MINI.origin[0]) / MINI.voxel), int((y - MINI.origin[1]) / MINI.voxel)]

    assert (at(20.0, -8.0) == 0).all()
    assert (at(0.0, 8.0) == 0).tolist() == [True, False, False]
    assert at(9.6 * 2.0, 8.0)[1] == 0
    assert at(9.6 * 2.0 - 0.5 * 3.0 * 2.0**2, 8.0)[1] == 0
    assert at(9.6**2 / (2 * 3.0), 8.0)[2] == 0  # it has stopped
    assert (at(0.0, -30.0) > 15).all()


def test_an_empty_image_is_all_free() -> None:
    assert clearance(image(raster()), MINI, 0.25, np.array([0.5])).min() > 70


def pedal_and_wheel(layers: dict[str, np.ndarray], now: Situation) -> tuple[float, float]:
    """Acceleration and front wheel angle chosen for one world."""
    acceleration, steering = Lattice().drive(now, image(layers)[None], np.array([True]))
    return float(acceleration[0]), float(steering[0])


def test_free_road_is_driven_at_the_target_speed_in_the_middle() -> None:
    pedal, wheel = pedal_and_wheel(raster(), situation(6.0))
    assert pedal > 0.5
    assert wheel == pytest.approx(0.0, abs=1e-3)
    assert pedal_and_wheel(raster(), situation(10.0))[0] == pytest.approx(0.0, abs=1e-6)


def test_a_wall_is_braked_for_and_a_parked_car_gone_round() -> None:
    wall, car = raster(), raster()
    wall["static_obstacle"][box(20.0, 0.0, 2.0, 40.0)] = 255
    assert pedal_and_wheel(wall, situation(8.0))[0] < -1.0
    car["vehicle"][box(22.0, -0.8)] = car["agents_before"][box(22.0, -0.8)] = 255
    pedal, wheel = pedal_and_wheel(car, situation(8.0))
    assert pedal > -0.5
    assert wheel > 0.01
    for side in (-6.0, 6.0):  # but not over the grass
        car["other_flat"][box(22.0, side, 60.0, 10.0)] = 255
    assert pedal_and_wheel(car, situation(8.0))[0] < -0.5


def test_a_leader_that_drives_on_is_followed() -> None:
    standing, leaving = raster(), raster()
    for layers, moved in ((standing, 0.0), (leaving, 2.4)):
        layers["vehicle"][box(20.0, 0.0, 4.6, 6.0)] = 255
        layers["agents_before"][box(20.0 - moved, 0.0, 4.6, 6.0)] = 255
    assert pedal_and_wheel(leaving, situation(8.0))[0] > pedal_and_wheel(standing, situation(8.0))[0] + 0.5


def test_red_is_stopped_at_unless_it_is_too_late() -> None:
    assert pedal_and_wheel(raster(), situation(8.0, light=20.0))[0] < -0.5
    assert pedal_and_wheel(raster(), situation(10.0, light=8.0))[0] == pytest.approx(0.0, abs=1e-6)
    assert pedal_and_wheel(raster(), situation(0.0, light=5.0))[0] < 0.5


def test_lattice_drives_the_street_and_stops_before_the_wall(street: Street) -> None:
    def drive(wall_at: float | None) -> list[dict[str, Any]]:
        env = gymnasium.make("OccSora-v0", scenes=[street(wall_at)], world_model=WarpWorldModel(MINI)).unwrapped
        planner = load_planner("lattice", env)
        observation, info = env.reset(seed=0, options={"start": 1.0})
        infos = []
        for _ in range(32):
            observation, _, terminated, _, info = env.step(planner.act(observation, info))
            infos.append(info)
            if terminated:
                break
        return infos

    free, walled = drive(None), drive(45.0)
    assert len(free) == len(walled) == 32
    assert max(abs(info["deviation"]) for info in free) < 1.0
    assert free[-1]["pose"][2] == pytest.approx(np.pi / 2, abs=0.1)
    assert walled[-1]["speed"] < 0.3
    assert 45 - 0.8 - 12 < walled[-1]["pose"][0] + 3.7 < 45 - 0.8
    assert CLASS_ID["barrier"] not in [info["collision_class"] for info in walled]


@pytest.mark.parametrize("name", ["idm", "lattice"])
def test_red_is_waited_at_before_the_line(name: str, street: Street) -> None:
    red = Lights(torch.tensor([[36.0, 0.0, 0.0]], dtype=torch.float64), torch.ones(1, 200, dtype=torch.uint8))
    scene = replace(street(None), lights=red)
    env = gymnasium.make("OccSora-v0", scenes=[scene], world_model=WarpWorldModel(MINI)).unwrapped
    planner = load_planner(name, env)
    observation, info = env.reset(seed=0, options={"start": 1.0})
    for _ in range(40):
        observation, _, _, _, info = env.step(planner.act(observation, info))
    assert info["speed"] < 0.1
    assert 36.0 - 6.0 < info["pose"][0] + 3.7 < 36.0


def test_candidates_of_a_batch_are_those_of_each_world() -> None:
    one, two = situation(5.0, bend=0.03), situation(9.0, deviation=1.0)
    both = Situation(*(np.concatenate((getattr(one, name), getattr(two, name))) for name in Situation.__dataclass_fields__))
    together = drive_candidates(both, OPTIONS, SETTING)
    for world, now in enumerate((one, two)):
        alone = drive_candidates(now, OPTIONS, SETTING)
        for name in Candidates.__dataclass_fields__:
            assert np.allclose(getattr(together, name)[world], getattr(alone, name)[0], atol=1e-9)
