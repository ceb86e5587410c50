"""Samplers with denoisers that are exact: they recover what the data are, in any number of steps, whatever the batch."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import philox_normal
from models.diffusion import Denoise, GaussianDiffusion, Prediction
from models.diffusion_sampling import Known, SamplerConfig, guided, sample
from tests.models.gaussian_data import correlated_denoiser, exact_denoiser, mixture_denoiser

PROCESS = GaussianDiffusion()
SAMPLERS = [SamplerConfig("ddpm"), SamplerConfig("ddim"), SamplerConfig("ddim", eta=0.7)]


def with_steps(cfg: SamplerConfig, steps: int, resamplings: int = 1) -> SamplerConfig:
    return replace(cfg, steps=steps, resamplings=resamplings)


def worlds(count: int) -> Tensor:
    return torch.arange(count) + 17


@pytest.mark.parametrize("steps", [3, 10, 100, 1000])
def test_ddpm_recovers_a_normal_in_any_number_of_steps(steps: int) -> None:
    """With the exact noise and the exact variance every step back is exact, however long it is."""
    mean, deviation = 0.4, 0.5
    found = sample(PROCESS, exact_denoiser(mean, deviation, steps), (20_000,), worlds(1), SamplerConfig("ddpm", steps))
    assert float(found.mean()) == pytest.approx(mean, abs=0.015)
    assert float(found.std()) == pytest.approx(deviation, abs=0.015)


def test_ddim_follows_the_flow() -> None:
    """Without noise a sample is a function of its start, the exact one in the limit: half the error with twice the steps."""
    mean, deviation = 0.4, 0.5
    start = philox_normal(worlds(1), torch.zeros(1, dtype=torch.int64), 0, (500,))
    signal = float(PROCESS.signal[-1])
    exact = mean + deviation / (signal * deviation**2 + 1 - signal) ** 0.5 * (start - signal**0.5 * mean)
    errors = []
    for steps in (50, 100, 200, 1000):
        found = sample(PROCESS, exact_denoiser(mean, deviation), (500,), worlds(1), SamplerConfig("ddim", steps))
        errors.append(float((found - exact).abs().mean()))
    assert all(later < 0.65 * earlier for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < 0.005


@pytest.mark.parametrize("cfg", SAMPLERS, ids=lambda cfg: f"{cfg.kind}-{cfg.eta}")
def test_every_sampler_finds_both_modes(cfg: SamplerConfig) -> None:
    """Two narrow modes of equal weight: both are found, with their mean and variance."""
    denoise = mixture_denoiser(torch.tensor([-1.0, 1.0]), 0.2)
    found = sample(PROCESS, denoise, (8000,), worlds(1), with_steps(cfg, 250))
    right = found > 0
    assert float(right.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(found[right].mean()) == pytest.approx(1, abs=0.03)
    assert float(found[~right].mean()) == pytest.approx(-1, abs=0.03)
    assert float(found[right].std()) == pytest.approx(0.2, abs=0.03)


def test_ddim_with_all_noise_is_ddpm_with_the_posterior_s_variance() -> None:
    """The very same samples, since they draw the same noise."""
    denoise = mixture_denoiser(torch.tensor([-1.0, 1.0]), 0.2, variance=-1.0)
    ancestral = sample(PROCESS, denoise, (50,), worlds(3), SamplerConfig("ddpm", 40))
    implicit = sample(PROCESS, denoise, (50,), worlds(3), SamplerConfig("ddim", 40, eta=1.0))
    torch.testing.assert_close(ancestral, implicit, atol=1e-4, rtol=1e-4)


def test_the_network_is_asked_as_it_was_trained() -> None:
    """Steps of the whole schedule, from the last to the first, as many as asked for."""
    asked: list[list[int]] = []

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        asked.append(step.tolist())
        return Prediction(noisy, torch.zeros_like(noisy))

    sample(PROCESS, denoise, (2,), worlds(2), SamplerConfig("ddim", 4))
    assert asked == [[999] * 2, [666] * 2, [333] * 2, [0] * 2]


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_a_lower_rate_leaves_what_a_whole_run_passes_through(kind: str) -> None:
    seen: list[Tensor] = []
    exact = exact_denoiser(0.0, 0.5)

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        seen.append(noisy)
        return exact(noisy, step)

    cfg = SamplerConfig(kind, 10)  # type: ignore[arg-type]
    sample(PROCESS, denoise, (4,), worlds(2), cfg)
    assert len(seen) == 10
    for rate, steps in ((0.3, 3), (0.9, 9)):
        assert torch.equal(sample(PROCESS, exact, (4,), worlds(2), replace(cfg, rate=rate)), seen[steps])


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    st.integers(0, 2**40),
    st.sampled_from(SAMPLERS),
    st.booleans(),
)
@settings(max_examples=25)
def test_a_sample_depends_on_its_own_seed_and_step_alone(
    seeds: list[int], step: int, cfg: SamplerConfig, inpaints: bool
) -> None:
    """Bit for bit the same alone as among neighbours, and again; a known part changes nothing of that."""
    denoise = mixture_denoiser(torch.tensor([-1.0, 1.0]), 0.3)
    keys = torch.tensor(seeds)
    known = Known(torch.ones(len(seeds), 6), torch.arange(6) < 2) if inpaints else None
    cfg = with_steps(cfg, 5, resamplings=2)
    found = sample(PROCESS, denoise, (6,), keys, cfg, steps=torch.full_like(keys, step), known=known)
    for world in range(len(seeds)):
        one = slice(world, world + 1)
        part = None if known is None else Known(known.values[one], known.mask)
        alone = sample(PROCESS, denoise, (6,), keys[one], cfg, steps=torch.tensor([step]), known=part)
        assert torch.equal(alone, found[one])
    other = sample(PROCESS, denoise, (6,), keys, cfg, steps=torch.full_like(keys, step + 1), known=known)
    assert not torch.equal(other, found)


@pytest.mark.parametrize("cfg", SAMPLERS, ids=lambda cfg: f"{cfg.kind}-{cfg.eta}")
@pytest.mark.parametrize("resamplings", [1, 3])
def test_known_parts_are_kept(cfg: SamplerConfig, resamplings: int) -> None:
    """Exactly, at the end; before it, the network sees them as noisy as the rest. With nothing known nothing changes."""
    values, mask = 5 + torch.rand(2, 3, 8), torch.arange(8) < 5
    seen: list[tuple[int, Tensor]] = []
    exact = exact_denoiser(0.0, 0.5)

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        seen.append((int(step[0]), noisy[..., :5].clone()))
        return exact(noisy, step)

    cfg = with_steps(cfg, 6, resamplings)
    found = sample(PROCESS, denoise, (3, 8), worlds(2), cfg, known=Known(values, mask))
    assert torch.equal(found[..., :5], values[..., :5])
    assert len(seen) == 5 * resamplings + 1
    for step, part in seen:
        noise = PROCESS.noise_from_clean(part, step, values[..., :5])
        assert abs(float(noise.mean())) < 0.6
        assert 0.5 < float(noise.std()) < 1.5
    none = Known(values, torch.zeros(8, dtype=torch.bool))
    plain = with_steps(cfg, 6)
    assert torch.equal(
        sample(PROCESS, exact, (3, 8), worlds(2), plain, known=none), sample(PROCESS, exact, (3, 8), worlds(2), plain)
    )


@pytest.mark.parametrize("cfg", SAMPLERS, ids=lambda cfg: f"{cfg.kind}-{cfg.eta}")
def test_known_parts_are_clean_at_a_lower_rate(cfg: SamplerConfig) -> None:
    """What is sampled stays noisy there, not what is known; and the rest is what it was on the way."""
    values, mask = torch.full((2, 8), 5.0), torch.arange(8) < 5
    seen: list[Tensor] = []
    exact = exact_denoiser(0.0, 0.5)

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        seen.append(noisy)
        return exact(noisy, step)

    cfg = with_steps(cfg, 10)
    sample(PROCESS, denoise, (8,), worlds(2), cfg, known=Known(values, mask))
    found = sample(PROCESS, exact, (8,), worlds(2), replace(cfg, rate=0.4), known=Known(values, mask))
    assert torch.equal(found[:, :5], values[:, :5])
    assert torch.equal(found[:, 5:], seen[4][:, 5:])


def conditional(resamplings: int, denoise: Denoise) -> float:
    """Mean of the unknown one of two correlated normals when the other is known to be 1.5."""
    values, mask = torch.full((1, 3000, 2), 1.5), torch.tensor([True, False])
    cfg = SamplerConfig("ddpm", 50, resamplings=resamplings)
    return float(sample(PROCESS, denoise, (3000, 2), worlds(1), cfg, known=Known(values, mask))[..., 1].mean())


def test_going_over_a_step_again_harmonises_known_and_unknown() -> None:
    """Plain replacement heeds what is known, and repeating each step brings the rest closer to its true conditional mean."""
    correlation = 0.9
    denoise = correlated_denoiser(torch.tensor([[1.0, correlation], [correlation, 1.0]]))
    plain, repeated, exact = conditional(1, denoise), conditional(6, denoise), correlation * 1.5
    assert 0.2 < plain < exact
    assert abs(repeated - exact) < 0.5 * abs(plain - exact)


def test_guidance_extrapolates_from_the_unconditioned() -> None:
    """Scale 0 is without condition, 1 with it, and above it goes on in the same direction; one call for both."""
    calls = 0

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        nonlocal calls
        calls += 1
        assert torch.equal(noisy[:2], noisy[2:])
        assert torch.equal(step[:2], step[2:])
        condition = torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None]
        return Prediction(noisy + 2 * condition, condition.expand_as(noisy))

    noisy, step = torch.randn(2, 3), torch.tensor([4, 4])
    for scale in (0.0, 1.0, 4.0):
        found = guided(denoise, scale)(noisy, step)
        torch.testing.assert_close(found.noise, noisy + 2 * scale)
        assert torch.equal(found.variance, torch.ones(2, 3))
    assert calls == 3


def test_guidance_moves_samples_towards_the_condition() -> None:
    """Conditioned on the mode at 1: the mean of the samples is there, and with guidance it is not left of it."""
    with_condition, without = exact_denoiser(1.0, 0.5), mixture_denoiser(torch.tensor([-1.0, 1.0]), 0.5)

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        half = len(noisy) // 2
        parts = with_condition(noisy[:half], step[:half]), without(noisy[half:], step[half:])
        return Prediction(*(torch.cat(both) for both in zip(*parts, strict=True)))

    cfg = SamplerConfig("ddim", 50)
    once, thrice = (sample(PROCESS, guided(denoise, scale), (4000,), worlds(1), cfg) for scale in (1.0, 3.0))
    assert float(once.mean()) == pytest.approx(1, abs=0.05)
    assert float(thrice.mean()) > float(once.mean()) + 0.02


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_sampling_never_waits_for_the_host(kind: str) -> None:
    """On a device without data every step can be written down beforehand, as a CUDA graph needs it."""

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        return Prediction(noisy * step[:, None], noisy)

    known = Known(torch.zeros(3, 4, device="meta"), torch.zeros(4, dtype=torch.bool, device="meta"))
    cfg = SamplerConfig(kind, 3, eta=0.5, limit=2.0, resamplings=2)  # type: ignore[arg-type]
    found = sample(PROCESS, guided(denoise, 2.0), (4,), worlds(3).to("meta"), cfg, known=known)
    assert found.shape == (3, 4)
    assert found.device.type == "meta"


def test_known_values_that_do_not_fit_are_refused() -> None:
    known = Known(torch.zeros(1, 4), torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"known: expected values \(2, 4\), found \(1, 4\)"):
        sample(PROCESS, exact_denoiser(0.0, 1.0), (4,), worlds(2), SamplerConfig("ddim", 3), known=known)


def test_limit_holds_samples_in() -> None:
    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        return Prediction(-3 * noisy, torch.zeros_like(noisy))

    for kind in ("ddpm", "ddim"):
        found = sample(PROCESS, denoise, (20,), worlds(2), SamplerConfig(kind, 8, limit=1.5))
        assert float(found.abs().max()) <= 1.5 + 1e-5


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "euler"},
        {"steps": 0},
        {"eta": -0.1},
        {"eta": 1.5},
        {"rate": 0.0},
        {"rate": 1.1},
        {"limit": 0.0},
        {"resamplings": 0},
    ],
)
def test_impossible_samplers_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="SamplerConfig"):
        SamplerConfig(**wrong)
