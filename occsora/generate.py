"""Generate clips of driving from a trajectory alone: a film and a figure to look at, and the voxels in a store."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from models.interface import WorldModel
from scenes.clip import Clip

_MOMENTS, _ROWS = 8, 16  # of the figure


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Settings of the generation."""

    trajectory: tuple[str, ...] = ("straight",)
    """What the ego drives: straight, right, left, still, accelerate, or a .json, .csv or .npy file of poses x, y, yaw."""
    seconds: float = 16.0
    """Length of each clip."""
    num: int = 8
    """Clips for each trajectory."""
    model: str | None = None
    """World model: a bundled name, a folder or a hub id. The bundled `mini` by default."""
    preset: str | None = None
    """A preset whose weights are bundled, in place of a model."""
    steps: int | None = None
    """Denoising steps, for models that make whole clips; by default those of the model."""
    sampler: Literal["ddpm", "ddim"] | None = None
    """How such models sample; by default as the model says."""
    guidance: float | None = None
    """Scale of classifier-free guidance of such models; 1 is none."""
    file_dt: float | None = None
    """Seconds between the poses of a file that does not say them; by default those between the model's frames."""
    seed: int = 0
    """Of the first clip of each trajectory; the next ones have the next seeds."""
    batch_size: int = 1
    """Clips that are generated side by side."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu or cuda."""
    out: Path = Path("runs/generate")
    """Folder for clips.gif, clips.mp4, figure.png and the store clips.zarr."""


COMMAND = Generate


def run(config: Generate) -> None:
    """Generate, write and say what is where; raises ValueError on settings that make no sense."""
    _check(config)
    model = prepared_model(config)
    paths = {Path(name).stem: trajectory(name, config, model) for name in config.trajectory}
    if len(paths) < len(config.trajectory):
        raise ValueError(f"--trajectory: expected different names, found {' '.join(config.trajectory)}")
    console, begin = Console(), time.perf_counter()
    clips: dict[str, list[Clip]] = {}
    columns = (TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=config.num * len(paths))
        for name, motion in paths.items():
            clips[name] = []
            for first in range(0, config.num, config.batch_size):
                seeds = range(config.seed + first, config.seed + min(first + config.batch_size, config.num))
                clips[name] += generate(model, motion, name, seeds)
                bar.advance(task, len(seeds))
    seconds = (time.perf_counter() - begin) / (config.num * len(paths))
    for path in write(config, model, clips, console):
        console.print(str(path), soft_wrap=True)
    console.print(f"{seconds:.1f} s a clip on {next(model.parameters()).device}")


def _check(config: Generate) -> None:
    for name in ("num", "batch_size", "seconds", "steps", "file_dt"):
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')}: expected a positive number, found {value}")
    if not config.trajectory:
        raise ValueError("--trajectory: expected one or more, found none")
    if (config.out / "clips.zarr").exists():
        raise FileExistsError(f"--out: {config.out / 'clips.zarr'} is there already; choose another folder, or remove it")


def prepared_model(config: Generate) -> WorldModel:
    """The world model that is asked for, with the sampler that is asked for."""
    from models.pretrained import from_pretrained

    if config.model is not None and config.preset is not None:
        raise ValueError("--model, --preset: expected one of the two, found both")
    if config.preset is not None:
        _check_preset(config.preset)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    model = from_pretrained(config.model or config.preset or "mini", device)
    if type(model).generate is WorldModel.generate:
        raise ValueError(f"--model: a {type(model).__name__} needs a history and cannot generate from a trajectory alone")
    asked = {name: value for name in ("steps", "sampler", "guidance") if (value := getattr(config, name)) is not None}
    if not asked:
        return model
    cfg: Any = getattr(model, "cfg", None)
    if cfg is None or "sampler" not in {item.name for item in fields(cfg)}:
        named = ", ".join(f"--{name}" for name in asked)
        raise ValueError(f"{named}: for models that make whole clips; {config.model or 'mini'} goes on chunk by chunk")
    sampler = replace(cfg.sampler, kind=config.sampler or cfg.sampler.kind, steps=config.steps or cfg.sampler.steps)
    guidance = cfg.guidance if config.guidance is None else config.guidance
    model.cfg = replace(cfg, sampler=sampler, guidance=guidance)  # type: ignore[assignment]
    return model


def _check_preset(name: str) -> None:
    """Raise ValueError that says how to train a preset without bundled weights, or that there is none of this name."""
    from models.presets import PRESETS, preset
    from models.pretrained import BUNDLED

    if (BUNDLED / name).is_dir():
        return
    from models.occsora.presets import WORLD_PRESETS

    if name not in WORLD_PRESETS:
        preset(name)
    flow = " --flow FLOW" if name in PRESETS else ""
    train = f"occsora train-world-model --preset {name} --tokenizer TOKENIZER{flow} --scenes SCENES --out WORLD"
    raise ValueError(
        f"--preset: {name!r} has no bundled weights. Train it: `occsora train-tokenizer --preset {name} --scenes SCENES --out "
        f"TOKENIZER`, then `{train}`, and give --model WORLD"
    )


def trajectory(name: str, config: Generate, model: WorldModel) -> Tensor:
    """Motion (T, 3) of a shape or a file, for whole chunks of the model."""
    from scenes.trajectory import SHAPES, file_motion, shape_motion

    asked = max(round(config.seconds / model.dt), 1)
    frames = math.ceil(asked / model.chunk_frames) * model.chunk_frames
    if name in SHAPES:
        return shape_motion(name, frames, model.dt)
    return file_motion(Path(name), frames, model.dt, config.file_dt)


@torch.no_grad()
def generate(model: WorldModel, motion: Tensor, name: str, seeds: range) -> list[Clip]:
    """A clip for each seed along motion (T, 3); `name` is that of the trajectory."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        chunk = model.generate(motion.to(device).repeat(len(seeds), 1, 1), torch.tensor(seeds, device=device))
    assert chunk.voxels is not None, "generate gives voxels"
    made = zip(chunk.voxels, seeds, strict=True)
    return [Clip(voxels.cpu(), motion, model.dt, f"{name}/seed-{seed}") for voxels, seed in made]


def write(config: Generate, model: WorldModel, clips: dict[str, list[Clip]], console: Console) -> list[Path]:
    """Write the store, the film and the figure; returns their paths."""
    import imageio.v2 as imageio

    from occworld_env.drawing_clips import Film, arranged, draw_sheet, draw_strips
    from occworld_env.recording import Recorder
    from scenes.clip_store import ClipStore

    config.out.mkdir(parents=True, exist_ok=True)
    about = {"model": config.model or config.preset or "mini"}
    store = ClipStore.create(str(config.out / "clips.zarr"), model.grid, about=about)
    store.append([clip for line in clips.values() for clip in line])
    lines = [[Film(clip.occupancy, clip.motion, clip.source.replace("/", " ")) for clip in line] for line in clips.values()]
    rows = lines if len(lines) > 1 else arranged(lines[0])
    progress = Progress(TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), console=console)
    with Recorder(config.out / "clips", 1 / model.dt) as recorder, progress as bar:
        for frame in bar.track(range(len(rows[0][0].motion))):
            recorder.add(draw_sheet(rows, frame, model.grid, model.dt))
    shown = [film for line in lines for film in line[: max(_ROWS // len(lines), 1)]]
    figure, beside = config.out / "figure.png", config.out / ".figure.partial.png"
    imageio.imwrite(beside, draw_strips(shown, _MOMENTS, model.grid, model.dt))
    beside.replace(figure)
    return [config.out / "clips.zarr", recorder.gif, recorder.mp4, figure]
