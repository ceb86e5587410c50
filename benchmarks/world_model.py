"""How good a world model is on scenes it never saw, beside what learns nothing: prints a table and JSON.

    python benchmarks/world_model.py --preset mini --json -
    python benchmarks/world_model.py --preset mini --scenes <folder of ScenarioNet recordings> --json -

The figures are defined in docs/metrics.md. Without --scenes, SUMO makes towns on the spot, of seeds that no training uses.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import machine
import torch
import tyro
from rich.console import Console
from rich.table import Table

from models.evaluation import baseline_models, evaluate_world_model
from models.evaluation_clips import scene_clips
from models.interface import WorldModel
from models.pretrained import load_learned
from scenes.grid import MINI
from scenes.scenarionet import load_scenario
from scenes.scene import Scene
from scenes.scene_file import SUFFIX, load_scene

METHODS = ("", "_copy", "_warp", "_warp_cv", "_carry", "_tokenizer")
HEADINGS = ("model", "copy", "warp", "warp + constant velocity", "flow and map alone", "tokenizer alone")
BASELINES = ("copy", "warp", "warp_cv")


@dataclass(frozen=True)
class Config:
    """What to measure, on what, and for how long."""

    preset: str = "mini"
    """Bundled weights, a folder, a hub id, or a baseline on the grid of mini: copy, warp, warp_cv."""
    scenes: Path | None = None
    """Folder of scene files (*.scene) or ScenarioNet recordings (*.pkl); by default SUMO makes towns."""
    clips: int = 12
    """Clips to measure on, taken in turn from each scene."""
    networks: int = 4
    """Towns that SUMO makes where no folder is given."""
    first_seed: int = 1000
    """Seed of the first of these towns; trainings use seeds below 1000."""
    scene_seconds: float = 30.0
    """Length of these towns' traffic."""
    long_clips: int = 4
    """Clips that are rolled out for a minute; 0 leaves the long rollouts out."""
    batch: int = 4
    """Worlds rolled out at a time."""
    nfe: int | None = None
    """Network calls a chunk; by default what the model was saved with."""
    seconds: float | None = None
    """Time budget of the measurement, scene making not counted; each part does one batch at least."""
    device: str = "cpu"
    """Torch device of the model."""
    seed: int = 0
    """Chooses other clips of the same scenes."""
    json: str = ""
    """Where to write JSON: a file, or - for standard output."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the networks (autocast)."""


def load_model(config: Config) -> WorldModel:
    """The world model that is measured."""
    if config.preset in BASELINES:
        return baseline_models(MINI, 0.25, 2)[config.preset]
    model = load_learned(config.preset, config.device)
    if config.nfe is not None:
        model.denoising_steps = config.nfe
    return model


def load(config: Config) -> tuple[list[Scene], str]:
    """Scenes, and in words what kind of data they are."""
    if config.scenes is None:
        from scenes.sumo import make_scene

        scenes = []
        for seed in range(config.first_seed, config.first_seed + config.networks):
            machine.say(f"making the town of seed {seed}")
            scenes.append(make_scene(seed, seconds=config.scene_seconds))
        return scenes, "held-out SUMO networks: the kind of data the bundled models are trained on, other towns"
    files = sorted(config.scenes.glob(f"*{SUFFIX}"))
    if files:
        return [load_scene(file) for file in files], "scene files of the user's own"
    recordings = sorted(config.scenes.glob("*.pkl"))
    if not recordings:
        raise FileNotFoundError(
            f"{config.scenes}: expected scene files (*{SUFFIX}) or ScenarioNet recordings (*.pkl), found none"
        )
    return [load_scenario(file) for file in recordings], (
        "recorded driving: a kind of data that models trained on SUMO never saw; sidewalks, buildings and plants are grown"
    )


def tables(report: dict[str, Any]) -> list[Table]:
    """The figures that matter most, for a person."""
    return [_iou_table(report), _class_table(report), _motion_table(report), _rollout_table(report)]


def _iou_table(report: dict[str, Any]) -> Table:
    table = Table("cells", *HEADINGS, title="mIoU, classes present; accuracy in brackets")
    rows = {"next chunk, all cells": report}
    rows |= {f"next chunk, {name}": figures for name, figures in report["subsets"].items()}
    rows |= {f"after {mark} s, all cells": figures for mark, figures in report["horizons"].items()}
    rows |= {f"after {mark} s, all cells": figures for mark, figures in report["long"].items() if "miou" in figures}
    for name, figures in rows.items():
        cells = [f"{_text(figures.get('miou' + m))} ({_text(figures.get('accuracy' + m))})" for m in METHODS]
        table.add_row(name, *cells)
    return table


def _class_table(report: dict[str, Any]) -> Table:
    table = Table("class", *HEADINGS, title="IoU by class, next chunk, all cells")
    for name, figures in report["per_class"].items():
        table.add_row(name, *(_text(figures.get("iou" + method)) for method in METHODS))
    return table


def _motion_table(report: dict[str, Any]) -> Table:
    headings = ("translation, m", "yaw, degrees", "floor: translation, m", "floor: yaw, degrees")
    table = Table(
        "command", *headings, title="Ego motion found in the voxels against the commanded one: median / 90th percentile"
    )
    rows = dict(report["motion"])
    rows |= {f"rollout, {mark} s": figures.get("motion", {}) for mark, figures in (report["horizons"] | report["long"]).items()}
    for name, figures in rows.items():
        cells = [
            f"{_text(error.get('median'))} / {_text(error.get('p90'))}"
            for who in ("model", "truth")
            for error in (figures.get(who, {}).get(part, {}) for part in ("translation_m", "yaw_deg"))
        ]
        table.add_row(name, *cells)
    return table


def _rollout_table(report: dict[str, Any]) -> Table:
    headings = (
        "class drift",
        "occupied",
        "flicker in chunk",
        "flicker at border",
        "true flicker",
        "route drivable",
        "in new cells",
    )
    table = Table("after", *headings, title="Rollouts")
    rows = {f"{mark} s": figures for mark, figures in (report["horizons"] | report["long"]).items()}
    rows |= {f"{mark} s, no route given": figures for mark, figures in report.get("without_route", {}).items()}
    for name, figures in rows.items():
        flicker, true = figures.get("flicker", {}), figures.get("flicker_truth", {})
        route = figures.get("route_drivable", {})
        values = (
            figures["histogram_distance"],
            figures["occupied"],
            flicker.get("within_chunk"),
            flicker.get("at_border"),
            true.get("at_border"),
            route.get("model"),
            route.get("model_new_cells"),
        )
        table.add_row(name, *map(_text, values))
    table.add_row("true, half against half", _text(report["histogram_distance_truth"]))
    return table


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main(config: Config) -> None:
    """Measure, print tables on standard error and JSON where it is wanted."""
    model = load_model(config)
    scenes, kind = load(config)
    frames = max(model.history_frames, 6) + round(8.0 / model.dt)
    frames += -frames % model.chunk_frames
    machine.say("rendering clips")
    clips = scene_clips(scenes, model.grid, config.clips, frames, model.chunk_frames, model.dt, config.seed)
    begin = time.perf_counter()
    with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
        report = evaluate_world_model(
            model,
            clips,
            batch=config.batch,
            long_clips=config.long_clips,
            seconds=config.seconds,
            progress=lambda part: machine.say(f"{time.perf_counter() - begin:6.0f} s  {part}"),
        )
    console = Console(stderr=True, width=150)
    console.print(f"[bold]{config.preset}[/bold] on {len(clips)} clips of {len(scenes)} scenes. {kind}.")
    for table in tables(report):
        console.print(table)
    if "tokenizer" in report:
        figures = {name: value for name, value in report["tokenizer"].items() if name != "per_class"}
        console.print("tokenizer:", figures)
    about = {
        "config": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()},
        "data": kind,
        "sources": sorted({clip["source"] for clip in clips}),
        "clips": len(clips),
        "nfe": getattr(model, "denoising_steps", None),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    machine.write(about | report | machine.describe(config.device), config.json)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
