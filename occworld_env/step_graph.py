"""The simulator's step as one CUDA graph: thousands of kernels on fixed memory, launched at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.interface import Rollout
from occworld_env.step_result import StepResult

if TYPE_CHECKING:
    from occworld_env.simulator import Simulator

_WARM_UP = 3  # steps before the capture, in which kernels are compiled and libraries take their workspaces


class StepGraph:
    """A captured step. It reads and writes the tensors that the simulator's state and rollout had when it was captured.

    Resets write into those same tensors, so they need no new capture.
    """

    def __init__(self, simulator: Simulator, action: Tensor) -> None:
        """Capture the step for actions of this shape and type; the worlds stay where they are."""
        self.simulator, self.action, self.version = simulator, action.clone(), simulator.map.version
        self.state, self.rollout = simulator.state, simulator.rollout
        saved = self.state.state_dict(), self.rollout.state_dict(), simulator.path
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(simulator.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    step_in_place(simulator, self.action)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self.graph):
                self.result = step_in_place(simulator, self.action)
        self.path = simulator.path
        for kept, before in ((self.state, saved[0]), (self.rollout, saved[1])):
            for name, tensor in before.items():
                kept[name].copy_(tensor)
        simulator.path = saved[2]

    def fits(self) -> bool:
        """Whether the memory that was captured is still the simulator's."""
        simulator = self.simulator
        return simulator.state is self.state and simulator.rollout is self.rollout and simulator.map.version == self.version

    def step(self, action: Tensor) -> StepResult:
        """Replay the step with this action; what it returns belongs to the caller."""
        self.action.copy_(action)
        self.graph.replay()
        self.simulator.path = self.path.clone()
        return self.result.clone()


def step_in_place(simulator: Simulator, action: Tensor) -> StepResult:
    """`Simulator.advance`, but the tensors of state and rollout stay the same ones and get new contents."""
    state, rollout = simulator.state, simulator.rollout
    simulator.state, simulator.rollout = Rollout(dict(state.tensors)), Rollout(dict(rollout.tensors))
    try:
        result = simulator.advance(action)
        for kept, new in ((state, simulator.state), (rollout, simulator.rollout)):
            for name, tensor in kept.tensors.items():
                if new[name] is not tensor:
                    tensor.copy_(new[name])
    finally:
        simulator.state, simulator.rollout = state, rollout
    return result
