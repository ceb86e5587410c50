"""The torch data set of clips that are read from stores: windows of the clips in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from scenes.clip_store import ClipStore


class StoreClips(Dataset[dict[str, Any]]):
    """Windows of stored clips; item i depends on `seed` and i alone, so a resumed training sees the same windows.

    An item is a dict as those of `SceneClips`: `occupancy` uint8 (T, X, Y, Z), every frame in its own ego frame; `motion`
    float32 (T, 3), its first row zero; `source`; `kind`, which is "stored". There is no `route`. Each place where a window can
    begin is drawn equally often.

    Args:
        stores: where clips come from, one or several on one grid.
        frames: frames T of a window; OccSora trains on 32 at 2 Hz.
        stride: every how many frames of a clip a window takes one.
        length: number of items, which only bounds i.
        seed: chooses another sequence of windows.

    Attributes:
        grid: voxel grid of the stores.
        dt: seconds between the frames of a window.

    Raises ValueError if no clip is long enough, or the stores differ in their grid or their clips in seconds between frames.
    """

    def __init__(
        self,
        stores: ClipStore | Sequence[ClipStore],
        frames: int,
        stride: int = 1,
        seed: int = 0,
        *,
        length: int = 1_000_000,
    ) -> None:
        if frames < 1 or stride < 1:
            raise ValueError(f"StoreClips: frames and stride must be positive, found {frames} and {stride}")
        stores = [stores] if isinstance(stores, ClipStore) else list(stores)
        names = ", ".join(store.address for store in stores)
        if len({store.grid for store in stores}) > 1:
            raise ValueError(f"StoreClips: the stores {names} are not of one grid")
        self.frames, self.stride, self.length, self.seed = frames, stride, length, seed
        span = (frames - 1) * stride + 1
        self._clips = [(store, clip) for store in stores for clip in range(len(store)) if store.frames(clip) >= span]
        if not self._clips:
            raise ValueError(f"StoreClips: no clip of {span} frames in {names or 'no stores'}")
        spacings = sorted({store.dt(clip) for store, clip in self._clips})
        if not math.isclose(spacings[0], spacings[-1], rel_tol=1e-6):
            raise ValueError(f"StoreClips: the clips in {names} are from {spacings[0]:g} to {spacings[-1]:g} s between frames")
        self.grid, self.dt = stores[0].grid, spacings[0] * stride
        self._ends = np.cumsum([store.frames(clip) - span + 1 for store, clip in self._clips])

    @property
    def windows(self) -> int:
        """Number of different windows."""
        return int(self._ends[-1])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"StoreClips: item {index} of {self.length}")
        generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        return self.window(int(generator.integers(self.windows)))

    def window(self, number: int) -> dict[str, Any]:
        """The item of one of all windows, which are numbered clip by clip in order of time."""
        place = int(np.searchsorted(self._ends, number, side="right"))
        if number < 0 or place == len(self._clips):
            raise IndexError(f"StoreClips: window {number} of {self.windows}")
        store, clip = self._clips[place]
        first = number - (int(self._ends[place - 1]) if place else 0)
        found = store.read(clip, first, self.frames, self.stride)
        return {"occupancy": found.occupancy, "motion": found.motion, "source": found.source, "kind": "stored"}
