"""How well the diffusion models of occsora_mechanisms.py tell the noise in held-out clips: what their training minimises.

The same clips, steps and noise for all of them, so that small differences show. Generated clips say the same with far fewer
samples: a Fréchet distance is one number for a whole set.
"""

from __future__ import annotations

from typing import Any

import torch
from occsora_mechanisms_plan import Config, clips_of
from torch import Tensor

from models.evaluation_cells import number
from models.fidelity.bootstrap import bootstrap
from models.occsora.clip_diffusion import ClipDiffusion
from models.occsora.latent_clips import encode_clips
from models.occsora.pretrained import load_tokenizer
from models.occsora.pretrained_diffusion import load_diffusion
from models.occsora.trajectory import trajectory_from_motion
from scenes.scene import Scene

BANDS = ((0, 100), (100, 250), (250, 500), (500, 1000))  # denoising steps, first and one behind the last
_APART = 50  # steps between two that a clip is noised to: one is drawn in each stretch of so many


def compare_noise_errors(config: Config, held_out: list[Scene]) -> dict[str, Any]:
    """Mean squared error of each model's noise on held-out clips, in all and by bands of steps, with intervals over clips.

    Each variant as it was trained, and the full model told the trajectory of another clip; `farther` is what the others have
    more than the full model has.
    """
    clips = clips_of(config, held_out, seed=config.seed + 1)
    cache = encode_clips(load_tokenizer(config.out / config.preset), clips, range(3 * config.clips))
    latents, trajectory = cache.latents(torch.arange(len(cache))), trajectory_from_motion(cache.motion)
    found = {}
    for name in config.variants:
        model = load_diffusion(config.out / name)
        found[name] = noise_errors(model, latents, trajectory, config.seed)
        if name == "full":
            others = trajectory.roll(len(trajectory) // 2, dims=0)
            found["another's trajectory"] = noise_errors(model, latents, others, config.seed)
    full = found["full"]
    return {
        "clips": len(latents),
        "errors": {name: _by_band(config, errors) for name, errors in found.items()},
        "farther": {name: _by_band(config, errors - full) for name, errors in found.items() if name != "full"},
    }


@torch.no_grad()
def noise_errors(model: ClipDiffusion, latents: Tensor, trajectory: Tensor, seed: int) -> Tensor:
    """Mean squared error of the noise (N, S) in clips (N, c, t, h, w), at one step of each of S stretches of the schedule.

    Steps and noise follow from the seed and the place of a clip in the set, not from the model.
    """
    told = torch.ones(len(latents), dtype=torch.bool)
    found = []
    for first in range(0, len(model.process), _APART):
        generator = torch.Generator().manual_seed(seed * len(model.process) + first)
        index = torch.randint(first, first + _APART, (len(latents),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        parts = zip(*(part.split(16) for part in (latents, trajectory, told, index, noise)), strict=True)
        found.append(torch.cat([model.losses(*part).simple.flatten(1).mean(1) for part in parts]))
    return torch.stack(found, dim=1)


def _by_band(config: Config, errors: Tensor) -> dict[str, dict[str, float | None]]:
    """Means over clips of errors (N, S), of all steps and of those of each band, with intervals over clips."""
    bands = {"all": errors} | {f"{low}-{high - 1}": errors[:, low // _APART : high // _APART] for low, high in BANDS}
    found = {}
    for name, part in bands.items():
        clip = part.double().mean(1)

        def mean(index: Tensor, clip: Tensor = clip) -> float:
            return float(clip[index].mean())

        estimate = bootstrap(mean, (len(clip),), resamples=config.resamples, seed=config.seed)
        found[name] = {part: number(value, digits=8) for part, value in vars(estimate).items()}
    return found
