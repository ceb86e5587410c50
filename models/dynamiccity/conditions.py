"""What the diffusion transformer may be told besides the noisy planes, each condition a small module with its own null.

A condition either adds a vector to the one that modulates the blocks, or adds to the tokens. A sample that does not learn
of a condition gets the condition's null, which is learned: guidance needs samples that were trained so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import silu

from models.dynamiccity.patches import PatchGrid

ConditionName = Literal["previous", "carried", "command", "trajectory", "drivable", "vehicles"]
NAMES: tuple[ConditionName, ...] = get_args(ConditionName)
COMMANDS = ("static", "forward", "left", "right")
# A condition's chance to be missing in training, over the share that is withheld. Were all missing as seldom, what is told
# together in use would hardly ever be learned together: an edit and a first window know no past, the closed loop no vehicles
# and often no layout, and what follows a command no trajectory.
_MISSING = {"previous": 2, "carried": 2, "trajectory": 2, "command": 3, "drivable": 5, "vehicles": 5}
MOTION_SCALE = (0.2, 1.0, 10.0)  # a frame's motion of 5 m, 1 m and 0.1 rad counts as one


@dataclass(frozen=True)
class Conditions:
    """Conditions of B samples of T frames; None where nothing is known.

    Attributes:
        previous: map (B, C, H, W) of the chunk before, scaled as what is diffused.
        carried: map (B, C, H, W) of the last frame before, carried along rigidly under the motion.
        command: number in COMMANDS, int64 (B,).
        trajectory: the ego's motion float32 (B, T, 3): each frame's pose in the one before, metres and radians.
        drivable, vehicles: what is to be where, seen from above: bool (B, T, X, Y), each frame in its own ego frame.
        told: which samples learn of a condition, bool (B,) by name; a name that is missing stands for all.
    """

    previous: Tensor | None = None
    carried: Tensor | None = None
    command: Tensor | None = None
    trajectory: Tensor | None = None
    drivable: Tensor | None = None
    vehicles: Tensor | None = None
    told: dict[str, Tensor] = field(default_factory=dict)

    def given(self) -> dict[str, Tensor]:
        """The conditions that are known, by name."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}

    def withhold(self, share: float, generator: torch.Generator) -> Conditions:
        """Conditions kept from some samples: from share / 2 of them all together, as guidance asks; from the others each with a
        chance of its own, up to a half, since all uses go without some.

        What speaks of the past goes together. Draws are made on the CPU, and are the same whatever conditions are given.
        """
        given = self.given()
        batch = max((len(value) for value in given.values()), default=0)
        draws = torch.rand(batch, 1 + len(NAMES), generator=generator)
        told = dict(self.told)
        for name, value in given.items():
            own = draws[:, 1 + NAMES.index("previous" if name == "carried" else name)]
            kept = ((draws[:, 0] >= share / 2) & (own >= min(_MISSING[name] * share, 0.5))).to(value.device)
            told[name] = kept & told[name] if name in told else kept
        return replace(self, told=told)

    def doubled(self) -> Conditions:
        """The batch twice over, the second time without any condition, as guidance asks."""
        told = {}
        for name, value in self.given().items():
            known = self.told.get(name)
            first = torch.ones(len(value), dtype=torch.bool, device=value.device) if known is None else known
            told[name] = torch.cat((first, torch.zeros_like(first)))
        return Conditions(**{name: torch.cat((value, value)) for name, value in self.given().items()}, told=told)

    def to(self, device: torch.device | str) -> Conditions:
        """The same on another device."""
        moved = {name: value.to(device) for name, value in self.given().items()}
        return Conditions(**moved, told={name: value.to(device) for name, value in self.told.items()})

    def frames(self, first: int, last: int) -> Conditions:
        """The same for frames `first` to `last` - 1 of what there is for each frame; beyond its end the last frame repeats.

        That is for frames that only fill up a window: see `generate`.
        """
        changed = {}
        for name in ("trajectory", "drivable", "vehicles"):
            value = getattr(self, name)
            if value is not None:
                place = torch.arange(first, last, device=value.device).clamp(max=value.shape[1] - 1)
                changed[name] = value[:, place]
        return replace(self, **changed)


class CommandCondition(nn.Module):
    """A vector for each of COMMANDS."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(COMMANDS), width)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, command: Tensor) -> Tensor:
        """Commands int64 (B,) -> vectors (B, width)."""
        return self.embed(command)


class TrajectoryCondition(nn.Module):
    """Three linear layers on the motion of all frames."""

    scale: Tensor

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((nn.Linear(3 * frames, width), nn.Linear(width, width), nn.Linear(width, width)))
        self.register_buffer("scale", torch.tensor(MOTION_SCALE), persistent=False)

    def forward(self, motion: Tensor) -> Tensor:
        """Motion (B, T, 3) -> vectors (B, width)."""
        first, second, last = self.layers
        return last(silu(second(silu(first((motion * self.scale).flatten(1))))))


class PlanesCondition(nn.Module):
    """Another HexPlane, patch by patch: each of its tokens is added to the token of the same place."""

    def __init__(self, channels: int, patches: PatchGrid, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels * patches.patch**2, width)

    def forward(self, rollout: Tensor, patches: PatchGrid) -> Tensor:
        """Map (B, C, H, W) -> tokens (B, N, width)."""
        return self.enter(patches.cut(rollout))


class LayoutCondition(nn.Module):
    """A map from above for each frame, added to the tokens of xy, and its shares along each axis to those of tx and ty."""

    def __init__(self, patches: PatchGrid, width: int) -> None:
        super().__init__()
        side = 2 * patches.patch  # columns, or frames, of a patch: planes have half their resolution
        self.space = nn.Linear(2 * patches.layout.t * side**2, width)
        self.along_x, self.along_y = nn.Linear(side**2, width), nn.Linear(side**2, width)

    def forward(self, seen: Tensor, patches: PatchGrid) -> Tensor:
        """Maps bool (B, T, X, Y) -> tokens (B, N, width), zero on the planes that a map from above says nothing of."""
        seen, side = seen.to(self.space.weight.dtype), 2 * patches.patch
        cut = {
            "xy": self.space(rearrange(seen, "b t (h p) (w q) -> b h w (t p q)", p=side, q=side)),
            "tx": self.along_x(rearrange(seen.mean(3), "b (t p) (x q) -> b x t (p q)", p=side, q=side)),
            "ty": self.along_y(rearrange(seen.mean(2), "b (t p) (y q) -> b t y (p q)", p=side, q=side)),
        }
        tokens = seen.new_zeros(len(seen), *patches.shape, self.space.out_features)
        for name, value in cut.items():
            rows, columns = patches.blocks()[name]
            tokens[:, rows, columns] = value
        return tokens.flatten(1, 2)[:, patches.place]


class Conditioner(nn.Module):
    """All conditions that a model learns of.

    Args:
        names: which.
        channels: channels of the planes.
        patches: how the map is cut.
        width: of the transformer.
    """

    def __init__(self, names: tuple[ConditionName, ...], channels: int, patches: PatchGrid, width: int) -> None:
        super().__init__()
        self.names, self.channels, self.width, self.layout = names, channels, width, patches.layout
        made = {
            "previous": lambda: PlanesCondition(channels, patches, width),
            "carried": lambda: PlanesCondition(channels, patches, width),
            "command": lambda: CommandCondition(width),
            "trajectory": lambda: TrajectoryCondition(2 * patches.layout.t, width),
            "drivable": lambda: LayoutCondition(patches, width),
            "vehicles": lambda: LayoutCondition(patches, width),
        }
        self.embed = nn.ModuleDict({name: made[name]() for name in names})
        self.nulls = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name in names})

    def forward(self, conditions: Conditions, batch: int, patches: PatchGrid) -> tuple[Tensor | float, Tensor | float]:
        """What is added to the condition vectors (B, width), and to the tokens (B, N, width); 0 where no condition is one.

        Raises ValueError for a condition that the model does not learn of, and for shapes that do not fit.
        """
        given = conditions.given()
        self._check(given, batch)
        vector: Tensor | float = 0.0
        tokens: Tensor | float = 0.0
        for name in self.names:
            on_vector = name in ("command", "trajectory")
            null = self.nulls[name].expand(batch, *(() if on_vector else (1,)), -1)
            if name in given:
                module, value = self.embed[name], given[name]
                embedded = module(value) if on_vector else module(value, patches)
                told = conditions.told.get(name)
                added = embedded if told is None else torch.where(told.view(-1, *(1,) * (null.ndim - 1)), embedded, null)
            else:
                added = null
            if on_vector:
                vector = vector + added
            else:
                tokens = tokens + added
        return vector, tokens

    def _check(self, given: dict[str, Tensor], batch: int) -> None:
        unknown = sorted(set(given) - set(self.names))
        if unknown:
            raise ValueError(f"conditions: this model learns of {list(self.names)}, found {unknown}")
        frames, above = 2 * self.layout.t, (2 * self.layout.x, 2 * self.layout.y)
        planes = (self.channels, *self.layout.shape)
        expected = {"previous": planes, "carried": planes, "command": (), "trajectory": (frames, 3)}
        for name, value in given.items():
            shape = expected.get(name, (frames, *above))
            if tuple(value.shape) != (batch, *shape):
                raise ValueError(f"conditions.{name}: expected ({batch}, *{shape}), found {tuple(value.shape)}")
