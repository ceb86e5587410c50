"""`gymnasium.make_vec("OccSora-v0", num_envs=N)`: all worlds in one batch, each reset in the step that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from occworld_env.config import MAX_EPISODE_STEPS, EnvConfig, make_config
from occworld_env.info import vector_info
from occworld_env.loading import ModelSource, SceneSource
from occworld_env.picture import Picture
from occworld_env.simulator import Simulator
from occworld_env.spaces import action_space, from_action, observation_space, to_numpy
from occworld_env.step_result import StepResult


class OccSoraVectorEnv(VectorEnv[dict[str, np.ndarray], Any, np.ndarray]):
    """N worlds as a Gymnasium vector environment; arguments as `OccSoraEnv`, and `num_envs` and `max_episode_steps`.

    With an integer seed world i is seeded by seed + i, as Gymnasium's own vector environments do. A world that ends is reset
    in the same step: `final_obs` and `final_info` tell how it ended.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        scenes: SceneSource = None,
        world_model: ModelSource = None,
        *,
        max_episode_steps: int | None = MAX_EPISODE_STEPS,
        device: torch.device | str = "cpu",
        precision: str | None = None,
        render_mode: str | None = None,
        config: EnvConfig | None = None,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: expected None or 'rgb_array' for a vector environment, found {render_mode!r}")
        self.num_envs, self.render_mode = num_envs, render_mode
        self.simulator = self._make_simulator(
            world_model,
            scenes,
            make_config(config, settings),
            num_worlds=num_envs,
            max_steps=max_episode_steps,
            device=device,
            precision=precision,
        )
        self.single_action_space = action_space(self.simulator)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.single_observation_space = observation_space(self.simulator)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.metadata = self.metadata | {"render_fps": 1 / self.simulator.step_seconds}  # type: ignore[misc]
        self.pictures = [Picture(self.simulator, False, world) for world in range(num_envs)]

    def _make_simulator(self, *arguments: Any, **named: Any) -> Simulator:
        return Simulator(*arguments, **named)

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode in every world; options as for one environment, and "worlds", a list of them, one a world."""
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
        observed = self.simulator.reset(seed=seed, options=options)
        for picture in self.pictures:
            picture.begin()
        return _arrays(observed), vector_info(*self.simulator.start_info(), self.simulator)

    def step(self, actions: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Drive all worlds for one step; raises ValueError on actions of wrong shape or with NaN."""
        result = self.simulator.step(from_action(actions, self.simulator, self.num_envs))
        info = vector_info(result.rewards, result.info, self.simulator)
        if self.render_mode is not None:
            self._note(np.asarray(actions), result)
        done = to_numpy(result.terminated | result.truncated)
        observed = _arrays(result.observation)
        if done.any():
            observed, info = self._autoreset(done, observed, info, result)
        return observed, to_numpy(result.reward), to_numpy(result.terminated), to_numpy(result.truncated), info

    def _autoreset(
        self, done: np.ndarray, observed: dict[str, np.ndarray], info: dict[str, Any], result: StepResult
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Reset the worlds that ended; returns the new observations and info with how those worlds ended beside it."""
        final = np.full(self.num_envs, None, dtype=object)
        for world in np.flatnonzero(done):
            final[world] = {name: array[world].copy() for name, array in observed.items()}
        final_info = vector_info(result.rewards, result.info, self.simulator, done)
        observed = _arrays(self.simulator.reset(torch.from_numpy(done)))
        fresh = vector_info(*self.simulator.start_info(), self.simulator)
        merged = _merge(info, fresh, done)
        for world in np.flatnonzero(done):
            self.pictures[world].begin()
        merged |= {"final_obs": final, "_final_obs": done.copy(), "final_info": final_info, "_final_info": done.copy()}
        return observed, merged

    def _note(self, actions: np.ndarray, result: StepResult) -> None:
        for world, picture in enumerate(self.pictures):
            terms = {name: float(term[world]) for name, term in result.rewards.items()}
            flags = {name: bool(result.info[name][world]) for name in ("collision", "offroad", "offroute")}
            picture.note(actions[world], {"rewards": terms} | flags)

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        """The picture of each world's last frame, uint8 (H, W, 3) each."""
        if self.render_mode is None:
            return None
        return tuple(picture.draw() for picture in self.pictures)

    def get_state(self) -> dict[str, Any]:
        """A copy of all episodes, see `Simulator.get_state`."""
        return self.simulator.get_state()

    def set_state(self, saved: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        self.simulator.set_state(saved)


def _arrays(observed: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: to_numpy(tensor) for name, tensor in observed.items()}


def _merge(info: dict[str, Any], fresh: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Info with the masked worlds' entries taken from `fresh`."""
    merged: dict[str, Any] = {}
    for name, array in info.items():
        if isinstance(array, dict):
            merged[name] = _merge(array, fresh[name], mask)
        else:
            merged[name] = np.where(mask.reshape(-1, *[1] * (array.ndim - 1)), fresh[name], array)
    return merged
