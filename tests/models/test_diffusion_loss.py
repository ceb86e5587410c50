"""Losses of a diffusion model: closed forms by numerical integration, what a perfect model costs, and what learns from what."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.diffusion import Gaussian, GaussianDiffusion, Prediction
from models.diffusion_loss import (
    BIN,
    bin_log_likelihood,
    bound_term,
    draw_steps,
    kl_divergence,
    training_losses,
    variational_bound,
)
from tests.models.gaussian_data import exact_denoiser

FLOATS = st.floats(-3, 3)


@given(FLOATS, FLOATS, FLOATS, FLOATS)
@settings(max_examples=30)
def test_divergence_by_integration(mean: float, other: float, log_variance: float, other_log_variance: float) -> None:
    first, second = (
        Gaussian(torch.tensor([m], dtype=torch.float64), torch.tensor([v], dtype=torch.float64))
        for m, v in ((mean, log_variance), (other, other_log_variance))
    )
    deviation = math.exp(log_variance / 2)
    x = torch.linspace(mean - 12 * deviation, mean + 12 * deviation, 20_001, dtype=torch.float64)

    def log_density(g: Gaussian) -> Tensor:
        return -0.5 * ((x - g.mean) ** 2 / g.log_variance.exp() + g.log_variance + math.log(2 * math.pi))

    expected = torch.trapezoid(log_density(first).exp() * (log_density(first) - log_density(second)), x)
    torch.testing.assert_close(kl_divergence(first, second)[0], expected, rtol=1e-6, atol=1e-9)


def test_divergence_of_equals_is_zero() -> None:
    gaussian = Gaussian(torch.randn(5), torch.randn(5))
    assert torch.equal(kl_divergence(gaussian, gaussian), torch.zeros(5))


@pytest.mark.parametrize("deviation", [0.002, 0.05, 1.0])
@pytest.mark.parametrize("mean", [0.0, 0.123])
def test_bins_share_all_probability(mean: float, deviation: float) -> None:
    """Over bins that touch, the probabilities add up to one, wherever the normal lies and however narrow it is."""
    reach = round((abs(mean) + 8 * deviation) / BIN) + 2
    centres = BIN * torch.arange(-reach, reach + 1, dtype=torch.float64)
    gaussian = Gaussian(torch.tensor(mean, dtype=torch.float64), torch.tensor(2 * math.log(deviation), dtype=torch.float64))
    assert float(bin_log_likelihood(centres, gaussian).exp().sum()) == pytest.approx(1, abs=1e-9)


def test_bins_far_out_keep_their_slope() -> None:
    """A thousand deviations away the logarithm is that of the density, not minus infinity, and has a gradient."""
    mean = torch.tensor([0.0, 10.0, -10.0], requires_grad=True)
    log_variance = torch.full((3,), 2 * math.log(0.01), requires_grad=True)
    found = bin_log_likelihood(torch.zeros(3), Gaussian(mean, log_variance))
    assert found[1] == found[2]
    nearest = (10 - BIN / 2) / 0.01
    assert found[1].item() == pytest.approx(-(nearest**2) / 2, rel=1e-3)
    found.sum().backward()
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(log_variance.grad).all()
    assert float(mean.grad[1]) < 0 < float(mean.grad[2])


class Guess(nn.Module):
    """A network of two numbers: the noise it answers, and the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = nn.Parameter(torch.tensor(0.3))
        self.variance = nn.Parameter(torch.tensor(-0.2))

    def forward(self, noisy: Tensor, step: Tensor) -> Prediction:
        return Prediction(self.noise * noisy, self.variance.expand_as(noisy))


def gradients(full: bool) -> dict[str, tuple[float, float]]:
    """Gradients of both losses by the noise and the variance."""
    process = GaussianDiffusion()
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 6, 3, 2)
    index = torch.tensor([0, 1, 5, 100, 600, 999])
    found = {}
    for name in ("simple", "bound"):
        guess = Guess()
        loss = getattr(training_losses(process, guess, clean, index, noise, full=full), name).mean()
        grads = torch.autograd.grad(loss, (guess.noise, guess.variance), allow_unused=True)
        found[name] = tuple(0.0 if grad is None else float(grad) for grad in grads)
    return found


def test_the_bound_teaches_the_variance_alone() -> None:
    """The squared error reaches the noise, the bound the variance, and neither the other; in full, the bound reaches both."""
    found = gradients(full=False)
    assert found["simple"][0] != 0 == found["simple"][1]
    assert found["bound"][0] == 0 != found["bound"][1]
    full = gradients(full=True)
    assert full["bound"][0] != 0
    assert full["bound"][1] == found["bound"][1]


def test_losses_are_element_by_element() -> None:
    """Of a batch as of its samples, in the shape of the data; the first step counts bins, the others divergences."""
    process, guess = GaussianDiffusion(), Guess()
    clean, noise = torch.randn(2, 3, 4, 2)
    index = torch.tensor([0, 3, 999])
    losses = training_losses(process, guess, clean, index, noise)
    assert losses.simple.shape == losses.bound.shape == clean.shape
    for sample in range(3):
        one = slice(sample, sample + 1)
        alone = training_losses(process, guess, clean[one], index[one], noise[one])
        torch.testing.assert_close(alone.bound[0], losses.bound[sample])
    noisy = process.q_sample(clean, index, noise)
    step_back = process.p_posterior(guess(noisy, index), noisy, index)
    likelihood = bin_log_likelihood(clean, step_back) / math.log(2)
    torch.testing.assert_close(losses.bound[0], -likelihood[0])
    divergence = kl_divergence(process.q_posterior(clean, noisy, index), step_back) / math.log(2)
    torch.testing.assert_close(losses.bound[1:], divergence[1:])


def test_a_clairvoyant_costs_nothing_but_the_last_bits() -> None:
    """Who knows the noise and takes the posterior's variance has no divergence at any step."""
    process = GaussianDiffusion()
    clean, noise = torch.randn(2, 999, 3, dtype=torch.float64)
    index = torch.arange(1, 1000)
    noisy = process.q_sample(clean, index, noise)
    found = bound_term(process, Prediction(noise, torch.full_like(noise, -1)), clean, noisy, index)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-9, rtol=0)


def test_the_bound_of_the_true_model_is_the_entropy_of_its_bins() -> None:
    """For normal data and the exact denoiser: as many bits as bins of that width need, up to the gap of the first step."""
    deviation = 0.5
    clean = deviation * torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    found = variational_bound(GaussianDiffusion(), exact_denoiser(0.0, deviation), clean, torch.arange(32))
    assert found.terms.shape == (32, 1000)
    assert float(found.prior.max()) < 1e-3
    entropy = math.log2(deviation * math.sqrt(2 * math.pi * math.e) / BIN)
    assert float(found.total.mean()) == pytest.approx(entropy, abs=0.15)
    short = GaussianDiffusion().respaced(50)
    right, worse = (
        variational_bound(short, exact_denoiser(mean, deviation, 50), clean, torch.arange(32)) for mean in (0.0, 0.3)
    )
    assert float(worse.total.mean()) > float(right.total.mean()) + 0.1


def test_the_bound_repeats() -> None:
    process, clean = GaussianDiffusion().respaced(4), torch.randn(3, 5)
    found = variational_bound(process, exact_denoiser(0.0, 1.0), clean, torch.arange(3))
    again = variational_bound(process, exact_denoiser(0.0, 1.0), clean[1:2], torch.tensor([1]))
    torch.testing.assert_close(found.total[1:2], again.total)


@given(st.floats(0.01, 100), st.integers(1, 64))
@settings(max_examples=20)
def test_steps_are_drawn_by_their_weight(limit: float, count: int) -> None:
    """Of many draws each step has its share min(1, limit / SNR) of the sum, and every batch spans the whole schedule."""
    process, generator = GaussianDiffusion(), torch.Generator().manual_seed(0)
    weight = (limit * (1 - process.signal) / process.signal).clamp(max=1)
    share = weight / weight.sum()
    drawn = torch.stack([draw_steps(process, count, generator, limit) for _ in range(6400 // count)])
    found = torch.bincount(drawn.flatten(), minlength=len(process)).double().cumsum(0) / drawn.numel()
    assert float((found - share.cumsum(0)).abs().max()) < 0.03
    edges = torch.searchsorted(share.cumsum(0), torch.arange(count + 1) / count).clamp(max=len(process) - 1)
    assert bool(((drawn >= edges[:-1]) & (drawn <= edges[1:])).all())


def test_without_a_limit_all_steps_are_alike() -> None:
    """As released: independent and uniform."""
    drawn = draw_steps(GaussianDiffusion(), 50_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn // 100, minlength=10).double() / len(drawn)
    assert counts.tolist() == pytest.approx([0.1] * 10, abs=0.006)


def test_a_limit_is_positive() -> None:
    with pytest.raises(ValueError, match="snr_limit: expected a positive ratio, found 0"):
        draw_steps(GaussianDiffusion(), 4, torch.Generator(), 0.0)
