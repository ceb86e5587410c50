"""Training of OccSora's tokenizer on clips, rendered from scenes or read from a clip store."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.encoded_parts import origin_of
from models.losses import lovasz_softmax
from models.occsora.codebook import Quantized
from models.occsora.config import OccSoraPreset
from models.occsora.pretrained import save_tokenizer
from models.occsora.tokenizer import OccSoraTokenizer
from models.train_tokenizer import perplexity
from models.training import Clips, Trainer, TrainingConfig, own_generator

CROSS_ENTROPY, LOVASZ, CODEBOOK = 10.0, 1.0, 1.0  # weights of the losses, the release's
HISTORY = "history"  # folder of a run with the tokenizer of every save
REVIVE_DECAY, DEAD_BELOW = 0.9, 0.05  # of the moving average of a code's use; share of the mean use below which it is dead


def release_training(out: Path, **changes: Any) -> TrainingConfig:
    """How the release trains its tokenizer: AdamW, warm-up, cosine, no moving average; changes name fields of the config."""
    release = TrainingConfig(
        out,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup=200,
        clip=35.0,
        ema_decay=0.0,
        batch_size=2,
    )
    return replace(release, **changes)


def short_training(out: Path, **changes: Any) -> TrainingConfig:
    """How a small tokenizer is trained in a few thousand steps: by Muon, which needs a fraction of AdamW's steps here."""
    short = TrainingConfig(out, learning_rate=2e-2, weight_decay=0.0, warmup=50, clip=35.0, ema_decay=0.0, batch_size=4)
    return replace(short, **changes)


class TokenizerTask(nn.Module):
    """The tokenizer with its losses: 10 cross entropy + Lovasz-softmax + codebook.

    Args:
        tokenizer: what is trained.
        seed: of the voxels that are drawn.
        columns: voxel columns of a batch at which the losses of the classes are taken, drawn anew in every step; 0 for all.
        revive: move codes that nothing falls to onto vectors of the batch, which the release does not.
    """

    usage: Tensor

    def __init__(self, tokenizer: OccSoraTokenizer, seed: int, columns: int = 0, revive: bool = False) -> None:
        super().__init__()
        self.tokenizer, self.seed, self.columns, self.revive = tokenizer, seed, columns, revive
        self.register_buffer("usage", torch.full((tokenizer.cfg.num_codes,), 1 / tokenizer.cfg.num_codes))

    def forward(self, occupancy: Tensor, step: int) -> dict[str, Tensor]:
        """Figures of one step on occupancy uint8 (B, T, X, Y, Z)."""
        generator = own_generator(self.seed, step)
        features, quantized = self.tokenizer(occupancy)
        features, target = features.flatten(0, 3), occupancy.flatten(0, 3)
        if 0 < self.columns < len(target):
            pick = torch.randint(len(target), (self.columns,), generator=generator).to(target.device)
            features, target = features[pick], target[pick]
        logits, target = self.tokenizer.logits(features).flatten(0, 1), target.flatten()
        cross_entropy = torch.nn.functional.cross_entropy(logits.float(), target.long())
        lovasz = lovasz_softmax(logits, target)
        counts = torch.bincount(quantized.codes.flatten(), minlength=len(self.usage)).float()
        figures = {
            "loss": CROSS_ENTROPY * cross_entropy + LOVASZ * lovasz + CODEBOOK * quantized.loss,
            "cross_entropy": cross_entropy,
            "lovasz": lovasz,
            "codebook": quantized.loss,
            "used_codes": (counts > 0).sum().float(),
            "perplexity": perplexity(counts),
        }
        if self.revive:
            figures["dead_codes"] = self._revive(quantized, counts, generator)
        return figures

    @torch.no_grad()
    def _revive(self, quantized: Quantized, counts: Tensor, generator: torch.Generator) -> Tensor:
        """Follow how much each code is used, and move dead ones onto vectors of the batch; how many were dead."""
        vectors, codes = quantized.vectors.movedim(1, -1).flatten(0, -2), self.tokenizer.codebook.codes
        pick = torch.randint(len(vectors), (len(codes),), generator=generator).to(vectors.device)
        fresh = vectors[pick].to(codes.dtype)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.broadcast(fresh, src=0)
        self.usage.lerp_(counts / counts.sum(), 1 - REVIVE_DECAY)
        mean = 1 / len(codes)
        dead = self.usage < DEAD_BELOW * mean
        codes.copy_(torch.where(dead.unsqueeze(-1), fresh, codes))
        self.usage.masked_fill_(dead, mean)
        return dead.sum().float()


def train_tokenizer(
    clips: Clips,
    preset: OccSoraPreset,
    cfg: TrainingConfig,
    *,
    columns: int = 0,
    revive: bool = False,
    history: bool = False,
) -> Path:
    """Train a tokenizer of the preset's shape; returns the folder with the finished model.

    clips: a data set whose items have `occupancy` uint8 (T, X, Y, Z) on the preset's grid with its number of frames, such as
    `SceneClips` and `StoreClips`. columns and revive are those of `TokenizerTask`. history: keep the tokenizer of every
    save, in `saved_tokenizers`, to follow how it learns. Raises ValueError where the folder holds a training on other clips or
    with other settings.
    """
    torch.manual_seed(cfg.seed)
    task = TokenizerTask(OccSoraTokenizer(preset.grid, preset.tokenizer), cfg.seed, columns, revive)

    def make_batch(step: int) -> Tensor:
        items = [clips[index]["occupancy"] for index in trainer.in_turn(step, len(clips))]
        return torch.stack(items).to(trainer.accelerator.device)

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, TokenizerTask)
        save_tokenizer(trained.tokenizer, cfg.out)
        if history:
            save_tokenizer(trained.tokenizer, cfg.out / HISTORY / f"step-{trainer.step:08d}")

    further = {
        "grid": asdict(preset.grid),
        "tokenizer": asdict(preset.tokenizer),
        "frames": preset.frames,
        "columns": columns,
        "revive": revive,
        "data": origin_of(clips)["clips"],
    }
    trainer = Trainer(task, make_batch, export, cfg, further)
    trainer.run()
    return cfg.out


def saved_tokenizers(run: Path) -> dict[int, Path]:
    """Folders of the tokenizers that a training with `history` left in the folder of its run, by step, in order."""
    return {int(path.name.removeprefix("step-")): path for path in sorted((run / HISTORY).glob("step-*"))}
