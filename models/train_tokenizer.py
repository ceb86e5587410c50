"""Training of the chunk tokenizer on clips rendered from scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from models.encoded_parts import origin_of
from models.layers import fold
from models.losses import class_weights, voxel_loss
from models.pretrained import save_pretrained
from models.tokenizer import ChunkTokenizer
from models.training import Trainer, TrainingConfig, own_generator
from models.warp import warp_chunk
from models.world_model import WorldModelConfig
from scenes.dataset import SceneClips
from scenes.scene import Scene
from scenes.store_clips import StoreClips

COMMITMENT = 0.25
PLACE_SHARE = 0.5  # share of 2x2 columns at which the loss is taken in a step: the class head is the dearest part of training
WARPED_SHARE = 0.25  # share of samples that are warped frames with unknown cells, as the world model encodes them


class TokenizerTask(nn.Module):
    """The tokenizer with its losses: weighted cross entropy, soft Jaccard and commitment."""

    weights: Tensor

    def __init__(self, tokenizer: ChunkTokenizer, frequency: Tensor, seed: int) -> None:
        super().__init__()
        self.tokenizer, self.seed = tokenizer, seed
        self.register_buffer("weights", class_weights(frequency))

    def forward(self, occupancy: Tensor, step: int) -> dict[str, Tensor]:
        """Figures of one step on occupancy uint8 (B, F, X, Y, Z); the codebooks move along."""
        generator = own_generator(self.seed, step)
        places, latents, quantized = self.tokenizer(occupancy)
        places = places.reshape(-1, places.shape[-1])
        target = fold(occupancy).reshape(len(places), -1)
        pick = torch.randperm(len(places), generator=generator)[: int(len(places) * PLACE_SHARE)].to(places.device)
        logits = self.tokenizer.decoder.logits(places[pick]).flatten(0, 1)
        cross_entropy, jaccard = voxel_loss(logits, target[pick].flatten(), self.weights)
        dead = self.tokenizer.quantizer.update(latents, quantized.codes, generator, quantized.counts)
        loss = cross_entropy + jaccard + COMMITMENT * quantized.commitment
        return {
            "loss": loss,
            "cross_entropy": cross_entropy,
            "jaccard": jaccard,
            "commitment": quantized.commitment,
            "dead_codes": dead.float(),
            "perplexity": perplexity(self.tokenizer.quantizer.counts).mean(),
        }


def perplexity(counts: Tensor) -> Tensor:
    """Perplexity of each codebook's use, (G,), from how often its codes are used (G, K): K when all are used alike."""
    share = counts / counts.sum(-1, keepdim=True).clamp(min=1e-9)
    return torch.exp(-(share * share.clamp(min=1e-9).log()).sum(-1))


def class_frequency(clips: SceneClips | StoreClips, samples: int = 64) -> Tensor:
    """Share of each class among the voxels of a few clips, (C,)."""
    counts = torch.zeros(clips.grid.num_classes)
    for index in range(samples):
        counts += torch.bincount(clips[index]["occupancy"].flatten().int(), minlength=len(counts)).cpu()
    return counts / counts.sum()


def mirror(occupancy: Tensor) -> Tensor:
    """The same place with left and right exchanged: (..., X, Y, Z)."""
    return occupancy.flip(-2)


def train_tokenizer(scenes: Sequence[Scene], model: WorldModelConfig, cfg: TrainingConfig) -> Path:
    """Train a tokenizer of the given shape on scenes; returns the folder with the finished model.

    Raises ValueError where the folder holds a training on other scenes or with other settings.
    """
    frames = model.tokenizer.chunk_frames
    # One frame more than a chunk: the frame before is what a warped sample carries along.
    clips = SceneClips(scenes, model.grid, model.dt, frames + 1, seed=cfg.seed)
    torch.manual_seed(cfg.seed)
    tokenizer = ChunkTokenizer(model.grid, model.tokenizer)
    task = TokenizerTask(tokenizer, class_frequency(clips), cfg.seed)

    def make_batch(step: int) -> Tensor:
        items = [clips[index] for index in trainer.in_turn(step, len(clips))]
        occupancy = torch.stack([item["occupancy"] for item in items])
        batch = occupancy[:, 1:].clone()
        warped = int(cfg.batch_size * WARPED_SHARE)
        if warped:
            motion = torch.stack([item["motion"] for item in items])[:warped, 1:]
            batch[:warped] = warp_chunk(occupancy[:warped, 0], motion, model.grid)
        if step % 2:
            batch = mirror(batch)
        return batch.to(trainer.accelerator.device)

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, TokenizerTask)
        save_pretrained(trained.tokenizer, cfg.out)

    settings = {"grid": asdict(model.grid), "tokenizer": asdict(model.tokenizer), "data": origin_of(clips)["clips"]}
    trainer = Trainer(task, make_batch, export, cfg, settings)
    trainer.run()
    return cfg.out
