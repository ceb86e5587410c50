"""What the history of OccSora's world model is best made of: latents encoded again, or those of the window before.

For true clips: how often either has the codes that the same frames have in the window of the next step, as in training.

    python benchmarks/occsora_history.py --world runs/occsora-small/world --scenes runs/val
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from models.occsora.world_model import OccSoraWorldModel
from models.pretrained import from_pretrained
from scenes.dataset import SceneClips
from scenes.scene_file import load_scenes


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    world: Path
    """Folder of a trained world model."""
    scenes: Path
    """Folder of scene files, best of places that the model never saw."""
    clips: int = 8
    """Clips to take the mean of."""
    seed: int = 9
    """Chooses them."""


@torch.no_grad()
def agreement(model: OccSoraWorldModel, occupancy: Tensor) -> dict[str, Tensor]:
    """Share of equal codes by place in the history, (t - 1,), for clips uint8 (B, T + F, X, Y, Z) of a window and a chunk."""
    step, window = model.chunk_frames, model.window_frames

    def codes(frames: Tensor) -> Tensor:
        return model.tokenizer.quantize(model.tokenizer.encode(frames)).codes

    expected = codes(occupancy[:, step : step + window])[:, :-1]
    found = {"encoded again": codes(occupancy[:, step:window]), "of the window before": codes(occupancy[:, :window])[:, 1:]}
    return {name: (each == expected).float().mean((0, 2, 3)) for name, each in found.items()}


def main(config: Config) -> None:
    """Measure and print; raises ValueError where the model is of another kind."""
    model = from_pretrained(config.world)
    if not isinstance(model, OccSoraWorldModel):
        raise ValueError(f"--world: expected a world model of kind 'occsora', found a {type(model).__name__}")
    frames = model.window_frames + model.chunk_frames
    clips = SceneClips(load_scenes(config.scenes), model.grid, model.dt, frames, seed=config.seed)
    parts = [agreement(model, clips[index]["occupancy"].unsqueeze(0)) for index in range(config.clips)]
    print(f"share of codes as in the next window, by latent frame, oldest first; {config.clips} clips")
    for name in parts[0]:
        shares = torch.stack([part[name] for part in parts]).mean(0).tolist()
        print(f"{name:<22} " + "  ".join(f"{share:.2f}" for share in shares))


if __name__ == "__main__":
    main(tyro.cli(Config))
