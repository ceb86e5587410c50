"""Sampling from a diffusion model in any number of steps: ancestral (DDPM) and implicit (DDIM), guided, with known parts.

All noise is counter-based: a sample follows from its own seed and step alone, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kernels import philox_normal
from models.diffusion import Denoise, GaussianDiffusion, Prediction


@dataclass(frozen=True)
class SamplerConfig:
    """How samples are drawn.

    Attributes:
        kind: "ddpm" draws each step back from what is predicted, "ddim" (arXiv 2010.02502) follows the predicted noise.
        steps: calls of the network, 1 to those of the whole schedule.
        eta: how much of a step's noise DDIM draws anew, 0 to 1: 0 draws none, 1 as much as q(x[t-1] | x[t], x[0]) has.
        limit: largest size of an element of predicted data, None for no limit.
        rate: share of the steps that are taken, one at least, from the noisiest on; below 1 the sample stays noisy ("denoising
            rate" in table 4 of OccSora).
        resamplings: how often each step is gone over where parts are known (RePaint, arXiv 2201.09865); 1 only replaces them.
    """

    kind: Literal["ddpm", "ddim"] = "ddpm"
    steps: int = 1000
    eta: float = 0.0
    limit: float | None = None
    rate: float = 1.0
    resamplings: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("ddpm", "ddim"):
            raise ValueError(f"SamplerConfig.kind: expected 'ddpm' or 'ddim', found {self.kind!r}")
        positive = (self.steps, self.resamplings, 1 if self.limit is None else self.limit)
        if min(positive) <= 0 or not 0 <= self.eta <= 1 or not 0 < self.rate <= 1:
            expected = "steps, resamplings and limit positive, eta from 0 to 1, rate above 0 and up to 1"
            raise ValueError(f"SamplerConfig: expected {expected}, found {self}")

    @property
    def random(self) -> bool:
        """Whether noise is drawn after the start."""
        return self.kind == "ddpm" or self.eta > 0


class Known(NamedTuple):
    """Parts of a sample that are given: clean `values` (B, ...) where `mask`, bool and broadcast against them, is true."""

    values: Tensor
    mask: Tensor


class _Role(IntEnum):
    """What a draw is for: the start and the steps back, the noise of known parts, steps forward again."""

    BACK = 0
    KNOWN = 1
    FORWARD = 2


def guided(denoise: Denoise, scale: float) -> Denoise:
    """Classifier-free guidance (arXiv 2207.12598): noise of scale * conditioned + (1 - scale) * unconditioned.

    denoise: is called with the batch twice over; it must put the first half under its conditions and the second under none.
    scale: 1 is the conditioned model at twice the cost. The variance is the conditioned one.
    """

    def both(noisy: Tensor, step: Tensor) -> Prediction:
        doubled = denoise(torch.cat((noisy, noisy)), torch.cat((step, step)))
        noise, free = doubled.noise.chunk(2)
        return Prediction(free + scale * (noise - free), doubled.variance.chunk(2)[0])

    return both


@torch.no_grad()
def sample(
    process: GaussianDiffusion,
    denoise: Denoise,
    shape: tuple[int, ...],
    seeds: Tensor,
    cfg: SamplerConfig,
    *,
    steps: Tensor | None = None,
    known: Known | None = None,
) -> Tensor:
    """Samples float32 (B, *shape) of the model.

    process: the whole schedule that the network was trained with. seeds: int64 (B,), on the device to sample on. steps: int64
    (B,), which step of its world each sample is for, zero by default: another step is another draw. known: parts that are
    replaced by their noised values before each call, and by their very values at the end, whatever the rate. Raises ValueError
    where the known values or the number of steps do not fit.
    """
    if known is not None and tuple(known.values.shape) != (len(seeds), *shape):
        raise ValueError(f"known: expected values {(len(seeds), *shape)}, found {tuple(known.values.shape)}")
    run = _Run(process.respaced(cfg.steps), cfg, known, seeds, torch.zeros_like(seeds) if steps is None else steps, shape)
    x = run.replaced(run.draw(0, _Role.BACK), len(run.process) - 1, 0)
    for call, (index, again) in enumerate(run.schedule(), start=1):
        if again:
            x = run.process.q_step(x, index, run.draw(call, _Role.FORWARD))
        prediction = denoise(x, torch.full_like(seeds, int(run.process.steps[index])))
        x = run.replaced(run.step_back(prediction, x, index, call), index - 1, call)
    return run.replaced(x, -1, 0)  # below a rate of 1 the last step left known parts as noisy as the rest


class _Run(NamedTuple):
    """One run of a sampler. Noise is numbered by the calls of the network, and by what it is for."""

    process: GaussianDiffusion
    cfg: SamplerConfig
    known: Known | None
    seeds: Tensor
    steps: Tensor
    shape: tuple[int, ...]

    def draw(self, call: int, role: _Role) -> Tensor:
        """Noise (B, *shape) around a call."""
        return philox_normal(self.seeds, self.steps, len(_Role) * call + role, self.shape)

    def schedule(self) -> Iterator[tuple[int, bool]]:
        """Steps from the noisiest to the last that is taken, and whether each is gone over again, as known parts ask for."""
        count = len(self.process)
        for index in reversed(range(count - max(round(self.cfg.rate * count), 1), count)):
            for turn in range(self.cfg.resamplings if self.known is not None and index else 1):
                yield index, turn > 0

    def step_back(self, prediction: Prediction, x: Tensor, index: int, call: int) -> Tensor:
        """x[t - 1] from x[t] and what the network says of it."""
        process, cfg = self.process, self.cfg
        if cfg.kind == "ddpm":
            mean, log_variance = process.p_posterior(prediction, x, index, cfg.limit)
            return mean if index == 0 else mean + (0.5 * log_variance).exp() * self.draw(call, _Role.BACK)
        clean = process.predicted(prediction, x, index, cfg.limit)
        signal, before = float(process.signal[index]), float(process.before[index])
        fresh = cfg.eta**2 * (1 - before) / (1 - signal) * (1 - signal / before)  # variance of the noise that is drawn anew
        kept = max(1 - before - fresh, 0.0) ** 0.5
        x = before**0.5 * clean + kept * process.noise_from_clean(x, index, clean)
        return x if fresh == 0 else x + fresh**0.5 * self.draw(call, _Role.BACK)

    def replaced(self, x: Tensor, index: int, call: int) -> Tensor:
        """x at a step, -1 for clean, with known parts as they are then. If no noise is drawn on the way, theirs stays."""
        if self.known is None:
            return x
        values = self.known.values
        if index >= 0:
            values = self.process.q_sample(values, index, self.draw(call if self.cfg.random else 0, _Role.KNOWN))
        return torch.where(self.known.mask, values, x)
