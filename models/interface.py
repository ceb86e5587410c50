"""What every world model offers, whatever is behind it: `WorldModel`, the `Rollout` it advances and the `Chunk` it adds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenes.grid import Grid


@dataclass
class Chunk:
    """What one step adds to B worlds.

    Attributes:
        codes: code ids int16 (B, h, w, G), or None for a model without a codebook.
        voxels: occupancy uint8 (B, F, X, Y, Z), every frame in its own ego frame, or None where nobody asked for it.
    """

    codes: Tensor | None
    voxels: Tensor | None


class Rollout:
    """State of B worlds under generation: named tensors, each with the worlds as its first axis."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"Rollout: every tensor needs one entry a world, found {sizes}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.tensors[name] = value

    def replace(self, mask: Tensor, other: Rollout) -> None:
        """Overwrite the worlds where mask, bool (B,), is true by those of `other`, which holds one for each, in order."""
        if mask.shape != (len(self),) or int(mask.sum()) != len(other):
            chosen = f"mask {tuple(mask.shape)} selects {int(mask.sum())} of {len(self)} worlds"
            raise ValueError(f"Rollout.replace: {chosen}, other has {len(other)}")
        self.put(mask.nonzero().squeeze(1), other)

    def put(self, worlds: Tensor, other: Rollout) -> None:
        """Overwrite the worlds of these numbers, int64 (M,), by those of `other`, in order; waits for nothing on a GPU."""
        for name, tensor in self.tensors.items():
            tensor.index_copy_(0, worlds, other.tensors[name])

    def repeat(self, n: int) -> Rollout:
        """Fork each world n times, for planning in imagination: world i becomes worlds i * n to i * n + n - 1."""
        return Rollout({name: tensor.repeat_interleave(n, dim=0) for name, tensor in self.tensors.items()})

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all tensors: `Rollout(state)` continues identically."""
        return {name: tensor.clone() for name, tensor in self.tensors.items()}

    def to(self, device: torch.device | str) -> Rollout:
        """The same worlds on another device."""
        return Rollout({name: tensor.to(device) for name, tensor in self.tensors.items()})


class WorldModel(nn.Module, ABC):
    """Imagines the next chunk of occupancy under the ego's motion.

    Attributes:
        grid: voxel grid of all occupancy.
        dt: seconds between frames.
        chunk_frames: frames F that `advance` adds.
        history_frames: frames T that `start` takes, a multiple of F.
        token_shape: shape (h, w, G) of a chunk's codes, or None for a model without a codebook.
        num_codes: codes in each codebook, 0 without one.
    """

    grid: Grid
    dt: float
    chunk_frames: int
    history_frames: int
    token_shape: tuple[int, int, int] | None
    num_codes: int

    @abstractmethod
    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """Begin B worlds from recorded history.

        occupancy: uint8 (B, T, X, Y, Z), every frame in its own ego frame. motion: float32 (B, T, 3), the pose of each ego
        frame in the previous one (the first is ignored). seeds: int64 (B,), one a world: all its randomness follows from it.
        """

    @abstractmethod
    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """Add one chunk to each world; changes `rollout` in place.

        motion: float32 (B, F, 3), ego motion commanded for the new frames. route: uint8 (B, 2, X, Y) route raster (corridor,
        known drivable) in the ego frame of the chunk's last frame, or None. decode: whether voxels are wanted.
        """

    def generate(self, motion: Tensor, seeds: Tensor) -> Chunk:
        """A whole clip from a trajectory alone, without history.

        motion: float32 (B, T, 3), T a multiple of F; the first row plays no part. seeds: int64 (B,). Returns codes
        (B, T / F, h, w, G) and voxels (B, T, X, Y, Z). Raises NotImplementedError where a model cannot do without a history.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a history: it cannot generate from a trajectory alone")
