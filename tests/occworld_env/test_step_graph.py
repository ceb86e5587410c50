"""The step as a CUDA graph, as far as it shows without a GPU: it keeps its memory, waits for nothing and freezes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kernels.components
import models.quantizer
import occworld_env.constant
import occworld_env.footprint
import scenes.grid
from models.interface import Rollout
from models.pretrained import from_pretrained
from models.world_model import LearnedWorldModel
from occworld_env.config import EnvConfig
from occworld_env.footprint import Reach
from occworld_env.simulator import Simulator
from occworld_env.step_graph import StepGraph, step_in_place
from occworld_env.step_result import StepResult

WORLDS = 2


def drive(steps: int) -> list[Tensor]:
    """Actions that drive on, steering a little, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(WORLDS, 2, generator=generator, dtype=torch.float64) - 0.4 for _ in range(steps)]


def tensors(result: StepResult) -> list[Tensor]:
    """All that a step gives, in a fixed order."""
    return [
        *result.observation.values(),
        result.reward,
        result.terminated,
        result.truncated,
        *result.rewards.values(),
        *result.info.values(),
    ]


def kept(simulator: Simulator) -> list[Tensor]:
    """The tensors that a captured step knows."""
    return [*simulator.state.tensors.values(), *simulator.rollout.tensors.values()]


def test_a_step_in_place_equals_a_step_and_keeps_its_memory(make_simulator: Callable[..., Simulator]) -> None:
    free, fixed = (make_simulator(num_worlds=WORLDS, max_steps=5) for _ in range(2))
    free.reset(seed=1)
    fixed.reset(seed=1)
    places = [tensor.data_ptr() for tensor in kept(fixed)]
    for action in drive(12):
        one, other = free.step(action), step_in_place(fixed, action)
        assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
        done = one.terminated | one.truncated
        if done.any():
            assert all(torch.equal(a, b) for a, b in zip(free.reset(done).values(), fixed.reset(done).values(), strict=True))
    assert [tensor.data_ptr() for tensor in kept(fixed)] == places
    assert all(torch.equal(a, b) for a, b in zip(kept(free), kept(fixed), strict=True))


def test_what_a_step_gave_out_stays_as_it_was(make_simulator: Callable[..., Simulator]) -> None:
    simulator = make_simulator(num_worlds=WORLDS)
    simulator.reset(seed=1)
    results = [step_in_place(simulator, action) for action in drive(3)]
    before = [[tensor.clone() for tensor in tensors(result)] for result in results]
    simulator.reset()
    simulator.step(drive(1)[0])
    for result, copies in zip(results, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(tensors(result), copies, strict=True))


def nearest_by_product(x: Tensor, codebook: Tensor) -> Tensor:
    """Nearest codes by argmin alone. The definition settles near ties among as many candidates as there are, which no
    graph can hold; on a GPU the lookup is a kernel."""
    scores = torch.cdist(x.transpose(0, 1), codebook)
    return scores.argmin(-1).T.contiguous()


@pytest.fixture
def mini(monkeypatch: pytest.MonkeyPatch) -> LearnedWorldModel:
    """The bundled model, as free of shapes and branches that depend on data as it is on a GPU."""
    monkeypatch.setattr(models.quantizer, "nearest_code", nearest_by_product)
    monkeypatch.setattr(kernels.components, "_settled", lambda before, after: False)
    return from_pretrained("mini")


def test_a_traced_step_replays_for_many_steps_and_resets(mini: LearnedWorldModel) -> None:
    """Traced once and replayed, as a CUDA graph is: no branch, shape or number of the first step is frozen in it."""
    eager, replayed = (Simulator(mini, num_worlds=WORLDS, max_steps=6) for _ in range(2))
    for scene in range(len(replayed.scenes)):  # the largest one too, or else the map's memory would move
        replayed.map.use([scene] * WORLDS)
    eager.reset(seed=3)
    replayed.reset(seed=3)
    version = replayed.map.version
    names = list(replayed.state.tensors), list(replayed.rollout.tensors)
    memory = kept(replayed)
    before = [tensor.clone() for tensor in memory]

    def step(action: Tensor, *held: Tensor) -> list[Tensor]:
        real = replayed.state, replayed.rollout, replayed.path
        replayed.state = Rollout(dict(zip(names[0], held, strict=False)))
        replayed.rollout = Rollout(dict(zip(names[1], held[len(names[0]) :], strict=True)))
        result = tensors(step_in_place(replayed, action))
        replayed.state, replayed.rollout, replayed.path = real
        return result

    actions = drive(8)
    step_in_place(replayed, actions[0])  # makes the constants that later steps share
    with torch.no_grad():
        graph = make_fx(step)(actions[0], *memory)
    for tensor, copy in zip(memory, before, strict=True):
        tensor.copy_(copy)
    ended = 0
    for action in actions:
        one, other = eager.step(action), graph(action, *memory)
        assert all(torch.equal(a, b) for a, b in zip(tensors(one), other, strict=True))
        done = one.terminated | one.truncated
        if done.any():
            eager.reset(done)
            replayed.reset(done)
            ended += int(done.sum())
    assert ended
    assert replayed.map.version == version
    assert all(torch.equal(a, b) for a, b in zip(kept(eager), memory, strict=True))


class NoTransfer(TorchDispatchMode):
    """Fails where an operation moves data between host and device, or takes its shape from the data."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        touched = [item for item in tree_leaves((args, kwargs, found)) if isinstance(item, Tensor) and item.ndim]
        assert all(item.device.type == "meta" for item in touched), f"{func} touches the host"
        assert func is not torch.ops.aten.lift_fresh.default, "a tensor is made from a list"
        return found


@pytest.fixture
def no_kept_constants() -> Iterator[None]:
    """Constants made for a device that holds nothing are forgotten afterwards."""
    caches = (scenes.grid._column_centres, occworld_env.constant.constant, occworld_env.footprint.class_table)
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("kind", ["control", "trajectory", "discrete"])
@pytest.mark.usefixtures("no_kept_constants")
def test_a_step_moves_nothing_between_host_and_device(
    kind: str, mini: LearnedWorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run on the device "meta", whose tensors hold no data, so that every look at the data is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    simulator = Simulator(mini, None, EnvConfig(action=kind), num_worlds=WORLDS)
    simulator.reset(seed=0)
    simulator.device = torch.device("meta")
    simulator.model.to("meta")
    simulator.reach = Reach(simulator.grid, simulator.reach.distance, simulator.device)
    for name, value in vars(simulator.map).items():
        if isinstance(value, Tensor):
            setattr(simulator.map, name, value.to("meta"))
    simulator.state, simulator.rollout = simulator.state.to("meta"), simulator.rollout.to("meta")
    shapes = {"control": (2,), "trajectory": (2, 3), "discrete": ()}
    action = torch.zeros(WORLDS, *shapes[kind], dtype=torch.int64 if kind == "discrete" else torch.float64, device="meta")
    simulator.advance(action)  # makes the constants that later steps share
    with NoTransfer():
        result = simulator.advance(action)
    assert all(tensor.device.type == "meta" for tensor in tensors(result))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_step_equals_an_eager_one() -> None:
    eager, captured = (Simulator(num_worlds=WORLDS, max_steps=6, device="cuda", capture=flag) for flag in (False, True))
    eager.reset(seed=3)
    captured.reset(seed=3)
    for action in drive(12):
        one, other = eager.step(action.cuda()), captured.step(action.cuda())
        assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
        done = one.terminated | one.truncated
        if done.any():
            graph = captured._graph
            eager.reset(done)
            captured.reset(done)
            assert isinstance(graph, StepGraph)
            assert graph.fits()
