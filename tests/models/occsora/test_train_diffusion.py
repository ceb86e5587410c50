"""Training of the diffusion model: what is cached, what each step sees, and that trajectories come to steer what is made."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.utils.data import Subset

from models.diffusion_sampling import SamplerConfig
from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig
from models.occsora.latent_clips import LatentClips, build_latent_clips, encode_clips
from models.occsora.pretrained_diffusion import load_diffusion
from models.occsora.train_diffusion import DiffusionTask, LatentBatch, release_training, train_diffusion
from models.occsora.trajectory import trajectory_from_motion
from models.training import TrainingConfig
from scenes.dataset import SceneClips
from tests.models.occsora.small import GRID as SMALL_GRID
from tests.models.occsora.small import make_tokenizer
from tests.models.occsora.stand_in import DT, FRAMES, TRANSFORMER, Clips, StandInTokenizer
from tests.models.small import make_street


def test_cached_latents_are_those_of_the_tokenizer() -> None:
    """Codes and table give back exactly what the decoder would read, and the scale is its root mean square."""
    tokenizer, clips = StandInTokenizer(), Clips()
    cache = encode_clips(tokenizer, clips, range(6))
    occupancy = torch.stack([clips[index]["occupancy"] for index in range(6)])
    expected = tokenizer.quantize(tokenizer.encode(occupancy)).latents
    assert torch.equal(cache.latents(torch.arange(6)), expected)
    assert torch.equal(cache.latents(torch.tensor([5, 0])), expected[[5, 0]])
    assert torch.equal(cache.motion[5], clips[5]["motion"])
    assert cache.scale() == pytest.approx(float(expected.square().mean().sqrt()))
    assert cache.largest() == float(expected.abs().max())


def test_cache_goes_on_where_it_was(tmp_path: Path) -> None:
    """Parts that are there are not encoded again; those of another tokenizer or of other clips are refused."""
    tokenizer, clips = StandInTokenizer(), Clips()
    assert len(build_latent_clips(tokenizer, clips, 20, tmp_path)) == 20
    whole = build_latent_clips(tokenizer, clips, 40, tmp_path)  # the part that was cut short is made again
    assert torch.equal(whole.codes, encode_clips(tokenizer, clips, range(40)).codes)
    clips.read = 0
    (tmp_path / "part-00001.safetensors").unlink()
    again = build_latent_clips(tokenizer, clips, 40, tmp_path)
    assert clips.read == 16 + 1  # and the first one, to know the clips by
    assert torch.equal(whole.codes, again.codes)
    assert torch.equal(whole.motion, again.motion)
    with pytest.raises(ValueError, match="holds clips that another model encoded"):
        build_latent_clips(StandInTokenizer(seed=1), clips, 40, tmp_path)
    with pytest.raises(ValueError, match="was encoded from other clips"):
        build_latent_clips(tokenizer, Subset(clips, range(1, 64)), 40, tmp_path)
    (tmp_path / "origin.json").unlink()
    with pytest.raises(ValueError, match=r"origin\.json: missing beside encoded clips"):
        build_latent_clips(tokenizer, clips, 40, tmp_path)


def test_clips_are_encoded_in_eval_mode() -> None:
    """By the statistics that the tokenizer learned, not those of one clip; afterwards each part is in the mode it was in."""
    tokenizer = make_tokenizer()
    clips = SceneClips([make_street()], SMALL_GRID, DT, FRAMES)
    expected = encode_clips(tokenizer, clips, range(2))
    tokenizer.train()
    tokenizer.decoder.eval()
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    found = encode_clips(tokenizer, clips, range(2))
    assert torch.equal(found.codes, expected.codes)
    assert tokenizer.encoder.training
    assert not tokenizer.decoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.state_dict().items())


def test_other_files_are_no_cache(tmp_path: Path) -> None:
    from models.checkpoint import write_tensors

    write_tensors(tmp_path / "part-00000.safetensors", {"codes": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"part-00000.*missing"):
        LatentClips.load(tmp_path / "part-00000.safetensors")


def task(**changes: float) -> DiffusionTask:
    torch.manual_seed(0)
    cfg = ClipDiffusionConfig(3, (2, 2, 2), FRAMES, DT, 2.0, 3.0, TRANSFORMER, **changes)
    return DiffusionTask(ClipDiffusion(cfg), seed=5, full_from=100)


def batch(count: int) -> LatentBatch:
    return LatentBatch(torch.randn(count, 3, 2, 2, 2), torch.randn(count, FRAMES, 2))


def test_a_step_repeats_and_steps_differ() -> None:
    """All that is random in a step follows from seed and step."""
    model, clips = task(), batch(8)
    found = [float(model(clips, step)["loss"].detach()) for step in (3, 3, 4)]
    assert found[0] == found[1] != found[2]


def test_the_full_bound_takes_over_when_asked() -> None:
    """Until then the loss is the noise's error and the variance's bound; an untrained network's noise is off by one."""
    model, clips = task(), batch(64)
    before, after = model(clips, 99), model(clips, 100)
    torch.testing.assert_close(before["loss"], before["simple"] + before["bound"])
    torch.testing.assert_close(after["loss"], after["bound"])
    assert float(before["simple"].detach()) == pytest.approx(1, abs=0.2)


def test_the_bound_counts_every_step_once() -> None:
    """So it cannot be had with steps that are drawn by their noise."""
    with pytest.raises(ValueError, match=r"snr_limit: 1\.0 cannot be had with the whole bound"):
        DiffusionTask(task().model, seed=5, full_from=100, snr_limit=1.0)


def test_a_limit_draws_noisier_steps() -> None:
    """Nearly clean latents are the hardest to tell the noise of: without them a fresh model's error stays, the bound falls."""
    fresh = task().model
    plain, limited = DiffusionTask(fresh, seed=5), DiffusionTask(fresh, seed=5, snr_limit=1.0)
    clips = batch(64)
    assert float(limited(clips, 0)["bound"].detach()) < float(plain(clips, 0)["bound"].detach())


def test_mixed_precision_runs() -> None:
    """In bfloat16 the network's products are rounded, and the losses stay near those of float32."""
    model, clips = task(), batch(16)
    torch.nn.init.normal_(model.model.transformer.dit.final.linear.weight, std=0.05)
    exact = model(clips, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(clips, 7)
    rounded["loss"].backward()
    for name, value in exact.items():
        assert value.item() == pytest.approx(rounded[name].item(), rel=0.03)
    assert all(part.grad is None or torch.isfinite(part.grad).all() for part in model.parameters())


def test_a_share_of_trajectories_is_withheld() -> None:
    """So that a model learns what clips are like without: the share that was asked for, drawn anew in each step."""
    model, clips, told = task(withheld=0.25), batch(200), []

    class Recorder(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, step: torch.Tensor, trajectory: torch.Tensor, given: torch.Tensor) -> object:
            told.append(given)
            return transformer(noisy, step, trajectory, given)

    transformer = model.model.transformer
    model.model.transformer = Recorder()  # type: ignore[assignment]
    for step in range(4):
        model(clips, step)
    assert float(torch.stack(told).float().mean()) == pytest.approx(0.75, abs=0.06)
    assert not torch.equal(told[0], told[1])


def test_the_releases_training(tmp_path: Path) -> None:
    """Its settings, of which a run may change some; without clipping it runs as well."""
    cfg = release_training(tmp_path, batch_size=2, steps=2)
    assert (cfg.learning_rate, cfg.ema_decay, cfg.optimizer, cfg.schedule) == (1e-5, 0.9999, "adamw", "constant")
    assert (cfg.batch_size, cfg.weight_decay, cfg.clip) == (2, 0.0, math.inf)
    model = load_diffusion(train_diffusion(Clips(), StandInTokenizer(), TRANSFORMER, cfg, dt=DT, count=3, withheld=0.0))
    assert model.cfg.withheld == 0


def test_trajectories_come_to_steer_what_is_made(tmp_path: Path) -> None:
    """On clips whose content follows from how the ego moves, the trained model makes what a trajectory asks for, in few steps
    of either sampler and with guidance, and its latents are the tokenizer's."""
    tokenizer, clips = StandInTokenizer(), Clips()
    cfg = TrainingConfig(
        tmp_path, steps=600, batch_size=16, optimizer="adamw", learning_rate=3e-3, warmup=10, weight_decay=0.0, save_every=600
    )
    folder = train_diffusion(clips, tokenizer, TRANSFORMER, cfg, dt=DT, count=32)
    model = load_diffusion(folder)
    assert (model.cfg.shape, model.cfg.frames, model.cfg.dt) == ((2, 2, 2), FRAMES, DT)
    asked = torch.arange(16) % 2
    items = [clips[int(index)] for index in asked]
    trajectory = trajectory_from_motion(torch.stack([item["motion"] for item in items]))
    expected = tokenizer.quantize(tokenizer.encode(torch.stack([item["occupancy"] for item in items])))
    for kind, calls, guidance in (("ddim", 10, 1.0), ("ddim", 10, 1.5), ("ddpm", 50, 1.0)):
        sampler = SamplerConfig(kind, calls)  # type: ignore[arg-type]
        found = model.sample(trajectory, torch.arange(16), sampler, guidance=guidance)
        near = torch.cdist(found.movedim(1, -1).flatten(0, -2), tokenizer.table).argmin(-1)
        assert float((near == expected.codes.flatten()).float().mean()) > 0.9
