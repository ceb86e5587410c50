"""What the training commands have in common: data, folder of the run, schedule, and where it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.training import TrainingConfig
from scenes.scene import Scene
from scenes.scene_file import load_scenes

if TYPE_CHECKING:
    from scenes.dataset import SceneClips
    from scenes.grid import Grid
    from scenes.store_clips import StoreClips


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of a training; a run that was stopped goes on where it was."""

    scenes: Path | None = None
    """Folder of scene files, as `occsora make-scenes` writes them."""
    out: Path
    """Folder of the run: checkpoints, TensorBoard logs and the finished model."""
    preset: str = "mini"
    """Size of the model: mini, base; where tokenizers or world models are trained also occsora, dynamiccity-carlasc,
    dynamiccity-occ3d and their variants, see docs/occsora.md and docs/dynamiccity_world.md."""
    steps: int | None = None
    """Optimiser steps in all, which the schedule of the learning rate spans; by default those of the preset."""
    batch_size: int | None = None
    """Samples a step and process; by default those of the preset."""
    learning_rate: float | None = None
    """Peak of the learning rate; by default that of the preset."""
    minutes: float | None = None
    """Stop with a checkpoint after this many minutes."""
    save_every: int | None = None
    """Steps between checkpoints."""
    seed: int = 0
    """Of all randomness."""
    precision: str = "no"
    """no for float32, bf16 for mixed precision on a GPU."""
    device: str = "auto"
    """Where scenes are rendered: auto (the GPU where there is one), cpu or cuda."""

    def training(self, recipe: TrainingConfig) -> TrainingConfig:
        """What the training loop reads: the recipe, but for what was given."""
        names = ("steps", "batch_size", "learning_rate", "save_every")
        given: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        fixed = {name: getattr(self, name) for name in ("out", "minutes", "seed", "precision")}
        return replace(recipe, **fixed, **given)

    def rendering_device(self) -> str:
        """Name of the device that `device` stands for; each of several processes has a GPU of its own, if there are as many."""
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        if device != "cuda" or "LOCAL_RANK" not in os.environ:
            return device
        count = max(torch.cuda.device_count(), 1)
        return f"cuda:{int(os.environ['LOCAL_RANK']) % count}"  # the one that accelerate chooses

    def load_scenes(self) -> list[Scene]:
        """All scenes of the folder, on the device that renders them."""
        if self.scenes is None:
            raise ValueError(f"--scenes: preset {self.preset!r} needs a folder of scene files, found none given")
        return [scene.to(self.rendering_device()) for scene in load_scenes(self.scenes)]


@dataclass(frozen=True, kw_only=True)
class ClipOptions(TrainingOptions):
    """Options of a training on scenes or, for the presets of whole clips, on a store."""

    clips: tuple[str, ...] = ()
    """Stores of clips, as `occsora make-scenes occ3d` writes them: paths or fsspec URLs. For the presets of whole clips."""

    def load_scenes(self) -> list[Scene]:
        """All scenes of the folder; raises ValueError where there are stores too, which nobody would read."""
        if self.clips:
            raise ValueError(f"--clips: preset {self.preset!r} is trained on --scenes, found {' '.join(self.clips)}")
        return super().load_scenes()

    def load_clips(self, grid: Grid, dt: float, frames: int) -> SceneClips | StoreClips:
        """Clips on a grid, of so many frames, dt seconds apart, rendered from scenes or read from stores.

        Raises ValueError where both or neither are given, the stores' clips are not of that kind, or scenes cannot be rendered
        in the classes of the grid.
        """
        if (self.scenes is None) == (not self.clips):
            given = "neither" if self.scenes is None else "both"
            raise ValueError(f"--scenes, --clips: expected one of the two, found {given}")
        if self.scenes is not None:
            from scenes.dataset import SceneClips
            from scenes.grid import CLASSES

            if grid.classes != CLASSES:
                how = "make clips of the scenes with `occsora make-scenes clips --grid carlasc` and give them as --clips"
                raise ValueError(f"--scenes: preset {self.preset!r} has the {grid.num_classes} classes of CarlaSC; {how}")
            return SceneClips(self.load_scenes(), grid, dt, frames, seed=self.seed)
        from scenes.clip_store import ClipStore
        from scenes.store_clips import StoreClips

        stores = [ClipStore.open(address) for address in self.clips]
        wrong = [store.address for store in stores if store.grid != grid]
        if wrong:
            shape = f"{grid.shape} voxels of {grid.voxel} m with {grid.num_classes} classes"
            raise ValueError(f"--clips: {wrong[0]} is not on the grid of preset {self.preset!r}, {shape}")
        spacing = stores[0].dt(0) if len(stores[0]) else dt
        stride = max(round(dt / spacing), 1)
        if abs(stride * spacing - dt) > 1e-6:
            expected = f"a fraction of the {dt:g} s of preset {self.preset!r}"
            raise ValueError(f"--clips: expected frames {expected} apart, found {spacing:g} s in {stores[0].address}")
        return StoreClips(stores, frames, stride, self.seed)
