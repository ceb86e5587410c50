"""Training of the agents' flow on the tracks of scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.agent_flow import AgentFlow, align
from models.agents import seen_from_above
from models.pretrained import save_pretrained
from models.training import Trainer, TrainingConfig, own_generator
from models.warp import UNKNOWN
from models.world_model import WorldModelConfig
from scenes.agent_motion import agent_displacement
from scenes.dataset import SceneClips
from scenes.render import render
from scenes.scene import Scene

MOVING = 0.8  # m/s from which on an agent counts as moving
STANDING_WEIGHT = 0.2  # of a column whose agent stands: most are parked
LOST_COLUMNS = 0.1  # largest share of agent columns that a disturbed sample misses, as imagined frames do
DISTURBED, SHORT_PAST = 0.5, 0.1  # shares of samples with lost columns, and without their oldest frames


@dataclass
class FlowBatch:
    """Maps `above` uint8 (B, T, X, Y) in the last ego frame, `ground` uint8 (B, X, Y), the true displacement (B, F, X, Y, 2)
    in metres, and where it is known, bool (B, X, Y)."""

    above: Tensor
    ground: Tensor
    moved: Tensor
    known: Tensor


class AgentFlowTask(nn.Module):
    """The flow with its loss: the distance, in voxels, by which it misses where each column's agent goes."""

    def __init__(self, flow: AgentFlow, dt: float, seed: int) -> None:
        super().__init__()
        self.flow, self.seed = flow, seed
        self.dt = dt

    def forward(self, batch: FlowBatch, step: int) -> dict[str, Tensor]:
        """Figures of one step; `moving` and `standing` are mean errors in metres at the chunk's last frame."""
        generator = own_generator(self.seed, step)
        seconds = self.dt * torch.arange(1, self.flow.chunk_frames + 1, device=batch.moved.device)
        predicted = self.flow(self._disturbed(batch.above, generator), batch.ground) * seconds[:, None, None, None]
        moves = batch.known & (batch.moved[:, -1].norm(dim=-1) > MOVING * seconds[-1])
        stands = batch.known & ~moves
        error = (predicted - batch.moved).norm(dim=-1)
        off = error / self.flow.grid.voxel
        miss = nn.functional.huber_loss(off, torch.zeros_like(off), reduction="none").mean(1)
        weight = moves + STANDING_WEIGHT * stands
        moving, standing = ((error[:, -1] * part).sum() / part.sum().clamp(min=1) for part in (moves, stands))
        return {"loss": (miss * weight).sum() / weight.sum().clamp(min=1), "moving": moving, "standing": standing}

    def _disturbed(self, above: Tensor, generator: torch.Generator) -> Tensor:
        """Some samples lose agent columns at random, some their oldest frames."""
        batch, frames = above.shape[:2]
        share = torch.rand(batch, generator=generator) * LOST_COLUMNS * (torch.rand(batch, generator=generator) < DISTURBED)
        lost = torch.rand(above.shape, generator=generator) < share[:, None, None, None]
        above = above.masked_fill(lost.to(above.device) & (above < self.flow.grid.free), self.flow.grid.free)
        missing = torch.randint(1, frames, (batch,), generator=generator) if frames > 1 else torch.zeros(batch)
        missing = missing * (torch.rand(batch, generator=generator) < SHORT_PAST)
        gone = torch.arange(frames) < missing[:, None]
        return above.masked_fill(gone[:, :, None, None].to(above.device), UNKNOWN)


def flow_batch(clips: SceneClips, indices: Sequence[int], flow_frames: int, chunk_frames: int) -> FlowBatch:
    """Samples from clips that end `chunk_frames` frames after the last frame that is read."""
    parts = []
    ahead = clips.dt * torch.arange(1, chunk_frames + 1, dtype=torch.float64)
    for index in indices:
        scene, ego, path = clips.drive(index)
        poses, times = path.poses[:flow_frames], path.times[:flow_frames]
        occupancy = render(scene, poses, times, clips.grid, ego)
        above = align(seen_from_above(occupancy, clips.grid.free)[None], poses[None], clips.grid)
        moved, known = agent_displacement(scene, poses[-1:], times[-1:], ahead, clips.grid, ego)
        parts.append((above, occupancy[-1:, :, :, clips.grid.ground_index], moved, known))
    return FlowBatch(*(torch.cat(column) for column in zip(*parts, strict=True)))


def mirror(batch: FlowBatch) -> FlowBatch:
    """The same with left and right exchanged."""
    moved = batch.moved.flip(-2) * batch.moved.new_tensor((1.0, -1.0))
    return FlowBatch(batch.above.flip(-1), batch.ground.flip(-1), moved, batch.known.flip(-1))


def train_agent_flow(scenes: Sequence[Scene], model: WorldModelConfig, cfg: TrainingConfig) -> Path:
    """Train the agents' flow of a world model on scenes; returns the folder with the finished network."""
    frames, ahead = model.flow.frames, model.tokenizer.chunk_frames
    clips = SceneClips(scenes, model.grid, model.dt, frames + ahead, seed=cfg.seed)
    torch.manual_seed(cfg.seed)
    task = AgentFlowTask(AgentFlow(model.grid, ahead, model.flow), model.dt, cfg.seed)

    def make_batch(step: int) -> FlowBatch:
        batch = flow_batch(clips, trainer.in_turn(step, len(clips)), frames, ahead)
        if step % 2:
            batch = mirror(batch)
        device = trainer.accelerator.device
        return FlowBatch(*(part.to(device) for part in vars(batch).values()))

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, AgentFlowTask)
        save_pretrained(trained.flow, cfg.out)

    trainer = Trainer(task, make_batch, export, cfg)
    trainer.run()
    return cfg.out
