"""Training clips of the diffusion model, encoded once by a frozen tokenizer and then drawn many times.

What is diffused is what the tokenizer's decoder reads, the continuous output of the convolution behind the codebook. It follows
from the codes, so codes are kept, in two bytes a place, beside one table of what each stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.checkpoint import StoredTensors
from models.encoded_parts import build_parts, in_eval_mode, origin_of
from models.occsora.tokenizer import OccSoraTokenizer


@dataclass
class LatentClips(StoredTensors):
    """M clips of T frames.

    Attributes:
        codes: code ids int16 (M, t, h, w).
        motion: ego motion float32 (M, T, 3).
        table: quantised latent of each code, float32 (K, c).
    """

    codes: Tensor
    motion: Tensor
    table: Tensor
    shared = ("table",)

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
    """Quantised latent of each of the tokenizer's codes, float32 (K, c)."""
    device = next(tokenizer.parameters()).device
    codes = torch.arange(tokenizer.cfg.num_codes, device=device)
    return tokenizer.lookup(codes.view(1, 1, 1, -1))[0, :, 0, 0].T.float()


@torch.no_grad()
def encode_clips(tokenizer: OccSoraTokenizer, clips: Dataset[dict[str, Any]], indices: range) -> LatentClips:
    """Encode items of a data set of clips, one at a time, in eval mode: a clip is no batch to take statistics of."""
    device = next(tokenizer.parameters()).device
    codes, motion = [], []
    with in_eval_mode(tokenizer):
        for index in indices:
            item = clips[index]
            latents = tokenizer.encode(item["occupancy"].unsqueeze(0).to(device))
            codes.append(tokenizer.quantize(latents).codes.to(torch.int16).cpu())
            motion.append(item["motion"].float().cpu())
        return LatentClips(torch.cat(codes), torch.stack(motion), code_table(tokenizer).cpu())


def build_latent_clips(tokenizer: OccSoraTokenizer, clips: Dataset[dict[str, Any]], count: int, folder: Path) -> LatentClips:
    """The first `count` clips of a data set, encoded in parts that are kept in `folder`, see `build_parts`."""
    return build_parts(LatentClips, partial(encode_clips, tokenizer, clips), count, folder, origin_of(clips, tokenizer))
