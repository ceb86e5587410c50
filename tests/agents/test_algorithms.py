"""Fresh agents have the settings of the table, cut to the length of the training, and begin by driving on."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecMonitor

import occworld_env
from agents.algorithms import FIRST_MOVES, make_agent
from agents.sb3 import Sb3VecEnv
from models.warp import WarpWorldModel
from occworld_env.actions import META_ACTIONS
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)


def test_untrained_meta_actions_mostly_drive_on(street: Callable[[float | None], Scene]) -> None:
    env = gymnasium.make_vec(
        "OccSora-v0", num_envs=2, scenes=[street(None)], world_model=WarpWorldModel(MINI), bank_size=2, action="discrete"
    )
    agent = make_agent("ppo", VecMonitor(Sb3VecEnv(env)), "bev", 64)
    observation, _ = env.reset(seed=0)
    tensors, _ = agent.policy.obs_to_tensor(observation)
    with torch.no_grad():
        found = agent.policy.get_distribution(tensors).distribution.probs.numpy()
    expected = np.array([FIRST_MOVES[name] for name in META_ACTIONS])
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=0.05)
    assert agent.n_steps == 8  # four rollouts of two worlds


def test_first_moves_are_probabilities_of_all_meta_actions() -> None:
    assert FIRST_MOVES.keys() == set(META_ACTIONS)
    assert abs(sum(FIRST_MOVES.values()) - 1) < 1e-9
