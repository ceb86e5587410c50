"""The plain planners drive as their names say, one world or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import occworld_env
from agents.load import PLANNERS, load_planner
from agents.log_replay import LogReplay
from agents.planner import Planner
from agents.random_actions import RandomActions
from models.warp import WarpWorldModel
from occworld_env.env import OccSoraEnv
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)
Street = Callable[[float | None], Scene]
IMAGINING = {"cem", "mppi"}  # their own tests: tests/agents/test_imagination.py


def environment(scene: Scene | None = None, **settings: Any) -> OccSoraEnv:
    """One world on the rigid baseline, of a scene or of the bundled ones."""
    scenes = None if scene is None else [scene]
    return gymnasium.make("OccSora-v0", scenes=scenes, world_model=WarpWorldModel(MINI), **settings).unwrapped


def drive(env: OccSoraEnv, planner: Planner, steps: int, **options: Any) -> list[dict[str, Any]]:
    """Infos of an episode, the first of them at its start."""
    observation, info = env.reset(seed=0, options=options)
    planner.reset()
    infos = [info]
    for _ in range(steps):
        observation, _, terminated, truncated, info = env.step(planner.act(observation, info))
        infos.append(info)
        if terminated or truncated:
            break
    return infos


def test_stop_brakes_comfortably_and_stays(street: Street) -> None:
    env = environment(street(None))
    infos = drive(env, load_planner("stop", env), 12, start=1.0)
    assert [info["speed"] for info in infos[6:]] == [0.0] * 7
    assert infos[-1]["pose"][0] - infos[0]["pose"][0] == pytest.approx(6.0**2 / (2 * 3.0), abs=1.0)
    assert not infos[-1]["collision"]


def test_pure_pursuit_takes_the_bend_and_sees_no_wall(street: Street) -> None:
    env = environment(street(None))
    infos = drive(env, load_planner("pure-pursuit", env), 24, start=1.0)
    assert max(abs(info["deviation"]) for info in infos) < 1.0
    assert infos[-1]["pose"][2] == pytest.approx(np.pi / 2, abs=0.1)
    env = environment(street(40.0))
    assert drive(env, load_planner("pure-pursuit", env), 24, start=1.0)[-1]["collision"]


def test_log_drives_where_the_recorded_ego_drove() -> None:
    env = environment(target_speed=7.0)
    infos = drive(env, load_planner("log", env), 80)
    scene, ego = env.simulator.scenes[int(env.simulator.state["scene"])], int(env.simulator.state["ego"])
    times = torch.tensor([info["start"] + info["time"] for info in infos])
    recorded = times <= scene.ego_span(ego)[1] - 1.0
    there = scene.ego_poses(ego, times)[:, :2].numpy()
    apart = np.linalg.norm(there - [info["pose"][:2] for info in infos], axis=-1)
    assert recorded.sum() >= 3
    assert np.hypot(*(there[recorded][-1] - there[0])) > 5
    assert apart[recorded].max() < 0.6


def test_log_goes_on_along_the_route_where_the_recording_ends(street: Street) -> None:
    env = environment(street(None))  # recorded until 10 s, then the bend
    infos = drive(env, load_planner("log", env), 32, start=1.0)
    assert infos[16]["pose"][0] == pytest.approx(6.0 * 9.0, abs=0.3)
    assert infos[-1]["pose"][2] == pytest.approx(np.pi / 2, abs=0.1)


def test_log_says_that_it_has_to_be_attached() -> None:
    with pytest.raises(ValueError, match="attach"):
        LogReplay().act({"vector": np.zeros(29)}, {})


def test_random_actions_depend_on_the_episode_alone() -> None:
    seen, info = {"vector": np.zeros((3, 29))}, {"seed": np.array([4, 5, 4]), "time": np.array([0.0, 0.5, 0.5])}
    drawn = RandomActions(1).act(seen, info)
    alone = [RandomActions(1).act({"vector": np.zeros(29)}, {"seed": s, "time": t}) for s, t in ((4, 0.0), (5, 0.5), (4, 0.5))]
    assert np.array_equal(drawn, alone)
    assert len(np.unique(drawn)) == 6
    assert not np.array_equal(drawn, RandomActions(2).act(seen, info))


@pytest.mark.parametrize("name", sorted(PLANNERS.keys() - IMAGINING))
def test_worlds_of_a_batch_are_driven_as_alone(name: str, street: Street) -> None:
    places = [{"ego": 0, "start": start, "seed": 9} for start in (1.0, 2.0)]
    env = gymnasium.make_vec(
        "OccSora-v0", num_envs=2, scenes=[street(50.0)], world_model=WarpWorldModel(MINI), max_episode_steps=5
    )
    planner = load_planner(name, env)
    observation, info = env.reset(options={"worlds": places})
    planner.reset()
    together = []
    for _ in range(4):
        together.append(planner.act(observation, info))
        assert together[-1].shape == (2, 2)
        assert together[-1].dtype == np.float32
        observation, _, terminated, _, info = env.step(together[-1])
        if terminated.any():
            break
    for world, place in enumerate(places):
        single = environment(street(50.0))
        alone = load_planner(name, single)
        observation, info = single.reset(options=place)
        alone.reset()
        for step in range(len(together)):
            action = alone.act(observation, info)
            assert np.allclose(action, together[step][world], atol=1e-6)
            observation, _, _, _, info = single.step(action)


@pytest.mark.parametrize("name", ["idm", "lattice"])
def test_a_world_that_begins_anew_is_driven_as_a_new_one(name: str, street: Street) -> None:
    env = gymnasium.make_vec(
        "OccSora-v0", num_envs=2, scenes=[street(30.0)], world_model=WarpWorldModel(MINI), max_episode_steps=3, bank_size=1
    )
    planner = load_planner(name, env)
    observation, info = env.reset(seed=0)
    planner.reset()
    for _ in range(3):
        observation, _, _, truncated, info = env.step(planner.act(observation, info))
    assert truncated.all()
    assert np.array_equal(planner.act(observation, info), load_planner(name, env).act(observation, info))


def test_what_cannot_be_driven_is_refused(street: Street) -> None:
    with pytest.raises(ValueError, match="idm: expected an environment with action='control', found 'discrete'"):
        load_planner("idm", environment(street(None), action="discrete"))
    with pytest.raises(ValueError, match="lattice: expected an environment with observation='bev', found 'occupancy'"):
        load_planner("lattice", environment(street(None), observation="occupancy"))
    with pytest.raises(ValueError, match="env: expected an environment with a `simulator`"):
        load_planner("cv", gymnasium.make("CartPole-v1"))
    blind = environment(street(None), observation="occupancy")
    assert load_planner("pure-pursuit", blind).act(*blind.reset(seed=0)).shape == (2,)
