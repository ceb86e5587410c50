"""GELU: as close to float64 as torch's own, on all that a float can be, with its gradient."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import gelu


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=64))
def test_as_exact_as_torch(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float32)
    exact = torch.nn.functional.gelu(x.double(), approximate="tanh")
    size = torch.finfo(torch.float32).eps * (1 + x.double().abs())
    assert ((gelu(x).double() - exact).abs() <= 4 * size).all()


def test_far_out_and_the_input_stays() -> None:
    x = torch.tensor([torch.inf, 0.0, -1e30, 1e30])
    before = x.clone()
    found = gelu(x)
    assert torch.equal(x, before)
    assert found[0] == torch.inf
    assert found[1] == 0
    assert found[2] == 0
    assert found[3] == 1e30


def test_gradient_is_that_of_torch() -> None:
    x = torch.linspace(-4, 4, 33, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    gelu(x).sum().backward()
    torch.nn.functional.gelu(y, approximate="tanh").sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.grad)
