"""A policy that imitates a planner drives like it, and values what it earned."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecMonitor

import occworld_env
from agents.algorithms import make_agent
from agents.imitation import _returns, demonstrate, imitate, join
from agents.load import load_planner
from agents.sb3 import Sb3VecEnv
from models.warp import WarpWorldModel
from occworld_env.observation import VECTOR_FIELDS
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)


def test_returns_end_where_episodes_end_and_are_unknown_where_they_were_cut() -> None:
    rewards = np.ones((4, 3))
    ends = np.zeros((2, 4, 3), dtype=bool)
    ends[0, 1, 0] = True  # the first world crashes in its second step
    ends[1, 2, 1] = True  # the second one's time is up in its third
    ends[0, 3, 1] = True
    found = _returns(rewards, ends, 0.5)
    np.testing.assert_array_equal(found[:, 0], [1.5, 1.0, np.nan, np.nan])
    np.testing.assert_array_equal(found[:, 1], [np.nan, np.nan, np.nan, 1.0])
    assert np.isnan(found[:, 2]).all()


def test_the_policy_drives_like_the_planner(street: Callable[[float | None], Scene]) -> None:
    env = gymnasium.make_vec("OccSora-v0", num_envs=4, scenes=[street(None)], world_model=WarpWorldModel(MINI), bank_size=4)
    torch.manual_seed(0)
    agent = make_agent("ppo", VecMonitor(Sb3VecEnv(env)), "bev", 64)
    planner = load_planner("pure-pursuit", env)
    shown = demonstrate(env, planner, 200, gamma=agent.gamma, scale=0.1, seed=0)
    assert shown.actions.shape == (200, 2)
    exploration = agent.policy.log_std.exp()
    before = _distance(agent, shown)
    found = imitate(agent, shown, 20, seed=0)
    assert _distance(agent, shown) < before / 5
    assert (agent.policy.log_std.exp() < exploration).all()
    assert float(agent.policy.log_std.detach().exp().square().mean()) >= found["action"] * 0.999


def test_the_planner_says_what_it_would_do_where_the_policy_drives(street: Callable[[float | None], Scene]) -> None:
    env = gymnasium.make_vec("OccSora-v0", num_envs=2, scenes=[street(None)], world_model=WarpWorldModel(MINI), bank_size=4)
    torch.manual_seed(0)
    agent = make_agent("ppo", VecMonitor(Sb3VecEnv(env)), "bev", 64)
    planner = load_planner("pure-pursuit", env)
    with torch.no_grad():  # a driver who brakes, whatever the planner says
        agent.policy.action_net.weight.zero_()
        agent.policy.action_net.bias.copy_(torch.tensor([-1.0, 0.0]))
        agent.policy.log_std.fill_(-10)
    told = {"gamma": agent.gamma, "scale": 0.1, "seed": 0}
    shown = demonstrate(env, planner, 40, **told, learner=agent)
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(shown.observations["image"][:2], observation["image"])
    speed = shown.observations["vector"][:, VECTOR_FIELDS.index("speed")].reshape(20, 2)
    assert (speed[-1] < 0.01).all()
    assert (shown.actions[-2:, 0] > 0).all()
    both = join([demonstrate(env, planner, 40, **told), shown])
    assert len(both.actions) == len(both.returns) == len(both.observations["vector"]) == 80
    np.testing.assert_array_equal(both.actions[40:], shown.actions)


def _distance(agent, shown) -> float:  # type: ignore[no-untyped-def]
    """Mean squared distance of the policy's best actions from the planner's."""
    found, _ = agent.predict(shown.observations, deterministic=True)
    return float(np.square(found - shown.actions).mean())


def test_it_needs_actions_that_planners_give(street: Callable[[float | None], Scene]) -> None:
    env = gymnasium.make_vec(
        "OccSora-v0", num_envs=1, scenes=[street(None)], world_model=WarpWorldModel(MINI), bank_size=1, action="discrete"
    )
    with pytest.raises(ValueError, match="action='control'"):
        load_planner("idm", env)
