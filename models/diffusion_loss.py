"""What a diffusion model is trained and judged by: the error of the noise and the variational bound, element by element."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import philox_normal
from models.diffusion import Denoise, Gaussian, GaussianDiffusion, Prediction

BIN = 2 / 255  # width of the bins that elements are counted in: as of images with 256 values from -1 to 1


class Losses(NamedTuple):
    """Losses of each element of data (B, ...), to be averaged by whoever knows which of them count.

    Attributes:
        simple: squared error of the predicted noise.
        bound: a step's term of the variational bound, in bits.
    """

    simple: Tensor
    bound: Tensor


class Bound(NamedTuple):
    """The variational bound of data (B, ...) in bits per element.

    Attributes:
        prior: how far the noisiest data are from pure noise, (B,).
        terms: of each step back, (B, T); the first counts the bits that say which bin each element lies in.
    """

    prior: Tensor
    terms: Tensor

    @property
    def total(self) -> Tensor:
        """All of it, (B,)."""
        return self.prior + self.terms.sum(1)


def kl_divergence(first: Gaussian, second: Gaussian) -> Tensor:
    """Kullback-Leibler divergence of the second from the first, element by element, in nats."""
    ratio = first.log_variance - second.log_variance
    distance = (first.mean - second.mean).square() * torch.exp(-second.log_variance)
    return 0.5 * (ratio.exp() - 1 - ratio + distance)


def bin_log_likelihood(x: Tensor, gaussian: Gaussian, width: float = BIN) -> Tensor:
    """Log probability, in nats, that a normal falls into the bin of this width about x, element by element.

    All bins are of one width: latents, unlike pixels, have no first and no last value.
    """
    # Both ends are taken to the lower tail, where the logarithm of the distribution function keeps its precision.
    inverse = torch.exp(-0.5 * gaussian.log_variance)
    centre, half = -(x - gaussian.mean).abs() * inverse, width / 2 * inverse
    upper, lower = torch.special.log_ndtr(centre + half), torch.special.log_ndtr(centre - half)
    return upper + torch.log(-torch.expm1((lower - upper).clamp(max=-1e-12)))


def bound_term(process: GaussianDiffusion, prediction: Prediction, clean: Tensor, noisy: Tensor, index: Tensor) -> Tensor:
    """Bits that each element costs at the steps index int64 (B,): the divergence of q(x[t-1] | x[t], x[0]) from the model's
    step back, or at the first step the surprise at the element's bin; the shape of `clean` (B, ...)."""
    step_back = process.p_posterior(prediction, noisy, index)
    divergence = kl_divergence(process.q_posterior(clean, noisy, index), step_back)
    first = (index == 0).nonzero().squeeze(1).to(clean.device)
    surprise = -bin_log_likelihood(clean[first], Gaussian(*(part[first] for part in step_back)))
    return divergence.index_copy(0, first, surprise) / math.log(2)


def training_losses(
    process: GaussianDiffusion, denoise: Denoise, clean: Tensor, index: Tensor, noise: Tensor, *, full: bool = False
) -> Losses:
    """Losses of data (B, ...) at steps index int64 (B,) with noise (B, ...); their sum is what is minimised.

    The noise learns by its squared error, and through the bound only the variance does: the mean is held still there
    (arXiv 2102.09672, whose weight of 0.001 for a sum over 1000 steps is a weight of one here). full: no longer so, the
    gradient of the bound reaches both, and it alone is what is minimised.
    """
    noisy = process.q_sample(clean, index, noise)
    prediction = denoise(noisy, process.steps.to(index.device)[index].to(clean.device))
    judged = prediction if full else prediction._replace(noise=prediction.noise.detach())
    return Losses((prediction.noise - noise).square(), bound_term(process, judged, clean, noisy, index))


def draw_steps(process: GaussianDiffusion, count: int, generator: torch.Generator, snr_limit: float | None = None) -> Tensor:
    """Steps int64 (count,) of training samples, uniform and independent; with a limit, clean steps are drawn less often.

    snr_limit: gamma of Min-SNR weighting (arXiv 2303.09556): a step counts min(1, gamma / SNR), SNR = a[t] / (1 - a[t]). Nearly
    clean data have the largest errors of the noise and decide least of what a sample shows. We draw by that weight, which
    wastes no pass on a sample that hardly counts, and one step from each of `count` shares of it. Raises ValueError for a limit
    that is not positive.
    """
    if snr_limit is None:
        return torch.randint(len(process), (count,), generator=generator)
    if not snr_limit > 0:
        raise ValueError(f"snr_limit: expected a positive ratio, found {snr_limit}")
    weight = (snr_limit * (1 - process.signal) / process.signal).clamp(max=1).cumsum(0)
    share = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
    return torch.searchsorted(weight / weight[-1], share, right=True).clamp(max=len(process) - 1)


@torch.no_grad()
def variational_bound(process: GaussianDiffusion, denoise: Denoise, clean: Tensor, seeds: Tensor) -> Bound:
    """The whole bound on data (B, ...), T calls of the network; seeds int64 (B,) fix the noise."""
    still = Gaussian(torch.zeros_like(clean), torch.zeros_like(clean))
    prior = kl_divergence(process.q_prior(clean), still).flatten(1).mean(1) / math.log(2)
    terms = []
    for step in range(len(process)):
        noise = philox_normal(seeds, torch.zeros_like(seeds), step, tuple(clean.shape[1:]))
        index = torch.full_like(seeds, step)
        losses = training_losses(process, denoise, clean, index, noise)
        terms.append(losses.bound.flatten(1).mean(1))
    return Bound(prior, torch.stack(terms, dim=1))
