"""A small world model and a hand-built street that the tests of models share."""

from __future__ import annotations

from dataclasses import replace

import torch

from models.tokenizer import TokenizerConfig
from models.transformer import TransformerConfig
from models.world_model import LearnedWorldModel, WorldModelConfig
from scenes.grid import CLASS_ID, DRIVABLE, FREE, MINI
from scenes.scene import Scene, StaticWorld, Tracks

GRID = replace(MINI, shape=(32, 32, 4), origin=(-12.8, -12.8, -0.8))
CONFIG = WorldModelConfig(
    grid=GRID,
    tokenizer=TokenizerConfig(
        class_dim=4, widths=(16, 24, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), groups=4, num_codes=16
    ),
    transformer=TransformerConfig(width=32, depth=2, head_dim=16, window=3),
)


def make_street() -> Scene:
    """A straight road along x with a wall beside it, a parked car, and two cars that drive on it; the first is the ego."""
    ground = torch.full((400, 160), CLASS_ID["terrain"], dtype=torch.uint8)
    ground[:, 70:90] = DRIVABLE
    standing = torch.full((2, 400, 160), FREE, dtype=torch.uint8)
    standing[0, ::3, 100:104] = CLASS_ID["manmade"]
    bottom, top = torch.zeros_like(standing), torch.full_like(standing, 60)
    static = StaticWorld((-80.0, -32.0), 0.4, ground, standing, bottom, top)
    frames = 121
    along = torch.arange(frames, dtype=torch.float64)
    poses = torch.zeros(3, frames, 3, dtype=torch.float64)
    poses[0, :, 0] = -60 + along * 0.9
    poses[1, :, 0], poses[1, :, 1] = -50 + along * 0.7, 2.5
    poses[2, :, 0], poses[2, :, 1] = 5.0, -3.4
    tracks = Tracks(
        ids=("ego", "other", "parked"),
        classes=torch.full((3,), CLASS_ID["car"], dtype=torch.uint8),
        sizes=torch.tensor([[4.6, 1.9, 1.6]]).repeat(3, 1),
        rear_axle=torch.full((3,), 1.3),
        poses=poses,
        valid=torch.ones(3, frames, dtype=torch.bool),
    )
    route = torch.stack((torch.arange(-80, 120, 2.0, dtype=torch.float64), torch.zeros(100, dtype=torch.float64)), dim=-1)
    return Scene("street", "hand/street", 0.1, static, tracks, {0: route})


def make_model() -> LearnedWorldModel:
    """An untrained world model of a few thousand weights whose output layers are not zero."""
    torch.manual_seed(0)
    model = LearnedWorldModel(CONFIG)
    for parameter in model.transformer.parameters():
        if parameter.requires_grad and float(parameter.detach().abs().sum()) == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def history(scene: Scene, frames: int, start: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Occupancy (1, T, X, Y, Z) and motion (1, T, 3) of the scene's ego from `start` seconds on."""
    from scenes.motion import motion_from_poses
    from scenes.render import render

    times = start + 0.25 * torch.arange(frames, dtype=torch.float64)
    poses = scene.ego_poses(0, times)
    return render(scene, poses, times, GRID, 0).unsqueeze(0), motion_from_poses(poses).unsqueeze(0)
