"""The environment of tensors: the same worlds, step by step, as Gymnasium's vector environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch

from models.warp import WarpWorldModel
from occworld_env.torch_env import TorchVectorEnv
from scenes.grid import MINI
from scenes.scene import Scene


def same(tensors: dict[str, Any], arrays: dict[str, Any], names: tuple[str, ...] | None = None) -> None:
    """Assert that all tensors, nested ones too, equal the arrays of their name."""
    for name, tensor in tensors.items():
        if isinstance(tensor, dict):
            same(tensor, arrays[name])
        elif name not in ("scene", "ego"):  # numbers here, names there
            assert np.array_equal(tensor.numpy(), arrays[name]), name


def test_equals_the_vector_environment(scene: Scene, other_scene: Scene) -> None:
    settings = {"scenes": [scene, other_scene], "max_episode_steps": 4, "bank_size": 4}
    torched = TorchVectorEnv(3, world_model=WarpWorldModel(MINI), device="cpu", **settings)
    arrays: Any = gymnasium.make_vec("OccSora-v0", num_envs=3, world_model=WarpWorldModel(MINI), **settings)
    observed, info = torched.reset(seed=5)
    expected, expected_info = arrays.reset(seed=5)
    same(observed, expected)
    same(info, expected_info)
    generator, ended = torch.Generator().manual_seed(0), 0
    for _ in range(10):
        action = 2 * torch.rand(3, 2, generator=generator) - 1
        observed, reward, terminated, truncated, info = torched.step(action)
        expected, expected_reward, *expected_ends, expected_info = arrays.step(action.numpy())
        final = {name: info.pop(name) for name in ("final_obs", "final_info", "_final") if name in info}
        same(observed, expected)
        same(info, expected_info)
        assert np.array_equal(reward.numpy(), expected_reward)
        assert np.array_equal(terminated.numpy(), expected_ends[0])
        assert np.array_equal(truncated.numpy(), expected_ends[1])
        assert bool(final) == bool((terminated | truncated).any())
        if final:
            done = final["_final"].numpy()
            assert np.array_equal(done, expected_info["_final_obs"])
            ended += int(done.sum())
            for world in np.flatnonzero(done):
                same({name: part[world] for name, part in final["final_obs"].items()}, expected_info["final_obs"][world])
            assert np.array_equal(final["final_info"]["time"].numpy()[done], expected_info["final_info"]["time"][done])
    assert ended >= 6


def test_spaces_are_those_of_one_world(scene: Scene) -> None:
    env = TorchVectorEnv(2, [scene], WarpWorldModel(MINI), device="cpu", action="discrete")
    observed, _ = env.reset(seed=0)
    assert env.single_action_space == gymnasium.spaces.Discrete(5)
    assert env.single_observation_space.contains({name: part[0].numpy() for name, part in observed.items()})
    env.step(torch.tensor([0, 3]))
