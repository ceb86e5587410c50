"""The voxel grid that every occupancy tensor lives on, and the semantic classes in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce

import torch
from torch import Tensor

CLASSES = (
    "others",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
    "free",
)  # the classes of Occ3D-nuScenes, in its order

CLASS_ID = {name: index for index, name in enumerate(CLASSES)}
FREE = CLASS_ID["free"]
DRIVABLE = CLASS_ID["driveable_surface"]
FLAT = tuple(CLASS_ID[name] for name in ("driveable_surface", "other_flat", "sidewalk", "terrain"))
STATIC_OBSTACLES = tuple(CLASS_ID[name] for name in ("others", "barrier", "traffic_cone", "manmade", "vegetation"))
AGENTS = tuple(
    CLASS_ID[name] for name in ("bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "trailer", "truck")
)


def _runs(ids: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last of each run of successive ids, given in order."""
    starts = [number for number in ids if number - 1 not in ids]
    ends = [number for number in ids if number + 1 not in ids]
    return list(zip(starts, ends, strict=True))


_AGENT_RUNS = _runs(AGENTS)

COLOURS = (
    (112, 112, 122),
    (232, 128, 52),
    (236, 92, 168),
    (250, 214, 70),
    (58, 132, 246),
    (196, 148, 30),
    (168, 82, 236),
    (232, 48, 60),
    (252, 156, 16),
    (150, 96, 60),
    (76, 206, 214),
    (92, 96, 106),
    (134, 124, 140),
    (186, 176, 190),
    (156, 176, 116),
    (214, 206, 190),
    (62, 142, 76),
    (18, 20, 26),
)  # RGB, 0 to 255, chosen to be told apart on a dark background


@dataclass(frozen=True)
class Grid:
    """A box of voxels around the ego: axis 0 is ego forward, axis 1 ego left, axis 2 up.

    Attributes:
        shape: number of voxels (X, Y, Z).
        voxel: edge length of a voxel in metres.
        origin: position of the grid's lower corner in the ego frame, metres.
            The centre of voxel (i, j, k) lies at origin + (i + 0.5, j + 0.5, k + 0.5) * voxel.
        classes: name of each class id; the last one is free space.
        colours: RGB of each class id, 0 to 255.
    """

    shape: tuple[int, int, int]
    voxel: float
    origin: tuple[float, float, float]
    classes: tuple[str, ...] = CLASSES
    colours: tuple[tuple[int, int, int], ...] = COLOURS

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"Grid.shape must be three positive integers, found {self.shape}")
        if self.voxel <= 0:
            raise ValueError(f"Grid.voxel must be positive metres, found {self.voxel}")
        if len(self.classes) != len(self.colours):
            raise ValueError(f"Grid has {len(self.classes)} classes but {len(self.colours)} colours")

    @property
    def num_classes(self) -> int:
        """Number of class ids, free space included."""
        return len(self.classes)

    @property
    def free(self) -> int:
        """Class id of free space."""
        return len(self.classes) - 1

    @cached_property
    def x_centres(self) -> Tensor:
        """Voxel centres along ego forward, (X,) float64 metres."""
        return self._centres(0)

    @cached_property
    def y_centres(self) -> Tensor:
        """Voxel centres along ego left, (Y,) float64 metres."""
        return self._centres(1)

    @cached_property
    def z_centres(self) -> Tensor:
        """Voxel centres along up, (Z,) float64 metres above the ground under the ego."""
        return self._centres(2)

    @property
    def ground_index(self) -> int:
        """Index along axis 2 of the voxel layer whose inside, or upper face, is the ground at height 0."""
        return min(max(int(-self.origin[2] / self.voxel - 1e-6), 0), self.shape[2] - 1)

    def column_centres(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
        """Centres of all voxel columns in the ego frame, (X, Y, 2) metres; kept, so nobody may write to it."""
        return _column_centres(self, torch.device(device), dtype)

    def columns_at(self, xy: Tensor) -> tuple[Tensor, Tensor]:
        """Flat number i * Y + j, int64 (...), of the columns that points (..., 2) of the ego frame lie in, 0 where they are
        outside, and whether they are inside, bool (...)."""
        nx, ny = self.shape[:2]
        i, j = (((xy[..., axis] - self.origin[axis]) / self.voxel).floor().long() for axis in (0, 1))
        inside = (i >= 0) & (j >= 0) & (i < nx) & (j < ny)
        return (i * ny + j).masked_fill(~inside, 0), inside

    def _centres(self, axis: int) -> Tensor:
        index = torch.arange(self.shape[axis], dtype=torch.float64)
        return self.origin[axis] + (index + 0.5) * self.voxel


@lru_cache(maxsize=32)
def _column_centres(grid: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.stack(torch.meshgrid(grid.x_centres, grid.y_centres, indexing="ij"), dim=-1).to(device, dtype)


def _palette(**colours: str | tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
    """Colours by class name; a string stands for the colour of that class of Occ3D-nuScenes."""
    return {name: COLOURS[CLASS_ID[colour]] if isinstance(colour, str) else colour for name, colour in colours.items()}


_CARLASC = _palette(
    building="manmade",
    barrier="barrier",
    other="others",
    pedestrian="pedestrian",
    pole=(226, 214, 122),
    road="driveable_surface",
    ground="terrain",
    sidewalk="sidewalk",
    vegetation="vegetation",
    vehicle="car",
    bicycle="bicycle",
    free="free",
)
_OCC3D_WAYMO = _palette(
    general_object="others",
    vehicle="car",
    pedestrian="pedestrian",
    sign=(240, 202, 90),
    cyclist="bicycle",
    traffic_light=(244, 112, 38),
    pole=(226, 214, 122),
    construction_cone="traffic_cone",
    bicycle=(244, 160, 204),
    motorcycle="motorcycle",
    building="manmade",
    vegetation="vegetation",
    tree_trunk=(122, 92, 62),
    road="driveable_surface",
    walkable="sidewalk",
    free="free",
)

OCC3D = Grid(shape=(200, 200, 16), voxel=0.4, origin=(-40.0, -40.0, -1.0))
MINI = Grid(shape=(96, 96, 8), voxel=0.8, origin=(-38.4, -38.4, -0.8))
NEAR = Grid(shape=(48, 48, 8), voxel=0.8, origin=(-19.2, -19.2, -0.8))  # the middle of MINI, for models that train in minutes
OCC3D_WAYMO = Grid(OCC3D.shape, OCC3D.voxel, OCC3D.origin, tuple(_OCC3D_WAYMO), tuple(_OCC3D_WAYMO.values()))
# CarlaSC's own lower corner is 2 m below its lidar, which stands 1.8 m above the ground. Its layers are 0.375 m high.
CARLASC = Grid((128, 128, 8), 0.4, (-25.6, -25.6, -0.2), tuple(_CARLASC), tuple(_CARLASC.values()))


def check_occupancy(occupancy: Tensor, grid: Grid, name: str = "occupancy") -> None:
    """Raise ValueError unless `occupancy` is uint8 (..., X, Y, Z) of class ids on `grid`; `name` is used in the message."""
    if occupancy.dtype != torch.uint8:
        raise ValueError(f"{name}: expected uint8 class ids, found {occupancy.dtype}")
    if tuple(occupancy.shape[-3:]) != grid.shape:
        raise ValueError(f"{name}: expected a last shape of {grid.shape}, found {tuple(occupancy.shape)}")
    if occupancy.numel() and int(occupancy.max()) >= grid.num_classes:
        raise ValueError(f"{name}: expected class ids below {grid.num_classes}, found {int(occupancy.max())}")


def is_agent(occupancy: Tensor) -> Tensor:
    """Which cells hold an agent (vehicle, cyclist or pedestrian), bool, from class ids uint8 of any shape."""
    # Two operations on bytes for each run of ids: below the run, the difference wraps around.
    runs = [(occupancy - low) <= high - low for low, high in _AGENT_RUNS]
    return reduce(torch.logical_or, runs)
