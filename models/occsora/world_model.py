"""OccSora as a world model: tokenizer and diffusion transformer behind `start`, `advance` and `generate`.

The paper's model makes a whole clip from its trajectory and has one noise level for all of it. A history is therefore kept by
replacement: while the clip is denoised, the latents of what was shown already are put back at the noise of each step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernels import nearest_code
from models.diffusion_sampling import Known, SamplerConfig
from models.interface import Chunk, Rollout, WorldModel
from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig
from models.occsora.config import LeanConfig, PaperConfig
from models.occsora.latent_clips import code_table
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.trajectory import trajectory_from_motion
from scenes.grid import Grid, check_occupancy


@dataclass(frozen=True)
class OccSoraConfig:
    """Everything that defines the world model but its weights.

    Attributes:
        grid: voxel grid of all occupancy.
        tokenizer: shape of the tokenizer.
        diffusion: shape of the diffusion model and of the clips that it makes.
        sampler: how latents are sampled; the paper takes "ddpm" with 1000 steps.
        guidance: scale of classifier-free guidance; 1 is none.
        snap: whether sampled latents are snapped to codes before they are decoded. The release does not.
    """

    grid: Grid
    tokenizer: PaperConfig | LeanConfig
    diffusion: ClipDiffusionConfig
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig("ddim", steps=50))
    guidance: float = 1.0
    snap: bool = False


class OccSoraWorldModel(WorldModel):
    """A window of t latent frames slides over the world: t - 1 of them were shown, the last is sampled.

    The window is decoded whole, since the decoder looks across latent frames. Of it the frames of the last one are shown; those
    shown before stay as they were. Then what was shown is encoded once more, and its codes are the history of the next step: so
    the history is what was seen, each latent is in the place in the window that it has in training, and errors of the sampler
    do not outlive the lookup. Where less was recorded than a window holds, the past before it is imagined by the first step.

    Raises ValueError where the diffusion model is not one of this tokenizer's latents, or its clips are a single latent frame.
    """

    def __init__(self, cfg: OccSoraConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.tokenizer = OccSoraTokenizer(cfg.grid, cfg.tokenizer)
        self.diffusion = ClipDiffusion(cfg.diffusion)
        expected = (self.tokenizer.latent_channels, *self.tokenizer.latent_shape(cfg.diffusion.frames))
        found = (cfg.diffusion.channels, *cfg.diffusion.shape)
        if found != expected or cfg.diffusion.shape[0] < 2:
            need = f"latents (c, t, h, w) = {expected} as the tokenizer makes them of {cfg.diffusion.frames} frames, t above 1"
            raise ValueError(f"OccSoraConfig.diffusion: expected {need}, found {found}")
        self.grid, self.dt = cfg.grid, cfg.diffusion.dt
        self.chunk_frames = cfg.tokenizer.strides[0]
        self.history_frames = cfg.diffusion.frames - self.chunk_frames
        self.token_shape = (*cfg.diffusion.shape[1:], 1)
        self.num_codes = cfg.tokenizer.num_codes

    @property
    def window_frames(self) -> int:
        """Frames that are denoised together: the history and a chunk."""
        return self.cfg.diffusion.frames

    @torch.no_grad()
    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`; T is any multiple of the chunk's frames, of which the last `history_frames` count.

        Where T is less, the ego is taken to have driven before as it did between the first two frames.
        """
        check_occupancy(occupancy, self.grid)
        batch, frames = occupancy.shape[:2]
        if occupancy.ndim != 5 or frames % self.chunk_frames or motion.shape != (batch, frames, 3):
            raise ValueError(
                f"start: expected a multiple of {self.chunk_frames} frames and motion (B, T, 3), "
                f"found occupancy {tuple(occupancy.shape)} and motion {tuple(motion.shape)}"
            )
        keep = min(frames, self.history_frames)
        occupancy, motion = occupancy[:, -keep:], motion[:, -keep:].to(occupancy.device, torch.float32)
        latents, codes = self._encode(occupancy)
        missing = self.history_frames - keep
        before = missing // self.chunk_frames
        shown = torch.cat((occupancy[:, :1].expand(-1, missing, -1, -1, -1), occupancy), dim=1)
        if missing:
            # The first row leads to the first frame from before the recording: what it holds is not known.
            motion = torch.cat((motion[:, 1:2].expand(-1, missing + 1, -1), motion[:, 1:]), dim=1)
        known = torch.arange(self.cfg.diffusion.shape[0] - 1, device=occupancy.device) >= before
        return Rollout(
            {
                "shown": shown.clone(),
                "motion": motion.clone(),
                "latents": pad(latents, (0, 0, 0, 0, before, 0)),
                "known": known.repeat(batch, 1),
                "codes": codes[:, -1],
                "seeds": seeds.to(occupancy.device, torch.int64).clone(),
                "step": torch.zeros(batch, dtype=torch.int64, device=occupancy.device),
            }
        )

    @torch.no_grad()
    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`; the model knows nothing of routes, and voxels are decoded in any case, for the history."""
        if motion.shape != (len(rollout), self.chunk_frames, 3):
            expected = f"({len(rollout)}, {self.chunk_frames}, 3)"
            raise ValueError(f"advance: expected motion {expected}, found {tuple(motion.shape)}")
        driven = torch.cat((rollout["motion"], motion.to(rollout["motion"])), dim=1)
        history = Known(
            values=pad(rollout["latents"], (0, 0, 0, 0, 0, 1)), mask=pad(rollout["known"], (0, 1))[:, None, :, None, None]
        )
        window = self._sample(driven, rollout["seeds"], rollout["step"], history)
        decoded, past = self.tokenizer.decode(window), self.history_frames
        was_shown = rollout["known"].repeat_interleave(self.chunk_frames, dim=1)[:, :, None, None, None]
        imagined = torch.where(was_shown, rollout["shown"], decoded[:, :past])
        voxels = decoded[:, past:]
        shown = torch.cat((imagined, voxels), dim=1)[:, -past:]
        rollout["latents"], codes = self._encode(shown)
        rollout["codes"] = codes[:, -1]
        rollout["shown"], rollout["motion"] = shown, driven[:, -past:]
        rollout["known"], rollout["step"] = torch.ones_like(rollout["known"]), rollout["step"] + 1
        return Chunk(codes=rollout["codes"], voxels=voxels if decode else None)

    @torch.no_grad()
    def generate(self, motion: Tensor, seeds: Tensor) -> Chunk:
        """See `WorldModel.generate`: the first window is sampled whole, as in the paper, and then it slides.

        A clip shorter than the window is cut from one in which the ego drives on as in its last frame.
        """
        batch, frames = motion.shape[:2]
        if motion.ndim != 3 or frames < 1 or frames % self.chunk_frames:
            expected = f"motion (B, T, 3), T a multiple of {self.chunk_frames}"
            raise ValueError(f"generate: expected {expected}, found {tuple(motion.shape)}")
        window = self.window_frames
        first = torch.cat((motion[:, :window], motion[:, -1:].expand(-1, max(window - frames, 0), -1)), dim=1)
        step = torch.zeros(batch, dtype=torch.int64, device=motion.device)
        shown = self.tokenizer.decode(self._sample(first, seeds, step))[:, :frames]
        parts, codes = [shown], [self._encode(shown)[1]]
        if frames > window:
            rollout = self.start(shown, first, seeds)
            rollout["step"] = rollout["step"] + 1
            for part in motion[:, window:].split(self.chunk_frames, dim=1):
                chunk = self.advance(rollout, part)
                assert chunk.voxels is not None, "advance gives voxels where they are asked for"
                parts.append(chunk.voxels)
                codes.append(rollout["codes"].unsqueeze(1))
        return Chunk(codes=torch.cat(codes, dim=1), voxels=torch.cat(parts, dim=1))

    def _sample(self, motion: Tensor, seeds: Tensor, steps: Tensor, known: Known | None = None) -> Tensor:
        """Latents (B, c, t, h, w) of a window under motion (B, T, 3), for the decoder."""
        trajectory, cfg = trajectory_from_motion(motion), self.cfg
        latents = self.diffusion.sample(trajectory, seeds, cfg.sampler, guidance=cfg.guidance, steps=steps, known=known)
        return self._snap(latents) if self.cfg.snap else latents

    def _snap(self, latents: Tensor) -> Tensor:
        """The nearest to each latent (B, c, t, h, w) of those that codes stand for."""
        table, rows = code_table(self.tokenizer), latents.movedim(1, -1)
        found = nearest_code(rows.reshape(-1, 1, rows.shape[-1]), table.unsqueeze(0))
        return table[found.view(rows.shape[:-1])].movedim(-1, 1)

    def _encode(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Quantised latents float32 (B, c, t, h, w) of occupancy (B, T, X, Y, Z), and their codes int16 (B, t, h, w, 1)."""
        quantized = self.tokenizer.quantize(self.tokenizer.encode(occupancy))
        return quantized.latents.float(), quantized.codes.to(torch.int16).unsqueeze(-1)
