"""The known drivable surface of many scenes in one tensor, so that worlds in different scenes are looked up at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from scenes.grid import DRIVABLE, Grid
from scenes.motion import transform
from scenes.scene import Scene

KEPT = 16  # places, at most, for scenes that no world uses


class DrivableMap:
    """Drivable rasters of the scenes that worlds are in, each in a place of its own; `use` fills places, `raster` reads them.

    Attributes:
        version: changes when there had to be more or larger places; until then all tensors stay where they are.
    """

    def __init__(self, scenes: Sequence[Scene], grid: Grid, device: torch.device, worlds: int, expected: int = 1) -> None:
        """worlds: how many. expected: scenes that places are made for at once; there become more of them when more are used."""
        self.scenes, self.device, self.version = scenes, device, 0
        self.centres = grid.column_centres(device).reshape(-1, 2)
        self.shape = grid.shape[:2]
        self._most = min(worlds + KEPT, len(scenes))
        places = min(expected, self._most)
        self._held: OrderedDict[int, int] = OrderedDict()  # place of each scene, the least recently used first
        self._drivable = torch.zeros(places, 0, dtype=torch.bool, device=device)
        self._corner = torch.zeros(places, 2, dtype=torch.float64, device=device)
        self._cell = torch.ones(places, dtype=torch.float64, device=device)
        self._size = torch.zeros(places, 2, dtype=torch.int64, device=device)
        self._place = torch.zeros(worlds, dtype=torch.int64, device=device)

    def use(self, worlds: list[int]) -> None:
        """Tell the scene number of each world; reads in what is new."""
        needed = dict.fromkeys(worlds)
        for scene in needed:
            if scene not in self._held:
                self._held[scene] = self._find_place(needed)
                self._read(scene, self._held[scene])
            self._held.move_to_end(scene)
        self._place.copy_(torch.tensor([self._held[scene] for scene in worlds]))

    def _find_place(self, needed: dict[int, None]) -> int:
        """A place that is empty, or new, or else that of the scene that was not needed for longest."""
        if len(self._held) == self._most:
            return self._held.pop(next(scene for scene in self._held if scene not in needed))
        if len(self._held) == len(self._drivable):
            self._grow(min(2 * len(self._drivable), self._most))
        return len(self._held)

    def _grow(self, places: int) -> None:
        more = places - len(self._drivable)
        self._drivable, self._corner, self._cell, self._size = (
            torch.cat((kept, torch.zeros_like(kept[:1]).expand(more, *kept.shape[1:])))
            for kept in (self._drivable, self._corner, self._cell, self._size)
        )
        self.version += 1

    def _read(self, scene: int, place: int) -> None:
        static = self.scenes[scene].static
        drivable = (static.ground == DRIVABLE).flatten()
        more = len(drivable) - self._drivable.shape[1]
        if more > 0:
            self._drivable = torch.nn.functional.pad(self._drivable, (0, more))
            self.version += 1
        self._drivable[place, : len(drivable)] = drivable.to(self.device)
        self._corner[place] = torch.tensor(static.origin, dtype=torch.float64).to(self.device)
        self._cell[place] = static.cell
        self._size[place] = torch.tensor(static.ground.shape).to(self.device)

    def raster(self, poses: Tensor) -> Tensor:
        """Known drivable columns seen from world poses (B, 3): uint8 0 or 1 (B, X, Y); 0 outside the map."""
        corner, cell, size = (part[self._place].unsqueeze(1) for part in (self._corner, self._cell, self._size))
        index = ((transform(poses, self.centres) - corner) / cell.unsqueeze(-1)).floor().long()
        inside = ((index >= 0) & (index < size)).all(-1)
        flat = (index[..., 0] * size[..., 1] + index[..., 1]).masked_fill(~inside, 0)
        found = self._drivable.flatten()[flat + (self._place * self._drivable.shape[1]).unsqueeze(1)] & inside
        return found.reshape(-1, *self.shape).to(torch.uint8)
