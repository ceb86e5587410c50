"""DynamicCity's diffusion transformer: a DiT on the padded rollout of six planes, cut into patches.

Only patches that hold a plane are tokens. Unlike the release, which computes every block's modulation for each token though
the condition is one vector a sample, ours computes it once a sample: the same function with the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from models.diffusion import Prediction
from models.dit import DiT, DiTConfig, TimeStepEmbedding
from models.dynamiccity.conditions import NAMES, Conditioner, ConditionName, Conditions
from models.dynamiccity.padded_rollout import RolloutLayout
from models.dynamiccity.patches import PatchGrid


@dataclass(frozen=True)
class PlaneTransformerConfig:
    """Shape of the transformer and what it learns of.

    Attributes:
        blocks: shape of the blocks.
        patch: cells along a side of a patch.
        conditions: names of the conditions, see `Conditions`.
    """

    blocks: DiTConfig = field(default_factory=lambda: DiTConfig(width=384, depth=16, heads=8))
    patch: int = 2
    conditions: tuple[ConditionName, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.conditions) - set(NAMES))
        if unknown or len(set(self.conditions)) < len(self.conditions):
            raise ValueError(f"PlaneTransformerConfig.conditions: expected some of {NAMES}, each once, found {self.conditions}")


SIZES: dict[str, DiTConfig] = {
    "dc/2": DiTConfig(width=384, depth=16, heads=8),
    "dc/1": DiTConfig(width=768, depth=18, heads=12),
    # the same structure for two CPU cores
    "small": DiTConfig(width=128, depth=6, heads=4),
}


class PlaneTransformer(nn.Module):
    """Noise and variance of noisy planes, laid out as a map, under conditions.

    Args:
        channels: channels C of a plane.
        layout: where the planes lie in the map.
        cfg: see `PlaneTransformerConfig`.
    """

    def __init__(self, channels: int, layout: RolloutLayout, cfg: PlaneTransformerConfig) -> None:
        super().__init__()
        self.channels, self.layout, self.cfg = channels, layout, cfg
        width, inputs = cfg.blocks.width, channels * cfg.patch**2
        self.patches = PatchGrid(layout, cfg.patch, width)
        self.enter = nn.Linear(inputs, width)
        nn.init.xavier_uniform_(self.enter.weight)
        nn.init.zeros_(self.enter.bias)
        self.step = TimeStepEmbedding(width)
        self.conditioner = Conditioner(cfg.conditions, channels, self.patches, width)
        self.dit = DiT(cfg.blocks, outputs=2 * inputs)

    def forward(self, noisy: Tensor, step: Tensor, conditions: Conditions | None = None) -> Prediction:
        """Prediction, two maps (B, C, H, W), for noisy maps of that shape at steps int64 (B,).

        What lies where no plane does is neither read nor predicted. Raises ValueError where a shape does not fit.
        """
        if tuple(noisy.shape[1:]) != (self.channels, *self.layout.shape):
            expected = (self.channels, *self.layout.shape)
            raise ValueError(f"PlaneTransformer: expected maps (B, *{expected}), found {tuple(noisy.shape)}")
        vector, tokens = self.conditioner(conditions or Conditions(), len(noisy), self.patches)
        x = self.enter(self.patches.cut(noisy)) + self.patches.position + tokens
        out = self.dit(x, self.step(step) + vector)
        return Prediction(*(self.patches.join(part) for part in out.chunk(2, dim=-1)))
