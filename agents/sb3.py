"""The native batch of worlds as a vector environment of stable-baselines3, which takes no gymnasium VectorEnv itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn


class Sb3VecEnv(VecEnv):
    """A gymnasium VectorEnv that resets a world in the very step that ended it (SAME_STEP), seen as an SB3 VecEnv."""

    def __init__(self, env: VectorEnv) -> None:
        """Raises ValueError where `env` resets in another way, since then SB3 would learn from steps that are none."""
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"env: expected autoreset_mode {AutoresetMode.SAME_STEP}, found {mode}")
        self.env = env  # before the base class, which asks for the render mode of each world
        self._action: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Start every world anew, with the seeds that were given to `seed` since the last reset, if any."""
        seeds: Any = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observation, info = self.env.reset(seed=seeds)
        self.reset_infos = _per_world(info, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._action = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all worlds; infos carry `terminal_observation` and `TimeLimit.truncated` where an episode ended."""
        observation, reward, terminated, truncated, info = self.env.step(self._action)
        final_obs = info.pop("final_obs", None)
        final_info = info.pop("final_info", None)
        info.pop("_final_obs", None)
        info.pop("_final_info", None)
        infos = _per_world(info, self.num_envs)
        done = np.logical_or(terminated, truncated)
        last = _per_world(final_info, self.num_envs) if final_info is not None else infos
        for world in np.flatnonzero(done):
            # What is told of a finished world is about its last step, not about the reset after it.
            infos[world] = {**last[world], "terminal_observation": final_obs[world]}
            infos[world]["TimeLimit.truncated"] = bool(truncated[world] and not terminated[world])
        # A copy: PPO adds to the rewards in place.
        return observation, np.array(reward, dtype=np.float32), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture a world, where the environment was made with render_mode="rgb_array"."""
        pictures = self.env.render()
        return [None] * self.num_envs if pictures is None else [np.asarray(picture) for picture in pictures]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Attribute of the environment, which all worlds share, once for each of the worlds asked for."""
        return [getattr(self.env, attr_name, None) if attr_name == "render_mode" else getattr(self.env, attr_name)] * len(
            list(self._get_indices(indices))
        )

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the environment; raises ValueError for some worlds only, since they share it."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"set_attr({attr_name!r}): the worlds are one batch and share their attributes")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the environment once; its answer is given for each of the worlds asked for."""
        answer = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [answer] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """The worlds of a batch are not wrapped one by one."""
        return [False] * len(list(self._get_indices(indices)))


def _per_world(info: dict[str, Any], worlds: int) -> list[dict[str, Any]]:
    """Gymnasium's dict of arrays, with a mask `_key` beside each key, as one dict a world; nested dicts stay nested."""
    infos: list[dict[str, Any]] = [{} for _ in range(worlds)]
    for key, value in info.items():
        if key.startswith("_") and key[1:] in info:
            continue
        present = info.get(f"_{key}", np.ones(worlds, dtype=bool))
        parts = _per_world(value, worlds) if isinstance(value, dict) else value
        for world in np.flatnonzero(present):
            part = parts[world]
            infos[world][key] = part.item() if isinstance(part, np.generic) else part
    return infos
