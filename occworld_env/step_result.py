"""What a step of the simulator gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StepResult:
    """What one step gives for B worlds.

    Attributes:
        observation: see `Simulator.observe`.
        reward: float64 (B,), the sum of `rewards`.
        terminated: bool (B,), collision, off-road or off-route.
        truncated: bool (B,), time limit or end of the route.
        rewards: weighted terms by name, float64 (B,) each.
        info: what else is known, by name, (B, ...) each: see docs/environment.md.
    """

    observation: dict[str, Tensor]
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    rewards: dict[str, Tensor]
    info: dict[str, Tensor]

    def clone(self) -> StepResult:
        """The same in new tensors."""
        return StepResult(
            _clone(self.observation),
            self.reward.clone(),
            self.terminated.clone(),
            self.truncated.clone(),
            _clone(self.rewards),
            _clone(self.info),
        )


def _clone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}
