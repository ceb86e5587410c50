"""Growing a town along roads: from a raster that knows the road, everything beside it, the same for SUMO and for recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scenes.grid import CLASSES, DRIVABLE, FREE
from scenes.grow_houses import build_houses
from scenes.grow_plants import plant
from scenes.grow_site import TERRAIN, survey
from scenes.grow_street import furnish
from scenes.scene import StaticWorld


def grow(
    ground: Tensor,
    origin: tuple[float, float],
    cell: float,
    seed: int,
    keep_clear: Tensor | None = None,
    recorded: Sequence[str] = ("driveable_surface",),
) -> StaticWorld:
    """Fill in the world beside known roads: sidewalks, terrain, buildings, vegetation, poles, barriers, cones, boxes.

    ground: class ids of the known surfaces, uint8 (H, W), axis 0 along world x, free where unknown; known cells keep their
    class. origin: world position of the raster's lower corner, metres. cell: metres, 0.2 to 1. seed: same seed, same town.
    keep_clear: bool (H, W), cells where nothing may stand (paths of agents); all of the road is kept clear where it is None,
    otherwise work zones may take what is clear of it. recorded: names of the classes that `ground` knows: a class named here is
    not grown, so a sidewalk that is known is not widened.
    """
    if ground.ndim != 2 or ground.dtype != torch.uint8:
        raise ValueError(f"grow: expected ground uint8 (H, W), found {ground.dtype} {tuple(ground.shape)}")
    if keep_clear is not None and keep_clear.shape != ground.shape:
        raise ValueError(f"grow: expected keep_clear {tuple(ground.shape)} to fit ground, found {tuple(keep_clear.shape)}")
    unknown = [name for name in recorded if name not in CLASSES]
    if unknown:
        raise ValueError(f"grow: expected names of classes in recorded, found {unknown}")
    clear = None if keep_clear is None else keep_clear.cpu().numpy().astype(bool)
    site = survey(ground.cpu().numpy().copy(), cell, seed, clear, recorded)
    if (site.ground == DRIVABLE).any():
        build_houses(site)
        furnish(site)
        plant(site)
    site.ground[site.ground == FREE] = TERRAIN
    present = {CLASSES[label] for label in np.unique(np.append(site.ground, site.standing))} - {"free"}
    ground, standing, bottom, top = map(torch.from_numpy, (site.ground, site.standing, site.bottom, site.top))
    grown = tuple(name for name in CLASSES if name in present and name not in recorded)
    return StaticWorld(origin, cell, ground, standing, bottom, top, recorded=tuple(recorded), grown=grown)
