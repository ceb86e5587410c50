"""The diffusion transformer: tokens of a new latent frame attend to themselves and to a window of past latent frames.

Attention is causal over latent frames. The past is written once: `write` runs clean (or slightly noised) frames and returns
their keys and values, `denoise` runs noisy frames against those. A sequence in training and one step of a rollout go through
the same code; only the number of frames differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernels import ada_norm, gated_residual, gated_residual_norm, gelu
from kernels.world_attention import has_kernel, rotation_table, world_attention
from models.layers import working_dtype
from models.rotary import frequencies, phases, token_places, turn, turn_back
from scenes.grid import Grid
from scenes.motion import relative


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the diffusion transformer.

    Attributes:
        width: channels of a token.
        depth: number of blocks.
        head_dim: channels of an attention head, divisible by 4.
        window: past latent frames that a latent frame attends to.
        mlp_ratio: widening of the feed-forward layers.
        shortest_wavelength, longest_wavelength: of the rotary positions, metres.
    """

    width: int = 256
    depth: int = 6
    head_dim: int = 64
    window: int = 4
    mlp_ratio: int = 4
    shortest_wavelength: float = 4.0
    longest_wavelength: float = 200.0


class Window(NamedTuple):
    """Where the past latent frames of each latent frame lie: B sequences, S frames, W past frames, N tokens a frame.

    Attributes:
        phase: factors of the past tokens in the ego frame of the query frame, complex64 (B, S, W * N, head_dim / 2).
        bias: added to the attention scores of the past, 0 where a frame may be seen and -inf where not, (B, S, W * N).
        turns: the phase as the attention kernel takes it, (B, S, W, N, head_dim).
        valid: which past frames may be seen, bool (B, S, W).
    """

    phase: Tensor
    bias: Tensor
    turns: Tensor
    valid: Tensor

    def first(self, count: int) -> Window:
        """The window of the first sequences."""
        return Window(*(part[:count] for part in self))


class KeyValues(NamedTuple):
    """Keys and values of every block without rotation, each (B, frames, L, N, width)."""

    keys: Tensor
    values: Tensor


class Context(NamedTuple):
    """The past as one block sees it, rotated into the query frames: keys and values (B * S, W * N, heads, head_dim)."""

    keys: Tensor
    values: Tensor

    def first(self, count: int) -> Context:
        """The past of the first latent frames."""
        return Context(*(part[:count] for part in self))


class Unrotated(NamedTuple):
    """The past as the attention kernel takes it: keys and values (B, T, N, heads, head_dim), which it rotates by itself.

    Of S = `frames` new frames a sequence, frame s sees the frames oldest + s to oldest + s + W - 1 of the T.
    """

    keys: Tensor
    values: Tensor
    oldest: int
    frames: int

    def first(self, count: int) -> Unrotated:
        """The past of the first latent frames, whole sequences of them."""
        sequences = count // self.frames
        return self._replace(keys=self.keys[:sequences], values=self.values[:sequences])


Past = Context | Unrotated


class Block(nn.Module):
    """Attention over the frame's own tokens and its past, then a feed-forward layer, both modulated and gated (adaLN-Zero)."""

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__()
        width = cfg.width
        self.heads, self.head_dim = width // cfg.head_dim, cfg.head_dim
        self.query_key_value = nn.Linear(width, 3 * width)
        self.query_norm = nn.RMSNorm(cfg.head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(cfg.head_dim, eps=1e-6)
        self.out = nn.Linear(width, width)
        self.widen = nn.Linear(width, cfg.mlp_ratio * width)
        self.narrow = nn.Linear(cfg.mlp_ratio * width, width)
        # One linear layer makes the modulation of all blocks; each block adds its own constant.
        self.modulation = nn.Parameter(torch.zeros(6 * width))

    def project(self, x: Tensor, modulation: Tensor, fused: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values (M, N, heads, head_dim) of x (M, N, width), not rotated, normalised unless fused."""
        projected = self.query_key_value(ada_norm(x, modulation[:, 1], modulation[:, 0], working_dtype(x)))
        q, k, v = projected.unflatten(-1, (3, self.heads, self.head_dim)).unbind(-3)
        return (q, k, v) if fused else (self.query_norm(q.float()), self.key_norm(k.float()), v)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        qkv: tuple[Tensor, Tensor, Tensor],
        own: Tensor,
        past: Past,
        window: Window,
    ) -> Tensor:
        """Tokens x (M, N, width) with their queries, keys, values and phases, and the past."""
        if isinstance(past, Unrotated):
            attended = self._attend_fused(*qkv, own, past, window).flatten(-2)
        else:
            attended = self._attend(*qkv, own, past, window).flatten(-2)
        gate, shift, scale, last_gate = modulation[:, 2:].unbind(1)
        x, hidden = gated_residual_norm(x, self.out(attended), gate, scale, shift, working_dtype(x))
        return gated_residual(x, self.narrow(gelu(self.widen(hidden))), last_gate)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, own: Tensor, past: Context, window: Window) -> Tensor:
        q, k, v = (turn(part, own) for part in (q, k, v))
        keys = torch.cat((past.keys, k), dim=1).transpose(1, 2)
        values = torch.cat((past.values, v), dim=1).transpose(1, 2)
        mask = nn.functional.pad(window.bias.flatten(0, 1), (0, k.shape[1]))[:, None, None, :]
        attended = nn.functional.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask)
        return turn_back(attended.transpose(1, 2), own)

    def _attend_fused(self, q: Tensor, k: Tensor, v: Tensor, own: Tensor, past: Unrotated, window: Window) -> Tensor:
        query, key, value = (part.unflatten(0, window.valid.shape[:2]) for part in (q, k, v))
        attended = world_attention(
            query,
            key,
            value,
            past.keys,
            past.values,
            self.query_norm.weight,
            self.key_norm.weight,
            rotation_table(own, window.turns.dtype),
            window.turns,
            window.valid,
            past.oldest,
        )
        return attended.flatten(0, 1)


class WorldTransformer(nn.Module):
    """Diffusion transformer over latent frames of h x w tokens; see the module's docstring."""

    places: Tensor
    frequency: Tensor

    def __init__(self, grid: Grid, tokens: tuple[int, int], inputs: int, outputs: int, cfg: TransformerConfig) -> None:
        super().__init__()
        if cfg.width % cfg.head_dim or cfg.head_dim % 4:
            raise ValueError(f"TransformerConfig: head_dim {cfg.head_dim} must divide width {cfg.width} and be divisible by 4")
        self.cfg = cfg
        self.input = nn.Linear(inputs, cfg.width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens[0] * tokens[1], cfg.width))
        self.blocks: Iterable[Block] = nn.ModuleList(Block(cfg) for _ in range(cfg.depth))  # type: ignore[assignment]
        self.modulation = nn.Linear(cfg.width, 6 * cfg.width)
        self.output_modulation = nn.Linear(cfg.width, 2 * cfg.width)
        self.output = nn.Linear(cfg.width, outputs)
        self.register_buffer("places", token_places(grid, tokens), persistent=False)
        wavelengths = frequencies(cfg.head_dim, cfg.shortest_wavelength, cfg.longest_wavelength)
        self.register_buffer("frequency", wavelengths, persistent=False)
        for layer in (self.modulation, self.output_modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Block):
                    module.modulation.view(6, -1)[[2, 5]] = 0.1  # gates slightly open, so that deep blocks learn from the start

    def window(self, poses: Tensor, valid: Tensor, frames: int) -> Window:
        """Geometry of the past: world poses (B, W + S, 3) of the frames before and of the S = `frames` new ones.

        valid: bool (B, S, W), which past frames each new frame may see, oldest first.
        """
        span = self.cfg.window
        past = torch.stack([poses[:, i : i + span] for i in range(frames)], dim=1)
        here = poses[:, span : span + frames].unsqueeze(2)
        phase = phases(self.places, relative(here, past), self.frequency)
        bias = torch.where(valid, 0.0, -math.inf).repeat_interleave(len(self.places), dim=-1)
        work = working_dtype(self.input.weight) if has_kernel(phase, self.cfg.head_dim) else torch.float32
        return Window(phase.flatten(2, 3), bias, rotation_table(phase, work), valid)

    def write(
        self, inputs: Tensor, condition: Tensor, window: Window, contexts: Sequence[Past] | None = None
    ) -> tuple[KeyValues, list[Past]]:
        """Run frames that become history: their keys and values, and the past of each block, for `denoise` to share.

        inputs (B, S, N, inputs), condition (B, S, width). contexts: the past from a cache, as `context` gives it; without it
        the frames are the start of a sequence and see each other.
        """
        batch, frames = inputs.shape[:2]
        x, modulations, own = self._enter(inputs, condition)
        written, used, fused = [], [], has_kernel(x, self.cfg.head_dim)
        for index, block in enumerate(self.blocks):
            qkv = block.project(x, modulations[index], fused)
            normalised = block.key_norm(qkv[1].float()) if fused else qkv[1]
            keys, values = (part.unflatten(0, (batch, frames)) for part in (normalised, qkv[2]))
            past: Past
            if contexts is not None:
                past = contexts[index]
            elif fused:
                past = Unrotated(keys.to(values.dtype), values, -self.cfg.window, frames)
            else:
                past = self._rotate(self._slide(keys), self._slide(values), window)
            written.append((keys.flatten(-2), values.flatten(-2)))
            used.append(past)
            if index + 1 < self.cfg.depth:  # what leaves the last block would be read by nobody
                x = block(x, modulations[index], qkv, own, past, window)
        keys, values = (torch.stack(parts, dim=2) for parts in zip(*written, strict=True))
        return KeyValues(keys, values), used

    def context(self, cache: KeyValues, window: Window) -> list[Past]:
        """The past of one new frame a world, rotated unless the kernel does it, from a cache of exactly W frames."""
        split = (-1, self.cfg.head_dim)
        if has_kernel(cache.keys, self.cfg.head_dim):
            keys, values = (part.unflatten(-1, split) for part in cache)
            return [Unrotated(keys[:, :, index], values[:, :, index], 0, 1) for index in range(self.cfg.depth)]
        keys, values = (part.unsqueeze(1).unflatten(-1, split) for part in cache)
        return [self._rotate(keys[:, :, :, index], values[:, :, :, index], window) for index in range(self.cfg.depth)]

    def denoise(self, inputs: Tensor, condition: Tensor, contexts: Sequence[Past], window: Window) -> Tensor:
        """Outputs (B, S, N, outputs) of noisy frames: inputs (B, S, N, inputs), condition (B, S, width), the blocks' past."""
        x, modulations, own = self._enter(inputs, condition)
        fused = has_kernel(x, self.cfg.head_dim)
        for index, block in enumerate(self.blocks):
            x = block(x, modulations[index], block.project(x, modulations[index], fused), own, contexts[index], window)
        shift, scale = self.output_modulation(condition.flatten(0, 1)).chunk(2, dim=-1)
        return self.output(ada_norm(x, scale, shift, working_dtype(x))).unflatten(0, inputs.shape[:2])

    def _enter(self, inputs: Tensor, condition: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Tokens (B * S, N, width), the modulation (B * S, 6, width) of every block, and the phases of a frame's own tokens."""
        x = self.input(inputs.flatten(0, 1)) + self.position
        shared = self.modulation(condition.flatten(0, 1))
        modulations = [(shared + block.modulation).unflatten(-1, (6, -1)) for block in self.blocks]
        return x, modulations, phases(self.places, self.places.new_zeros(3), self.frequency)

    def _slide(self, part: Tensor) -> Tensor:
        """The W frames before each of S frames, zeros before the first: (B, S, N, h, d) -> (B, S, W, N, h, d)."""
        span, frames = self.cfg.window, part.shape[1]
        line = torch.cat((part.new_zeros(part.shape[0], span, *part.shape[2:]), part), dim=1)
        return torch.stack([line[:, i : i + span] for i in range(frames)], dim=1)

    def _rotate(self, keys: Tensor, values: Tensor, window: Window) -> Context:
        """Keys and values (B, S, W, N, heads, head_dim) turned into the ego frames of the S query frames."""
        phase = window.phase.flatten(0, 1)
        return Context(*(turn(part.flatten(2, 3).flatten(0, 1), phase) for part in (keys, values)))
