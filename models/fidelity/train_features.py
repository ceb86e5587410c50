"""Training of the feature extractors: 3D features that rebuild voxels and motion, 2D features that tell the layout of roads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.fidelity.extractors import save_extractor
from models.fidelity.map_network import MapNetwork, MapNetworkConfig
from models.fidelity.road_layout import road_layout
from models.fidelity.voxel_network import VoxelNetwork, VoxelNetworkConfig
from models.losses import class_weights, voxel_loss
from models.metrics import class_histogram
from models.training import Clips, Trainer, TrainingConfig, own_generator
from scenes.grid import Grid

KINDS = ("voxels", "maps")
REBUILT = 2  # frames of each clip that are rebuilt in a step: the class head is the dearest part of training


class VoxelTask(nn.Module):
    """An auto-encoder of frames and, over time, of the maps of clips, that also tells the ego motion of each clip."""

    weights: Tensor

    def __init__(self, network: VoxelNetwork, frequency: Tensor, seed: int) -> None:
        super().__init__()
        self.network, self.seed = network, seed
        width, half, classes = network.cfg.width, network.cfg.width // 2, network.grid.num_classes
        self.first, self.second = nn.Conv3d(width, width, 3, padding=1), nn.Conv3d(width, half, 3, padding=1)
        self.classes = nn.Conv3d(half, 8 * classes, 1)
        self.rebuild = nn.Conv3d(width, width, 3, padding=1)
        self.motion = nn.Linear(width, 3)
        self.register_buffer("weights", class_weights(frequency))

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Figures of one step on `occupancy` uint8 (B, T, X, Y, Z) and `motion` (B, T, 3)."""
        occupancy, network = batch["occupancy"], self.network
        count, frames = occupancy.shape[:2]
        flat = network.frame_maps(occupancy.flatten(0, 1))
        pick = torch.randperm(count * frames, generator=own_generator(self.seed, step))[: REBUILT * count]
        logits = self._class_logits(flat[pick])
        target = occupancy.flatten(0, 1)[pick].flatten()
        cross_entropy, jaccard = voxel_loss(logits.reshape(len(target), -1), target, self.weights)
        maps = flat.unflatten(0, (count, frames))
        clips = network.clip_maps(maps)
        network.pooled(maps.detach(), clips.detach())  # only keeps the mean and variance of the features
        seen = maps.mean(-1).transpose(1, 2).detach()
        rebuilt = F.mse_loss(self.rebuild(F.interpolate(clips, seen.shape[2:])), seen) / seen.var().clamp(min=1e-6)
        told = self.motion(clips.mean((3, 4)).transpose(1, 2))
        motion = F.smooth_l1_loss(told, _mean_motion(batch["motion"], told.shape[1]))
        loss = cross_entropy + jaccard + rebuilt + motion
        return {"loss": loss, "cross_entropy": cross_entropy, "jaccard": jaccard, "clip": rebuilt, "motion": motion}

    def _class_logits(self, maps: Tensor) -> Tensor:
        """Class logits (N, X, Y, Z, C) of all voxels from frame maps (N, width, x, y, z)."""
        nx, ny, nz = self.network.grid.shape
        half = tuple(-(-size // 2) for size in (nx, ny, nz))
        quarter = tuple(-(-size // 2) for size in half)
        y = F.gelu(self.first(F.interpolate(maps, quarter)))
        y = self.classes(F.gelu(self.second(F.interpolate(y, half))))
        return rearrange(y, "n (p q r c) x y z -> n (x p) (y q) (z r) c", p=2, q=2, r=2)[:, :nx, :ny, :nz]


class MapTask(nn.Module):
    """Colour maps from which the layout of the road, the share of each class and the heights are told."""

    def __init__(self, network: MapNetwork) -> None:
        super().__init__()
        self.network, width = network, network.cfg.width
        self.classes = nn.Linear(width, network.grid.num_classes - 1)
        self.heights = nn.Linear(width, network.grid.shape[2])

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Figures of one step on `occupancy` uint8 (B, T, X, Y, Z)."""
        occupancy, grid = batch["occupancy"].flatten(0, 1), self.network.grid
        found = self.network.features(occupancy)
        layout = road_layout(occupancy, grid)
        told = self.network.layout(found)
        classes = torch.stack([(occupancy == index).sum((1, 2, 3)) for index in range(grid.num_classes - 1)], dim=-1)
        heights = (occupancy != grid.free).sum((1, 2))
        parts = {
            "layout": F.cross_entropy(told, layout),
            "classes": F.cross_entropy(self.classes(found), _shares(classes)),
            "heights": F.cross_entropy(self.heights(found), _shares(heights)),
        }
        right = (told.argmax(-1) == layout).float().mean()
        return {"loss": torch.stack(list(parts.values())).sum(), **parts, "layout_accuracy": right}


def train_features(kind: str, clips: Clips, grid: Grid, cfg: TrainingConfig) -> Path:
    """Train the extractor of a kind, "voxels" or "maps", on clips of one grid; returns the folder with the finished extractor.

    Half of the batches are mirrored. Raises ValueError for another kind, and for voxels of one clip a step: their features are
    normalised over a batch.
    """
    if kind not in KINDS:
        raise ValueError(f"train_features: expected one of {KINDS}, found {kind!r}")
    if kind == "voxels" and cfg.batch_size < 2:
        raise ValueError(f"batch_size: features of voxels need 2 clips a step or more, found {cfg.batch_size}")
    torch.manual_seed(cfg.seed)
    task: VoxelTask | MapTask
    if kind == "voxels":
        task = VoxelTask(VoxelNetwork(grid, VoxelNetworkConfig()), _class_frequency(clips, grid), cfg.seed)
    else:
        task = MapTask(MapNetwork(grid, MapNetworkConfig()))

    def make_batch(step: int) -> dict[str, Tensor]:
        items = [clips[index] for index in trainer.in_turn(step, len(clips))]
        return batch_of(items, step % 2 == 1, trainer.accelerator.device)

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, VoxelTask | MapTask)
        save_extractor(trained.network, cfg.out)

    trainer = Trainer(task, make_batch, export, cfg)
    trainer.run()
    return cfg.out


def batch_of(items: list[dict[str, Any]], mirrored: bool, device: torch.device | str) -> dict[str, Tensor]:
    """Items stacked: `occupancy` uint8 (B, T, X, Y, Z) and `motion` float32 (B, T, 3); left and right exchanged on request."""
    occupancy, motion = (torch.stack([item[name] for item in items]) for name in ("occupancy", "motion"))
    if mirrored:
        occupancy, motion = occupancy.flip(-2), motion * motion.new_tensor([1.0, -1.0, -1.0])
    return {"occupancy": occupancy.to(device), "motion": motion.to(device)}


def _mean_motion(motion: Tensor, stretches: int) -> Tensor:
    """Mean motion of each of equal stretches, (B, stretches, 3), in metres and tenths of radians a frame."""
    scaled = motion * motion.new_tensor([1.0, 1.0, 10.0])
    return F.adaptive_avg_pool1d(scaled.transpose(1, 2), stretches).transpose(1, 2)


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True).clamp(min=1)


def _class_frequency(clips: Clips, grid: Grid, samples: int = 16) -> Tensor:
    """Share of each class among the voxels of a few clips, (C,)."""
    counts = torch.zeros(grid.num_classes)
    for index in range(min(samples, len(clips))):
        counts += class_histogram(clips[index]["occupancy"], grid.num_classes).cpu()
    return counts / counts.sum()
