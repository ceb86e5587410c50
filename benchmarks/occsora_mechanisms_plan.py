"""What occsora_mechanisms.py trains and measures, and how many training steps its minutes hold on this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from models.diffusion_sampling import SamplerConfig
from models.fidelity.bootstrap import RESAMPLES
from models.fidelity.train_features import VoxelTask, batch_of
from models.fidelity.voxel_network import VoxelNetwork, VoxelNetworkConfig
from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig
from models.occsora.config import OccSoraPreset, occsora_preset
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.train_diffusion import DiffusionTask, LatentBatch
from models.occsora.train_tokenizer import TokenizerTask
from models.occsora.transformer import SIZES
from scenes.dataset import SceneClips, split
from scenes.scene import Scene
from scenes.scene_file import load_scenes

VARIANTS: dict[str, dict[str, bool]] = {
    "full": {},
    "without-trajectory": {"trajectory": False},
    "without-time-step": {"timestep_embedding": False},
}  # of the transformer: the switches of the paper's table 3
FEATURE_FRAMES, FEATURE_BATCH = 8, 2  # of the clips that the feature extractor is trained on
_TIMED = 4  # training steps whose time is taken, after one to warm up


@dataclass(frozen=True)
class Config:
    """What to train and measure. Each training gets as many steps as its minutes hold, or as many as are asked for."""

    scenes: Path
    """Folder of scene files to train on."""
    out: Path
    """Folder of everything that is trained, generated and measured; a run that was stopped goes on where it was."""
    held_out: Path | None = None
    """Folder of scene files of other towns, to measure on; by default a tenth of the towns in --scenes is kept for that."""
    preset: str = "occsora-near"
    """Tokenizer of the paper's structure, of models/occsora/config.py."""
    lean: str = "occsora-lean-near"
    """Tokenizer that learns from the same clips in as many steps."""
    transformer: str = "wide"
    """Size of the diffusion transformer, of models/occsora/transformer.py."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Diffusion models: "full" first, and what is taken from the others."""
    features: Literal["voxels", "random"] = "voxels"
    """Feature extractor of the distances: trained here, or random weights of a fixed seed."""
    tokenizer_minutes: float = 24.0
    """Budget of the paper's tokenizer."""
    diffusion_minutes: float = 8.0
    """Budget of each diffusion model."""
    features_minutes: float = 4.0
    """Budget of the feature extractor."""
    tokenizer_steps: int | None = None
    """Training steps in place of these minutes."""
    diffusion_steps: int | None = None
    """Likewise."""
    features_steps: int | None = None
    """Likewise."""
    tokenizer_batch: int = 4
    """Clips a step of a tokenizer."""
    diffusion_batch: int = 8
    """Clips a step of a diffusion model."""
    diffusion_rate: float = 6e-3
    """Peak learning rate of the diffusion models."""
    snr_limit: float | None = 1.0
    """Their training draws steps below this noise, as a ratio of signal to noise, less often; None, as released, does not."""
    withheld: float = 0.1
    """Training clips without their trajectory, which samplers with guidance need; the release withholds none."""
    columns: int = 1 << 14
    """Voxel columns of a batch at which the losses of the classes are taken."""
    revive: bool = True
    """Move codes that nothing falls to onto vectors of the batch; the release does not."""
    points: int = 6
    """Moments of each tokenizer's training at which it rebuilds held-out clips."""
    encoded: int = 2048
    """Training clips that the diffusion models draw from."""
    clips: int = 32
    """Held-out clips whose trajectories are generated from; twice as many others are what all sets are compared with."""
    samplers: tuple[str, ...] = ("ddpm-1000", "ddpm-250", "ddpm-50", "ddim-50", "ddim-50-2", "ddim-20", "ddim-10", "ddim-5")
    """Samplers of the full model, kind, steps and guidance if any; the others are compared with the first."""
    variant_sampler: str = "ddpm-250"
    """One of these without guidance, that the variants of the model are compared with."""
    resamples: int = RESAMPLES
    """Of the bootstrap behind the intervals."""
    threads: int = 2
    """CPU threads."""
    seed: int = 0
    """Of weights, clips and noise."""
    json: str = ""
    """File for all figures."""

    def __post_init__(self) -> None:
        plain = [name for name in self.samplers if sampler_of(name)[1] == 1]
        if self.variant_sampler not in plain:
            raise ValueError(
                f"--variant-sampler: expected one of --samplers without guidance, {plain}, found {self.variant_sampler!r}"
            )
        if len(plain) < len(self.samplers) and not self.withheld:
            raise ValueError("--samplers: guidance needs --withheld above 0, found 0")
        if self.variants[:1] != ("full",) or not set(self.variants) <= set(VARIANTS):
            raise ValueError(f"--variants: expected full, then some of {list(VARIANTS)[1:]}, found {list(self.variants)}")
        if self.transformer not in SIZES:
            raise ValueError(f"--transformer: expected one of {list(SIZES)}, found {self.transformer!r}")
        both = [occsora_preset(name) for name in (self.preset, self.lean)]
        if any((one.grid, one.frames, one.dt) != (both[0].grid, both[0].frames, both[0].dt) for one in both):
            raise ValueError(f"--lean: {self.lean} is for other clips than {self.preset}")


def sampler_of(name: str) -> tuple[SamplerConfig, float]:
    """The sampler and the guidance of a name such as "ddim-20" or "ddim-20-1.5"; ValueError where it is none."""
    match = re.fullmatch(r"(ddpm|ddim)-(\d+)(?:-(\d+(?:\.\d+)?))?", name)
    if match is None or not 1 <= int(match[2]) <= 1000:
        expected = "ddpm-STEPS or ddim-STEPS with 1 to 1000 steps, and -GUIDANCE behind them if any"
        raise ValueError(f"--samplers: expected {expected}, found {name!r}")
    return SamplerConfig(match[1], int(match[2])), float(match[3] or 1)  # type: ignore[arg-type]


def load_towns(config: Config) -> tuple[list[Scene], list[Scene]]:
    """Scenes to train on and scenes to measure on; ValueError where they share a town."""
    scenes = load_scenes(config.scenes)
    if config.held_out is None:
        return split(scenes)
    others = load_scenes(config.held_out)
    shared = {scene.source for scene in scenes} & {scene.source for scene in others}
    if shared:
        raise ValueError(f"--held-out: expected other towns than --scenes has, found {sorted(shared)} in both")
    return scenes, others


def clips_of(config: Config, scenes: list[Scene], *, seed: int, frames: int | None = None) -> SceneClips:
    """Clips of the preset's form, rendered from scenes; `frames` for another length."""
    preset = occsora_preset(config.preset)
    return SceneClips(scenes, preset.grid, preset.dt, frames or preset.frames, seed=seed)


def make_plan(config: Config) -> dict[str, Any]:
    """Steps of each training: those asked for, or those that its minutes hold at the pace of a few steps now."""
    scenes, preset = load_towns(config)[0], occsora_preset(config.preset)
    clips = clips_of(config, scenes, seed=config.seed)
    plan = {
        "tokenizer": config.tokenizer_steps or _held(config.tokenizer_minutes, _tokenizer_step(config, preset, clips)),
        "diffusion": config.diffusion_steps or _held(config.diffusion_minutes, _diffusion_step(config, preset)),
    }
    if config.features == "voxels":
        short = clips_of(config, scenes, seed=config.seed, frames=min(FEATURE_FRAMES, preset.frames))
        plan["features"] = config.features_steps or _held(config.features_minutes, _features_step(config, short))
    return plan


def _held(minutes: float, step: Callable[[], None]) -> int:
    """How many steps `minutes` hold."""
    step()
    begin = time.perf_counter()
    for _ in range(_TIMED):
        step()
    return max(int(60 * minutes * _TIMED / (time.perf_counter() - begin)), 1)


def _tokenizer_step(config: Config, preset: OccSoraPreset, clips: SceneClips) -> Callable[[], None]:
    task = TokenizerTask(OccSoraTokenizer(preset.grid, preset.tokenizer), config.seed, config.columns, config.revive)

    def step() -> None:
        batch = torch.stack([clips[index]["occupancy"] for index in range(config.tokenizer_batch)])
        task(batch, 0)["loss"].backward()

    return step


def _diffusion_step(config: Config, preset: OccSoraPreset) -> Callable[[], None]:
    cfg, size = preset.tokenizer, SIZES[config.transformer]
    shape = OccSoraTokenizer(preset.grid, cfg).latent_shape(preset.frames)
    model = ClipDiffusion(ClipDiffusionConfig(cfg.latent_channels, shape, preset.frames, preset.dt, 1.0, 1.0, size))
    task = DiffusionTask(model, config.seed)
    latents = torch.randn(config.diffusion_batch, cfg.latent_channels, *shape)
    batch = LatentBatch(latents, torch.zeros(config.diffusion_batch, preset.frames, 2))
    return lambda: task(batch, 0)["loss"].backward()


def _features_step(config: Config, clips: SceneClips) -> Callable[[], None]:
    grid = clips.grid
    share = torch.full((grid.num_classes,), 1 / grid.num_classes)
    task = VoxelTask(VoxelNetwork(grid, VoxelNetworkConfig()), share, config.seed)

    def step() -> None:
        batch = batch_of([clips[index] for index in range(FEATURE_BATCH)], mirrored=False, device="cpu")
        task(batch, 0)["loss"].backward()

    return step
