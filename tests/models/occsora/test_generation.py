"""From scenes to generated voxels, through the real tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from models.diffusion_sampling import Known, SamplerConfig
from models.occsora.config import PaperConfig
from models.occsora.latent_clips import encode_clips
from models.occsora.pretrained_diffusion import load_diffusion
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.train_diffusion import train_diffusion
from models.occsora.trajectory import trajectory_from_motion
from models.training import TrainingConfig
from scenes.dataset import SceneClips
from tests.models.occsora.stand_in import TRANSFORMER
from tests.models.small import GRID, make_street

FRAMES, DT = 8, 0.5


def test_generates_voxels_from_a_trajectory(tmp_path: Path) -> None:
    """Clips of a street are encoded, a model is trained for a few steps, and from a trajectory and a seed it makes a clip whose
    first half is the history that it was given."""
    torch.manual_seed(0)
    paper = PaperConfig(class_dim=4, strides=(4, 8, 8), latent_channels=8, num_codes=16, width=16, blocks=1)
    tokenizer = OccSoraTokenizer(GRID, paper).eval()
    clips = SceneClips([make_street()], GRID, DT, FRAMES)
    cfg = TrainingConfig(tmp_path, steps=4, batch_size=2, optimizer="adamw", learning_rate=1e-3, warmup=0)
    model = load_diffusion(train_diffusion(clips, tokenizer, replace(TRANSFORMER, trajectory_scale=50.0), cfg, dt=DT, count=3))
    cache = encode_clips(tokenizer, clips, range(3))
    with torch.no_grad():
        real = tokenizer.quantize(tokenizer.encode(clips[2]["occupancy"].unsqueeze(0))).latents
    latents = cache.latents(torch.tensor([2]))
    torch.testing.assert_close(latents, real, atol=1e-4, rtol=1e-4)

    trajectory, seeds = trajectory_from_motion(cache.motion[2:]), torch.tensor([5])
    history = Known(latents, torch.tensor([True, False])[:, None, None])
    sampler = SamplerConfig("ddim", 4)
    made = model.sample(trajectory, seeds, sampler, guidance=2.0, known=history)
    torch.testing.assert_close(made[:, :, 0], latents[:, :, 0], atol=1e-4, rtol=1e-4)
    occupancy = tokenizer.decode(made)
    assert occupancy.shape == (1, FRAMES, *GRID.shape)
    assert occupancy.dtype == torch.uint8
    assert torch.equal(occupancy, tokenizer.decode(model.sample(trajectory, seeds, sampler, guidance=2.0, known=history)))
