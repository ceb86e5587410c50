"""OccSora's diffusion world model: transformer, noise process and the scale of latents, which make clips from trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.diffusion import Denoise, GaussianDiffusion, Prediction
from models.diffusion_loss import Losses, training_losses
from models.diffusion_sampling import Known, SamplerConfig, guided, sample
from models.occsora.transformer import ClipTransformer, ClipTransformerConfig


@dataclass(frozen=True)
class ClipDiffusionConfig:
    """A diffusion world model and the latents that it is made for.

    Attributes:
        channels: channels c of a latent.
        shape: (t, h, w) of a clip's latents.
        frames: frames T of a clip.
        dt: seconds between them.
        scale: latents are divided by it before they are noised. Their root mean square in the training set, so that they have
            size one; the release divides by 10.
        largest: size of the largest element of the training set's latents after that; the limit of samplers that have none of
            their own. It keeps short ones from running away: the data predicted from pure noise are off by 157 times the error
            of the noise.
        transformer: shape of the transformer.
        withheld: share of training samples that did not learn of their trajectory; guidance needs some.
    """

    channels: int
    shape: tuple[int, int, int]
    frames: int
    dt: float
    scale: float
    largest: float
    transformer: ClipTransformerConfig
    withheld: float = 0.0

    def __post_init__(self) -> None:
        positive = {"dt": self.dt, "scale": self.scale, "largest": self.largest}
        if not all(value > 0 for value in positive.values()):
            raise ValueError(f"ClipDiffusionConfig: dt, scale and largest must be positive, found {positive}")
        if not 0 <= self.withheld < 1:
            raise ValueError(f"ClipDiffusionConfig.withheld: expected a share below 1, found {self.withheld}")


class ClipDiffusion(nn.Module):
    """The world model as published: quantised latents (B, c, t, h, w) of a whole clip from its trajectory (B, T, 2)."""

    def __init__(self, cfg: ClipDiffusionConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.transformer = ClipTransformer(cfg.channels, cfg.shape, cfg.frames, cfg.transformer)
        self.process = GaussianDiffusion()

    def losses(
        self, latents: Tensor, trajectory: Tensor, told: Tensor, index: Tensor, noise: Tensor, *, full: bool = False
    ) -> Losses:
        """Losses of latents (B, c, t, h, w) at steps index int64 (B,), best on the CPU, with noise of their shape.

        told: bool (B,), which samples learn of their trajectory (B, T, 2). full: see `training_losses`.
        """

        def denoise(noisy: Tensor, step: Tensor) -> Prediction:
            return self.transformer(noisy, step, trajectory, told)

        return training_losses(self.process, denoise, latents / self.cfg.scale, index, noise, full=full)

    def sample(
        self,
        trajectory: Tensor,
        seeds: Tensor,
        sampler: SamplerConfig,
        *,
        guidance: float = 1.0,
        steps: Tensor | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Latents float32 (B, c, t, h, w) for the tokenizer to decode, from trajectories (B, T, 2) and seeds int64 (B,).

        sampler: where it has no limit, predicted latents are clipped at `largest`. guidance: scale of classifier-free guidance;
        above 1 the trajectory counts for more, at twice the cost. steps: int64 (B,), another draw for each. known: latents
        (B, c, t, h, w) that are given where its mask is true, such as the frames of a history. Raises ValueError for guidance
        of a model that always learned of its trajectory, or never.
        """
        if sampler.limit is None:
            sampler = replace(sampler, limit=self.cfg.largest)
        if known is not None:
            known = known._replace(values=known.values / self.cfg.scale)
        shape = (self.cfg.channels, *self.cfg.shape)
        denoise = self._denoise(trajectory, guidance)
        return self.cfg.scale * sample(self.process, denoise, shape, seeds, sampler, steps=steps, known=known)

    def _denoise(self, trajectory: Tensor, guidance: float) -> Denoise:
        """The transformer under a trajectory, guided if asked."""
        if guidance == 1:
            return lambda noisy, step: self.transformer(noisy, step, trajectory)
        if not self.cfg.withheld or not self.cfg.transformer.trajectory:
            why = "it learns of none" if not self.cfg.transformer.trajectory else "it was trained with all of them told"
            raise ValueError(f"guidance: {guidance} needs a model that knows what a clip without trajectory is, but {why}")
        told = torch.arange(2 * len(trajectory), device=trajectory.device) < len(trajectory)
        both = torch.cat((trajectory, trajectory))
        return guided(lambda noisy, step: self.transformer(noisy, step, both, told), guidance)
