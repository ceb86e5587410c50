"""Data whose best denoiser is known: normals, alone, mixed and correlated."""

from __future__ import annotations

import torch
from torch import Tensor

from models.diffusion import Denoise, GaussianDiffusion, Prediction


def exact_denoiser(mean: float, deviation: float, count: int = 1000) -> Denoise:
    """The best prediction for elements that are independent N(mean, deviation^2), for a sampler of `count` steps.

    Noise is its expectation, and the variance is that of x[t - 1] given x[t], which for normal data makes the step back exact.
    """
    process = GaussianDiffusion().respaced(count)
    place = {int(step): index for index, step in enumerate(process.steps)}
    variance = deviation**2

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        index = torch.tensor([place[int(one)] for one in step])

        def table(values: Tensor) -> Tensor:
            return values[index].view(-1, *(1,) * (noisy.ndim - 1)).to(noisy)

        signal, before, beta = table(process.signal), table(process.before), table(process.betas)
        total = signal * variance + 1 - signal
        noise = (1 - signal).sqrt() * (noisy - signal.sqrt() * mean) / total
        # Of x[t - 1], which has variance `previous`, when x[t] = sqrt(1 - beta) x[t - 1] + noise is seen.
        previous = before * variance + 1 - before
        back = previous * beta / total
        low = beta * (1 - before) / (1 - signal)
        share = torch.where(low > 0, (back / low).log() / (beta / low).log(), torch.zeros_like(low))
        return Prediction(noise, (2 * share - 1).expand_as(noisy))

    return denoise


def mixture_denoiser(means: Tensor, deviation: float, variance: float = 1.0) -> Denoise:
    """The best noise for elements drawn from equally likely normals about `means`; `variance` is what is answered beside it."""
    signal = GaussianDiffusion().signal.float()

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        kept = signal[step].view(-1, *(1,) * (noisy.ndim - 1), 1)
        total = kept * deviation**2 + 1 - kept
        off = noisy.unsqueeze(-1) - kept.sqrt() * means
        weight = (-(off**2) / (2 * total)).softmax(-1)
        noise = ((1 - kept).sqrt() * off / total * weight).sum(-1)
        return Prediction(noise, torch.full_like(noise, variance))

    return denoise


def correlated_denoiser(covariance: Tensor) -> Denoise:
    """The best noise for vectors (B, N, D) whose rows are N(0, covariance (D, D))."""
    signal = GaussianDiffusion().signal

    def denoise(noisy: Tensor, step: Tensor) -> Prediction:
        kept = signal[step[0]]
        total = kept * covariance.double() + (1 - kept) * torch.eye(len(covariance), dtype=torch.float64)
        noise = (1 - kept).sqrt() * torch.linalg.solve(total, noisy.double().unsqueeze(-1)).squeeze(-1)
        return Prediction(noise.float(), torch.ones_like(noisy))

    return denoise
