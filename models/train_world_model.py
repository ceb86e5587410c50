"""Training of the diffusion transformer on encoded sequences, under the very conditions it meets in rollouts.

Each sequence passes twice: as history, written clean or slightly noised, and as noisy targets that see only the history before
them. So every chunk of the sequence is a target, with a window that slides as it does in rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.conditioning import Conditions
from models.flow import draw_levels, shortcut_target
from models.latent_cache import LatentSequences, encode_clips, unpack_bits
from models.losses import class_weights, voxel_loss
from models.pretrained import save_pretrained
from models.tokenizer import ChunkTokenizer, fold
from models.training import Trainer, TrainingConfig, step_generator
from models.world_model import LearnedWorldModel, WorldModelConfig
from scenes.dataset import SceneClips
from scenes.motion import accumulate
from scenes.scene import Scene

SHORTCUT_SHARE = 0.25  # of the sequences learn large steps, the others the flow itself
HISTORY_NOISE = 0.3  # the history's level lies between 1 minus this and 1, mostly near 1
COUNTERFACTUAL_SHARE = 0.25  # of the sequences leave the recorded path: brake, swerve, leave the road, hit something
VOXEL_CHUNKS = 4  # noisiest predictions of a step that are also decoded and compared voxel by voxel
VOXEL_WEIGHT = 0.2  # of that comparison; the error of latents alone lets thin things and agents blur away
NO_HISTORY, NO_WARP, NO_ROUTE = 0.05, 0.1, 0.2  # shares of sequences that must do without


class WorldModelTask(nn.Module):
    """The world model with its loss on a batch of encoded sequences."""

    weights: Tensor

    def __init__(self, model: LearnedWorldModel, frequency: Tensor, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed
        self.model.tokenizer.requires_grad_(False)
        self.register_buffer("weights", class_weights(frequency))

    def forward(self, batch: LatentSequences, step: int) -> dict[str, Tensor]:
        """Figures of one step: the loss, and the error of one-step predictions from pure noise beside that of the warp."""
        generator = step_generator(self.seed, step)
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
        noisiest = (level + 2 * (size > 0) + 0.1 * torch.rand(len(level), generator=generator).to(level)).argsort()
        voxels = self._voxel_loss(predicted[noisiest[:VOXEL_CHUNKS]], clean[noisiest[:VOXEL_CHUNKS]], generator)
        start = ((level == 0) & (size == 0)).float()
        carried = (cond.warped.flatten(0, 1) - clean).square()
        from_noise, warp = ((part.mean((1, 2)) * start).sum() / start.sum().clamp(min=1) for part in (error, carried))
        loss = error.mean() + VOXEL_WEIGHT * voxels
        return {"loss": loss, "latents": error.mean(), "voxels": voxels, "from_noise": from_noise, "warp": warp}

    def _voxel_loss(self, predicted: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of the voxels that predicted latents (M, N, C) become against those of true codes, at half of the places."""
        tokenizer = self.model.tokenizer
        shape = (len(predicted), *self.model.tokens, predicted.shape[-1])
        with torch.no_grad():
            truth = fold(tokenizer.decode(clean.reshape(shape)))
        places = tokenizer.decoder.places(tokenizer.quantizer(predicted.reshape(shape)).latents).flatten(0, 2)
        pick = torch.randperm(len(places), generator=generator)[: len(places) // 2].to(places.device)
        logits = tokenizer.decoder.logits(places[pick]).flatten(0, 1)
        return sum(voxel_loss(logits, truth.flatten(0, 2)[pick].flatten(), self.weights), logits.new_zeros(()))

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


def build_cache(
    tokenizer: ChunkTokenizer,
    scenes: Sequence[Scene],
    model: WorldModelConfig,
    sequences: int,
    chunks: int,
    folder: Path,
    seed: int,
) -> LatentSequences:
    """Encode training sequences in parts kept in `folder`, so that a killed run goes on where it was."""
    from rich.progress import track

    folder.mkdir(parents=True, exist_ok=True)
    frames = model.tokenizer.chunk_frames
    clips = SceneClips(
        scenes, model.grid, model.dt, chunks * frames, seed=seed, route_every=frames, counterfactual=COUNTERFACTUAL_SHARE
    )
    size = 16
    parts = []
    for index in track(range(math.ceil(sequences / size)), description="encoding sequences"):
        path = folder / f"part-{index:05d}.safetensors"
        if not path.is_file():
            encode_clips(tokenizer, clips, range(index * size, (index + 1) * size)).save(path)
        parts.append(LatentSequences.load(path))
    return LatentSequences.join(parts)


def _same_tokenizer(one: ChunkTokenizer, other: ChunkTokenizer) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name].cpu(), theirs[name].cpu()) for name in mine)


@torch.no_grad()
def cached_frequency(tokenizer: ChunkTokenizer, cache: LatentSequences, samples: int = 16) -> Tensor:
    """Share of each class among the voxels of a few cached sequences, (C,)."""
    device = next(tokenizer.parameters()).device
    codes = cache.codes[:samples, 0].to(device).unflatten(1, tokenizer.token_shape[:2])
    counts = torch.bincount(tokenizer.decode(tokenizer.lookup(codes)).flatten().int(), minlength=tokenizer.grid.num_classes)
    return (counts / counts.sum()).cpu()


def train_world_model(
    scenes: Sequence[Scene],
    tokenizer: ChunkTokenizer,
    model: WorldModelConfig,
    cfg: TrainingConfig,
    sequences: int,
    chunks: int,
    start: LearnedWorldModel | None = None,
) -> Path:
    """Train the transformer of a world model on the codes of a trained tokenizer; returns the folder of the finished model.

    start: a trained world model of the same tokenizer and shape to go on from, for fine-tuning.
    """
    if start is not None and not _same_tokenizer(start.tokenizer, tokenizer):
        raise ValueError("start: expected a world model with the very tokenizer that is given, found another")
    if (tokenizer.grid, tokenizer.cfg) != (model.grid, model.tokenizer):
        model = replace(model, grid=tokenizer.grid, tokenizer=tokenizer.cfg)
    cache = build_cache(tokenizer, scenes, model, sequences, chunks, cfg.out / "latents", cfg.seed)
    torch.manual_seed(cfg.seed)
    world_model = LearnedWorldModel(model)
    world_model.tokenizer.load_state_dict(tokenizer.state_dict())
    if start is not None:
        world_model.load_state_dict(start.state_dict())
    task = WorldModelTask(world_model, cached_frequency(tokenizer, cache), cfg.seed)

    def make_batch(step: int) -> LatentSequences:
        rank, world = trainer.accelerator.process_index, trainer.accelerator.num_processes
        generator = step_generator(cfg.seed + 1, step)
        pick = torch.randint(len(cache), (world, cfg.batch_size), generator=generator)[rank]
        device = trainer.accelerator.device
        return LatentSequences(**{name: value[pick].to(device) for name, value in vars(cache).items()})

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, WorldModelTask)
        save_pretrained(trained.model, cfg.out)

    trainer = Trainer(task, make_batch, export, cfg)
    trainer.run()
    return cfg.out
