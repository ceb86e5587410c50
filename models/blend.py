"""Decoding a chunk with the carried past at hand: fine detail comes from what was seen, everything new from the codes."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import ConvBlock, embed_voxels, fold
from models.tokenizer import Decoder, TokenizerConfig
from scenes.grid import Grid


class Blend(nn.Module):
    """The carried frames change the decoder's features, and a learned trust is added to the logit of what each
    voxel held there.

    Codes cannot hold every leaf; the carried past can, but it does not know what changed. Where the past saw nothing, the codes
    decide alone. The same idea holds generated video together (vid2vid, arXiv 1808.06601: warped past and new content under a
    learned mask).
    """

    def __init__(self, grid: Grid, cfg: TokenizerConfig, class_dim: int = 4, blocks: int = 2) -> None:
        super().__init__()
        width, voxels = cfg.widths[0], 4 * cfg.chunk_frames * grid.shape[2]
        self.unknown = grid.num_classes
        self.embed = nn.Embedding(grid.num_classes + 1, class_dim)
        self.enter = nn.Linear(voxels * class_dim, width)
        self.layers = nn.Sequential(*(ConvBlock(width) for _ in range(blocks)), nn.LayerNorm(width))
        self.change = nn.Linear(width, width)
        self.trust = nn.Linear(width, voxels)
        for layer in (self.change, self.trust):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def features(self, decoder: Decoder, latents: Tensor, carried: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at stride 2 (B, X / 2, Y / 2, C), trust and carried ids there (B, X / 2, Y / 2, V), for `logits`.

        latents: (B, h, w, G * D). carried: uint8 (B, F, X, Y, Z), ids above the last class are unknown.
        """
        places = decoder.places(latents)
        ids = fold(carried).clamp(max=self.unknown)
        x = self.layers(places + embed_voxels(ids, self.embed, self.enter))
        return places + self.change(x), self.trust(x), ids

    def logits(self, decoder: Decoder, places: Tensor, trust: Tensor, ids: Tensor) -> Tensor:
        """Class logits (..., V, classes) from what `features` gives, at all or some of its places."""
        logits = decoder.logits(places)
        trust = trust * (ids < self.unknown)
        index = ids.clamp(max=self.unknown - 1).long().unsqueeze(-1)
        return logits.scatter_add(-1, index, trust.unsqueeze(-1))

    def forward(self, decoder: Decoder, latents: Tensor, carried: Tensor) -> Tensor:
        """Most likely class of every voxel, uint8 (B, F, X, Y, Z)."""
        return decoder.classify(*self.features(decoder, latents, carried))
