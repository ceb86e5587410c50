"""Generate clips of driving from a trajectory or other conditions: a film, a figure, and the voxels in a store."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from models.dynamiccity.world_model import DynamicCityWorldModel
from models.interface import WorldModel
from occsora.generate_conditions import ConditionOptions, Told, imagine, own_motion, told_by
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import CLASSES, Grid

_MOMENTS = 8  # of the figure
_DRAWN = 16  # clips in the film and in the figure, however many there are in the store


@dataclass(frozen=True, kw_only=True)
class Generate(ConditionOptions):
    """Settings of the generation."""

    trajectory: tuple[str, ...] = ("straight",)
    """What the ego drives: straight, right, left, still, accelerate; a .json, .csv or .npy file of poses x, y, yaw; or STORE, a
    store of clips, whose first --num clips are driven once each as they were recorded, and STORE#N for clip N alone."""
    seconds: float = 16.0
    """Length of each clip; a clip that is laid out or edited keeps its own, and an outpainted one is a window of the model."""
    num: int = 8
    """Clips for each trajectory; the film and the figure show the first 16 of all."""
    model: str | None = None
    """World model: a bundled name, a folder or a hub id. The bundled `mini` by default."""
    preset: str | None = None
    """A preset whose weights are bundled, in place of a model."""
    steps: int | None = None
    """Denoising steps, for models that make whole clips; by default those of the model."""
    sampler: Literal["ddpm", "ddim"] | None = None
    """How such models sample; by default as the model says."""
    rate: float | None = None
    """Share of these steps that are taken, from the noisiest on (table 4 of OccSora's paper); below 1 the clips stay noisy."""
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
    told = conditions_of(config, model)
    paths = motions(config, model, told)
    grid = model.grid if told is None else told.grid
    console, begin = Console(), time.perf_counter()
    store: ClipStore | None = None
    shown: list[list[Clip]] = []
    columns = (TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=config.num * len(paths))
        for name, driven in paths.items():
            line: list[Clip] = []
            for first in range(0, config.num, config.batch_size):
                motion = driven[first : first + config.batch_size]
                made = generate(model, motion, name, config.seed + first, told)
                store = new_store(config, grid) if store is None else store
                store.append(made)  # at once: whatever stops the rest does not lose these
                line += made[: max(_DRAWN // len(paths), 1) - len(line)]
                bar.advance(task, len(made))
            shown.append(line)
    seconds = (time.perf_counter() - begin) / (config.num * len(paths))
    for path in (config.out / "clips.zarr", *draw(config.out, shown, grid, model.dt, console)):
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
    asked = {name: value for name in ("steps", "sampler", "rate", "guidance") if (value := getattr(config, name)) is not None}
    if not asked:
        return model
    cfg: Any = getattr(model, "cfg", None)
    if cfg is None or "sampler" not in {item.name for item in fields(cfg)}:
        named = ", ".join(f"--{name}" for name in asked)
        raise ValueError(
            f"{named}: for models that make whole clips; {config.model or config.preset or 'mini'} goes on chunk by chunk"
        )
    changes = {"kind": config.sampler, "steps": config.steps, "rate": config.rate}
    sampler = replace(cfg.sampler, **{name: value for name, value in changes.items() if value is not None})
    guidance = cfg.guidance if config.guidance is None else config.guidance
    model.cfg = replace(cfg, sampler=sampler, guidance=guidance)  # type: ignore[assignment]
    return model


def _check_preset(name: str) -> None:
    """Raise ValueError that says how to train a preset without bundled weights, or that there is none of this name."""
    from models.presets import PRESETS, preset
    from models.pretrained import BUNDLED

    if (BUNDLED / name).is_dir():
        return
    from models.dynamiccity import presets as dynamiccity
    from models.occsora import presets as occsora

    if name not in occsora.WORLD_PRESETS and name not in dynamiccity.WORLD_PRESETS:
        preset(name)
    flow = " --flow FLOW" if name in PRESETS else ""
    own_classes = name in dynamiccity.WORLD_PRESETS and dynamiccity.WORLD_PRESETS[name].grid.classes != CLASSES
    data = "--clips STORE" if own_classes else "--scenes SCENES"
    train = f"occsora train-world-model --preset {name} --tokenizer TOKENIZER{flow} {data} --out WORLD"
    raise ValueError(
        f"--preset: {name!r} has no bundled weights. Train it: `occsora train-tokenizer --preset {name} {data} --out "
        f"TOKENIZER`, then `{train}`, and give --model WORLD"
    )


def conditions_of(config: Generate, model: WorldModel) -> Told | None:
    """What a model that makes HexPlanes is told; None for one that is told of a trajectory and nothing else."""
    if isinstance(model, DynamicCityWorldModel):
        return told_by(config, model)
    if config.condition != ("trajectory",) or config.region:
        found = " ".join((*config.condition, *config.region))
        raise ValueError(f"--condition, --region: a {type(model).__name__} is told of a trajectory alone, found {found!r}")
    return None


def motions(config: Generate, model: WorldModel, told: Told | None) -> dict[str, Tensor]:
    """Motions (num, T, 3) of clips by what they are called; raises ValueError where trajectories would play no part."""
    own, title = (None, "") if told is None else (own_motion(told), told.title)
    if own is not None:
        if config.trajectory != Generate.trajectory:
            found = f"{' '.join(config.trajectory)} beside {' '.join(config.condition)}"
            raise ValueError(f"--trajectory: plays no part under a command, a layout or a clip that is edited, found {found}")
        motion = trajectory(own, config, model, told) if isinstance(own, str) else own
        return {title: motion.expand(config.num, -1, -1)}
    titles = ["+".join(filter(None, (_title(name), title))) for name in config.trajectory]
    if len(set(titles)) < len(titles):
        raise ValueError(f"--trajectory: expected different names, found {' '.join(config.trajectory)}")
    return {
        title: trajectory(name, config, model, told).expand(config.num, -1, -1)
        for title, name in zip(titles, config.trajectory, strict=True)
    }


def trajectory(name: str, config: Generate, model: WorldModel, told: Told | None = None) -> Tensor:
    """Motion (1, T, 3) of a shape, a file or clip N of STORE#N, or (num, T, 3) of the first clips of a store.

    For whole chunks of the model, but for one that makes HexPlanes, of any length. Where a clip is continued, the trajectory
    begins at its last frame, and the first row leads to the first new one.
    """
    from scenes.trajectory import SHAPES, file_motion, shape_motion

    asked = max(round(config.seconds / model.dt), 1)
    frames = math.ceil(asked / model.chunk_frames) * model.chunk_frames if told is None else asked
    before = 1 if told is not None and "previous" in told.names else 0
    if name in SHAPES:
        return shape_motion(name, before + frames, model.dt)[None, before:]
    if _is_store(name):
        return _recorded(name, config.num, before + frames, model.dt)[:, before:]
    return file_motion(Path(name), before + frames, model.dt, config.file_dt)[None, before:]


def _is_store(name: str) -> bool:
    address = name.partition("#")[0]
    return "://" in address or address.endswith(".zarr") or Path(address).is_dir()


def _title(name: str) -> str:
    """What clips along a trajectory are called: "rides-3" for clip 3 of rides.zarr."""
    address, _, number = name.partition("#")
    if number and _is_store(name):
        return f"{PurePath(address).stem}-{number}"
    return PurePath(name).stem


def _recorded(name: str, count: int, frames: int, dt: float) -> Tensor:
    """Motion (1, T, 3) of clip N of STORE#N, or (count, T, 3) of the first clips of STORE, with frames dt seconds apart."""
    from scenes.trajectory import clip_motion

    address, _, number = name.partition("#")
    if number and not number.isdecimal():
        raise ValueError(f"--trajectory: expected STORE#N with a number N, found {name}")
    store = ClipStore.open(address)
    wanted = [int(number)] if number else list(range(count))
    if wanted[-1] >= len(store):
        expected = f"clip {number}" if number else f"{count} clips or more, as --num says"
        raise ValueError(f"--trajectory: expected {expected}, found {len(store)} clips in {address}")
    return torch.stack(
        [clip_motion(store.motion(index), store.dt(index), frames, dt, f"{address}#{index}") for index in wanted]
    )


@torch.no_grad()
def generate(model: WorldModel, motion: Tensor, name: str, seed: int, told: Told | None = None) -> list[Clip]:
    """A clip along each of B motions (B, T, 3), with seeds from `seed` on, under what is told.

    name: of the trajectory and conditions.
    """
    device = next(model.parameters()).device
    seeds = seed + torch.arange(len(motion), device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        if told is None:
            voxels = model.generate(motion.to(device), seeds).voxels
        else:
            assert isinstance(model, DynamicCityWorldModel), "no other model is told of conditions"
            voxels, motion, _ = imagine(told, model, motion, seeds)
    assert voxels is not None, "generate gives voxels"
    motion = torch.cat((torch.zeros(len(motion), 1, 3), motion[:, 1:].cpu()), dim=1)
    made = zip(voxels.cpu(), motion, seeds.tolist(), strict=True)
    return [Clip(frames, driven, model.dt, f"{name}/seed-{seed}") for frames, driven, seed in made]


def new_store(config: Generate, grid: Grid) -> ClipStore:
    """The store that the clips go into."""
    about = {"model": config.model or config.preset or "mini", "condition": " ".join(config.condition)}
    return ClipStore.create(str(config.out / "clips.zarr"), grid, about=about)


def draw(folder: Path, lines: list[list[Clip]], grid: Grid, dt: float, console: Console) -> list[Path]:
    """Write the film and the figure of clips on a grid, a line for each trajectory; returns their paths."""
    import imageio.v2 as imageio

    from occworld_env.drawing_clips import Film, arranged, draw_sheet, draw_strips
    from occworld_env.recording import Recorder

    films = [[Film(clip.occupancy, clip.motion, clip.source.replace("/", " ")) for clip in line] for line in lines]
    rows = films if len(films) > 1 else arranged(films[0])
    progress = Progress(TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), console=console)
    with Recorder(folder / "clips", 1 / dt) as recorder, progress as bar:
        for frame in bar.track(range(len(rows[0][0].motion))):
            recorder.add(draw_sheet(rows, frame, grid, dt))
    figure, beside = folder / "figure.png", folder / ".figure.partial.png"
    imageio.imwrite(beside, draw_strips([film for line in films for film in line], _MOMENTS, grid, dt))
    beside.replace(figure)
    return [recorder.gif, recorder.mp4, figure]
