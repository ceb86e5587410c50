"""`gymnasium.make("OccSora-v0")`: one world of the simulator as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch

from models.interface import WorldModel
from occworld_env.config import EnvConfig, make_config
from occworld_env.info import single_info
from occworld_env.loading import ModelSource, SceneSource
from occworld_env.picture import Picture
from occworld_env.simulator import Simulator
from occworld_env.spaces import action_space, from_action, observation_space, to_numpy


class OccSoraEnv(gym.Env[dict[str, np.ndarray], Any]):
    """A drive through a world that a world model imagines, from a recorded start.

    Arguments: `scenes` (None for the bundled ones, a folder of scene files, or a list of Scenes), `world_model` (None for the
    bundled `mini`, a name, a folder, or a WorldModel), `device`, `render_mode` ("rgb_array" or "human"), `config`, and every
    field of EnvConfig as a keyword. Spaces, info and rules: docs/environment.md.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array"], "render_fps": 2}  # type: ignore[misc]

    def __init__(
        self,
        scenes: SceneSource = None,
        world_model: ModelSource = None,
        *,
        device: torch.device | str = "cpu",
        precision: str | None = None,
        render_mode: str | None = None,
        config: EnvConfig | None = None,
        **settings: Any,
    ) -> None:
        _check_render_mode(render_mode)
        self.render_mode = render_mode
        self.simulator = self._make_simulator(
            world_model, scenes, make_config(config, settings), device=device, precision=precision
        )
        self.action_space = action_space(self.simulator)
        self.observation_space = observation_space(self.simulator)  # type: ignore[assignment]
        self.metadata = self.metadata | {"render_fps": 1 / self.simulator.step_seconds}  # type: ignore[misc]
        self.picture = Picture(self.simulator, render_mode == "human")

    def _make_simulator(self, *arguments: Any, **named: Any) -> Simulator:
        return Simulator(*arguments, **named)

    @property
    def world_model(self) -> WorldModel:
        """The world model behind this environment."""
        return self.simulator.model

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode, or with options={"state": saved} go on with one; other options: see docs/environment.md."""
        super().reset(seed=seed)
        self.simulator.generators = [self.np_random]
        observed = self.simulator.reset(options=options)
        self.picture.begin()
        if self.render_mode == "human":
            self.render()
        return self._single(observed), single_info(*self.simulator.start_info(), self.simulator)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Drive for one step; raises ValueError on an action of wrong shape or with NaN."""
        tensor = from_action(action, self.simulator, None)
        result = self.simulator.step(tensor)
        info = single_info(result.rewards, result.info, self.simulator)
        self.picture.note(np.asarray(action), info)
        if self.render_mode == "human":
            self.render()
        ended = bool(result.terminated[0]), bool(result.truncated[0])
        return self._single(result.observation), float(result.reward[0]), *ended, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The picture of the last frame, uint8 (H, W, 3), for "rgb_array"; for "human" it is shown in a window."""
        if self.render_mode is None:
            return None
        if self.render_mode == "rgb_array":
            return self.picture.draw()
        self.picture.show()
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        self.picture.close()

    def get_state(self) -> dict[str, Any]:
        """A copy of the episode, see `Simulator.get_state`."""
        return self.simulator.get_state()

    def set_state(self, saved: dict[str, Any]) -> None:
        """Continue from what `get_state` gave. Wrappers, TimeLimit among them, hear of it only from `reset`."""
        self.simulator.generators = [self.np_random]
        self.simulator.set_state(saved)

    def _single(self, observed: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        return {name: to_numpy(tensor[0]) for name, tensor in observed.items()}


def _check_render_mode(render_mode: str | None) -> None:
    modes = OccSoraEnv.metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode: expected None or one of {modes}, found {render_mode!r}")
