"""Muon: momentum whose matrices are orthogonalised before the step, for the hidden layers of a network.

After https://kellerjordan.github.io/posts/muon/ and arXiv 2502.16982, whose scale makes one learning rate fit both. It
gets more out of a step than AdamW, which matters where steps are dear. float32 throughout: bfloat16 is very slow on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration
_ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """Matrix (R, C) with its singular values brought near 1, by Newton-Schulz iterations."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; parameters are matrices, or weights of convolutions, whose axes behind the first are
    taken for one.

    lr is that of AdamW: updates are scaled by 0.2 * sqrt(max(R, C)), the size that AdamW's have. weight_decay is decoupled.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        if any(parameter.ndim < 2 for group in self.param_groups for parameter in group["params"]):
            raise ValueError("Muon: expected matrices and weights of convolutions only")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on the gradients that are there."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                direction = torch.lerp(parameter.grad, state["momentum"], group["momentum"]).flatten(1)
                scale = 0.2 * math.sqrt(max(direction.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonalise(direction).view_as(parameter), alpha=-group["lr"] * scale)
        return loss
