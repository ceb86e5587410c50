"""Forks of a simulator's worlds: what would happen if, without anything happening."""

from __future__ import annotations

import numpy as np
import torch

from agents.planner import Array
from agents.pure_pursuit import PurePursuit
from occworld_env.loading import SceneFolder
from occworld_env.simulator import Simulator


class Imagination:
    """N worlds of a simulator, each forked n times, that are driven by pure pursuit and corrections to it.

    The fork shares model and scenes with the simulator and nothing that changes. It keeps its size, so that it is made once.
    """

    def __init__(self, simulator: Simulator, pursuit: PurePursuit, forks: int) -> None:
        """pursuit: attached to the simulator's environment. forks: n."""
        self.real, self._pursuit, self.forks = simulator, pursuit, forks
        # A folder goes by its name: given as a sequence, all its scenes would be read now.
        scenes = simulator.scenes.folder if isinstance(simulator.scenes, SceneFolder) else simulator.scenes
        worlds, device = simulator.num_worlds * forks, simulator.device
        self.fork = Simulator(simulator.model, scenes, simulator.config, num_worlds=worlds, device=device)

    def refork(self, seeds: Array) -> None:
        """Begin at the present of the real worlds; seeds: int64 (N,), of each world's imagined future, the same in its forks.

        A planner has to give seeds of its own: those of the simulator would show it the very future that is to come.
        """
        rollout = self.real.rollout.repeat(self.forks)
        rollout["seeds"] = torch.from_numpy(np.repeat(seeds, self.forks)).to(self.real.device)
        self.fork.set_state(
            {
                "state": self.real.state.repeat(self.forks).tensors,
                "rollout": rollout.tensors,
                "path": self.real.path.repeat_interleave(self.forks, dim=0),
                "names": [name for name in self.real.names for _ in range(self.forks)],
                "generators": [generator.bit_generator.state for generator in self.fork.generators],
            }
        )

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
        return total.reshape(-1, self.forks)
