"""The Fréchet distance against closed forms and scipy's matrix root, with many features and with few."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.fidelity.frechet import frechet_distance, frechet_distance_of_moments, moments


def normals(count: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixing


@pytest.mark.parametrize(
    ("mean", "variance", "distance"),
    [((3.0, 4.0), (1.0, 4.0), 25.0), ((0.0, 0.0), (9.0, 4.0), 4.0), ((1.0, 0.0), (0.0, 0.0), 1.0 + 1.0 + 4.0)],
)
def test_gaussians_with_commuting_covariances_have_a_closed_form(
    mean: tuple[float, float], variance: tuple[float, float], distance: float
) -> None:
    """|m|^2 + the sum of (s1 - s2)^2, whatever the axes: both are turned by the same rotation."""
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
    a = turn @ torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64)) @ turn.T
    b = turn @ torch.diag(torch.tensor(variance, dtype=torch.float64)) @ turn.T
    zero = torch.zeros(2, dtype=torch.float64)
    found = frechet_distance_of_moments(zero, a, turn @ torch.tensor(mean, dtype=torch.float64), b)
    assert found == pytest.approx(distance, abs=1e-9)


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 40), st.integers(1, 12))
def test_symmetric_never_negative_and_the_same_after_a_rotation(seed: int, n: int, m: int, size: int) -> None:
    a, b = normals(n, size, seed), normals(m, size, seed + 1)
    found = frechet_distance(a, b)
    assert found >= 0
    assert found == pytest.approx(frechet_distance(b, a), abs=1e-5)
    turn = torch.linalg.qr(normals(size, size, seed + 2)).Q
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(found, rel=1e-6, abs=1e-5)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)


def test_agrees_with_the_matrix_root_of_the_product() -> None:
    a, b = normals(500, 8, 0), normals(400, 8, 1) + 0.3
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    root = np.real(scipy.linalg.sqrtm((cov_a @ cov_b).numpy()))
    expected = float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace()) - 2 * np.trace(root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_few_features_in_many_dimensions_give_the_sum_of_what_is_known() -> None:
    """Two sets that vary in directions perpendicular to each other: nothing is shared, and no jitter is added."""
    a, b = torch.zeros(3, 64, dtype=torch.float64), torch.zeros(3, 64, dtype=torch.float64)
    a[:, 0], b[:, 1] = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([-2.0, 0.0, 2.0])
    assert frechet_distance(a, b) == pytest.approx(1.0 + 4.0, abs=1e-9)


def test_too_few_features_are_refused() -> None:
    with pytest.raises(ValueError, match="two features or more"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"of one D, found a \(4, 3\), b \(4, 2\)"):
        frechet_distance(torch.zeros(4, 3), torch.zeros(4, 2))
