"""The diffusion world model: scale, sampling that repeats, history by known parts, guidance, and its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.checkpoint import write_json
from models.diffusion_sampling import Known, SamplerConfig
from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig
from models.occsora.pretrained_diffusion import load_diffusion, save_diffusion
from tests.models.occsora.stand_in import TRANSFORMER

CONFIG = ClipDiffusionConfig(3, (2, 3, 2), 8, 0.5, scale=2.5, largest=3.0, transformer=TRANSFORMER, withheld=0.1)
SAMPLER = SamplerConfig("ddpm", 5)
SEEDS = torch.tensor([7, -3, 2**40])
TRAJECTORY = 5 * torch.randn(3, 8, 2, generator=torch.Generator().manual_seed(3))


def make(cfg: ClipDiffusionConfig = CONFIG) -> ClipDiffusion:
    torch.manual_seed(0)
    model = ClipDiffusion(cfg)
    for parameter in model.parameters():
        if not float(parameter.detach().abs().sum()):
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def test_losses_are_of_scaled_latents() -> None:
    """Twice the latents at twice the scale is the same model."""
    model, wide = make(), make(replace(CONFIG, scale=5.0))
    latents, noise = torch.randn(2, 4, 3, 2, 3, 2)
    rest = (torch.ones(4, dtype=torch.bool), torch.tensor([0, 3, 500, 999]), noise)
    trajectory = TRAJECTORY[[0, 1, 2, 0]]
    found, same = model.losses(latents, trajectory, *rest), wide.losses(2 * latents, trajectory, *rest)
    torch.testing.assert_close(found.simple, same.simple)
    torch.testing.assert_close(found.bound, same.bound)


def test_samples_repeat_and_follow_from_seed_step_and_trajectory() -> None:
    model = make()
    found = model.sample(TRAJECTORY, SEEDS, SAMPLER)
    assert found.shape == (3, 3, 2, 3, 2)
    assert torch.equal(found, model.sample(TRAJECTORY, SEEDS, SAMPLER))
    alone = model.sample(TRAJECTORY[1:2], SEEDS[1:2], SAMPLER)
    torch.testing.assert_close(alone, found[1:2], atol=1e-3, rtol=1e-3)
    for other in (
        model.sample(TRAJECTORY, SEEDS + 1, SAMPLER),
        model.sample(TRAJECTORY, SEEDS, SAMPLER, steps=torch.ones(3, dtype=torch.int64)),
        model.sample(TRAJECTORY + 20, SEEDS, SAMPLER),
    ):
        assert not torch.allclose(other, found, atol=1e-2)


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_history_is_kept(kind: str) -> None:
    """The first latent frame is given: it comes out as it went in, and the second heeds it."""
    model, mask = make(), torch.tensor([True, False])[:, None, None]
    history = 3 * torch.randn(3, 3, 2, 3, 2)
    sampler = replace(SAMPLER, kind=kind)
    found = model.sample(TRAJECTORY, SEEDS, sampler, known=Known(history, mask))
    torch.testing.assert_close(found[:, :, 0], history[:, :, 0])
    other = model.sample(TRAJECTORY, SEEDS, sampler, known=Known(-history, mask))
    assert not torch.allclose(found[:, :, 1], other[:, :, 1], atol=1e-3)


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_samplers_without_a_limit_stay_within_what_was_trained_on(kind: str) -> None:
    """Untrained guesses run away where they may: not by default, and as far as another limit lets them."""
    model = make()
    found = {
        limit: float(model.sample(TRAJECTORY, SEEDS, SamplerConfig(kind, 3, limit=limit)).abs().max())  # type: ignore[arg-type]
        for limit in (None, CONFIG.largest, 1.0, 1e6)
    }
    largest = CONFIG.largest * CONFIG.scale
    assert found[None] == found[CONFIG.largest] <= largest * (1 + 1e-5)
    assert found[1.0] <= CONFIG.scale * (1 + 1e-5)
    assert found[1e6] > largest


def test_guidance_of_one_is_none() -> None:
    """Just at 1 guidance changes hardly anything, above it the trajectory moves the sample further."""
    model = make()
    plain, once, thrice = (model.sample(TRAJECTORY, SEEDS, SAMPLER, guidance=scale) for scale in (1.0, 1.0 + 1e-6, 3.0))
    torch.testing.assert_close(plain, once, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(plain, thrice, atol=1e-2)


@pytest.mark.parametrize(
    "cfg", [replace(CONFIG, withheld=0.0), replace(CONFIG, transformer=replace(TRANSFORMER, trajectory=False))]
)
def test_guidance_without_its_training_is_refused(cfg: ClipDiffusionConfig) -> None:
    """The release guides with two halves that are the same; here that is an error."""
    with pytest.raises(ValueError, match=r"guidance: 2\.0"):
        make(cfg).sample(TRAJECTORY, SEEDS, SAMPLER, guidance=2.0)


def test_saved_and_loaded_is_the_same_model(tmp_path: Path) -> None:
    model = make()
    save_diffusion(model, tmp_path / "model")
    loaded = load_diffusion(tmp_path / "model")
    assert loaded.cfg == model.cfg
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded.sample(TRAJECTORY, SEEDS, SAMPLER), model.sample(TRAJECTORY, SEEDS, SAMPLER))


def test_other_files_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"kind": "tokenizer", "config": {}})
    with pytest.raises(ValueError, match=r"config\.json.*occsora_diffusion.*tokenizer"):
        load_diffusion(tmp_path)


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"dt": -1.0}, {"largest": 0.0}, {"withheld": 1.0}, {"scale": float("nan")}])
def test_impossible_configs_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ClipDiffusionConfig"):
        replace(CONFIG, **wrong)
