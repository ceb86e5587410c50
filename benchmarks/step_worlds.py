"""Worlds whose steps are measured: presets, simulators, and the ways in which a step can run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import unfused
from torch import Tensor

import kernels.dispatch
from models.presets import preset
from models.pretrained import load_learned
from models.world_model import LearnedWorldModel

_HAS_TRITON = kernels.dispatch.has_triton
_BANK = 4  # starts that the worlds share: rendering more of them takes time and changes no speed
_SURE = 100.0  # added to the logit of what a voxel held
_ACTIVITY = 0.2  # deviation of the random actions, which keeps the cars on the road for a while


# What models call that is written otherwise in plain torch; the other definitions are written like that anyway.
_PLAIN = (
    "models.layers.class_embedding",
    "models.layers.depthwise_norm",
    "models.layers.feed_forward",
    "models.quantizer.nearest_code",
    "models.tokenizer.classify_voxels",
)


@dataclass(frozen=True)
class Way:
    """How a step runs: with Triton kernels or in plain torch, `advance` compiled by torch or not, as a CUDA graph."""

    kernels: bool
    compile: bool = False
    capture: bool = False

    @contextmanager
    def of(self, simulator: Any) -> Iterator[None]:
        """While open, the simulator steps in this way."""
        simulator.capture = self.capture
        if self.compile:
            torch.compiler.reset()
            simulator.model.advance = torch.compile(simulator.model.advance, dynamic=False)
        try:
            with nullcontext() if self.kernels else plain_torch():
                yield
        finally:
            if self.compile:
                del simulator.model.advance


WAYS = {
    "eager torch": Way(kernels=False),
    "kernels": Way(kernels=True),
    "kernels, CUDA graph": Way(kernels=True, capture=True),
    "torch.compile": Way(kernels=False, compile=True),
    "kernels, torch.compile": Way(kernels=True, compile=True),
}


@contextmanager
def definitions(use: bool = True) -> Iterator[None]:
    """While open, every kernel's call goes to its definition in torch, also on a GPU.

    Without `use`, calls go to kernels where there are any; of several contexts that are open the innermost decides.
    """
    with mock.patch("kernels.dispatch.has_triton", (lambda: False) if use else _HAS_TRITON):
        yield


@contextmanager
def plain_torch(logits: bool = True) -> Iterator[None]:
    """While open, a step runs as one would write it in layers of torch: see unfused.py and, of attention, `Block._attend`.

    logits: whether all logits of all voxels are held, or a block of them at a time.
    """
    with ExitStack() as stack:
        stack.enter_context(definitions())
        for place in _PLAIN if logits else _PLAIN[:-1]:
            stack.enter_context(mock.patch(place, getattr(unfused, place.rpartition(".")[2])))
        yield


def world_model(name: str, device: str) -> LearnedWorldModel:
    """A preset's world model: the bundled weights, or untrained ones, which are as fast.

    Untrained weights keep what was seen as it is and fill the rest with free space, so that what the step then does to agents
    and ground has the content that it is made for.
    """
    if name == "mini":
        return load_learned(name, device)
    torch.manual_seed(0)
    model = LearnedWorldModel(preset(name)).eval().requires_grad_(False)
    with torch.no_grad():
        model.blend.trust.bias.fill_(_SURE)
        model.tokenizer.decoder.classes.bias[model.grid.free] = _SURE / 2
    return model.to(device)


@dataclass
class Fleet:
    """Simulators of one preset on one device that share the model and the encoded starts."""

    preset: str
    device: str
    precision: str
    model: LearnedWorldModel = field(init=False)
    bank: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.model = world_model(self.preset, self.device)

    def simulator(self, worlds: int) -> Any:
        """So many worlds, begun."""
        from occworld_env import EnvConfig, Simulator

        settings: dict[str, Any] = {"device": self.device, "precision": self.precision, "capture": False}
        simulator = Simulator(self.model, config=EnvConfig(bank_size=_BANK), num_worlds=worlds, **settings)
        simulator.bank = self.bank = self.bank or simulator.bank
        simulator.reset(seed=0)
        return simulator


def random_action(simulator: Any) -> Tensor:
    """Gentle steering and acceleration for all worlds, float32 (N, 2)."""
    return (_ACTIVITY * torch.randn(simulator.num_worlds, 2, device=simulator.device)).clamp(-1, 1)
