"""What `occsora generate` tells DynamicCity besides a trajectory: options, and the clips that come of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import NamedTuple

import torch
from torch import Tensor

from models.dynamiccity.clip_conditions import layout_of
from models.dynamiccity.conditions import COMMANDS, Conditions
from models.dynamiccity.editing import Box, edit
from models.dynamiccity.outpainting import larger_grid, outpaint
from models.dynamiccity.world_model import DynamicCityWorldModel
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import Grid

KINDS = ("trajectory", "command", "previous", "layout", "inpaint", "outpaint")
DRIVEN = {
    "static": "still",
    "forward": "straight",
    "left": "left",
    "right": "right",
}  # the trajectory that is drawn for a command
_CLIP_KINDS = ("previous", "layout", "inpaint")


@dataclass(frozen=True, kw_only=True)
class ConditionOptions:
    """Conditions of models that make HexPlanes (the presets dynamiccity...), for `occsora generate`."""

    condition: tuple[str, ...] = ("trajectory",)
    """What is told, one or more of: trajectory; command:NAME (static, forward, left or right, in place of a trajectory);
    previous:STORE (a clip that is continued); layout:STORE (drivable surface and vehicles of a clip, seen from above, under
    its own motion); inpaint:STORE (a clip in which --region is imagined anew); outpaint:XxY (more columns than the model's
    grid). STORE is a store of clips, of which STORE#N is clip N."""
    region: tuple[str, ...] = ()
    """Of inpaint: frames=A:B, x=A:B, y=A:B, z=A:B: numbers of frames and metres in the ego frame; an end may be left out."""


class Told(NamedTuple):
    """Conditions as options name them.

    Attributes:
        names: what is told.
        grid: of the clips that are made.
        title: what clips made under it are called, besides their trajectory: "layout-rides-2" for clip 2 of rides.zarr.
        command: number in COMMANDS, or None.
        clip: the clip that is continued, laid out or edited, or None.
        columns: of an outpainting, or None.
        box: region of an edit, or None.
    """

    names: tuple[str, ...]
    grid: Grid
    title: str
    command: int | None = None
    clip: Clip | None = None
    columns: tuple[int, int] | None = None
    box: Box | None = None


class Imagined(NamedTuple):
    """Voxels uint8 (B, T, X, Y, Z) on a grid, and the motion (B, T, 3) that they were made under, or are written beside."""

    voxels: Tensor
    motion: Tensor
    grid: Grid


def told_by(options: ConditionOptions, model: DynamicCityWorldModel) -> Told:
    """Read the options and the clips that they name; raises ValueError that names the option where they make no sense."""
    parts = [entry.partition(":") for entry in options.condition]
    names = tuple(name for name, _, _ in parts)
    unknown = sorted(set(names) - set(KINDS))
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"--condition: expected some of {', '.join(KINDS)}, each once, found {' '.join(options.condition)!r}")
    apart = ("trajectory", "command"), *_pairs(_CLIP_KINDS), *((kind, "outpaint") for kind in _CLIP_KINDS)
    for first, second in apart:
        if first in names and second in names:
            raise ValueError(f"--condition: {first} and {second} do not go together")
    if ("inpaint" in names) != bool(options.region):
        raise ValueError(f"--region: goes with --condition inpaint:STORE, found {' '.join(options.condition)!r}")
    told = Told(names, model.grid, "+".join(_title(name, value) for name, _, value in parts if name != "trajectory"))
    for name, _, value in parts:
        if (name == "trajectory") == bool(value):
            raise ValueError(f"--condition: expected {name}{'' if name == 'trajectory' else ':...'}, found {name}:{value}")
        if name == "command":
            told = told._replace(command=_command(value))
        elif name == "outpaint":
            columns = _columns(value)
            told = told._replace(columns=columns, grid=larger_grid(model.grid, columns))
        elif name in _CLIP_KINDS:
            told = told._replace(clip=_clip(name, value, model))
    _check_learned(told, model)
    return told._replace(box=_box(options.region)) if options.region else told


def own_motion(told: Told) -> str | Tensor | None:
    """What takes the place of a trajectory: motion (T, 3) of a clip that is laid out or edited, or the name of the shape that
    comes near a command, which is drawn and written but not told; None where nothing does."""
    if told.clip is not None and "previous" not in told.names:
        return told.clip.motion
    return None if told.command is None else DRIVEN[COMMANDS[told.command]]


def imagine(told: Told, model: DynamicCityWorldModel, motion: Tensor, seeds: Tensor) -> Imagined:
    """A clip for each seed, int64 (B,), under what is told, along motion (B, T, 3) unless a told clip's own takes its place."""
    batch = len(seeds)
    conditions = _conditions(told, batch, model, seeds.device)
    if told.clip is not None and told.box is not None:
        return _inpainted(told.clip, told.box, model, seeds, conditions)
    if told.clip is not None and "layout" in told.names:
        motion = told.clip.motion.expand(batch, -1, -1)
    if told.columns is not None:  # a window, whatever was asked for
        missing = max(model.window - motion.shape[1], 0)
        motion = torch.cat((motion, motion[:, -1:].expand(-1, missing, -1)), dim=1)[:, : model.window]
    motion = motion.to(seeds.device)
    if told.columns is not None:
        voxels = outpaint(model, told.columns, motion, seeds, conditions)
    elif told.clip is not None and "previous" in told.names:
        voxels = _continued(told.clip, model, motion, seeds, conditions)
    else:
        chunk = model.generate(motion, seeds, conditions)
        assert chunk.voxels is not None, "generate gives voxels"
        voxels = chunk.voxels
    return Imagined(voxels, motion, told.grid)


def _conditions(told: Told, batch: int, model: DynamicCityWorldModel, device: torch.device) -> Conditions:
    """Commands and layouts for the model; under a command it is not told of the motion, which would be another one."""
    conditions = Conditions()
    if told.command is not None:
        none = torch.zeros(batch, dtype=torch.bool, device=device)
        command = torch.full((batch,), told.command, dtype=torch.int64, device=device)
        conditions = Conditions(command=command, told={"trajectory": none, "carried": none})
    if told.clip is not None and "layout" in told.names:
        drivable, vehicles = layout_of(told.clip.occupancy.to(device), model.grid)
        layouts = {"drivable": drivable, "vehicles": vehicles}
        learned = {name: layouts[name].expand(batch, -1, -1, -1) for name in _layouts(model)}
        conditions = replace(conditions, drivable=learned.get("drivable"), vehicles=learned.get("vehicles"))
    return conditions


def _continued(clip: Clip, model: DynamicCityWorldModel, motion: Tensor, seeds: Tensor, conditions: Conditions) -> Tensor:
    """The frames (B, T, X, Y, Z) that follow a clip along motion (B, T, 3)."""
    batch, frames, new = len(seeds), motion.shape[1], model.chunk_frames
    past = clip.occupancy[-model.history_frames :].to(seeds.device).expand(batch, -1, -1, -1, -1)
    driven = clip.motion[-model.history_frames :].to(seeds.device).expand(batch, -1, -1)
    rollout = model.start(past, driven, seeds)
    chunks = -(-frames // new)
    longer = torch.cat((motion, motion[:, -1:].expand(-1, chunks * new - frames, -1)), dim=1)
    with torch.no_grad():
        shown = [model.continue_window(rollout, part, conditions) for part in longer.split(new, dim=1)]
    return torch.cat(shown, dim=1)[:, :frames]


def _inpainted(clip: Clip, box: Box, model: DynamicCityWorldModel, seeds: Tensor, conditions: Conditions) -> Imagined:
    """A clip whose region is imagined anew, window by window; a window without a part in it stays as it is."""
    device, frames = seeds.device, len(clip.occupancy)
    voxels = clip.occupancy.to(device).expand(len(seeds), -1, -1, -1, -1).clone()
    motion = clip.motion.to(device).expand(len(seeds), -1, -1)
    region = box.cells(model.grid, frames).to(device)
    done = 0
    for number, first in enumerate(range(0, frames, model.window)):
        begin = min(first, frames - model.window)
        part = slice(begin, begin + model.window)
        here = region[part].clone()
        here[: max(done - begin, 0)] = False  # the last window reaches back to make a whole one
        done = part.stop
        if bool(here.any()):
            told = model.tell(conditions, motion[:, part])
            new = here.expand(len(seeds), -1, -1, -1, -1)
            voxels[:, part] = edit(model, voxels[:, part], new, seeds, told, steps=torch.full_like(seeds, number))
    return Imagined(voxels, motion, model.grid)


def _layouts(model: DynamicCityWorldModel) -> list[str]:
    return [name for name in ("drivable", "vehicles") if name in model.cfg.transformer.conditions]


def _check_learned(told: Told, model: DynamicCityWorldModel) -> None:
    """Raise ValueError for a condition that the model was not trained with."""
    learned = model.cfg.transformer.conditions
    missing: list[str] = [name for name in ("trajectory", "command") if name in told.names and name not in learned]
    if "layout" in told.names and not _layouts(model):
        missing.append("layout")
    if "previous" in told.names and not model.cfg.overlap and not {"previous", "carried"} & set(learned):
        missing.append("previous")
    if missing:
        raise ValueError(f"--condition: this model was trained with {', '.join(learned) or 'none'}, found {', '.join(missing)}")


def _title(name: str, value: str) -> str:
    """Words for a condition as part of a source, in which a slash parts them from the seed."""
    address, _, number = value.partition("#")
    return f"{name}-{PurePath(address).stem}-{number or 0}" if name in _CLIP_KINDS else f"{name}-{value}"


def _pairs(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(first, second) for number, first in enumerate(names) for second in names[number + 1 :]]


def _command(value: str) -> int:
    if value not in COMMANDS:
        raise ValueError(f"--condition: expected command:{'|'.join(COMMANDS)}, found command:{value}")
    return COMMANDS.index(value)


def _columns(value: str) -> tuple[int, int]:
    sizes = value.split("x")
    if len(sizes) != 2 or not all(size.isdecimal() for size in sizes):
        raise ValueError(f"--condition: expected outpaint:XxY such as outpaint:256x256, found outpaint:{value}")
    return int(sizes[0]), int(sizes[1])


def _clip(kind: str, value: str, model: DynamicCityWorldModel) -> Clip:
    """Clip N of STORE#N, the first by default; raises ValueError where it does not fit the model."""
    address, _, number = value.partition("#")
    if number and not number.isdecimal():
        raise ValueError(f"--condition: expected {kind}:STORE#N with a number N, found {kind}:{value}")
    store = ClipStore.open(address)
    index = int(number or 0)
    if index >= len(store):
        raise ValueError(f"{address}: expected clip {index}, found {len(store)} clips")
    clip, frames = store[index], model.history_frames if kind == "previous" else model.window
    if store.grid != model.grid or abs(clip.dt - model.dt) > 1e-6 or len(clip.occupancy) < frames:
        expected = f"{frames} frames or more, {model.dt:g} s apart, on the model's grid {model.grid.shape}"
        found = f"{len(clip.occupancy)} frames, {clip.dt:g} s apart, on {store.grid.shape}"
        raise ValueError(f"{address}: expected a clip of {expected}, found {found}")
    return clip


def _box(region: tuple[str, ...]) -> Box:
    found: dict[str, tuple[float | None, float | None]] = {}
    for entry in region:
        axis, _, ends = entry.partition("=")
        low, colon, high = ends.partition(":")
        try:
            numbers = (float(low) if low else None, float(high) if high else None)
        except ValueError:
            colon = ""
        if axis not in ("frames", "x", "y", "z") or not colon or axis in found:
            expected = "frames=A:B, x=A:B, y=A:B or z=A:B, each once"
            raise ValueError(f"--region: expected {expected}, found {' '.join(region)!r}")
        found[axis] = numbers
    return Box(**found)
