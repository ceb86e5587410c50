"""Planners drive: they stay on the road, take the bend, stop before walls and at red lights, and follow what moves."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest

import occworld_env
from agents.constant_velocity import ConstantVelocity
from agents.idm import Idm
from agents.planner import Planner, read_vector
from models.warp import WarpWorldModel
from occworld_env import BEV_CHANNELS, VECTOR_FIELDS, EnvConfig
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)
CONFIG = EnvConfig()
Street = Callable[[float | None], Scene]


def drive(scene: Scene, planner: Planner, steps: int) -> list[dict]:
    """Infos of a closed loop on the scene, until it ends; the known map keeps the road drivable beyond the photograph."""
    env = gymnasium.make("OccSora-v0", scenes=[scene], world_model=WarpWorldModel(MINI)).unwrapped
    observation, info = env.reset(seed=0, options={"scene": 0, "ego": 0, "start": 1.0})
    infos = []
    for _ in range(steps):
        observation, _, terminated, truncated, info = env.step(planner.act(observation, info))
        infos.append(info)
        if terminated or truncated:
            break
    return infos


def observation(speed: float = 10.0, target: float = 10.0, **vector: float) -> dict[str, np.ndarray]:
    """What a car sees on an empty straight road."""
    values = dict.fromkeys(VECTOR_FIELDS, 0.0) | {"light_distance": 1.0, "route_left": 1.0}
    values |= {"speed": speed / 20, "target_speed": target / 20}
    values |= {f"route_x_{d}": d / 38.4 for d in (5, 10, 15, 20, 25, 30, 35)} | {"route_x_40": 1.0} | vector
    image = np.zeros((len(BEV_CHANNELS), 96, 96), dtype=np.uint8)
    image[BEV_CHANNELS.index("drivable"), :, 40:56] = 255
    return {"image": image, "vector": np.array([values[name] for name in VECTOR_FIELDS], dtype=np.float32)}


def place(seen: dict[str, np.ndarray], channel: str, x: float, y: float, length: float = 4.5, width: float = 1.9) -> None:
    """Fill the cells of a box in the image, ego frame, metres."""
    inside = np.abs(MINI.x_centres.numpy() - x) <= length / 2, np.abs(MINI.y_centres.numpy() - y) <= width / 2
    seen["image"][BEV_CHANNELS.index(channel)][np.ix_(*inside)] = 255


def braking(seen: dict[str, np.ndarray]) -> float:
    """Pedal of a fresh planner."""
    return float(Idm().act(seen, {})[0])


def test_constant_velocity_holds_speed_and_runs_into_the_wall(street: Street) -> None:
    infos = drive(street(30.0), ConstantVelocity(), 20)
    assert infos[-1]["collision"]
    assert all(abs(info["speed"] - 6.0) < 0.1 for info in infos)


def test_idm_stops_before_a_wall_without_touching_it(street: Street) -> None:
    infos = drive(street(34.0), Idm(), 24)
    assert len(infos) == 24
    assert infos[-1]["speed"] < 0.3
    nose = infos[-1]["pose"][0] + 3.7
    assert 34 - 0.8 - 6 < nose < 34 - 0.8


def test_idm_follows_the_route_round_the_bend(street: Street) -> None:
    infos = drive(street(None), Idm(), 24)
    assert len(infos) == 24
    assert max(abs(info["deviation"]) for info in infos) < 1.0
    assert infos[-1]["pose"][2] == pytest.approx(np.pi / 2, abs=0.1)
    assert max(info["speed"] for info in infos) > 7.0
    assert all(info["comfortable"] for info in infos[2:])


def test_steering_turns_towards_the_route() -> None:
    left = observation(**{f"route_y_{d}": d * d / 60 / 38.4 for d in (5, 10, 15, 20, 25, 30, 35, 40)})
    assert Idm().act(left, {})[1] > 0.05
    right = observation(**{f"route_y_{d}": -d * d / 60 / 38.4 for d in (5, 10, 15, 20, 25, 30, 35, 40)})
    assert Idm().act(right, {})[1] == pytest.approx(-Idm().act(left, {})[1], abs=1e-6)
    assert Idm().act(observation(), {})[1] == pytest.approx(0, abs=1e-6)


def test_bends_slow_the_car_down() -> None:
    bend = observation(**{f"route_y_{d}": d * d / 24 / 38.4 for d in (5, 10, 15, 20, 25)})
    assert braking(bend) < -0.1 < braking(observation())


def test_only_what_lies_in_the_corridor_counts() -> None:
    free = braking(observation())
    beside, ahead, behind = observation(), observation(), observation()
    place(beside, "vehicle", 12, 3.5)
    place(ahead, "vehicle", 12, 0)
    place(behind, "vehicle", -10, 0)
    assert braking(beside) == braking(behind) == free
    assert braking(ahead) < -0.5


@pytest.mark.parametrize("channel", ["static_obstacle", "vehicle", "vulnerable"])
def test_nearer_things_are_braked_for_harder(channel: str) -> None:
    pedals = []
    for distance in (30, 20, 14):
        seen = observation(speed=8.0)
        place(seen, channel, distance, 0, 0.9, 0.9)
        pedals.append(braking(seen))
    assert pedals[0] > pedals[1] > pedals[2]


def test_a_leader_that_drives_away_is_not_braked_for() -> None:
    standing, leaving = observation(speed=8.0), observation(speed=8.0)
    for seen, moved in ((standing, 0.0), (leaving, 2.4)):
        place(seen, "vehicle", 18, 0)
        place(seen, "agents_before", 18 - moved, 0)
    assert braking(leaving) > braking(standing) + 0.3


def test_red_stops_and_green_does_not() -> None:
    red = observation(light_distance=0.3, light_red=1.0)
    green = observation(light_distance=0.3, light_green=1.0)
    assert braking(red) < -0.4
    assert braking(green) == braking(observation())


def test_a_batch_is_driven_as_each_of_its_worlds(street: Street) -> None:
    blocked = observation()
    place(blocked, "vehicle", 14, 0)
    worlds = [observation(), blocked, observation(speed=3.0)]
    batch = {name: np.stack([world[name] for world in worlds]) for name in worlds[0]}
    for planner in (Idm, ConstantVelocity):
        actions = planner().act(batch, {})
        assert actions.shape == (3, 2)
        assert actions.dtype == np.float32
        assert np.allclose(actions, [planner().act(world, {}) for world in worlds])


def test_reset_forgets_the_leader() -> None:
    seen = observation(speed=8.0)
    place(seen, "vehicle", 18, 0)
    place(seen, "agents_before", 15.6, 0)
    planner = Idm()
    first = planner.act(seen, {})
    still = observation(speed=8.0)
    place(still, "vehicle", 18, 0)
    place(still, "agents_before", 18, 0)
    remembered = planner.act(still, {})
    planner.reset()
    assert planner.act(still, {})[0] < remembered[0]
    planner.reset()
    assert np.array_equal(planner.act(seen, {}), first)


def test_vector_is_read_back_in_metres(street: Street) -> None:
    env = gymnasium.make("OccSora-v0", scenes=[street(None)], world_model=WarpWorldModel(MINI)).unwrapped
    seen, info = env.reset(seed=0, options={"scene": 0, "ego": 0, "start": 1.0})
    now = read_vector(seen["vector"][None], MINI, CONFIG)
    assert now.speed[0] == pytest.approx(info["speed"], abs=1e-4)
    assert now.target_speed[0] == pytest.approx(CONFIG.target_speed)
    assert np.allclose(now.route[0, 1:5], [(5, 0), (10, 0), (15, 0), (20, 0)], atol=0.05)
    assert np.isinf(now.light[0])
