"""The native batch under stable-baselines3: the adapter tells episodes as SB3 expects, and its algorithms learn from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecMonitor

import occworld_env
from agents.features import OccSoraFeatures
from agents.sb3 import Sb3VecEnv
from agents.scaled_reward import ScaledReward
from models.interface import Chunk, Rollout
from models.warp import WarpWorldModel
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)
Street = Callable[[float | None], Scene]
SMALL = {"features_extractor_class": OccSoraFeatures, "features_extractor_kwargs": {"features_dim": 32, "width": 8}}


class CodedWorldModel(WarpWorldModel):
    """The rigid baseline with made-up codes, to try `tokens` observations."""

    def __init__(self) -> None:
        super().__init__(MINI)
        self.token_shape, self.num_codes = (12, 12, 2), 16

    def start(self, occupancy: torch.Tensor, motion: torch.Tensor, seeds: torch.Tensor) -> Rollout:
        """As the baseline, with codes."""
        rollout = super().start(occupancy, motion, seeds)
        rollout["codes"] = self._codes(occupancy[:, -1])
        return rollout

    def advance(
        self, rollout: Rollout, motion: torch.Tensor, route: torch.Tensor | None = None, *, decode: bool = True
    ) -> Chunk:
        """As the baseline, with codes."""
        voxels = super().advance(rollout, motion, route, decode=True).voxels
        return Chunk(codes=self._codes(voxels[:, -1]), voxels=voxels)

    def _codes(self, frame: torch.Tensor) -> torch.Tensor:
        return (frame[:, ::8, ::8, :2] % 16).to(torch.int16)


def worlds(scene: Scene, num_envs: int = 2, **settings: Any) -> Any:
    """A native batch on the scene."""
    model = settings.pop("world_model", None) or WarpWorldModel(MINI)
    return gymnasium.make_vec("OccSora-v0", num_envs=num_envs, scenes=[scene], world_model=model, bank_size=2, **settings)


def test_ends_are_told_as_sb3_expects(street: Street) -> None:
    env = Sb3VecEnv(worlds(street(40.0), num_envs=3))
    env.seed(3)
    env.reset()
    full_speed = np.tile(np.array([1.0, 0.0], dtype=np.float32), (3, 1))
    for _ in range(30):
        before = [info.get("pose") for info in env.reset_infos]
        seen, reward, done, infos = env.step(full_speed)
        assert reward.dtype == np.float32
        assert reward.flags.writeable
        for world in np.flatnonzero(done):
            final = infos[world]["terminal_observation"]
            assert infos[world]["collision"]
            assert infos[world]["rewards"]["collision"] == -20
            assert infos[world]["TimeLimit.truncated"] is False
            assert final["vector"][0] > seen["vector"][world][0]  # it crashed at speed; the new episode begins slower
        assert all("terminal_observation" not in infos[world] for world in np.flatnonzero(~done))
        if done.any():
            return
    pytest.fail(f"nobody hit the wall, from {before}")


def test_the_time_limit_is_told_as_truncation(street: Street) -> None:
    env = Sb3VecEnv(worlds(street(None), max_episode_steps=3))
    env.reset()
    for step in range(1, 7):
        _, _, done, infos = env.step(np.zeros((2, 2), dtype=np.float32))
        assert done.all() == (step % 3 == 0)
        if done.all():
            assert all(info["TimeLimit.truncated"] for info in infos)
            assert all(info["time"] == pytest.approx(1.5) for info in infos)


def test_seeds_are_used_at_the_next_reset(street: Street) -> None:
    env = Sb3VecEnv(worlds(street(None)))
    seen = []
    for seed in (5, 5, 6):
        env.seed(seed)
        env.reset()
        seen.append([info["seed"] for info in env.reset_infos])
    assert seen[0] == seen[1] != seen[2]


def test_other_ways_to_reset_are_refused() -> None:
    env = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match="SAME_STEP"):
        Sb3VecEnv(env)


@pytest.mark.parametrize("observation", ["bev", "occupancy", "tokens"])
def test_ppo_learns_from_every_observation_and_loads_again(street: Street, observation: str, tmp_path: Path) -> None:
    model = CodedWorldModel() if observation == "tokens" else None
    env = VecMonitor(Sb3VecEnv(worlds(street(None), observation=observation, world_model=model)))
    extra = {"token_shape": (12, 12, 2)} if observation == "tokens" else {}
    policy = {**SMALL, "features_extractor_kwargs": {**SMALL["features_extractor_kwargs"], **extra}}
    agent = PPO("MultiInputPolicy", env, n_steps=4, batch_size=8, n_epochs=1, policy_kwargs=policy, seed=0, device="cpu")
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.learn(16)
    changed = [name for name, value in agent.policy.state_dict().items() if not torch.equal(value, before[name])]
    assert any("features_extractor" in name for name in changed)
    agent.save(tmp_path / "agent.zip")
    again = PPO.load(tmp_path / "agent.zip")
    seen = agent.env.reset()
    assert np.array_equal(again.predict(seen, deterministic=True)[0], agent.predict(seen, deterministic=True)[0])


def test_sac_learns_on_control_actions(street: Street) -> None:
    env = VecMonitor(Sb3VecEnv(worlds(street(None))))
    sizes = {"buffer_size": 64, "learning_starts": 4, "batch_size": 4}
    agent = SAC("MultiInputPolicy", env, policy_kwargs={**SMALL, "net_arch": [16]}, seed=0, device="cpu", **sizes)
    agent.learn(12)
    assert agent.num_timesteps == 12


def test_tokens_need_their_shape(street: Street) -> None:
    space = worlds(street(None), observation="tokens", world_model=CodedWorldModel()).single_observation_space
    with pytest.raises(ValueError, match="token_shape"):
        OccSoraFeatures(space)


def test_scaled_rewards_leave_the_monitor_the_true_ones(street: Street) -> None:
    plain, scaled = (VecMonitor(Sb3VecEnv(worlds(street(None)))) for _ in range(2))
    outer = ScaledReward(scaled, 0.1)
    for env in (plain, outer):
        env.seed(3)
        env.reset()
    total = np.zeros(plain.num_envs)
    for _ in range(100):
        action = np.zeros((plain.num_envs, 2), dtype=np.float32)
        reward, done, infos = plain.step(action)[1:]
        small, _, others = outer.step(action)[1:]
        np.testing.assert_allclose(small, 0.1 * reward, rtol=1e-6)
        total += reward
        if done.any():
            world = int(np.flatnonzero(done)[0])
            assert others[world]["episode"]["r"] == infos[world]["episode"]["r"] == pytest.approx(total[world], abs=1e-4)
            return
    raise AssertionError("no episode ended within 100 steps")
