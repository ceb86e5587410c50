"""The whole world model through its Triton kernels, interpreted where there is no GPU: the same world as by the definitions."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

import kernels
from models.interface import Rollout
from models.world_model import LearnedWorldModel
from tests.models.small import history, make_model, make_street


@pytest.fixture
def through_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A context in which every dispatching function takes its kernel, on the CPU too."""
    pytest.importorskip("triton")
    modules = [importlib.import_module(f"kernels.{item.name}") for item in pkgutil.iter_modules(kernels.__path__)]
    dispatching = [module for module in modules if hasattr(module, "on_triton") and module.__name__ != "kernels.dispatch"]
    assert len(dispatching) > 10

    @contextmanager
    def switched() -> Iterator[None]:
        with monkeypatch.context() as patch:
            for module in dispatching:
                patch.setattr(module, "on_triton", lambda _: True)
            yield

    return switched


@pytest.fixture
def model() -> LearnedWorldModel:
    """A small model none of whose layers is zero, as they are before training."""
    torch.manual_seed(0)
    small = make_model().eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return small.to("cuda") if torch.cuda.is_available() else small


@torch.no_grad()
def test_steps_are_those_of_the_definitions(model: LearnedWorldModel, through_kernels: Callable) -> None:
    """Teacher-forced: before each step the kernels get the state that the definitions left."""
    device = next(model.parameters()).device
    occupancy, motion = (part.to(device) for part in history(make_street(), model.history_frames))
    seeds = torch.tensor([5], device=device)
    rollout = model.start(occupancy, motion, seeds)
    with through_kernels():
        started = model.start(occupancy, motion, seeds)
    close(started, rollout)
    ahead = torch.tensor([[[0.9, 0.02, 0.03], [1.3, -0.01, -0.05]]], device=device)
    route = torch.zeros(1, 2, *model.grid.shape[:2], dtype=torch.uint8, device=device)
    route[:, 0, :, 10:14] = 1
    same = cells = 0
    for _ in range(2 if device.type == "cpu" else 20):
        copy = Rollout(rollout.state_dict())
        with through_kernels():
            found = model.advance(copy, ahead, route)
        expected = model.advance(rollout, ahead, route)
        assert found.voxels is not None
        assert expected.voxels is not None
        matter = (found.voxels != model.grid.free) | (expected.voxels != model.grid.free)
        cells += int(matter.sum())
        same += int((matter & (found.voxels == expected.voxels)).sum())
        close(copy, rollout)
    assert cells > 500
    assert same >= 0.999 * cells


def close(found: Rollout, expected: Rollout) -> None:
    """Assert that two states are the same but for rounding, and for the few cells that hang on it."""
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
        else:
            assert float((found[name] != tensor).float().mean()) < 1e-3, name
