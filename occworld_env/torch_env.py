"""N worlds for whoever trains where the worlds live: tensors in, tensors out, and only which worlds ended reaches the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from occworld_env.config import MAX_EPISODE_STEPS, EnvConfig, make_config
from occworld_env.loading import ModelSource, SceneSource
from occworld_env.simulator import Simulator
from occworld_env.spaces import action_space, observation_space

Tensors = dict[str, Any]
"""Tensors by name, each with the worlds first; `rewards`, `final_obs` and `final_info` are such dicts themselves."""


class TorchVectorEnv:
    """The vector environment without arrays: rules and info of `make_vec("OccSora-v0", ...)`, as tensors.

    Its arguments too, but for `render_mode`; `scene` and `ego` in the info are numbers. A world that ends is reset in the same
    step (SAME_STEP). Then `info` has the observations and the info of all worlds as they were before, "final_obs" and
    "final_info", and "_final", bool (N,), says for which worlds an episode ended.

    Attributes:
        num_envs: N. device: where all tensors are. simulator: the worlds themselves.
        single_action_space, single_observation_space: of one world, as Gymnasium describes them.
    """

    def __init__(
        self,
        num_envs: int = 1,
        scenes: SceneSource = None,
        world_model: ModelSource = None,
        *,
        max_episode_steps: int | None = MAX_EPISODE_STEPS,
        device: torch.device | str = "cuda",
        precision: str | None = None,
        config: EnvConfig | None = None,
        **settings: Any,
    ) -> None:
        self.num_envs, self.device = num_envs, torch.device(device)
        self.simulator = Simulator(
            world_model,
            scenes,
            make_config(config, settings),
            num_worlds=num_envs,
            max_steps=max_episode_steps,
            device=device,
            precision=precision,
        )
        self.single_action_space = action_space(self.simulator)
        self.single_observation_space = observation_space(self.simulator)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tensor], Tensors]:
        """Begin an episode in every world; seed and options as in `OccSoraVectorEnv.reset`."""
        observed = self.simulator.reset(seed=seed, options=options)
        return observed, self._start_info()

    def step(self, action: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, Tensors]:
        """Drive all worlds for one step: action (N, ...), values in [-1, 1] or indices of META_ACTIONS.

        Returns observation, reward float64 (N,), terminated and truncated bool (N,), and info.
        """
        result = self.simulator.step(action)
        info: Tensors = result.info | {"rewards": result.rewards}
        observed, done = result.observation, result.terminated | result.truncated
        if bool(done.any()):
            final = {"final_obs": observed, "final_info": info, "_final": done}
            observed = self.simulator.reset(done)
            info = _where(done, self._start_info(), info) | final
        return observed, result.reward, result.terminated, result.truncated, info

    def _start_info(self) -> Tensors:
        rewards, info = self.simulator.start_info()
        return info | {"rewards": rewards}


def _where(mask: Tensor, a: Tensors, b: Tensors) -> Tensors:
    """The worlds of `a` where mask (N,) is true, those of `b` elsewhere."""
    return {
        name: _where(mask, a[name], old)
        if isinstance(old, dict)
        else torch.where(mask.reshape(-1, *[1] * (old.ndim - 1)), a[name], old)
        for name, old in b.items()
    }
