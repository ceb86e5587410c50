"""Training windows of the diffusion model, encoded once by a frozen VAE and then drawn many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.checkpoint import StoredTensors
from models.dynamiccity.clip_conditions import command_of, layout_of
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.hexplane import PLANES
from models.dynamiccity.padded_rollout import roll_in
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.encoded_parts import build_parts, origin_of


@dataclass
class PlaneClips(StoredTensors):
    """M windows of T frames, each with the window before it; maps are not scaled.

    Attributes:
        planes: maps of the windows, float16 (M, C, H, W).
        previous: maps of the windows before, of that shape.
        carried: maps of the last frame of the window before, carried along rigidly, of that shape; (M, 0) where nobody asked.
        motion: ego motion float32 (M, T, 3).
        above: what is seen from above, uint8 (M, T, X, Y): 1 for drivable, 2 for a vehicle, their sum for both.
    """

    planes: Tensor
    previous: Tensor
    carried: Tensor
    motion: Tensor
    above: Tensor

    def scale(self, model: DynamicCityWorldModel) -> tuple[float, ...]:
        """Root mean square of each plane's features over all windows, in the order of PLANES."""
        squares = sum(part.double().square().sum(0, keepdim=True) for part in self.planes.split(256))
        planes = roll_in(squares / len(self), model.diffusion.layout)
        return tuple(float(getattr(planes, name).mean().sqrt()) for name in PLANES)

    def conditions(self, pick: Tensor, scale: Tensor, model: DynamicCityWorldModel) -> Conditions:
        """Conditions of windows int64 (B,), those that the model learns of, with maps divided by scale (1, 1, H, W)."""
        makers: dict[str, Callable[[], Tensor]] = {
            "previous": lambda: self.previous[pick].float() / scale,
            "carried": lambda: self.carried[pick].float() / scale,
            "command": lambda: command_of(self.motion[pick], model.dt),
            "trajectory": lambda: self.motion[pick],
            "drivable": lambda: (self.above[pick] & 1).bool(),
            "vehicles": lambda: (self.above[pick] & 2).bool(),
        }
        found: dict[str, Any] = {name: makers[name]() for name in model.cfg.transformer.conditions}
        return Conditions(**found)


@torch.no_grad()
def encode_windows(model: DynamicCityWorldModel, clips: Dataset[dict[str, Any]], indices: range) -> PlaneClips:
    """Encode items of a data set of clips, one at a time; the model's scale must be one.

    Half of the items are told as a rollout is: every other one learns of the drivable surface what is known of it before the
    window is imagined, not all that will be; and every other two have a past that went through the VAE, as what was imagined.
    """
    device, want_carried = next(model.parameters()).device, "carried" in model.cfg.transformer.conditions
    rows: list[tuple[Tensor, ...]] = []
    for index in indices:
        item = clips[index]
        occupancy, motion = item["occupancy"].unsqueeze(0).to(device), item["motion"].float().unsqueeze(0).to(device)
        if occupancy.shape[1] != model.cfg.clip_frames:
            raise ValueError(f"clip {index}: expected {model.cfg.clip_frames} frames, found {occupancy.shape[1]}")
        before, now, motion = occupancy[:, : model.window], occupancy[:, -model.window :], motion[:, -model.window :]
        if index % 4 >= 2:
            before = model.vae.reconstruct(before)
        carried = motion.new_zeros(1, 0)
        if want_carried:
            carried = model.encode(model.carry(before, motion))
        drivable, vehicles = layout_of(now, model.grid)
        if index % 2:
            route = torch.stack((torch.zeros_like(drivable[:, -1]), drivable[:, -1]), dim=1)
            drivable, _ = model.drivable_ahead(route, before, motion)
        above = drivable.to(torch.uint8) + 2 * vehicles.to(torch.uint8)
        maps = (part.half() for part in (model.encode(now), model.encode(before), carried))
        rows.append(tuple(part.cpu() for part in (*maps, motion, above)))
    return PlaneClips(*(torch.cat(column) for column in zip(*rows, strict=True)))


def build_plane_clips(model: DynamicCityWorldModel, clips: Dataset[dict[str, Any]], count: int, folder: Path) -> PlaneClips:
    """The first `count` clips of a data set, encoded in parts that are kept in `folder`, see `build_parts`."""
    told = f"overlap {model.cfg.overlap}, carried {'carried' in model.cfg.transformer.conditions}, half as in a rollout"
    return build_parts(PlaneClips, partial(encode_windows, model, clips), count, folder, origin_of(clips, model.vae, told=told))
