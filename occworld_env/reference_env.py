"""`gymnasium.make("OccSoraReference-v0")` and `make_vec`: the shells of `OccSora-v0` over the reference world."""

from __future__ import annotations

from typing import Any

from occworld_env.env import OccSoraEnv
from occworld_env.reference import ReferenceSimulator
from occworld_env.vector_env import OccSoraVectorEnv


class OccSoraReferenceEnv(OccSoraEnv):
    """A drive through a true world, from the starts of `OccSora-v0`; arguments as there, and `dynamics`.

    dynamics: "sumo" (live, the others react), "replay" (as recorded), or None: SUMO where the scene is a town that can be
    made again from its seed, replay elsewhere. `world_model` names the model whose grid, clock and codes are used.
    """

    simulator: ReferenceSimulator

    def __init__(self, *arguments: Any, dynamics: str | None = None, **named: Any) -> None:
        self._dynamics = dynamics
        super().__init__(*arguments, **named)

    def _make_simulator(self, *arguments: Any, **named: Any) -> ReferenceSimulator:
        return ReferenceSimulator(*arguments, dynamics=self._dynamics, **named)

    def close(self) -> None:
        """Close the window and end SUMO, if they are there."""
        super().close()
        self.simulator.close()


class OccSoraReferenceVectorEnv(OccSoraVectorEnv):
    """N drives through true worlds in one batch, SUMO in a process for each; see `OccSoraReferenceEnv`."""

    simulator: ReferenceSimulator

    def __init__(self, *arguments: Any, dynamics: str | None = None, **named: Any) -> None:
        self._dynamics = dynamics
        super().__init__(*arguments, **named)

    def _make_simulator(self, *arguments: Any, **named: Any) -> ReferenceSimulator:
        return ReferenceSimulator(*arguments, dynamics=self._dynamics, **named)

    def close_extras(self, **kwargs: Any) -> None:
        """End SUMO."""
        self.simulator.close()
