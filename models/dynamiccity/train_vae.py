"""Training of a HexPlane VAE on clips, rendered from scenes or read from a clip store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.pretrained import save_vae
from models.dynamiccity.vae import HexPlaneVae
from models.encoded_parts import origin_of
from models.losses import lovasz_softmax
from models.train_tokenizer import class_frequency, mirror
from models.training import Trainer, TrainingConfig, own_generator
from scenes.dataset import SceneClips
from scenes.store_clips import StoreClips

_FREQUENCY_CLIPS = 16  # clips that the shares of the classes are counted in


@dataclass(frozen=True)
class VaeLossConfig:
    """Weights of the loss: class-weighted cross entropy + Lovasz + KL.

    Attributes:
        kl: weight of the divergence, a mean over features: 0.005 in the paper, 0.0015 in the release.
        lovasz_voxels: voxels, drawn anew each step, that the Lovasz loss sorts, class by class; None for all, as the release.
    """

    kl: float = 0.005
    lovasz_voxels: int | None = 1 << 16


def reference_class_weights(frequency: Tensor) -> Tensor:
    """Weights (C,) of the cross entropy, (largest share / share)^(1/3), from class shares (C,); 1 for an absent class."""
    weights = (frequency.max() / frequency.clamp(min=1e-9)).pow(1 / 3)
    return torch.where(frequency > 0, weights, torch.ones_like(weights))


class VaeTask(nn.Module):
    """The VAE with its losses."""

    weights: Tensor

    def __init__(self, vae: HexPlaneVae, frequency: Tensor, loss: VaeLossConfig, seed: int) -> None:
        super().__init__()
        self.vae, self.loss, self.seed = vae, loss, seed
        self.register_buffer("weights", reference_class_weights(frequency))

    def forward(self, occupancy: Tensor, step: int) -> dict[str, Tensor]:
        """Figures of one step on occupancy uint8 (B, T, X, Y, Z); KL is in nats a feature."""
        generator = own_generator(self.seed, step)
        logits, posterior = self.vae(occupancy, generator)
        logits, target = logits.flatten(0, -2), occupancy.flatten()
        entropy = cross_entropy(logits, target.long(), self.weights)
        count = self.loss.lovasz_voxels
        if count is not None and count < len(target):
            pick = torch.randint(len(target), (count,), generator=generator).to(target.device)
            logits, target = logits[pick], target[pick]
        lovasz, kl = lovasz_softmax(logits, target), posterior.kl()
        return {"loss": entropy + lovasz + self.loss.kl * kl, "cross_entropy": entropy, "lovasz": lovasz, "kl": kl}


def train_vae(
    clips: SceneClips | StoreClips, shape: HexPlaneConfig, cfg: TrainingConfig, loss: VaeLossConfig = VaeLossConfig()
) -> Path:
    """Train a VAE of the given shape on the grid of the clips; returns the folder with the finished model.

    Raises ValueError where the clips have another number of frames than the shape, or the folder holds a training on others
    or with other settings.
    """
    if clips.frames != shape.frames:
        raise ValueError(f"train_vae: expected clips of {shape.frames} frames, found {clips.frames}")
    torch.manual_seed(cfg.seed)
    task = VaeTask(HexPlaneVae(clips.grid, shape), class_frequency(clips, _FREQUENCY_CLIPS), loss, cfg.seed)

    def make_batch(step: int) -> Tensor:
        batch = torch.stack([clips[index]["occupancy"] for index in trainer.in_turn(step, len(clips))])
        return (mirror(batch) if step % 2 else batch).to(trainer.accelerator.device)

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, VaeTask)
        save_vae(trained.vae, cfg.out)

    settings = {"grid": asdict(clips.grid), "shape": asdict(shape), "loss": asdict(loss)}
    trainer = Trainer(task, make_batch, export, cfg, settings | {"data": origin_of(clips)["clips"]})
    trainer.run()
    return cfg.out


def training_config(out: Path, steps: int, **changes: object) -> TrainingConfig:
    """How the release trains, as far as `Trainer` can: Adam at 1e-3 without decay, here on a cosine instead of steps."""
    settings = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 1} | changes
    return TrainingConfig(out=out, steps=steps, **settings)  # type: ignore[arg-type]


def short_training(out: Path, steps: int, **changes: object) -> TrainingConfig:
    """How a small VAE is trained in a few thousand steps: by Muon, which needs fewer of them."""
    return training_config(out, steps, **({"optimizer": "muon", "learning_rate": 1e-2} | changes))
