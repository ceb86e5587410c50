"""Frames a second of `scenes.render.render` on both grids: prints JSON.

    python benchmarks/rendering.py --device cpu --json -

Poses are those of recorded egos in scene files (--scenes), or in a town that SUMO makes on the spot.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
import torch
import tyro

from scenes.dataset import clip_starts
from scenes.grid import MINI, OCC3D, Grid
from scenes.render import render
from scenes.scene import Scene
from scenes.scene_file import load_scenes

GRIDS = {"200x200x16 at 0.4 m": OCC3D, "96x96x8 at 0.8 m (mini)": MINI}
FRAMES = 16


@dataclass(frozen=True)
class Config:
    """What to render and for how long."""

    device: str = "cpu"
    """Torch device of the scenes."""
    scenes: Path | None = None
    """Folder of scene files; by default SUMO makes one town."""
    seconds: float = 10.0
    """Time measured on each grid."""
    clips: int = 32
    """Different clips of 16 frames, rendered in turn."""
    threads: int = 0
    """Torch threads; 0 leaves torch's choice."""
    json: str = "-"
    """Where to write JSON: a file, or - for standard output."""


def measure(scenes: list[Scene], grid: Grid, config: Config) -> dict[str, Any]:
    """Frames a second over clips of 16 frames at 4 Hz, agents included, and the number of agents near the ego."""
    jobs = []
    for turn in range(config.clips):
        scene = scenes[turn % len(scenes)]
        starts = clip_starts(scene, (FRAMES - 1) * 0.25).moving
        ego, frame = starts[(turn * 7919) % len(starts)].tolist()
        times = frame * scene.dt + 0.25 * torch.arange(FRAMES, dtype=torch.float64, device=config.device)
        jobs.append((scene, ego, scene.ego_poses(ego, times), times))
    frames, took = 0, 0.0
    render(jobs[0][0], jobs[0][2], jobs[0][3], grid, jobs[0][1])
    while took < config.seconds:
        scene, ego, poses, times = jobs[(frames // FRAMES) % len(jobs)]
        begin = time.perf_counter()
        render(scene, poses, times, grid, ego)
        if config.device.startswith("cuda"):
            torch.cuda.synchronize(config.device)
        took += time.perf_counter() - begin
        frames += FRAMES
    return {"frames_per_s": round(frames / took, 1), "frames": frames}


def main(config: Config) -> None:
    """Measure and print."""
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.scenes is None:
        from scenes.sumo import make_scene

        machine.say("making a town")
        scenes = [make_scene(1000, seconds=30.0)]
    else:
        scenes = load_scenes(config.scenes)
    scenes = [scene.to(config.device) for scene in scenes if len(clip_starts(scene, (FRAMES - 1) * 0.25).moving)]
    if not scenes:
        raise ValueError(f"{config.scenes}: expected a scene with an ego that moves for {(FRAMES - 1) * 0.25} s, found none")
    result: dict[str, Any] = {
        "benchmark": "rendering",
        "config": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()},
        "scenes": len(scenes),
        "agents_per_scene": round(sum(len(scene.tracks.ids) for scene in scenes) / len(scenes), 1),
    }
    for name, grid in GRIDS.items():
        result[name] = measure(scenes, grid, config)
        machine.say(f"{name}: {result[name]['frames_per_s']} frames/s")
    machine.write(result | machine.describe(config.device), config.json)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
