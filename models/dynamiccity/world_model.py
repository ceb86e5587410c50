"""DynamicCity as a world model: window after window of frames, each a HexPlane that is sampled under the one before."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.diffusion_sampling import Known
from models.dynamiccity.clip_conditions import command_of, drivable_of_route, layout_of
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.config import plane_shapes
from models.dynamiccity.hexplane import PLANES, HexPlane
from models.dynamiccity.padded_rollout import roll_out
from models.dynamiccity.plane_diffusion import DynamicCityConfig, PlaneDiffusion
from models.dynamiccity.vae import HexPlaneVae
from models.interface import Chunk, Rollout, WorldModel
from models.unchanged import keep_unchanged
from models.warp import warp_chunk
from scenes.grid import check_occupancy
from scenes.route import ROUTE_CHANNELS


class DynamicCityWorldModel(WorldModel):
    """Imagines the next frames as a HexPlane, under the previous one, the ego's motion and whatever else it learned of.

    A window is the VAE's frames. Its first `overlap` frames were shown before: their rows on the planes of time are known and
    kept while the rest is sampled, which ties the window to what was shown, and of its decoded frames only the new ones are
    shown, in which what the window does not change stays as it was shown (`keep_unchanged`). Rows of time depend on their own
    two frames alone, whatever the rest of a window holds, so the known rows are what the encoder would make of the window that
    is yet to come. What was shown is encoded again and is the next window's past, so that the history is what was shown.
    """

    time_rows: Tensor

    def __init__(self, cfg: DynamicCityConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.grid, self.dt, self.window, self.chunk_frames = cfg.grid, cfg.dt, cfg.vae.frames, cfg.chunk_frames
        self.history_frames = math.ceil(self.window / self.chunk_frames) * self.chunk_frames
        self.token_shape, self.num_codes = None, 0
        self.vae = HexPlaneVae(cfg.grid, cfg.vae)
        self.diffusion = PlaneDiffusion(cfg)
        self.register_buffer("time_rows", self._rows(cfg.overlap // 2), persistent=False)

    @torch.no_grad()
    def encode(self, occupancy: Tensor) -> Tensor:
        """Windows uint8 (B, window, X, Y, Z) -> scaled maps (B, C, H, W) of the means of their planes."""
        return self.diffusion.to_map(self.vae.encode(occupancy).mean)

    def decode(self, rollout: Tensor) -> Tensor:
        """Scaled maps (B, C, H, W) -> uint8 (B, window, X, Y, Z)."""
        return self.vae.decode(self.diffusion.to_planes(rollout))

    def sample(self, conditions: Conditions, seeds: Tensor, steps: Tensor | None = None, known: Known | None = None) -> Tensor:
        """Scaled maps (B, C, H, W), as `PlaneDiffusion.sample` makes them with the sampler and guidance of the config."""
        cfg = self.cfg
        return self.diffusion.sample(conditions, seeds, cfg.sampler, guidance=cfg.guidance, steps=steps, known=known)

    @torch.no_grad()
    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`; the last `window` frames count, and T must be as many at least."""
        check_occupancy(occupancy, self.grid)
        batch, frames = occupancy.shape[:2]
        if frames % self.chunk_frames or frames < self.window or motion.shape != (batch, frames, 3):
            raise ValueError(
                f"start: expected a multiple of {self.chunk_frames} frames, {self.window} at least, and motion (B, T, 3), "
                f"found occupancy {tuple(occupancy.shape)} and motion {tuple(motion.shape)}"
            )
        rollout = self._empty(batch, seeds.to(occupancy.device))
        self._remember(rollout, occupancy[:, -self.window :], motion[:, -self.window :])
        return rollout

    @torch.no_grad()
    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`; voxels are decoded in any case, since what was shown is the next window's past.

        A model that learned of drivable layouts is told the known surface in `route`; one that learned of commands is told the
        one that the motion amounts to.
        """
        batch = len(rollout)
        if motion.shape != (batch, self.chunk_frames, 3):
            raise ValueError(f"advance: expected motion ({batch}, {self.chunk_frames}, 3), found {tuple(motion.shape)}")
        if route is not None and route.shape != (batch, ROUTE_CHANNELS, *self.grid.shape[:2]):
            raise ValueError(f"advance: expected route ({batch}, 2, X, Y) on {self.grid.shape}, found {tuple(route.shape)}")
        conditions = Conditions()
        if route is not None and "drivable" in self.cfg.transformer.conditions:
            window_motion = torch.cat((rollout["motion"], motion), dim=1)
            drivable, known = self.drivable_ahead(route, rollout["shown"], window_motion)
            conditions = Conditions(drivable=drivable, told={"drivable": known})
        voxels = self.continue_window(rollout, motion, conditions)
        return Chunk(codes=None, voxels=voxels if decode else None)

    @torch.no_grad()
    def generate(self, motion: Tensor, seeds: Tensor, conditions: Conditions | None = None) -> Chunk:
        """A clip of any length without history: motion (B, T, 3), whose first row counts for nothing.

        conditions: what else is to be told; planes, commands and trajectories that follow from history and motion are told in
        any case, unless a command is given. Returns voxels (B, T, X, Y, Z). Raises ValueError for layouts of fewer frames.
        """
        conditions, frames = conditions or Conditions(), motion.shape[1]
        for name in ("drivable", "vehicles"):
            layout = getattr(conditions, name)
            if layout is not None and layout.shape[1] < frames:
                raise ValueError(f"generate: expected {name} for {frames} frames, found {layout.shape[1]}")
        seeds = seeds.to(motion.device)
        chunks = max(math.ceil((frames - self.window) / self.chunk_frames), 0)
        motion = torch.cat((motion, motion[:, -1:].expand(-1, self.window + chunks * self.chunk_frames - frames, -1)), dim=1)
        first = motion[:, : self.window]
        shown = [self.decode(self.sample(self.tell(conditions.frames(0, self.window), first), seeds))]
        if chunks:
            rollout = self._empty(len(motion), seeds)
            self._remember(rollout, shown[0], first)
        for begin in range(self.chunk_frames, chunks * self.chunk_frames + 1, self.chunk_frames):
            end = begin + self.window
            new = motion[:, begin + self.cfg.overlap : end]
            shown.append(self.continue_window(rollout, new, conditions.frames(begin, end)))
        return Chunk(codes=None, voxels=torch.cat(shown, dim=1)[:, :frames])

    def continue_window(self, rollout: Rollout, motion: Tensor, conditions: Conditions) -> Tensor:
        """The next frames (B, F, X, Y, Z) under motion (B, F, 3); changes the rollout. conditions: over the whole window."""
        kept = self._kept(rollout["shown"])
        motion = torch.cat((rollout["motion"], motion), dim=1)
        told = self.tell(conditions, motion, rollout)
        known = Known(self._shifted(rollout["planes"]), self.time_rows) if self.cfg.overlap else None
        decoded = self.decode(self.sample(told, rollout["seeds"], rollout["step"], known))
        voxels = decoded[:, self.cfg.overlap :]
        if self.cfg.overlap:
            last = decoded[:, self.cfg.overlap - 1]
            voxels = keep_unchanged(voxels, last, kept[:, -1], motion[:, self.cfg.overlap :], self.grid)
        self._remember(rollout, torch.cat((kept, voxels), dim=1), motion)
        return voxels

    def tell(self, conditions: Conditions, motion: Tensor, rollout: Rollout | None = None) -> Conditions:
        """Conditions with what follows from a window's motion (B, window, 3) and the past, as far as the model learns of it.

        Without a past the first row counts for nothing: the ego is taken to have driven before as it does then.
        """
        names = self.cfg.transformer.conditions
        told: dict[str, Any] = {}
        if rollout is None:
            motion = torch.cat((motion[:, 1:2], motion[:, 1:]), dim=1)
        if "trajectory" in names:
            told["trajectory"] = motion
        if "command" in names and conditions.command is None:
            told["command"] = command_of(motion, self.dt)
        if rollout is not None and "previous" in names:
            told["previous"] = rollout["planes"]
        if rollout is not None and "carried" in names:
            told["carried"] = self.encode(self.carry(rollout["shown"], motion))
        return replace(conditions, **told)

    def carry(self, shown: Tensor, motion: Tensor) -> Tensor:
        """A window uint8 (B, window, X, Y, Z) in which the last frame shown goes on rigidly under motion (B, window, 3).

        What that frame did not see is free.
        """
        onward = warp_chunk(shown[:, -1], motion[:, self.cfg.overlap :], self.grid, fill=self.grid.free)
        return torch.cat((self._kept(shown), onward), dim=1)

    def drivable_ahead(self, route: Tensor, shown: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """The drivable surface of a window, bool (B, window, X, Y), as far as it is known before the window is imagined, and
        which worlds know of any, bool (B,).

        That is what the raster (B, 2, X, Y) at the window's end knows, see `WorldModel.advance`, and what the last frame of
        those shown (B, overlap or more, X, Y, Z) saw. motion: (B, window, 3).
        """
        surface, known = drivable_of_route(route, motion, self.grid)
        return surface | layout_of(self.carry(shown, motion), self.grid)[0], known

    def _kept(self, shown: Tensor) -> Tensor:
        """Those of the frames shown that begin the next window: (B, overlap, X, Y, Z)."""
        return shown[:, shown.shape[1] - self.cfg.overlap :]

    def _empty(self, batch: int, seeds: Tensor) -> Rollout:
        """Worlds without history, on the device of the seeds."""
        device, kept = seeds.device, max(self.cfg.overlap, 1)
        return Rollout(
            {
                "planes": torch.zeros(batch, *self.diffusion.shape, device=device),
                "shown": torch.full((batch, kept, *self.grid.shape), self.grid.free, dtype=torch.uint8, device=device),
                "motion": torch.zeros(batch, self.cfg.overlap, 3, device=device),
                "seeds": seeds.to(torch.int64).clone(),
                "step": torch.zeros(batch, dtype=torch.int64, device=device),
            }
        )

    def _remember(self, rollout: Rollout, window: Tensor, motion: Tensor) -> None:
        """Make a window that was shown, and its motion (B, window, 3), the past of each world."""
        kept = max(self.cfg.overlap, 1)
        rollout["planes"] = self.encode(window)
        # Copies: a window of one world would be a view of what the caller gave.
        rollout["shown"] = window[:, -kept:].clone()
        rollout["motion"] = motion[:, self.window - self.cfg.overlap :].to(torch.float32, copy=True)
        rollout["step"] = rollout["step"] + 1

    def _rows(self, count: int) -> Tensor:
        """Where the first `count` rows of the planes of time lie in the map: bool (1, 1, H, W)."""
        planes = []
        for name, shape in plane_shapes(self.grid, self.cfg.vae).items():
            plane = torch.zeros(1, 1, *shape)
            plane[:, :, : count if name[0] == "t" else 0] = 1
            planes.append(plane)
        return roll_out(HexPlane(*planes)) > 0

    def _shifted(self, rollout: Tensor) -> Tensor:
        """Maps whose planes of time are those of `rollout` from the new window's first frame on."""
        forward = self.chunk_frames // 2
        planes = self.diffusion.to_planes(rollout)
        moved = (plane.roll(-forward, dims=2) if name[0] == "t" else plane for name, plane in zip(PLANES, planes, strict=True))
        return self.diffusion.to_map(HexPlane(*moved))
