"""Denoising diffusion: the process that turns data into noise, and what a network's prediction says of the way back.

The process is that of Ho et al. (DDPM, arXiv 2006.11239), the network predicts the noise and where the variance of a step
back lies in its range (Nichol and Dhariwal, arXiv 2102.09672). Training is in models/diffusion_loss.py, sampling in
models/diffusion_sampling.py. Data may have any shape (B, ...): nothing here knows which axis is what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

STEPS, FIRST_BETA, LAST_BETA = 1000, 1e-4, 0.02


class Prediction(NamedTuple):
    """What a network says of noisy data (B, ...), each of that shape.

    Attributes:
        noise: the noise in it.
        variance: where the log variance of the step back lies: -1 at that of q(x[t-1] | x[t], x[0]), 1 at beta[t].
    """

    noise: Tensor
    variance: Tensor


Denoise = Callable[[Tensor, Tensor], Prediction]
"""A network: noisy data float32 (B, ...) and their steps int64 (B,), of the schedule it was trained with -> prediction."""


class Gaussian(NamedTuple):
    """Independent normals: mean and log variance, of one shape or broadcast against each other."""

    mean: Tensor
    log_variance: Tensor


Index = Tensor | int
"""Steps of a process: int64 (B,), one a sample, or one number for all."""


class GaussianDiffusion:
    """x[t] = sqrt(a[t]) x + sqrt(1 - a[t]) noise for steps t = 0 to T - 1, with a[t] the product of 1 - beta over 0 to t.

    By default the 1000 linear betas of OccSora and DynamicCity. Tables are float64 (T,): `betas`, `signal` (a), `before` (a of
    the step before, 1 at the first); `steps`, int64 (T,), says which steps of the whole schedule those of a respaced one are.
    """

    def __init__(self, betas: Tensor | None = None, steps: Tensor | None = None) -> None:
        if betas is None:
            betas = torch.linspace(FIRST_BETA, LAST_BETA, STEPS, dtype=torch.float64)
        betas = betas.to(torch.float64)
        if betas.ndim != 1 or not len(betas) or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError("GaussianDiffusion: betas must be (T,) with values between 0 and 1")
        self.betas = betas
        self.steps = torch.arange(len(betas)) if steps is None else steps
        self.signal = (1 - betas).cumprod(0)
        self.before = torch.cat((self.signal.new_ones(1), self.signal[:-1]))
        variance = betas * (1 - self.before) / (1 - self.signal)
        # The first step back ends on the data, without variance: for its logarithm that of the second stands in.
        smallest = torch.cat((variance[1:2], variance[1:])) if len(betas) > 1 else betas
        self._smallest_log, self._largest_log = smallest.log(), betas.log()

    def __len__(self) -> int:
        return len(self.betas)

    def respaced(self, count: int) -> GaussianDiffusion:
        """The same process in `count` steps, spread evenly from the first to the last; one step is the last."""
        if not 1 <= count <= len(self):
            raise ValueError(f"steps: expected 1 to {len(self)}, found {count}")
        kept = torch.linspace(0, len(self) - 1, count, dtype=torch.float64).round().long() if count > 1 else torch.tensor([-1])
        signal = self.signal[kept]
        before = torch.cat((signal.new_ones(1), signal[:-1]))
        return GaussianDiffusion(1 - signal / before, self.steps[kept])

    def q_sample(self, clean: Tensor, index: Index, noise: Tensor) -> Tensor:
        """Data (B, ...) as they are at a step, given the noise of the same shape."""
        signal = self.signal
        return _at(signal.sqrt(), index, clean) * clean + _at((1 - signal).sqrt(), index, clean) * noise

    def q_step(self, noisy: Tensor, index: Index, noise: Tensor) -> Tensor:
        """x[t] from x[t - 1], one step of the process."""
        return _at((1 - self.betas).sqrt(), index, noisy) * noisy + _at(self.betas.sqrt(), index, noisy) * noise

    def q_prior(self, clean: Tensor) -> Gaussian:
        """The distribution of x[T - 1] for given data."""
        signal = self.signal[-1]
        return Gaussian(float(signal.sqrt()) * clean, torch.full_like(clean, float((1 - signal).log())))

    def q_posterior(self, clean: Tensor, noisy: Tensor, index: Index) -> Gaussian:
        """q(x[t - 1] | x[t], x[0]); at the first step, where its variance is zero, that of the second stands in."""
        return Gaussian(
            self._posterior_mean(clean, noisy, index), torch.zeros_like(clean) + _at(self._smallest_log, index, clean)
        )

    def _posterior_mean(self, clean: Tensor, noisy: Tensor, index: Index) -> Tensor:
        scale = 1 - self.signal
        of_clean = _at(self.betas * self.before.sqrt() / scale, index, clean)
        of_noisy = _at((1 - self.before) * (1 - self.betas).sqrt() / scale, index, clean)
        return of_clean * clean + of_noisy * noisy

    def clean_from_noise(self, noisy: Tensor, index: Index, noise: Tensor) -> Tensor:
        """The data that noisy data would come from if this were their noise."""
        signal = self.signal
        return _at(signal.rsqrt(), index, noisy) * noisy - _at((1 / signal - 1).sqrt(), index, noisy) * noise

    def noise_from_clean(self, noisy: Tensor, index: Index, clean: Tensor) -> Tensor:
        """The noise in noisy data if these were the data."""
        signal = self.signal
        return (noisy - _at(signal.sqrt(), index, noisy) * clean) / _at((1 - signal).sqrt(), index, noisy)

    def p_posterior(self, prediction: Prediction, noisy: Tensor, index: Index, limit: float | None = None) -> Gaussian:
        """p(x[t - 1] | x[t]) of a prediction (equation 4 of OccSora); limit: largest size of an element of predicted data."""
        mean = self._posterior_mean(self.predicted(prediction, noisy, index, limit), noisy, index)
        low, high = _at(self._smallest_log, index, noisy), _at(self._largest_log, index, noisy)
        return Gaussian(mean, low + (prediction.variance + 1) / 2 * (high - low))

    def predicted(self, prediction: Prediction, noisy: Tensor, index: Index, limit: float | None = None) -> Tensor:
        """The data that a prediction points at, with no element larger than the limit."""
        clean = self.clean_from_noise(noisy, index, prediction.noise)
        return clean if limit is None else clean.clamp(-limit, limit)


def _at(values: Tensor, index: Index, like: Tensor) -> Tensor | float:
    """Entries of a float64 table (T,): a number, which costs no copy to the device, or (B, 1, ...) beside a tensor (B, ...)."""
    if isinstance(index, int):
        return float(values[index])
    picked = values.to(index.device)[index].to(like.device, like.dtype)
    return picked.view(-1, *(1,) * (like.ndim - 1))
