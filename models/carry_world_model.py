"""The past carried along in a rollout, by the map of what was shown and the agents' flow; and a world model of that alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.agent_flow import AgentFlow
from models.agents import seen_from_above
from models.carry import move_agents
from models.interface import Chunk, Rollout, WorldModel
from models.warp import UNKNOWN, warp_chunk
from models.world_map import empty_map, memorise, recall
from scenes.grid import check_occupancy, is_agent
from scenes.motion import accumulate


def empty_past(flow: AgentFlow, batch: int, device: torch.device) -> dict[str, Tensor]:
    """The part of a rollout's state that `see` fills and `carry_on` reads, of worlds that saw nothing yet."""
    grid, keep = flow.grid, flow.cfg.frames
    return {
        **empty_map(grid, batch, device),
        "voxels": torch.full((batch, *grid.shape), UNKNOWN, dtype=torch.uint8, device=device),
        "above": torch.full((batch, keep, *grid.shape[:2]), UNKNOWN, dtype=torch.uint8, device=device),
        "above_poses": torch.zeros(batch, keep, 3, dtype=torch.float64, device=device),
    }


def see(rollout: Rollout, voxels: Tensor, motion: Tensor, flow: AgentFlow) -> None:
    """Keep new frames uint8 (B, T, X, Y, Z) under motion (B, T, 3): the last one, the map, and what the flow reads of a few."""
    poses = accumulate(motion, rollout["above_poses"][:, -1])
    keep = flow.cfg.frames
    memorise(rollout, voxels[:, -1], poses[:, -1], flow.grid)
    rollout["voxels"] = voxels[:, -1].contiguous()
    above = torch.cat((rollout["above"], seen_from_above(voxels, flow.grid.free)), dim=1)
    rollout["above"] = above[:, -keep:].contiguous()
    rollout["above_poses"] = torch.cat((rollout["above_poses"], poses), dim=1)[:, -keep:].contiguous()


def carry_on(rollout: Rollout, motion: Tensor, flow: AgentFlow, dt: float) -> Tensor:
    """The past of each world carried along motion (B, F, 3): uint8 (B, F, X, Y, Z), UNKNOWN where nothing was shown yet."""
    grid, last, frames = flow.grid, rollout["voxels"], motion.shape[1]
    velocity = flow.velocity(rollout["above"], rollout["above_poses"], last)
    # What moves less than half a voxel stays where the map has it.
    goes = (velocity[:, -1].norm(dim=-1) * frames * dt > grid.voxel / 2) & is_agent(last).any(-1)
    movers = last.masked_fill(~(goes.unsqueeze(-1) & is_agent(last)), grid.free)
    recalled = recall(rollout, accumulate(motion, rollout["above_poses"][:, -1]), grid)
    left = F.max_pool2d(goes.float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1).to(torch.uint8)
    left = warp_chunk(left.unsqueeze(-1), motion, grid, fill=0).bool()
    recalled = recalled.masked_fill(left & is_agent(recalled), grid.free)
    moved = move_agents(movers, velocity, motion, grid, dt)
    return torch.where(moved != grid.free, moved, recalled)


class CarryWorldModel(WorldModel):
    """Map and flow alone: each chunk is the past carried along; what was not seen is free. Its seeds do nothing."""

    def __init__(self, flow: AgentFlow, dt: float = 0.25) -> None:
        super().__init__()
        self.flow = flow
        self.grid, self.dt, self.chunk_frames = flow.grid, dt, flow.chunk_frames
        self.history_frames = -(-flow.cfg.frames // flow.chunk_frames) * flow.chunk_frames
        self.token_shape, self.num_codes = None, 0

    @torch.no_grad()
    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`."""
        check_occupancy(occupancy, self.grid)
        rollout = Rollout({**empty_past(self.flow, len(occupancy), occupancy.device), "seeds": seeds.clone()})
        see(rollout, occupancy, motion, self.flow)
        return rollout

    @torch.no_grad()
    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`."""
        carried = carry_on(rollout, motion, self.flow, self.dt)
        voxels = carried.masked_fill(carried == UNKNOWN, self.grid.free)
        see(rollout, voxels, motion, self.flow)
        return Chunk(codes=None, voxels=voxels if decode else None)
