"""The known drivable surface of many scenes in one tensor, so that worlds in different scenes are looked up at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scenes.grid import DRIVABLE, Grid
from scenes.motion import transform
from scenes.scene import Scene

KEPT = 16  # scenes whose maps stay packed when no world uses them


class DrivableMap:
    """Packed drivable rasters of the scenes that worlds are in; `use` packs what is missing, `raster` looks it up."""

    def __init__(self, scenes: Sequence[Scene], grid: Grid, device: torch.device) -> None:
        self.scenes, self.device = scenes, device
        self.centres = grid.column_centres().reshape(-1, 2).to(device)
        self.shape = grid.shape[:2]
        self._packed: dict[int, tuple[Tensor, tuple[float, float], float]] = {}

    def use(self, worlds: list[int]) -> None:
        """Tell the scene number of each world; packs again where one is new."""
        needed = list(dict.fromkeys(worlds))
        if not set(needed) <= set(self._packed):
            for scene in [scene for scene in self._packed if scene not in needed][KEPT:]:
                del self._packed[scene]
            for scene in needed:
                if scene not in self._packed:
                    static = self.scenes[scene].static
                    self._packed[scene] = ((static.ground == DRIVABLE).to(self.device), static.origin, static.cell)
            self._pack()
        places = {scene: place for place, scene in enumerate(self._packed)}
        row = [places[scene] for scene in worlds]
        self._corner, self._cell = self._corners[row], self._cells[row]
        self._size, self._first = self._sizes[row], self._firsts[row]

    def _pack(self) -> None:
        drivable, corners, cells = zip(*self._packed.values(), strict=True)
        self._drivable = torch.cat([part.flatten() for part in drivable])
        self._corners = torch.tensor(corners, dtype=torch.float64, device=self.device)
        self._cells = torch.tensor(cells, dtype=torch.float64, device=self.device)
        self._sizes = torch.tensor([part.shape for part in drivable], device=self.device)
        count = self._sizes.prod(-1)
        self._firsts = count.cumsum(0) - count

    def raster(self, poses: Tensor) -> Tensor:
        """Known drivable columns seen from world poses (B, 3): uint8 0 or 1 (B, X, Y); 0 outside the map."""
        index = ((transform(poses, self.centres) - self._corner[:, None]) / self._cell[:, None, None]).floor().long()
        inside = ((index >= 0) & (index < self._size[:, None])).all(-1)
        flat = self._first[:, None] + index[..., 0] * self._size[:, 1:] + index[..., 1]
        found = self._drivable[flat.masked_fill(~inside, 0)] & inside
        return found.reshape(-1, *self.shape).to(torch.uint8)
