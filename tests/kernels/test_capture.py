"""The definitions can be captured in a CUDA graph: they ask the GPU for no number and send it none, shown without a GPU.

Tensors of the device "meta" have a shape but no values, so that whatever would wait for one fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels.class_embedding import class_embedding_torch
from kernels.classify import classify_voxels_torch
from kernels.columns import Lattice, gather_columns_torch
from kernels.components import connected_components_torch
from kernels.noise import philox_normal_torch
from kernels.token_inputs import Draw, Told, token_inputs_torch

make = partial(torch.empty, device="meta")


class StaysThere(TorchDispatchMode):
    """Fails where an operation touches a tensor of the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            assert not isinstance(value, Tensor) or value.is_meta, f"{func} touches the CPU"
        return result


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what turns autocast off, which does not know this device."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


def components() -> Tensor:
    return connected_components_torch(make(2, 20, 20, dtype=torch.int64))


def embedding() -> Tensor:
    ids, layers = make(50, 64, dtype=torch.uint8), (make(19, 8), make(96, 512), make(96))
    return class_embedding_torch(ids, *layers, torch.bfloat16)


def columns() -> Tensor:
    lattice = Lattice((96, 96), 0.8, (-38.4, -38.4), (22, 22))
    return gather_columns_torch(make(2, 140, 140, 8, dtype=torch.uint8), make(2, 2, 3, dtype=torch.float64), lattice, 255)


def inputs() -> Tensor:
    route, draw = make(2, 9, 128, dtype=torch.uint8), Draw(*(make(2, dtype=torch.int64) for _ in range(2)), 0)
    told = Told(make(2, 9, 64), make(2, 9, 4), route, make(2), make(2))
    return token_inputs_torch(draw, told, torch.bfloat16, (make(2, 9, 64), 0.5))


def noise() -> Tensor:
    return philox_normal_torch(make(2, dtype=torch.int64), make(2, dtype=torch.int64), 0, (5, 7))


def classes() -> Tensor:
    carried = make(50, 64, dtype=torch.uint8)
    return classify_voxels_torch(make(50, 96), (make(512, 96), make(512)), (make(18, 8), make(18)), make(50, 64), carried)


@pytest.mark.parametrize("definition", [components, embedding, columns, inputs, noise, classes])
@pytest.mark.usefixtures("no_autocast")
def test_definitions_neither_ask_nor_send(definition: Callable[[], Tensor]) -> None:
    with StaysThere():
        assert definition().is_meta


@pytest.mark.parametrize(
    "ask", [lambda x: float(x.max()), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: torch.equal(x, -x)]
)
def test_what_asks_fails(ask: Callable[[Tensor], Any]) -> None:
    with StaysThere(), pytest.raises((RuntimeError, NotImplementedError)):
        ask(make(3))


def test_what_sends_fails() -> None:
    with StaysThere(), pytest.raises(AssertionError, match="touches the CPU"):
        make(3).add_(torch.tensor([1.0, 2.0, 3.0]).to("meta"))
