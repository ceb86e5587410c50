"""The features that a policy of stable-baselines3 gets out of the environment's Dict observations."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.route_strip import RouteStrip
from occworld_env.observation import VECTOR_FIELDS

CODE_CHANNELS = 8  # size of the embedding of each code or class id
_COARSE = 12  # cells along an edge up to which a raster is not halved any more


class OccSoraFeatures(BaseFeaturesExtractor):
    """`image` through small convolutions, once whole and once as the strip along the route; `tokens` and `occupancy` embedded
    id by id first; `vector` through one layer. All are joined in one layer; beside what comes out of that go `vector` as it is
    and how far the strip is clear, so that the little that matters most need not be found among a thousand features.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        features_dim: int = 256,
        width: int = 32,
        token_shape: tuple[int, int, int] | None = None,
    ) -> None:
        """features_dim: what is joined. width: channels of the first convolution. token_shape: (h, w, G) of the world model,
        which `tokens` observations need."""
        super().__init__(observation_space, features_dim)
        self.parts = nn.ModuleDict()
        total = 0
        for name, space in observation_space.spaces.items():
            if not isinstance(space, spaces.Box):
                raise ValueError(f"observation {name!r}: expected a Box, found {type(space).__name__}")
            self.parts[name], size = _part(name, space, width, token_shape)
            total += size
        self.strip = None
        image, vector = (observation_space.spaces.get(name) for name in ("image", "vector"))
        if vector is not None and vector.shape is not None:
            self._features_dim += vector.shape[0]
        if isinstance(image, spaces.Box) and vector is not None and vector.shape == (len(VECTOR_FIELDS),):
            self.strip = RouteStrip(image.shape[0], width)
            total += self.strip.features
            self._features_dim += self.strip.columns
        self.join = nn.Sequential(nn.Linear(total, features_dim), nn.ReLU())

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features float32 (B, F) of a batch of observations, images already scaled to [0, 1] by SB3."""
        found = [part(observations[name]) for name, part in self.parts.items()]
        beside = [observations["vector"]] if "vector" in observations else []
        if self.strip is not None:
            features, clear = self.strip(observations["image"], observations["vector"])
            found.append(features)
            beside.append(clear)
        return torch.cat((self.join(torch.cat(found, dim=1)), *beside), dim=1)


def _part(name: str, space: spaces.Box, width: int, token_shape: tuple[int, int, int] | None) -> tuple[nn.Module, int]:
    """Network for one entry of the observation, and the number of features that it gives."""
    if name == "tokens":
        if token_shape is None:
            raise ValueError("token_shape: 'tokens' observations need the world model's (h, w, G)")
        rows, columns, groups = token_shape
        tower, size = _tower(groups * CODE_CHANNELS, (rows, columns), width)
        return nn.Sequential(TokenEmbedding(int(space.high.max()) + 1, token_shape), tower), size
    if name == "occupancy" and is_image_space(space) and is_image_space_channels_first(space):
        levels, rows, columns = space.shape
        tower, size = _tower(levels * CODE_CHANNELS, (rows, columns), width)
        return nn.Sequential(OccupancyEmbedding(int(space.high.max()) + 1), tower), size
    if is_image_space(space) and is_image_space_channels_first(space):
        channels, rows, columns = space.shape
        return _tower(channels, (rows, columns), width)
    if len(space.shape) == 1:
        return nn.Sequential(nn.Linear(space.shape[0], 64), nn.ReLU()), 64
    raise ValueError(f"observation {name!r}: expected an image with channels first, tokens or a vector, found {space}")


def _tower(channels: int, shape: tuple[int, int], width: int) -> tuple[nn.Module, int]:
    """Convolutions that halve a raster until it is at most _COARSE cells wide, then once more, flattened."""
    layers: list[nn.Module] = []
    rows, columns = shape
    while max(rows, columns) > _COARSE:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU()]
        channels, width = width, min(2 * width, 64)
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    layers += [nn.Conv2d(channels, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers), 32 * ((rows + 1) // 2) * ((columns + 1) // 2)


class TokenEmbedding(nn.Module):
    """Code ids (B, h * w * G), which SB3 hands over as floats, to float32 (B, G * CODE_CHANNELS, h, w)."""

    def __init__(self, num_codes: int, shape: tuple[int, int, int]) -> None:
        """num_codes: codes in each of the G codebooks. shape: (h, w, G)."""
        super().__init__()
        self.shape = shape
        self.table = nn.Embedding(num_codes * shape[2], CODE_CHANNELS)
        self.register_buffer("first", torch.arange(shape[2]) * num_codes, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        return self.table(codes.long().unflatten(1, self.shape) + self.first).flatten(3).permute(0, 3, 1, 2)


class OccupancyEmbedding(nn.Module):
    """Class ids (B, Z, X, Y), which SB3 hands over divided by 255, to float32 (B, Z * CODE_CHANNELS, X, Y)."""

    def __init__(self, num_classes: int) -> None:
        """num_classes: number of ids."""
        super().__init__()
        self.table = nn.Embedding(num_classes, CODE_CHANNELS)

    def forward(self, scaled: Tensor) -> Tensor:
        """See the class."""
        return self.table((scaled * 255).round().long()).permute(0, 1, 4, 2, 3).flatten(1, 2)
