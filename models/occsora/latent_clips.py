"""Training clips of the diffusion model, encoded once by a frozen tokenizer and then drawn many times.

What is diffused is what the tokenizer's decoder reads, the continuous output of the convolution behind the codebook. It follows
from the codes, so codes are kept, in two bytes a place, beside one table of what each stands for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.checkpoint import StoredTensors, data_fingerprint
from models.occsora.tokenizer import OccSoraTokenizer

PART = 16  # clips a file


@dataclass
class LatentClips(StoredTensors):
    """M clips of T frames.

    Attributes:
        codes: code ids int16 (M, t, h, w).
        motion: ego motion float32 (M, T, 3).
        table: quantised latent of each code, float32 (K, c).
        data: fingerprint of the data set, uint8 (M, 32), see `models.checkpoint.data_fingerprint`.
    """

    codes: Tensor
    motion: Tensor
    table: Tensor
    data: Tensor

    def __len__(self) -> int:
        return len(self.codes)

    def latents(self, pick: Tensor) -> Tensor:
        """Quantised latents (B, c, t, h, w) of clips int64 (B,)."""
        return self.table[self.codes[pick].long()].movedim(-1, 1)

    def scale(self) -> float:
        """Root mean square of the latents' elements over all clips."""
        counts = torch.bincount(self.codes.flatten().long(), minlength=len(self.table)).double()
        return float((counts @ self.table.double().square().mean(1) / counts.sum()).sqrt())

    def largest(self) -> float:
        """Size of the largest of the latents' elements in any clip."""
        return float(self.table[self.codes.unique().long()].abs().max())


@torch.no_grad()
def code_table(tokenizer: OccSoraTokenizer) -> Tensor:
    """Quantised latent of each of the tokenizer's codes, float32 (K, c) on the CPU."""
    device = next(tokenizer.parameters()).device
    codes = torch.arange(tokenizer.cfg.num_codes, device=device)
    return tokenizer.lookup(codes.view(1, 1, 1, -1))[0, :, 0, 0].T.float().cpu()


@torch.no_grad()
def encode_clips(tokenizer: OccSoraTokenizer, clips: Dataset[dict[str, Any]], indices: range) -> LatentClips:
    """Encode items of a data set of clips, one at a time."""
    device = next(tokenizer.parameters()).device
    codes, motion = [], []
    for index in indices:
        item = clips[index]
        latents = tokenizer.encode(item["occupancy"].unsqueeze(0).to(device))
        codes.append(tokenizer.quantize(latents).codes.to(torch.int16).cpu())
        motion.append(item["motion"].float().cpu())
    data = data_fingerprint(clips).expand(len(codes), -1)
    return LatentClips(torch.cat(codes), torch.stack(motion), code_table(tokenizer), data)


def build_latent_clips(tokenizer: OccSoraTokenizer, clips: Dataset[dict[str, Any]], count: int, folder: Path) -> LatentClips:
    """The first `count` clips of a data set, encoded in parts that are kept in `folder`: a killed run goes on where it was.

    Raises ValueError where a part in the folder is of another tokenizer or another data set.
    """
    from rich.progress import track

    folder.mkdir(parents=True, exist_ok=True)
    table, data, parts = code_table(tokenizer), data_fingerprint(clips), []
    for number in track(range(math.ceil(count / PART)), description="encoding clips"):
        path, indices = folder / f"part-{number:05d}.safetensors", range(number * PART, min((number + 1) * PART, count))
        part = LatentClips.load(path) if path.is_file() else None
        if part is not None:
            if part.table.shape != table.shape or not torch.allclose(part.table, table, atol=1e-4, rtol=1e-4):
                raise ValueError(f"{path}: was encoded by another tokenizer; choose another folder, or remove this one")
            if not bool((part.data == data).all()):
                raise ValueError(f"{path}: was encoded from other clips; choose another folder, or remove this one")
        if part is None or len(part) < len(indices):  # the last part of a run over fewer clips
            part = encode_clips(tokenizer, clips, indices)
            part.save(path)
        parts.append(part)
    codes, motion, stamps = (torch.cat([getattr(part, name) for part in parts])[:count] for name in ("codes", "motion", "data"))
    return LatentClips(codes, motion, table, stamps)
