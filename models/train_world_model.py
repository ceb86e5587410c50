"""Training of the diffusion transformer on encoded sequences, under the very conditions it meets in rollouts.

Each sequence passes twice: as history, written clean or slightly noised, and as noisy targets that see only the history before
them. So every chunk of the sequence is a target, with a window that slides as it does in rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from models.agent_flow import AgentFlow
from models.conditioning import Conditions
from models.encoded_parts import build_parts, origin_of
from models.flow import draw_levels, shortcut_target
from models.latent_cache import LatentSequences, encode_clips, unpack_bits
from models.layers import fold
from models.losses import voxel_loss
from models.pretrained import save_pretrained
from models.tokenizer import ChunkTokenizer
from models.training import Trainer, TrainingConfig, own_generator
from models.warp import UNKNOWN
from models.world_model import LearnedWorldModel, WorldModelConfig
from scenes.dataset import SceneClips
from scenes.grid import is_agent
from scenes.motion import accumulate
from scenes.scene import Scene

SHORTCUT_SHARE = 0.25  # of the sequences learn large steps, the others the flow itself
HISTORY_NOISE = 0.3  # the history's level lies between 1 minus this and 1, mostly near 1
COUNTERFACTUAL_SHARE = 0.25  # of the sequences leave the recorded path: brake, swerve, leave the road, hit something
VOXEL_CHUNKS = 6  # noisiest predictions of a step that are also decoded and compared voxel by voxel
VOXEL_WEIGHT = 2.0  # of that comparison; the error of latents alone lets thin things and agents blur away
JACCARD_WEIGHT = 0.3  # beside the cross entropy of voxels, which has no class weights: they fatten rare things at every step
CHANGED_WEIGHT = 3.0  # added weight of a token in which agents do not do what the flow foresaw: few, and what matters
NO_HISTORY, NO_WARP, NO_ROUTE = 0.05, 0.1, 0.2  # shares of sequences that must do without


class WorldModelTask(nn.Module):
    """The world model with its loss on a batch of encoded sequences."""

    def __init__(self, model: LearnedWorldModel, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed
        self.model.tokenizer.requires_grad_(False)
        self.model.flow.requires_grad_(False)

    def forward(self, batch: LatentSequences, step: int) -> dict[str, Tensor]:
        """Figures of one step: the loss, and the error of one-step predictions from pure noise beside that of the warp."""
        generator = own_generator(self.seed, step)
        latents, cond = self._sequences(batch, generator)
        sequences, chunks = latents.shape[:2]
        window, written_level = self._past(batch.motion, sequences, chunks, generator)
        history = self._noised(latents, written_level, generator)
        _, contexts = self.model.write(history, cond, written_level, window)

        # Whole sequences learn shortcuts, as many as the share asks for on average.
        led = int(sequences * SHORTCUT_SHARE + float(torch.rand((), generator=generator)))
        level, size = draw_levels(sequences * chunks, led * chunks, generator)
        level, size = level.to(latents.device), size.to(latents.device)
        noisy = self._noised(latents, level.view(sequences, chunks), generator).flatten(0, 1)
        clean = latents.flatten(0, 1)

        def predict(x: Tensor, at: Tensor, step_size: Tensor) -> Tensor:
            """The network on the first sequences of the batch, as many as x holds."""
            shape = (len(x) // chunks, chunks)
            part, seen, frame = cond.first(shape[0]), [past.first(len(x)) for past in contexts], window.first(shape[0])
            noisy, level, size = x.unflatten(0, shape), at.view(shape), step_size.view(shape)
            return self.model.predict(noisy, part, level, size, seen, frame).flatten(0, 1)

        target, head = clean, slice(0, led * chunks)
        if led:
            with torch.no_grad():
                target = torch.cat((shortcut_target(predict, noisy[head], level[head], size[head]), clean[led * chunks :]))
        predicted = predict(noisy, level, size)
        error = (predicted - target).square()
        weight = 1 + CHANGED_WEIGHT * changed_tokens(batch.voxels, batch.carried, self.model.tokens).flatten(0, 1)
        noisiest = (level + 2 * (size > 0) + 0.1 * torch.rand(len(level), generator=generator).to(level)).argsort()
        chosen = noisiest[:VOXEL_CHUNKS]
        carried = batch.carried.masked_fill((cond.warp_level == 0)[:, :, None, None, None, None], UNKNOWN)
        voxels = self._voxel_loss(
            predicted[chosen], carried.flatten(0, 1)[chosen], batch.voxels.flatten(0, 1)[chosen], generator
        )
        start = ((level == 0) & (size == 0)).float()
        still = (cond.warped.flatten(0, 1) - clean).square()
        from_noise, warp = ((part.mean((1, 2)) * start).sum() / start.sum().clamp(min=1) for part in (error, still))
        latents_error = (error.mean(-1) * weight).sum() / weight.sum()
        loss = latents_error + VOXEL_WEIGHT * voxels
        return {"loss": loss, "latents": latents_error, "voxels": voxels, "from_noise": from_noise, "warp": warp}

    def _voxel_loss(self, predicted: Tensor, carried: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of the voxels that predicted latents (M, N, C) become, against the truth uint8 (M, F, X, Y, Z), at half of the
        places."""
        tokenizer, blend = self.model.tokenizer, self.model.blend
        snapped = tokenizer.quantizer(predicted.unflatten(1, self.model.tokens)).latents
        places = [part.flatten(0, 2) for part in blend.features(tokenizer.decoder, snapped, carried)]
        pick = torch.randperm(len(places[0]), generator=generator)[: len(places[0]) // 2].to(truth.device)
        logits = blend.logits(tokenizer.decoder, *(part[pick] for part in places)).flatten(0, 1)
        even = torch.ones(logits.shape[-1], device=logits.device)
        cross_entropy, jaccard = voxel_loss(logits, fold(truth).flatten(0, 2)[pick].flatten(), even)
        return cross_entropy + JACCARD_WEIGHT * jaccard

    def _sequences(self, batch: LatentSequences, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """Clean latents (B, S, N, C) and their conditions, with parts left out and the warped past corrupted at random."""
        latents = self.model.tokenizer.lookup(batch.codes)
        sequences, chunks = latents.shape[:2]
        device = latents.device

        def keep(share: float) -> Tensor:
            return (torch.rand(sequences, 1, generator=generator) > share).float().to(device)

        noise = torch.rand(sequences, 1, generator=generator).to(device)
        # Half of the sequences see the warp untouched, the others blurred by noise and with tokens knocked out.
        corrupt = (noise > 0.5).float() * (noise - 0.5)
        level = (1 - corrupt) * keep(NO_WARP) * torch.ones(sequences, chunks, device=device)
        level[:, 0] = 0
        warped = batch.warped.float()
        disturbance = torch.randn(warped.shape, generator=generator).to(device) * corrupt[..., None, None]
        hole = torch.rand(warped.shape[:3], generator=generator).to(device) < 0.2 * corrupt[..., None]
        warped = (warped + disturbance).masked_fill(hole.unsqueeze(-1), 0.0)
        known = (batch.known.float() / 255).masked_fill(hole.unsqueeze(-1), 0.0)
        has_route = keep(NO_ROUTE) * torch.ones(sequences, chunks, device=device)
        return latents, Conditions(batch.motion, warped, known, level, unpack_bits(batch.route), has_route)

    def _past(self, motion: Tensor, sequences: int, chunks: int, generator: torch.Generator) -> tuple:
        """Window geometry of the sequences, and the level (B, S) at which each chunk is written into the history."""
        span, device = self.model.cfg.transformer.window, motion.device
        poses = accumulate(motion.flatten(1, 2))[:, self.model.chunk_frames - 1 :: self.model.chunk_frames]
        line = torch.cat((poses[:, :1].expand(-1, span, -1), poses), dim=1)
        order = torch.arange(chunks, device=device)
        valid = (order[:, None] - span + torch.arange(span, device=device)) >= 0
        lonely = torch.rand(sequences, 1, 1, generator=generator).to(device) < NO_HISTORY
        window = self.model.transformer.window(line, valid & ~lonely, chunks)
        level = 1 - HISTORY_NOISE * torch.rand(sequences, chunks, generator=generator).to(device) ** 3
        return window, level

    def _noised(self, latents: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        return torch.lerp(noise, latents, level[..., None, None])


def changed_tokens(voxels: Tensor, carried: Tensor, tokens: tuple[int, int]) -> Tensor:
    """1 where agents make the truth differ from what was carried along, else 0: (B, S, N) from (B, S, F, X, Y, Z) each."""
    differs = (voxels != carried) & (carried != UNKNOWN) & (is_agent(voxels) | is_agent(carried))
    columns = differs.any(-1).any(2).flatten(0, 1).float()
    pooled = nn.functional.max_pool2d(columns, columns.shape[-1] // tokens[1])
    return pooled.flatten(1).unflatten(0, voxels.shape[:2])


def build_cache(
    tokenizer: ChunkTokenizer,
    flow: AgentFlow,
    scenes: Sequence[Scene],
    model: WorldModelConfig,
    sequences: int,
    chunks: int,
    folder: Path,
    seed: int,
) -> LatentSequences:
    """Training sequences, encoded in parts that are kept in `folder`, see `build_parts`."""
    frames = model.tokenizer.chunk_frames
    clips = SceneClips(
        scenes, model.grid, model.dt, chunks * frames, seed=seed, route_every=frames, counterfactual=COUNTERFACTUAL_SHARE
    )
    encode = partial(encode_clips, tokenizer, flow, clips)
    return build_parts(LatentSequences, encode, sequences, folder, origin_of(clips, tokenizer, flow))


def _same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name].cpu(), theirs[name].cpu()) for name in mine)


def train_world_model(
    scenes: Sequence[Scene],
    tokenizer: ChunkTokenizer,
    flow: AgentFlow,
    model: WorldModelConfig,
    cfg: TrainingConfig,
    sequences: int,
    chunks: int,
    start: LearnedWorldModel | None = None,
) -> Path:
    """Train transformer and blend of a world model on a trained tokenizer and flow; returns the folder of the finished model.

    start: a trained world model of the same tokenizer, flow and shape to go on from, for fine-tuning.
    """
    if start is not None and not (_same(start.tokenizer, tokenizer) and _same(start.flow, flow)):
        raise ValueError("start: expected a world model with the very tokenizer and flow that are given, found others")
    if (flow.grid, flow.chunk_frames) != (tokenizer.grid, tokenizer.cfg.chunk_frames):
        raise ValueError(f"flow: is for {flow.grid.shape} and {flow.chunk_frames} frames a chunk, the tokenizer is not")
    model = replace(model, grid=tokenizer.grid, tokenizer=tokenizer.cfg, flow=flow.cfg)
    cache = build_cache(tokenizer, flow, scenes, model, sequences, chunks, cfg.out / "latents", cfg.seed)
    torch.manual_seed(cfg.seed)
    world_model = LearnedWorldModel(model)
    world_model.tokenizer.load_state_dict(tokenizer.state_dict())
    world_model.flow.load_state_dict(flow.state_dict())
    if start is not None:
        world_model.load_state_dict(start.state_dict())
    task = WorldModelTask(world_model, cfg.seed)

    def make_batch(step: int) -> LatentSequences:
        pick = trainer.at_random(step, len(cache))
        device = trainer.accelerator.device
        return LatentSequences(**{name: value[pick].to(device) for name, value in vars(cache).items()})

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, WorldModelTask)
        save_pretrained(trained.model, cfg.out)

    trainer = Trainer(task, make_batch, export, cfg, {"sequences": sequences, "chunks": chunks})
    trainer.run()
    return cfg.out
