"""Rebuild clips with a tokenizer of OccSora or a VAE of DynamicCity: compression, IoU by class, and the voxels in a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from models.checkpoint import write_json
from models.dynamiccity.config import plane_shapes
from models.dynamiccity.presets import WORLD_PRESETS
from models.dynamiccity.pretrained import KIND as VAE
from models.dynamiccity.pretrained import load_vae
from models.dynamiccity.vae import HexPlaneVae
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.fidelity.reconstruction import ReconstructionTally
from models.model_folder import kind_of
from models.occsora.config import PRESETS
from models.occsora.pretrained import KINDS as TOKENIZERS
from models.occsora.pretrained import load_tokenizer
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.world_model import OccSoraWorldModel
from models.pretrained import find_pretrained, from_pretrained
from occsora.measure_clips import clip_progress, plain_table, reconstruction_table, rounded
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.grid import Grid
from scenes.label_sets import from_occ3d
from scenes.scene_file import load_scenes

_RENDERED = 100  # clips of scenes, of which there is no end
_FLOAT_BITS = 16  # in which the numbers of HexPlanes are kept


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """What is rebuilt, and by whom."""

    tokenizer: str
    """Folder of a tokenizer (occsora...) or VAE (dynamiccity...), or of a world model that holds one."""
    clips: str | None = None
    """Store of clips: a path or fsspec URL. Each is cut into as many clips of --frames as it holds."""
    scenes: Path | None = None
    """Folder of scene files to render clips from, in the place of a store."""
    frames: tuple[int, ...] = ()
    """Frames of a clip, by default those of the preset. Several numbers are rebuilt each by itself, from the first frame on."""
    dt: float | None = None
    """Seconds between frames: by default those of the preset or, where the shape is of none, those of the store."""
    num: int | None = None
    """Clips to rebuild, spread evenly over the store; by default all that it holds, and of scenes 100."""
    out: Path | None = None
    """Folder for two stores: true.zarr, what was rebuilt, and rebuilt.zarr, what came of it."""
    json: Path | None = None
    """File for all figures."""
    seed: int = 0
    """Chooses other clips of scenes."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu or cuda."""


COMMAND = Reconstruct


@dataclass(frozen=True)
class Rebuilder:
    """A tokenizer or VAE, and what is known of it.

    Attributes:
        model: what rebuilds clips.
        frames: frames of the clips that it is for; None where nobody knows.
        dt: seconds between them; None where nobody knows.
        ratio: columns of a clip over places of its latents, as in OccSora's table 1. Heights and channels do not enter.
        bits_per_frame: bits of codes, or of the numbers of HexPlanes at 16 bits each.
    """

    model: OccSoraTokenizer | HexPlaneVae
    frames: int | None
    dt: float | None
    ratio: float
    bits_per_frame: float

    def rebuild(self, occupancy: Tensor) -> Tensor:
        """Occupancy uint8 (T, X, Y, Z) through the latents and back."""
        device = next(self.model.parameters()).device
        return self.model.reconstruct(occupancy.unsqueeze(0).to(device))[0].cpu()


def run(config: Reconstruct) -> None:
    """Rebuild, print the tables, and write what is asked for; raises ValueError where model and clips do not fit together."""
    if (config.scenes is None) == (config.clips is None):
        given = "neither" if config.scenes is None else "both"
        raise ValueError(f"--clips, --scenes: expected one of the two, found {given}")
    if config.num is not None and config.num < 1:
        raise ValueError(f"--num: expected 1 or more, found {config.num}")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    rebuilder = load_rebuilder(config.tokenizer, device)
    numbers = _frames(config, rebuilder)
    clips = (_stored if config.scenes is None else _rendered)(config, rebuilder, numbers[-1])
    reports = {frames: tally.report() for frames, tally in _rebuilt(config, rebuilder, clips, numbers).items()}
    if config.json is not None:
        kept = {"compression_ratio": rebuilder.ratio, "bits_per_frame": rebuilder.bits_per_frame}
        write_json(config.json, {**_about(config), **kept, "reports": reports})
    _show(rebuilder, reports)


def load_rebuilder(name: str, device: torch.device | str = "cpu") -> Rebuilder:
    """The tokenizer or VAE of a folder or inside a world model; raises ValueError where it holds neither."""
    folder = find_pretrained(name)
    kind = kind_of(folder)
    if kind in TOKENIZERS:
        return _of_tokenizer(load_tokenizer(folder, device))
    if kind == VAE:
        return _of_vae(load_vae(folder, device))
    model = from_pretrained(folder, device) if kind in ("occsora", "dynamiccity") else None
    if isinstance(model, OccSoraWorldModel):
        return replace(_of_tokenizer(model.tokenizer), frames=model.window_frames, dt=model.dt)
    if isinstance(model, DynamicCityWorldModel):
        return replace(_of_vae(model.vae), dt=model.dt)
    raise ValueError(
        f"--tokenizer: expected a tokenizer of whole clips, a VAE, or a world model with one, found kind {kind!r} in {folder}; "
        "benchmarks/world_model.py measures mini and base"
    )


def _of_tokenizer(model: OccSoraTokenizer) -> Rebuilder:
    """A tokenizer does not know its clips, but the preset of its shape does."""
    made_for = [(one.frames, one.dt) for one in PRESETS.values() if (one.grid, one.tokenizer) == (model.grid, model.cfg)]
    frames, dt = made_for[0] if made_for else (None, None)
    return Rebuilder(model, frames, dt, model.cfg.ratio, model.bits_per_frame)


def _of_vae(model: HexPlaneVae) -> Rebuilder:
    cfg, grid = model.cfg, model.grid
    dt = next((one.dt for one in WORLD_PRESETS.values() if (one.grid, one.vae) == (grid, cfg)), None)
    places = sum(height * width for height, width in plane_shapes(grid, cfg).values())
    ratio = cfg.frames * grid.shape[0] * grid.shape[1] / places
    return Rebuilder(model, cfg.frames, dt, ratio, _FLOAT_BITS * cfg.channels * places / cfg.frames)


def _frames(config: Reconstruct, rebuilder: Rebuilder) -> list[int]:
    """Numbers of frames to rebuild, the largest last; ValueError for one that the model does not take."""
    if not config.frames and rebuilder.frames is None:
        raise ValueError("--frames: the tokenizer is of no preset's shape, so the frames of a clip are to be given")
    numbers = sorted(set(config.frames or (rebuilder.frames or 0,)))
    model = rebuilder.model
    for frames in numbers:
        if isinstance(model, OccSoraTokenizer):
            model.latent_shape(frames)
        elif frames != model.cfg.frames:
            raise ValueError(f"--frames: this VAE takes clips of {model.cfg.frames} frames, found {frames}")
    return numbers


def _stored(config: Reconstruct, rebuilder: Rebuilder, frames: int) -> list[Callable[[], Clip]]:
    """Readers of the clips of so many frames that lie one after another in those of the store."""
    assert config.clips is not None
    store, grid = ClipStore.open(config.clips), rebuilder.model.grid
    if store.grid != grid:
        told = [f"{one.shape} voxels of {one.voxel:g} m with {one.num_classes} classes" for one in (grid, store.grid)]
        raise ValueError(f"--clips: expected a store on the tokenizer's grid, {told[0]}, found {told[1]} in {store.address}")
    if not len(store):
        raise ValueError(f"--clips: found no clip in {store.address}")
    dt = config.dt or rebuilder.dt or store.dt(0)
    windows = []
    for index in range(len(store)):
        spacing = store.dt(index)
        stride = max(round(dt / spacing), 1)
        if abs(stride * spacing - dt) > 1e-6:
            expected = f"expected frames {dt:g} s apart or a fraction of that"
            raise ValueError(f"--clips: {expected}, found {spacing:g} s in clip {index} of {store.address}")
        ends = store.frames(index) - (frames - 1) * stride
        windows += [(index, first, frames, stride) for first in range(0, ends, frames * stride)]
    if not windows:
        raise ValueError(f"--clips: found no clip of {frames} frames, {dt:g} s apart, in {store.address}")
    count = min(config.num or len(windows), len(windows))
    return [partial(store.read, *windows[number * len(windows) // count]) for number in range(count)]


def _rendered(config: Reconstruct, rebuilder: Rebuilder, frames: int) -> list[Callable[[], Clip]]:
    """Renderers of clips of so many frames, in the classes of the model's grid."""
    assert config.scenes is not None
    grid, dt = rebuilder.model.grid, config.dt or rebuilder.dt
    if dt is None:
        raise ValueError("--dt: the tokenizer is of no preset's shape, so the seconds between frames are to be given")
    rendered = SceneClips(load_scenes(config.scenes), grid, dt, frames, seed=config.seed)

    def clip(index: int) -> Clip:
        item = rendered[index]
        return Clip(from_occ3d(item["occupancy"], grid), item["motion"], dt, item["source"])

    return [partial(clip, index) for index in range(config.num or _RENDERED)]


def _rebuilt(
    config: Reconstruct, rebuilder: Rebuilder, clips: Sequence[Callable[[], Clip]], numbers: Sequence[int]
) -> dict[int, ReconstructionTally]:
    """What was counted in all clips by number of frames; the longest go into the stores."""
    grid = rebuilder.model.grid
    tallies = {frames: ReconstructionTally(grid, frames) for frames in numbers}
    true, made = _stores(config, grid)
    with clip_progress() as bar:
        for read in bar.track(clips, description="rebuilding"):
            clip = read()
            for frames, tally in tallies.items():
                part = clip.occupancy[:frames]
                rebuilt = rebuilder.rebuild(part)
                tally.add(part.unsqueeze(0), rebuilt.unsqueeze(0))
            if true is not None and made is not None:
                true.append([clip])
                made.append([replace(clip, occupancy=rebuilt)])
    return tallies


def _stores(config: Reconstruct, grid: Grid) -> tuple[ClipStore | None, ClipStore | None]:
    """New stores for what is rebuilt and what comes of it, where they are asked for."""
    if config.out is None:
        return None, None
    true, made = (
        ClipStore.create(str(config.out / f"{name}.zarr"), grid, about=_about(config)) for name in ("true", "rebuilt")
    )
    return true, made


def _about(config: Reconstruct) -> dict[str, str]:
    return {"tokenizer": config.tokenizer, "data": config.clips or str(config.scenes)}


def _show(rebuilder: Rebuilder, reports: dict[int, dict[str, Any]]) -> None:
    """The tables: what is kept, and how well it is rebuilt by number of frames and, of the longest clips, by class."""
    console = Console()
    kept = plain_table("what is kept", ("figure", "value"))
    kept.add_row("compression ratio", f"{rebuilder.ratio:.4g}")
    kept.add_row("bits a frame", f"{rebuilder.bits_per_frame:.6g}")
    kept.caption = "compression ratio: columns of a clip over places of its latents; heights and channels do not enter"
    console.print(kept)
    if len(reports) > 1:
        by_frames = plain_table("by number of frames", ("frames", "mIoU", "occupied", "mIoU, papers", "occupied, papers"))
        for frames, report in reports.items():
            by_frames.add_row(str(frames), *(rounded(report[name]) for name in ("miou", "iou", "miou_papers", "iou_papers")))
        console.print(by_frames)
    console.print(reconstruction_table(reports[max(reports)]))
