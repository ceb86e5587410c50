"""The sources of `occsora make-scenes` that give clips in a store: voxel data sets, and clips rendered from scene files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import tyro

from occsora.fill_store import Recording, fill, open_or_create
from scenes import carlasc, occ3d_nuscenes, occ3d_waymo
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.grid import CARLASC, MINI, NEAR, OCC3D, Grid
from scenes.label_sets import from_occ3d
from scenes.occ3d import Mask
from scenes.scene_file import load_scenes, scene_paths

_GRIDS = {"mini": MINI, "near": NEAR, "occ3d": OCC3D, "carlasc": CARLASC}


@dataclass(frozen=True)
class MakeScenesOcc3D:
    """Occ3D-nuScenes, one clip a scene of about 40 frames at 2 Hz."""

    root: tyro.conf.Positional[Path]
    """The folder that holds gts and annotations.json."""
    out: str
    """Store of clips, a path or fsspec URL; scenes that are in it already are skipped."""
    nuscenes: Path | None = None
    """Folder of the nuScenes v1.0 tables to take poses from, instead of annotations.json."""
    split: Literal["train", "val", "all"] = "all"
    """Scenes by the split of annotations.json."""
    mask: Mask = "none"
    """Whose mask says what was seen; what was not becomes free. OccSora ignores masks."""
    jobs: int = 1
    """Processes that read side by side."""


@dataclass(frozen=True)
class MakeScenesCarlaSC:
    """CarlaSC, one clip a sequence of three minutes at 10 Hz."""

    root: tyro.conf.Positional[Path]
    """The folder that holds Train, Val and Test of the Cartesian release."""
    out: str
    """Store of clips, a path or fsspec URL; sequences that are in it already are skipped."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Sequences by split; DynamicCity trains on train and measures on test."""
    jobs: int = 1
    """Processes that read side by side."""


@dataclass(frozen=True)
class MakeScenesOcc3DWaymo:
    """Occ3D-Waymo, one clip a scene of 20 s at 10 Hz."""

    root: tyro.conf.Positional[Path]
    """The folder that holds training and validation with the 0.4 m voxels."""
    out: str
    """Store of clips, a path or fsspec URL; scenes that are in it already are skipped."""
    split: Literal["train", "val", "all"] = "all"
    """Scenes by split."""
    classes: Literal["waymo", "occ3d"] = "waymo"
    """The 16 classes of the release, or those of Occ3D-nuScenes."""
    mask: Mask = "none"
    """Whose mask says what was seen; what was not becomes free."""
    jobs: int = 1
    """Processes that read side by side."""


@dataclass(frozen=True)
class MakeScenesClips:
    """Clips rendered from scene files, complete where sensors would see a part."""

    scenes: Path
    """Folder of scene files, as the other sources of make-scenes write them."""
    out: str
    """Store of clips, a path or fsspec URL; the clips that are in it already are not rendered again."""
    grid: Literal["mini", "near", "occ3d", "carlasc"] = "occ3d"
    """Voxel grid; near is that of the presets occsora-near and dynamiccity-near, carlasc has the classes of CarlaSC."""
    frames: int = 32
    """Frames of a clip."""
    dt: float = 0.5
    """Seconds between the frames."""
    count: int = 1000
    """Number of clips in the store at the end."""
    counterfactual: float = 0.0
    """Share of the clips whose ego leaves its recorded path."""
    seed: int = 0
    """Chooses other clips."""
    jobs: int = 1
    """Processes that render side by side."""


MakeClips = MakeScenesOcc3D | MakeScenesCarlaSC | MakeScenesOcc3DWaymo | MakeScenesClips
COMMAND = (
    Annotated[MakeScenesOcc3D, tyro.conf.subcommand("occ3d", prefix_name=False)]
    | Annotated[MakeScenesCarlaSC, tyro.conf.subcommand("carlasc", prefix_name=False)]
    | Annotated[MakeScenesOcc3DWaymo, tyro.conf.subcommand("occ3d-waymo", prefix_name=False)]
    | Annotated[MakeScenesClips, tyro.conf.subcommand("clips", prefix_name=False)]
)


@dataclass(frozen=True)
class RenderedClip:
    """Clip number `index` of those that a `MakeScenesClips` asks for."""

    config: MakeScenesClips
    index: int

    @property
    def source(self) -> str:
        """Its number; the network or recording it shows is known when it is rendered."""
        return f"clip {self.index}"

    @property
    def grid(self) -> Grid:
        """Grid of the clip."""
        return _GRIDS[self.config.grid]

    def load(self) -> Clip:
        """Render it."""
        item = _scene_clips(self.config)[self.index]
        occupancy = item["occupancy"]
        occupancy = from_occ3d(occupancy, _GRIDS[self.config.grid])
        return Clip(occupancy, item["motion"], self.config.dt, item["source"])


@lru_cache(maxsize=1)
def _scene_clips(config: MakeScenesClips) -> SceneClips:
    scenes, grid = load_scenes(config.scenes), _GRIDS[config.grid]
    return SceneClips(scenes, grid, config.dt, config.frames, seed=config.seed, counterfactual=config.counterfactual)


def make_clips(config: MakeClips) -> ClipStore:
    """Append to the store what is asked for and not in it yet; returns it.

    Raises ValueError if the store was made in another way, and one that names what failed after the others are done.
    """
    if config.jobs < 1:
        raise ValueError(f"jobs: expected 1 or more, found {config.jobs}")
    recordings, about = _recordings(config), _about(config)
    store = open_or_create(config.out, recordings[0].grid, about)
    if isinstance(config, MakeScenesClips):
        fill(store, recordings[len(store) :], config.jobs, "clips", gapless=True)
    else:
        there = {store.source(number) for number in range(len(store))}
        fill(store, [recording for recording in recordings if recording.source not in there], config.jobs, "scenes")
    return store


def _recordings(config: MakeClips) -> Sequence[Recording]:
    if isinstance(config, MakeScenesOcc3D):
        return occ3d_nuscenes.recordings(config.root, config.nuscenes, config.split, config.mask)
    if isinstance(config, MakeScenesCarlaSC):
        return carlasc.recordings(config.root, config.split)
    if isinstance(config, MakeScenesOcc3DWaymo):
        return occ3d_waymo.recordings(config.root, config.split, config.classes, config.mask)
    if config.count < 1:
        raise ValueError(f"count: expected 1 or more, found {config.count}")
    return [RenderedClip(config, index) for index in range(config.count)]


def _about(config: MakeClips) -> dict[str, str | int | float]:
    """What must be the same for all clips of a store; the split too, or what is held out would be trained on."""
    if isinstance(config, MakeScenesOcc3D):
        return {"data": "occ3d-nuscenes", "split": config.split, "mask": config.mask}
    if isinstance(config, MakeScenesCarlaSC):
        return {"data": "carlasc", "split": config.split}
    if isinstance(config, MakeScenesOcc3DWaymo):
        return {"data": "occ3d-waymo", "split": config.split, "mask": config.mask, "classes": config.classes}
    return {
        "data": "rendered",
        "scenes": len(scene_paths(config.scenes)),  # clip i is drawn from all of them
        "frames": config.frames,
        "dt": config.dt,
        "counterfactual": config.counterfactual,
        "seed": config.seed,
    }
