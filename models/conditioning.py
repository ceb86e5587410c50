"""What the transformer is told besides the noisy latents: levels, ego motion, the warped past and the route."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from kernels import Draw, Told, token_inputs
from models.flow import Toward
from models.layers import working_dtype
from models.warp import UNKNOWN
from scenes.route import ROUTE_CHANNELS

MOTION_SCALE = (0.2, 1.0, 10.0)  # a frame's motion of 5 m, 1 m and 0.1 rad counts as one
KNOWN_PARTS = 2  # a token's known share is told for 2 x 2 quarters


@dataclass
class Conditions:
    """Conditions of S latent frames in B worlds, N = h * w tokens each.

    Attributes:
        motion: ego motion float32 (B, S, F, 3).
        warped: latents of the past carried along (B, S, N, C), before snapping.
        known: share of each quarter of a token that the past has seen, (B, S, N, 4), 0 to 1.
        warp_level: how clean the warped latents are, (B, S): 1 untouched, 0 absent.
        route: route raster cut by tokens, 0 or 1, (B, S, N, R).
        has_route: 1 where a route is given, else 0, (B, S).
    """

    motion: Tensor
    warped: Tensor
    known: Tensor
    warp_level: Tensor
    route: Tensor
    has_route: Tensor

    def first(self, count: int) -> Conditions:
        """The conditions of the first worlds."""
        return Conditions(*(value[:count] for value in vars(self).values()))


def known_share(warped: Tensor, tokens: tuple[int, int]) -> Tensor:
    """Share of known columns in the quarters of each token, (B, N, 4), of a warped chunk uint8 (B, F, X, Y, Z)."""
    known = (warped[:, -1, :, :, 0] != UNKNOWN).float()
    parts = known.shape[1] // (tokens[0] * KNOWN_PARTS)
    quarters = nn.functional.avg_pool2d(known, parts)
    return rearrange(quarters, "b (h p) (w q) -> b (h w) (p q)", p=KNOWN_PARTS, q=KNOWN_PARTS)


def route_tokens(route: Tensor, tokens: tuple[int, int]) -> Tensor:
    """Route raster uint8 (B, 2, X, Y) cut by tokens: uint8 (B, N, 2 * X / h * Y / w)."""
    return rearrange(route, "b c (h p) (w q) -> b (h w) (c p q)", h=tokens[0], w=tokens[1])


class Conditioner(nn.Module):
    """Makes the transformer's inputs a token and its condition a frame.

    The condition is the sum of embeddings of noise level, step size, warp level and trajectory (the trajectory embedding of
    OccSora, section 3.3); the inputs stack noisy latents, warped latents, known shares and route.
    """

    scale: Tensor

    def __init__(self, latent_dim: int, stride: int, chunk_frames: int, width: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.levels = nn.Sequential(nn.Linear(3 * 32, width), nn.SiLU(), nn.Linear(width, width))
        self.trajectory = nn.Sequential(nn.Linear(3 * chunk_frames, width), nn.SiLU(), nn.Linear(width, width))
        self.inputs = 2 * latent_dim + KNOWN_PARTS**2 + ROUTE_CHANNELS * stride**2 + 2
        self.register_buffer("scale", torch.tensor(MOTION_SCALE), persistent=False)

    def condition(self, cond: Conditions, level: Tensor, size: Tensor) -> Tensor:
        """Condition (B, S, width) for noise levels and step sizes (B, S)."""
        told = torch.stack((level, size, cond.warp_level), dim=-1)
        frequency = torch.exp(torch.linspace(0, math.log(64), 16, device=level.device))
        angle = told.unsqueeze(-1) * frequency
        waves = torch.cat((angle.cos(), angle.sin()), dim=-1).flatten(-2)
        motion = (cond.motion * self.scale).flatten(-2)
        return nn.functional.silu(self.levels(waves) + self.trajectory(motion))

    def tokens(self, noisy: Tensor | Draw, cond: Conditions, toward: Toward | None = None) -> Tensor:
        """Inputs (B, S, N, inputs) of latents under the conditions, without gradient: see `kernels.token_inputs`.

        noisy: latents (B, S, N, C), or the noise that B worlds draw for one frame (S = 1). toward: a prediction (B, S, N, C) on
        the way to which the latents are, and how far, 0 to 1.
        """
        batch, frames = cond.has_route.shape
        told = Told(*(part.flatten(0, 1) for part in (cond.warped, cond.known, cond.route, cond.warp_level, cond.has_route)))
        latents = noisy if isinstance(noisy, Draw) else noisy.flatten(0, 1)
        way = None if toward is None else (toward[0].flatten(0, 1), toward[1])
        return token_inputs(latents, told, working_dtype(cond.warped), way).unflatten(0, (batch, frames))


def history_conditions(cond: Conditions) -> Conditions:
    """The conditions under which frames are written into the history: their motion, without warp and route."""
    zero = torch.zeros_like(cond.warp_level)
    return Conditions(cond.motion, cond.warped, cond.known, zero, cond.route, zero)
