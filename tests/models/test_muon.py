"""The Muon optimiser."""

from __future__ import annotations

import pytest
import torch

from models.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (5, 30), (40, 6)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """Whatever the scale of the matrix, its singular values end between 0.5 and 1.3, and its singular vectors stay."""
    matrix = 100 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = torch.linalg.svdvals(orthogonalise(matrix))
    assert 0.5 < float(found.min()) <= float(found.max()) < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalise(matrix) @ right.T
    assert float((turned - torch.diag(turned.diagonal())).abs().max()) < 1e-3


def test_finds_the_minimum_of_a_least_squares_problem() -> None:
    """Steps of falling size end at the solution."""
    generator = torch.Generator().manual_seed(0)
    target, x = torch.randn(6, 4, generator=generator), torch.randn(50, 4, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    optimizer = Muon([weight], lr=0.1)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        optimizer.zero_grad()
        (x @ (weight - target).T).square().mean().backward()
        optimizer.step()
    assert float((weight.detach() - target).abs().max()) < 0.02


def test_vectors_are_refused() -> None:
    """Only matrices have singular vectors."""
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))])
