"""The learned world model: tokenizer, diffusion transformer and sampler behind `start`, `advance` and `generate`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels import Draw
from models.agent_flow import AgentFlow, AgentFlowConfig
from models.blend import Blend
from models.carry_world_model import carry_on, empty_past, see
from models.conditioning import KNOWN_PARTS, Conditioner, Conditions, history_conditions, known_share, route_tokens
from models.flow import Toward, sample
from models.interface import Chunk, Rollout, WorldModel
from models.layers import working_dtype
from models.standing import keep_standing, nothing_stands, remember_standing
from models.tokenizer import STRIDE, ChunkTokenizer, TokenizerConfig
from models.transformer import KeyValues, TransformerConfig, Window, WorldTransformer
from scenes.grid import MINI, Grid, check_occupancy
from scenes.motion import accumulate
from scenes.route import ROUTE_CHANNELS


@dataclass(frozen=True)
class WorldModelConfig:
    """Everything that defines a learned world model but its weights.

    Attributes:
        grid: voxel grid of all occupancy.
        dt: seconds between frames.
        tokenizer: shape of the tokenizer.
        flow: shape of the network that sees how agents move.
        transformer: shape of the diffusion transformer.
        denoising_steps: network calls a chunk (NFE) in rollouts.
    """

    grid: Grid = MINI
    dt: float = 0.25
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    flow: AgentFlowConfig = field(default_factory=AgentFlowConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    denoising_steps: int = 2


class LearnedWorldModel(WorldModel):
    """Imagines the next chunk as codes, against what the last frame becomes when it is carried along.

    A step: the agents' flow says how the agents of the last frame move on; that frame is carried along, agents driving, the
    rest rigid; the transformer samples what changes against it, with the past cached as keys and values; the sample is snapped
    to codes and decoded with the carried frame at hand, and what stood in the history still stands. What is then shown is
    encoded once more and written into the cache.
    """

    def __init__(self, cfg: WorldModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.grid, self.dt = cfg.grid, cfg.dt
        self.chunk_frames = cfg.tokenizer.chunk_frames
        self.history_frames = cfg.transformer.window * self.chunk_frames
        self.tokenizer = ChunkTokenizer(cfg.grid, cfg.tokenizer)
        self.token_shape, self.num_codes = self.tokenizer.token_shape, cfg.tokenizer.num_codes
        latent = cfg.tokenizer.latent_dim
        self.conditioner = Conditioner(latent, STRIDE, self.chunk_frames, cfg.transformer.width)
        self.flow = AgentFlow(cfg.grid, self.chunk_frames, cfg.flow)
        self.blend = Blend(cfg.grid, cfg.tokenizer)
        tokens = (self.token_shape[0], self.token_shape[1])
        self.transformer = WorldTransformer(cfg.grid, tokens, self.conditioner.inputs, latent, cfg.transformer)
        self.denoising_steps = cfg.denoising_steps

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens a latent frame along axes 0 and 1."""
        height, width, _ = self.tokenizer.token_shape
        return height, width

    def predict(
        self,
        noisy: Tensor | Draw,
        cond: Conditions,
        level: Tensor,
        size: Tensor,
        contexts: list,
        window: Window,
        toward: Toward | None = None,
    ) -> Tensor:
        """Clean latents (B, S, N, C) predicted from noisy ones, or those on the way `toward` another; level and size (B, S).

        The network predicts what changes against the carried past, so that it starts from 'all goes on as it did'.
        """
        condition = self.conditioner.condition(cond, level, size)
        change = self.transformer.denoise(self.conditioner.tokens(noisy, cond, toward), condition, contexts, window)
        return change + cond.warped * (cond.warp_level > 0)[..., None, None]

    def write(
        self, latents: Tensor, cond: Conditions, level: Tensor, window: Window, contexts: list | None = None
    ) -> tuple[KeyValues, list]:
        """Keys and values of latent frames (B, S, N, C) that become history at noise level (B, S), and the past they saw."""
        told = history_conditions(cond)
        condition = self.conditioner.condition(told, level, torch.zeros_like(level))
        return self.transformer.write(self.conditioner.tokens(latents, told), condition, window, contexts)

    @torch.no_grad()
    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`; T is any multiple of the chunk's frames, of which the last `history_frames` count."""
        check_occupancy(occupancy, self.grid)
        batch, frames = occupancy.shape[:2]
        if frames % self.chunk_frames or motion.shape != (batch, frames, 3):
            raise ValueError(
                f"start: expected a multiple of {self.chunk_frames} frames and motion (B, T, 3), "
                f"found occupancy {tuple(occupancy.shape)} and motion {tuple(motion.shape)}"
            )
        keep = min(frames, self.history_frames)
        occupancy, motion = occupancy[:, -keep:], motion[:, -keep:]
        chunks = keep // self.chunk_frames
        folded = occupancy.reshape(batch * chunks, self.chunk_frames, *self.grid.shape)
        codes, latents = self.tokenizer.snap(self.tokenizer.encode(folded))
        motion = motion.clone()
        motion[:, 0] = 0
        poses = accumulate(motion)[:, self.chunk_frames - 1 :: self.chunk_frames]
        rollout = self._empty(batch, seeds, occupancy.device)
        cond = self._conditions(motion.reshape(batch, chunks, self.chunk_frames, 3))
        span = self.cfg.transformer.window
        order = torch.arange(chunks, device=occupancy.device)
        valid = (order[:, None] - span + torch.arange(span, device=occupancy.device)) >= 0
        line = torch.cat((poses[:, :1].expand(-1, span, -1), poses), dim=1)
        window = self.transformer.window(line, valid.expand(batch, -1, -1), chunks)
        ones = torch.ones(batch, chunks, device=occupancy.device)
        written, _ = self.write(latents.reshape(batch, chunks, -1, self.cfg.tokenizer.latent_dim), cond, ones, window)
        rollout["keys"][:, -chunks:], rollout["values"][:, -chunks:] = written
        rollout["cache_poses"][:, -chunks:], rollout["cached"][:, -chunks:] = poses, True
        rollout["codes"] = codes.reshape(batch, chunks, *self.tokenizer.token_shape)[:, -1].clone()
        see(rollout, occupancy, motion, self.flow)
        remember_standing(rollout, occupancy[:, -1], self.grid)
        return rollout

    @torch.no_grad()
    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`; voxels are decoded in any case, since the next step carries them along."""
        batch = len(rollout)
        if motion.shape != (batch, self.chunk_frames, 3):
            raise ValueError(f"advance: expected motion ({batch}, {self.chunk_frames}, 3), found {tuple(motion.shape)}")
        if route is not None and route.shape != (batch, ROUTE_CHANNELS, *self.grid.shape[:2]):
            raise ValueError(f"advance: expected route ({batch}, 2, X, Y) on {self.grid.shape}, found {tuple(route.shape)}")
        carried = carry_on(rollout, motion, self.flow, self.dt)
        cond = self._conditions(motion.unsqueeze(1), carried, route)
        # A world without history has nothing to carry along.
        cond.warp_level = cond.warp_level * rollout["cached"].any(1, keepdim=True)
        pose = accumulate(motion, rollout["above_poses"][:, -1])[:, -1]
        line = torch.cat((rollout["cache_poses"], pose.unsqueeze(1)), dim=1)
        window = self.transformer.window(line, rollout["cached"].unsqueeze(1), 1)
        contexts = self.transformer.context(KeyValues(rollout["keys"], rollout["values"]), window)

        def predict(noisy: Tensor | Draw, toward: Toward | None, level: Tensor, size: Tensor) -> Tensor:
            noisy = noisy if isinstance(noisy, Draw) else noisy.unsqueeze(1)
            way = None if toward is None else (toward[0].unsqueeze(1), toward[1])
            return self.predict(noisy, cond, level.unsqueeze(1), size.unsqueeze(1), contexts, window, way).squeeze(1)

        draw = Draw(rollout["seeds"], rollout["step"], 0)
        latents = sample(predict, draw, self.denoising_steps).unflatten(1, self.tokens)
        _, snapped = self.tokenizer.snap(latents)
        voxels = keep_standing(rollout, self.blend(self.tokenizer.decoder, snapped, carried), motion, self.grid)
        codes, shown = self.tokenizer.snap(self.tokenizer.encode(voxels))
        ones = torch.ones(batch, 1, device=motion.device)
        written, _ = self.write(shown.flatten(1, 2).unsqueeze(1), cond, ones, window, contexts)
        self._remember(rollout, written, pose, codes)
        see(rollout, voxels, motion, self.flow)
        return Chunk(codes=codes, voxels=voxels if decode else None)

    @torch.no_grad()
    def generate(self, motion: Tensor, seeds: Tensor, route: Tensor | None = None) -> Chunk:
        """A whole clip from a trajectory alone, without history: motion (B, T, 3), T a multiple of the chunk's frames.

        route: uint8 (B, T / F, 2, X, Y) or None. Returns codes (B, T / F, h, w, G) and voxels (B, T, X, Y, Z).
        """
        rollout = self._empty(len(motion), seeds, motion.device)
        chunks = []
        for index, part in enumerate(motion.split(self.chunk_frames, dim=1)):
            chunks.append(self.advance(rollout, part, None if route is None else route[:, index]))
        codes = torch.stack([chunk.codes for chunk in chunks if chunk.codes is not None], dim=1)
        return Chunk(codes=codes, voxels=torch.cat([chunk.voxels for chunk in chunks if chunk.voxels is not None], dim=1))

    def _empty(self, batch: int, seeds: Tensor, device: torch.device) -> Rollout:
        """Worlds without any history."""
        cfg = self.cfg.transformer
        cache = (batch, cfg.window, cfg.depth, self.tokens[0] * self.tokens[1], cfg.width)
        dtype = working_dtype(self.transformer.position)
        return Rollout(
            {
                "keys": torch.zeros(cache, device=device, dtype=dtype),
                "values": torch.zeros(cache, device=device, dtype=dtype),
                "cache_poses": torch.zeros(batch, cfg.window, 3, dtype=torch.float64, device=device),
                "cached": torch.zeros(batch, cfg.window, dtype=torch.bool, device=device),
                "codes": torch.zeros(batch, *self.tokenizer.token_shape, dtype=torch.int16, device=device),
                **empty_past(self.flow, batch, device),
                **nothing_stands(self.grid, batch, device),
                "seeds": seeds.to(device, torch.int64).clone(),
                "step": torch.zeros(batch, dtype=torch.int64, device=device),
            }
        )

    def _conditions(self, motion: Tensor, carried: Tensor | None = None, route: Tensor | None = None) -> Conditions:
        """Conditions of frames under motion (B, S, F, 3); with the carried past and a route for a single new frame."""
        batch, frames, device = *motion.shape[:2], motion.device
        count, latent = self.tokens[0] * self.tokens[1], self.cfg.tokenizer.latent_dim
        warped = torch.zeros(batch, frames, count, latent, device=device)
        known = torch.zeros(batch, frames, count, KNOWN_PARTS**2, device=device)
        level = torch.zeros(batch, frames, device=device)
        if carried is not None:
            warped = self.tokenizer.encode(carried).flatten(1, 2).unsqueeze(1)
            known = known_share(carried, self.tokens).unsqueeze(1)
            level = torch.ones(batch, frames, device=device)
        told = torch.zeros(batch, frames, count, ROUTE_CHANNELS * STRIDE**2, dtype=torch.uint8, device=device)
        if route is not None:
            told = route_tokens(route, self.tokens).unsqueeze(1)
        has_route = torch.full((batch, frames), float(route is not None), device=device)
        return Conditions(motion, warped, known, level, told, has_route)

    def _remember(self, rollout: Rollout, written: KeyValues, pose: Tensor, codes: Tensor) -> None:
        """Write the new frame of every world over its oldest one: the cache is a ring, in which places tell what is where."""
        world, slot = torch.arange(len(rollout), device=pose.device), rollout["step"] % self.cfg.transformer.window
        for name, new in (("keys", written.keys.squeeze(1)), ("values", written.values.squeeze(1)), ("cache_poses", pose)):
            rollout[name][world, slot] = new.to(rollout[name].dtype)
        rollout["cached"].scatter_(1, slot.unsqueeze(1), True)
        rollout["codes"], rollout["step"] = codes, rollout["step"] + 1
