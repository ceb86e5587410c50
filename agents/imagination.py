"""Forks of a simulator's worlds: what would happen if, without anything happening."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from agents.history import History
from agents.planner import Array
from agents.pure_pursuit import PurePursuit
from models.interface import Rollout
from occworld_env.loading import ModelSource, SceneFolder, load_world_model
from occworld_env.simulator import Simulator


class Imagination:
    """N worlds of a simulator, each forked n times, that are driven by pure pursuit and corrections to it.

    Where the simulator is driven by a world model, that model goes on from its own state. Where another model is asked for, or
    the worlds are not a model's, as in the reference world, the model is told what each world has shown lately.

    Attributes:
        real: the simulator. fork: the simulator of the N * n imagined worlds, which shares nothing that changes with it.
    """

    def __init__(self, simulator: Simulator, pursuit: PurePursuit, forks: int, model: ModelSource = None) -> None:
        """pursuit: attached to the simulator's environment. forks: n. model: to imagine with; None for that of the simulator,
        or for the bundled one where the simulator's worlds are true."""
        self.real, self._pursuit, self._forks = simulator, pursuit, forks
        own = model is None and type(simulator) is Simulator  # another class has other dynamics, which no fork has
        imagined = simulator.model if own else load_world_model(model, simulator.device)
        self._history = None if own else History(simulator, imagined)
        # A folder goes by its name: given as a sequence, all its scenes would be read now.
        scenes = simulator.scenes.folder if isinstance(simulator.scenes, SceneFolder) else simulator.scenes
        config = replace(simulator.config, observation="bev")
        worlds, device = simulator.num_worlds * forks, simulator.device
        self.fork = Simulator(imagined, scenes, config, num_worlds=worlds, device=device, precision=simulator.precision)

    def update(self) -> None:
        """Take note of the last step; to be called once for every action."""
        if self._history is not None:
            self._history.update()

    def refork(self, seeds: Array) -> None:
        """Begin at the present of the real worlds; seeds: int64 (N,), of each world's imagined future, the same in its forks.

        A planner has to give seeds of its own: those of the simulator would show it the very future that is to come.
        """
        rollout = self._present(torch.from_numpy(seeds).to(self.real.device)).repeat(self._forks)
        self.fork.set_state(
            {
                "state": self.real.state.repeat(self._forks).tensors,
                "rollout": rollout.tensors,
                "path": self.real.path.repeat_interleave(self._forks, dim=0),
                "names": [name for name in self.real.names for _ in range(self._forks)],
                "generators": [generator.bit_generator.state for generator in self.fork.generators],
            }
        )

    def _present(self, seeds: torch.Tensor) -> Rollout:
        """The imagining model's state of the N real worlds."""
        if self._history is None:
            return Rollout(self.real.rollout.tensors | {"seeds": seeds})
        with torch.no_grad(), self.fork.precise():
            return self.fork.model.start(self._history.occupancy, self._history.motion, seeds)

    def returns(self, corrections: Array, seeds: Array) -> Array:
        """Sum of the rewards until the end of each imagined episode or plan, float64 (N, n).

        corrections: (N, n, H, 2), added to the `control` actions of pure pursuit in the next H steps. seeds: see `refork`.
        """
        self.refork(seeds)
        worlds = self.fork.num_worlds
        observation = self.fork.observe()
        total, alive = np.zeros(worlds), np.ones(worlds, dtype=bool)
        for correction in corrections.reshape(worlds, -1, 2).swapaxes(0, 1):
            steered = self._pursuit.act({"vector": observation["vector"].cpu().numpy()}, {})
            action = np.clip(steered + correction, -1, 1)
            result = self.fork.step(torch.from_numpy(action).to(self.real.device))
            total += np.where(alive, result.reward.cpu().numpy(), 0.0)
            alive &= ~(result.terminated | result.truncated).cpu().numpy()
            if not alive.any():
                break
            observation = result.observation
        return total.reshape(-1, self._forks)
