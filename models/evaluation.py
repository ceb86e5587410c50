"""How good a world model is on clips it never saw: every figure beside baselines, ceiling and floor. See docs/metrics.md."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from models import metrics
from models.agent_flow import AgentFlow
from models.baselines import ConstantVelocityWorldModel, CopyWorldModel
from models.carry_world_model import CarryWorldModel
from models.evaluation_cells import Scores, number, seen_columns, subset_masks
from models.evaluation_clips import ClipBatch, batches
from models.evaluation_motion import MotionTally, motion_response
from models.evaluation_rollout import RolloutTally
from models.interface import WorldModel
from models.tokenizer import ChunkTokenizer
from models.warp import WarpWorldModel, warp_chunk
from scenes.grid import Grid

# Share of a time budget after which each part stops taking new batches.
_PARTS = {"next_chunk": 0.3, "rollout": 0.65, "no_route": 0.7, "motion": 0.85, "long": 1.0}
_TOKENIZER = 0.1
_NO_ROUTE_UNTIL = 4.0  # seconds of the rollouts without a route
Item = TypeVar("Item")


@torch.no_grad()
def evaluate_world_model(
    model: WorldModel,
    clips: Sequence[dict[str, Any]],
    *,
    batch: int = 4,
    starts: int = 3,
    horizons: Sequence[float] = (0.5, 4.0, 8.0),
    long: Sequence[float] = (16.0, 32.0, 60.0),
    long_clips: int = 4,
    seconds: float | None = None,
    progress: Callable[[str], None] = lambda part: None,
) -> dict[str, Any]:
    """All figures of docs/metrics.md for a world model, as nested dicts that JSON can hold (None where nothing was counted).

    clips: as `scene_clips` or `scenes.dataset.SceneClips` make them, from places the model never saw, each long enough for the
    history and one chunk; horizons (seconds after the history) are scored where clips are long enough. starts: moments in each
    clip from which the next chunk is predicted. long: moments of the long rollouts of the first `long_clips` clips, which may
    be none. seconds: time budget; each part does one batch at least. progress: called with the name of each part at its start.

    Raises ValueError if no clip is long enough.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    baselines = baseline_models(model.grid, model.dt, model.chunk_frames, getattr(model, "flow", None))
    history = max(method.history_frames for method in (model, baselines["warp_cv"]))
    history += -history % model.chunk_frames
    least = history + model.chunk_frames
    clock = _Clock(seconds)

    def taken(part: str, count: int | None = None) -> Iterator[ClipBatch]:
        progress(part)
        return clock.until(part, batches(clips[:count], batch, model.grid, device, least))

    def rolled(part: str, marks: Iterable[float], count: int | None = None, **options: Any) -> dict[str, Any]:
        tally = RolloutTally(model.grid, marks, model.chunk_frames, model.dt)
        for clip_batch in taken(part, count):
            tally.run(model, baselines if part == "rollout" else {}, clip_batch, history, **options)
        return tally.report(truth.sum(0))

    truth = _true_histograms(clips, model.grid, history)
    out: dict[str, Any] = next_chunk(model, baselines, taken("next_chunk"), history, starts)
    if (tokenizer := tokenizer_of(model)) is not None:
        progress("tokenizer")
        out["tokenizer"] = evaluate_tokenizer(tokenizer, clips, batch=batch, seconds=seconds and _TOKENIZER * seconds)
    out["horizons"] = rolled("rollout", horizons)
    if any("route" in clip for clip in clips):
        marks = [mark for mark in horizons if mark <= _NO_ROUTE_UNTIL] or [min(horizons)]
        out["without_route"] = rolled("no_route", marks, use_route=False)
    tallies: dict[str, MotionTally] = defaultdict(MotionTally)
    for index, clip_batch in enumerate(taken("motion")):
        motion_response(model, clip_batch, history, tallies, index * batch)
    out["motion"] = {name: tallies[name].report() for name in tallies}
    out["long"] = rolled("long", long, long_clips) if long and long_clips else {}
    out["histogram_distance_truth"] = number(metrics.histogram_distance(truth[0], truth[1])) if len(clips) > 1 else None
    return out


def baseline_models(grid: Grid, dt: float, chunk_frames: int, flow: AgentFlow | None = None) -> dict[str, WorldModel]:
    """The models to beat, by the names they have in results: copy, warp, warp_cv; and carry, where there is a trained flow."""
    learned: dict[str, WorldModel] = {} if flow is None else {"carry": CarryWorldModel(flow, dt)}
    return learned | {
        "copy": CopyWorldModel(grid, dt, chunk_frames),
        "warp": WarpWorldModel(grid, dt, chunk_frames),
        "warp_cv": ConstantVelocityWorldModel(grid, dt, chunk_frames),
    }


def tokenizer_of(model: WorldModel) -> ChunkTokenizer | None:
    """The tokenizer inside a world model, or None where it has none."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, ChunkTokenizer) else None


def next_chunk(
    model: WorldModel, baselines: dict[str, WorldModel], clips: Iterable[ClipBatch], history: int, starts: int
) -> dict[str, Any]:
    """Figures of the first chunk after the recorded history, all its frames together: over all cells, subsets and classes.

    Each clip is entered at `starts` moments, evenly spread; `history` frames are given and decide which cells are new.
    """
    scores, chunks, frames = Scores(model.grid), 0, model.chunk_frames
    tokenizer = tokenizer_of(model)
    for clip_batch in clips:
        last = (clip_batch.frames - history) // frames - 1
        for turn in sorted({round(last * i / max(starts - 1, 1)) for i in range(starts)}):
            first = history + turn * frames
            part = slice(first, first + frames)
            truth, motion = clip_batch.occupancy[:, part], clip_batch.motion[:, part]
            seeds = torch.arange(len(clip_batch), device=motion.device) + chunks
            route = clip_batch.route_at(first, frames)
            made = {}
            for name, method in {"model": model, **baselines}.items():
                voxels = method.advance(clip_batch.start(method, first, seeds), motion, route).voxels
                if voxels is not None:
                    made[name] = voxels.flatten(0, 1)
            changing = [made["model"], made["warp_cv"]]
            if tokenizer is not None:
                made["tokenizer"] = tokenizer.reconstruct(truth).flatten(0, 1)
            seen = seen_columns(clip_batch.motion[:, first - history : first], motion, model.grid).flatten(0, 1)
            carried = warp_chunk(clip_batch.occupancy[:, first - 1], motion, model.grid).flatten(0, 1)
            truth = truth.flatten(0, 1)
            scores.add(truth, made, subset_masks(truth, changing, carried, seen))
            chunks += len(clip_batch)
    out = {"chunks": chunks, "history_frames": history, **scores.subset("all")}
    out["subsets"] = {name: scores.subset(name) for name in scores.subsets if name != "all"}
    return out | {"per_class": scores.per_class()}


@torch.no_grad()
def evaluate_tokenizer(
    tokenizer: ChunkTokenizer, clips: Sequence[dict[str, Any]], *, batch: int = 4, seconds: float | None = None
) -> dict[str, Any]:
    """Reconstruction of the true chunks of clips: mIoU in both variants, IoU, per class, bits a frame, use of the codes.

    seconds: time budget, after which no further clip is taken.
    """
    device = next(p.device for p in tokenizer.parameters())
    size, frames = tokenizer.grid.num_classes, tokenizer.cfg.chunk_frames
    matrix, found = torch.zeros(size, size, dtype=torch.int64), []
    for clip in _within(seconds, clips):
        occupancy = clip["occupancy"]
        chunks = occupancy[: len(occupancy) // frames * frames].reshape(-1, frames, *tokenizer.grid.shape)
        for part in chunks.split(batch):
            codes, latents = tokenizer.snap(tokenizer.encode(part.to(device)))
            found.append(codes.cpu().reshape(-1, codes.shape[-1]))
            matrix += metrics.confusion(part, tokenizer.decode(latents).cpu(), size)
    use, perplexity = metrics.codebook_use(torch.cat(found), tokenizer.cfg.num_codes)
    return {
        "frames": int(matrix.sum()) // tokenizer.grid.shape[0] // tokenizer.grid.shape[1] // tokenizer.grid.shape[2],
        "miou": number(metrics.miou(matrix)),
        "miou_papers": number(metrics.miou_papers(matrix)),
        "iou": number(metrics.iou_occupied(matrix)),
        "bits_per_frame": tokenizer.bits_per_frame,
        "codebook_use": number(use),
        "perplexity": number(perplexity),
        "per_class": {
            name: value
            for name, iou in zip(tokenizer.grid.classes[:-1], metrics.class_iou(matrix).tolist(), strict=False)
            if (value := number(iou)) is not None
        },
    }


def _true_histograms(clips: Sequence[dict[str, Any]], grid: Grid, history: int) -> Tensor:
    """Class histograms (2, C) of the true frames after the history, of every other clip and of the rest."""
    sums = torch.zeros(2, grid.num_classes, dtype=torch.int64)
    for index, clip in enumerate(clips):
        sums[index % 2] += metrics.class_histogram(clip["occupancy"][history:], grid.num_classes).cpu()
    return sums


class _Clock:
    """Hands out batches until the time of a part is over, but one at least."""

    def __init__(self, seconds: float | None) -> None:
        self.begin, self.seconds = time.monotonic(), seconds

    def until(self, part: str, items: Iterable[Item]) -> Iterator[Item]:
        left = None if self.seconds is None else self.begin + _PARTS[part] * self.seconds - time.monotonic()
        return _within(left, items)


def _within(seconds: float | None, items: Iterable[Item]) -> Iterator[Item]:
    """Items until `seconds` are over, but one at least."""
    begin = time.monotonic()
    for index, item in enumerate(items):
        if index and seconds is not None and time.monotonic() - begin > seconds:
            return
        yield item
