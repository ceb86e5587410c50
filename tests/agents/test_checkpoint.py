"""A checkpoint holds all of an agent: weights, optimizers, counters and replay buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.save_util import recursive_getattr

from agents.algorithms import SETTINGS, LinearToTenth, make_agent
from agents.checkpoint import History, _refill, _transitions, newest, restore, save_agent, save_checkpoint, save_policy


class Picture(FakeImageEnv):
    """Random pictures with a vector, as the environment shows them; seconds are enough to train on it."""

    def __init__(self) -> None:
        super().__init__(screen_height=24, screen_width=24, n_channels=1, discrete=False)
        self.image = self.observation_space
        vector = spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, (1, 24, 24), np.uint8), "vector": vector})

    def reset(self, **told: Any) -> Any:
        self.ep_length = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.ep_length += 1
        return self.observation_space.sample(), float(action[0]), self.ep_length >= 5, False, {}


def agent(algorithm: str, seed: int) -> BaseAlgorithm:
    return make_agent(algorithm, make_vec_env(Picture, 2), "bev", 48, seed=seed)


def same(left: Any, right: Any) -> bool:
    """Whether nested dicts and lists hold the same tensors and numbers."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_a_checkpoint_holds_all_of_an_agent(algorithm: str, tmp_path: Path) -> None:
    trained, fresh = agent(algorithm, 0).learn(48), agent(algorithm, 1)
    save_checkpoint(trained, History([(5, 1.0, 5)], 0.5), tmp_path, algorithm, {"seed": 0})
    path = newest(tmp_path, algorithm)
    assert path is not None
    assert restore(fresh, path, {"seed": 0}) == History([(5, 1.0, 5)], 0.5)
    states, variables = trained._get_torch_save_params()
    assert any("optimizer" in name for name in states)
    for name in states:
        assert same(recursive_getattr(trained, name).state_dict(), recursive_getattr(fresh, name).state_dict()), name
    for name in variables:
        assert torch.equal(getattr(trained, name), getattr(fresh, name))
    assert trained.num_timesteps == fresh.num_timesteps == 48
    assert trained._n_updates == fresh._n_updates > 0
    if algorithm == "sac":
        kept, found = (_transitions(item.replay_buffer) for item in (trained, fresh))  # type: ignore[attr-defined]
        assert all(np.array_equal(kept[name], found[name]) for name in kept)


@pytest.mark.parametrize(("algorithm", "kind"), [("ppo", PPO), ("sac", SAC)])
def test_a_policy_is_saved_without_the_optimizers_memory(algorithm: str, kind: Any, tmp_path: Path) -> None:
    trained = agent(algorithm, 0).learn(48)
    before = trained.policy.optimizer.state if algorithm == "ppo" else trained.actor.optimizer.state  # type: ignore[attr-defined]
    assert len(before) > 0
    slim, whole = save_policy(trained, tmp_path / "slim.zip"), save_agent(trained, tmp_path / "whole.zip")
    assert slim.stat().st_size < 0.6 * whole.stat().st_size
    optimizer = trained.policy.optimizer if algorithm == "ppo" else trained.actor.optimizer  # type: ignore[attr-defined]
    assert optimizer.state is before
    again = kind.load(slim, env=make_vec_env(Picture, 2), device="cpu")
    seen = again.env.observation_space.sample()
    assert np.array_equal(again.predict(seen, deterministic=True)[0], trained.predict(seen, deterministic=True)[0])
    again.learn(48)


def test_another_training_is_refused(tmp_path: Path) -> None:
    save_checkpoint(agent("ppo", 0), History(), tmp_path, "ppo", {"action": "control"})
    path = newest(tmp_path, "ppo")
    assert path is not None
    with pytest.raises(ValueError, match="action 'discrete', found 'control'"):
        restore(agent("ppo", 0), path, {"action": "discrete"})


def test_the_newest_is_the_one_with_most_steps(tmp_path: Path) -> None:
    for name in ("ppo_96_steps.json", "ppo_1024_steps.json", "ppo_2048_steps.json", "ppo_96_steps.zip", "ppo_1024_steps.zip"):
        (tmp_path / name).touch()
    assert newest(tmp_path, "ppo") == tmp_path / "ppo_1024_steps.json"  # the last one is not whole
    assert newest(tmp_path, "sac") is None


@pytest.mark.parametrize("size", [4, 7, 20])
def test_a_buffer_keeps_the_newest(size: int) -> None:
    """A ring that went round is put in order, and the newest of it fits a smaller one."""
    env = Picture()
    ring, other = (DictReplayBuffer(count, env.observation_space, env.action_space) for count in (7, size))
    for number in range(10):
        seen = {name: item[None] for name, item in env.observation_space.sample().items()}
        ring.add(seen, seen, np.zeros((1, *env.action_space.shape)), np.array([number]), np.array([False]), [{}])
    _refill(other, _transitions(ring))
    assert other.rewards[: other.size(), 0].tolist() == list(range(10))[-min(size, 7) :]


def test_the_rate_falls_to_a_tenth() -> None:
    rate = LinearToTenth(1.0)
    assert [rate(left) for left in (1.0, 0.5, 0.0, -0.1)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_each_algorithm_has_settings_for_each_observation() -> None:
    assert set(SETTINGS) == {(algo, seen) for algo in ("ppo", "sac") for seen in ("bev", "tokens", "occupancy")}
