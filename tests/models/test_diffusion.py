"""The diffusion process against its closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.diffusion import Gaussian, GaussianDiffusion, Prediction

PROCESS = GaussianDiffusion()
ALL = torch.arange(1000)


def test_the_papers_schedule() -> None:
    """1000 linear betas; the end is noise with hardly a trace of the data."""
    assert len(PROCESS) == 1000
    assert float(PROCESS.betas[0]) == 1e-4
    assert float(PROCESS.betas[-1]) == 0.02
    torch.testing.assert_close(PROCESS.betas.diff(), torch.full((999,), (0.02 - 1e-4) / 999, dtype=torch.float64))
    assert 0 < float(PROCESS.signal[-1]) < 1e-4


def test_steps_of_the_process_add_up_to_one() -> None:
    """Going step by step has the mean and variance of going at once: followed as moments, exactly."""
    mean, variance = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for index in range(50):
        mean = PROCESS.q_step(mean, index, zero)
        variance = PROCESS.q_step(variance.sqrt(), index, zero) ** 2 + PROCESS.q_step(zero, index, one) ** 2
        torch.testing.assert_close(mean, PROCESS.q_sample(one, index, zero))
        torch.testing.assert_close(variance, PROCESS.q_sample(zero, index, one) ** 2)


@pytest.mark.parametrize("index", [1, 10, 500, 999])
def test_posterior_by_bayes(index: int) -> None:
    """q(x[t-1] | x[t], x[0]) is what Bayes' rule makes of the two normals on the way, integrated numerically."""
    clean, noisy = 0.7, -0.4
    signal, before, beta = (float(table[index]) for table in (PROCESS.signal, PROCESS.before, PROCESS.betas))
    assert before == pytest.approx(float(PROCESS.signal[index - 1]))
    assert signal == pytest.approx(before * (1 - beta))
    x = torch.linspace(-8, 8, 1_600_001, dtype=torch.float64)
    prior = -((x - math.sqrt(before) * clean) ** 2) / (2 * (1 - before))
    density = (prior - (noisy - math.sqrt(1 - beta) * x) ** 2 / (2 * beta)).softmax(0)
    mean = float((density * x).sum())
    variance = float((density * (x - mean) ** 2).sum())
    found = PROCESS.q_posterior(torch.tensor([clean]), torch.tensor([noisy]), index)
    assert float(found.mean) == pytest.approx(mean, abs=1e-5)
    assert float(found.log_variance.exp()) == pytest.approx(variance, rel=1e-4)


def test_first_step_back_ends_on_the_data() -> None:
    clean, noisy = torch.randn(1, 4), torch.randn(1, 4)
    found = PROCESS.q_posterior(clean, noisy, 0)
    torch.testing.assert_close(found.mean, clean)
    assert torch.equal(found.log_variance, PROCESS.q_posterior(clean, noisy, 1).log_variance)


@given(st.integers(0, 999), st.integers(0, 2**31))
@settings(max_examples=30)
def test_noise_and_data_tell_each_other(index: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 2, 5, generator=generator, dtype=torch.float64)
    noisy = PROCESS.q_sample(clean, index, noise)
    torch.testing.assert_close(PROCESS.clean_from_noise(noisy, index, noise), clean)
    torch.testing.assert_close(PROCESS.noise_from_clean(noisy, index, clean), noise)


def test_one_step_for_all_is_a_step_each() -> None:
    """A number and a tensor of that number ask for the same; samples of a batch have steps of their own."""
    clean, noise = torch.randn(2, 3, 2, 4)
    steps = torch.tensor([0, 17, 999])
    for method in (PROCESS.q_sample, PROCESS.q_step, PROCESS.clean_from_noise, PROCESS.noise_from_clean):
        found = method(clean, steps, noise)
        for sample, step in enumerate(steps.tolist()):
            torch.testing.assert_close(found[sample], method(clean[sample : sample + 1], step, noise[sample : sample + 1])[0])


def test_predicted_variance_spans_its_range() -> None:
    """-1 is the variance of the posterior, 1 is beta, and the logarithm is linear in between."""
    noisy, noise = torch.randn(1000, 3), torch.randn(1000, 3)

    def log_variance(value: float) -> torch.Tensor:
        return PROCESS.p_posterior(Prediction(noise, torch.full_like(noise, value)), noisy, ALL).log_variance

    clean = PROCESS.clean_from_noise(noisy, ALL, noise)
    posterior: Gaussian = PROCESS.q_posterior(clean, noisy, ALL)
    torch.testing.assert_close(log_variance(-1), posterior.log_variance)
    torch.testing.assert_close(log_variance(1), PROCESS.betas.float().log()[:, None].expand(-1, 3))
    torch.testing.assert_close(log_variance(0), (log_variance(-1) + log_variance(1)) / 2)
    found = PROCESS.p_posterior(Prediction(noise, noise), noisy, ALL).mean
    torch.testing.assert_close(found, posterior.mean)


def test_limit_bounds_the_predicted_data() -> None:
    noisy = 3 * torch.randn(4, 50)
    prediction = Prediction(torch.randn(4, 50), torch.zeros(4, 50))
    steps = torch.tensor([1, 100, 500, 999])
    free = PROCESS.predicted(prediction, noisy, steps)
    assert float(free.abs().max()) > 1
    limited = PROCESS.predicted(prediction, noisy, steps, limit=1.0)
    assert torch.equal(limited, free.clamp(-1, 1))
    mean = PROCESS.p_posterior(prediction, noisy, steps, limit=1.0).mean
    torch.testing.assert_close(mean, PROCESS.q_posterior(limited, noisy, steps).mean)


@given(st.integers(1, 1000))
@settings(max_examples=60)
def test_respaced_process_is_the_same_process(count: int) -> None:
    """At the steps it keeps, the last always among them, data are just as noisy; all steps give back all betas."""
    short = PROCESS.respaced(count)
    assert len(short) == len(short.steps.unique()) == count
    assert int(short.steps[-1]) == 999
    assert count == 1 or int(short.steps[0]) == 0
    gaps = short.steps.diff()
    assert count < 2 or int(gaps.max() - gaps.min()) <= 1
    torch.testing.assert_close(short.signal, PROCESS.signal[short.steps])
    if count == 1000:
        torch.testing.assert_close(short.betas, PROCESS.betas)


def test_all_steps_are_the_original() -> None:
    whole = PROCESS.respaced(1000)
    assert torch.equal(whole.steps, PROCESS.steps)
    torch.testing.assert_close(whole.betas, PROCESS.betas, rtol=1e-10, atol=0)


def test_respacing_twice_keeps_the_steps_of_the_whole() -> None:
    assert PROCESS.respaced(100).respaced(7).steps[-1] == 999


@pytest.mark.parametrize("count", [0, 1001])
def test_impossible_respacing_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 1000, found {count}"):
        PROCESS.respaced(count)


@pytest.mark.parametrize("betas", [[], [0.0, 0.1], [0.5, 1.0], [[0.1]]])
def test_impossible_betas_are_refused(betas: list) -> None:
    with pytest.raises(ValueError, match="betas"):
        GaussianDiffusion(torch.tensor(betas))
