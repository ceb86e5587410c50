"""Seconds of ego driving made by SUMO in a second of work: prints JSON.

    python benchmarks/scene_making.py --seeds 3 --json -

One run of SUMO serves many egos: every vehicle that is followed from end to end can be one, so its time in the scene counts.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
import tyro

from scenes.scene import Scene
from scenes.scene_file import save_scene
from scenes.sumo import make_scene


@dataclass(frozen=True)
class Config:
    """What to make."""

    seeds: int = 3
    """Towns to make, one after the other."""
    first_seed: int = 2000
    """Seed of the first of them."""
    seconds: float = 60.0
    """Length of the traffic in each."""
    json: str = "-"
    """Where to write JSON: a file, or - for standard output."""


def ego_seconds(scene: Scene) -> float:
    """Seconds that the egos of a scene are there, each counted for its longest unbroken stretch."""
    return sum(last - first for first, last in map(scene.ego_span, scene.egos))


def main(config: Config) -> None:
    """Measure and print."""
    rows: list[dict[str, Any]] = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        begin = time.perf_counter()
        scene = make_scene(seed, seconds=config.seconds)
        made = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made.scene"
            save_scene(scene, path)
            saved, size = time.perf_counter(), path.stat().st_size
        row = {
            "seed": seed,
            "seconds_of_work": round(made - begin, 2),
            "seconds_of_saving": round(saved - made, 2),
            "egos": len(scene.egos),
            "agents": len(scene.tracks.ids),
            "ego_seconds": round(ego_seconds(scene), 1),
            "file_kib": round(size / 1024, 1),
        }
        machine.say(str(row))
        rows.append(row)
    work = sum(row["seconds_of_work"] + row["seconds_of_saving"] for row in rows)
    driven = sum(row["ego_seconds"] for row in rows)
    result = {
        "benchmark": "scene_making",
        "config": asdict(config),
        "ego_seconds_per_second_of_work": round(driven / work, 1),
        "scene_seconds_per_second_of_work": round(config.seconds * len(rows) / work, 2),
        "scenes": rows,
    }
    machine.write(result | machine.describe(), config.json)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
