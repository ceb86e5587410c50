"""Rollouts beside the truth: scores at given moments, drift of the classes, flicker, motion and route."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models import metrics
from models.evaluation_cells import Scores, number, seen_columns, subset_masks
from models.evaluation_clips import ClipBatch
from models.evaluation_motion import MotionTally
from models.interface import WorldModel
from models.warp import warp
from scenes.grid import DRIVABLE, Grid
from scenes.motion import accumulate


@dataclass(frozen=True)
class Step:
    """One chunk of a rollout, by method ("model", the baselines, and "truth" as far as it goes).

    Attributes:
        done: frames of the rollout when the chunk is over.
        before: the frame before the chunk, uint8 (B, X, Y, Z).
        chunk: the new frames, uint8 (B, F, X, Y, Z).
        line: all motion since the history, (B, done, 3).
        route: route raster at the chunk's end, uint8 (B, 2, X, Y), or None.
    """

    done: int
    before: dict[str, Tensor]
    chunk: dict[str, Tensor]
    line: Tensor
    route: Tensor | None

    @property
    def motion(self) -> Tensor:
        """Motion (B, F, 3) into the new frames."""
        return self.line[:, -self.chunk["model"].shape[1] :]


def roll_out(
    methods: dict[str, WorldModel], clips: ClipBatch, history: int, ends: Iterable[int], seed: int, *, use_route: bool
) -> Iterator[Step]:
    """Roll B worlds out, given `history` frames, until the largest of `ends` (frames, multiples of a chunk).

    `methods` holds the "model" and baselines, which are decoded at the frames of `ends` alone. Beyond the end of the clips the
    recorded motion is driven again from its beginning, by the model alone, without a route and without a truth.
    """
    ends, model = set(ends), methods["model"]
    frames = model.chunk_frames
    seeds = torch.arange(len(clips), device=clips.motion.device) + seed
    states = {name: clips.start(method, history, seeds) for name, method in methods.items()}
    before = dict.fromkeys(("model", "truth"), clips.occupancy[:, history - 1])
    line: list[Tensor] = []
    for done in range(frames, max(ends) + 1, frames):
        first = history + done - frames
        known = first + frames <= clips.frames
        line.append(clips.motion_after(history, done - frames, frames))
        route = clips.route_at(first, frames) if known else None
        chunk = {}
        for name, method in methods.items():
            if name == "model" or known:
                wanted = name == "model" or done in ends
                voxels = method.advance(states[name], line[-1], route if use_route else None, decode=wanted).voxels
                if voxels is not None:
                    chunk[name] = voxels
        if known:
            chunk["truth"] = clips.occupancy[:, first : first + frames]
        yield Step(done, before, chunk, torch.cat(line, dim=1), route)
        before = {name: chunk[name][:, -1] for name in ("model", "truth") if name in chunk}


class RolloutTally:
    """What is summed over rollouts at each of the moments `marks`, in seconds after the history.

    Flicker is counted over all steps since the mark before; all else in the last frame, or the last chunk, at the mark.
    """

    def __init__(self, grid: Grid, marks: Iterable[float], chunk_frames: int, dt: float) -> None:
        self.grid = grid
        self.ends = {max(round(mark / dt / chunk_frames), 1) * chunk_frames: mark for mark in sorted(marks)}
        marks = tuple(self.ends.values())
        self.scores = {mark: Scores(grid) for mark in marks}
        self.motion = {mark: MotionTally() for mark in marks}
        self.histogram = {mark: torch.zeros(grid.num_classes, dtype=torch.int64) for mark in marks}
        self.flicker = {mark: torch.zeros(2, 2, 2, dtype=torch.int64) for mark in marks}  # of the model, of the truth
        self.route: dict[float, dict[str, Tensor]] = {mark: defaultdict(lambda: torch.zeros(2).long()) for mark in marks}
        self.worlds = 0

    def run(
        self, model: WorldModel, baselines: dict[str, WorldModel], clips: ClipBatch, history: int, *, use_route: bool = True
    ) -> None:
        """Roll out a batch of clips and count it."""
        methods = {"model": model, **baselines}
        for step in roll_out(methods, clips, history, self.ends, self.worlds, use_route=use_route):
            self._count_flicker(step)
            if step.done in self.ends:
                self._count_frame(step, clips, history)
                self._count_motion(step)
                self._count_route(step, clips.motion[:, :history])
        self.worlds += len(clips)

    def report(self, reference: Tensor) -> dict[str, Any]:
        """By mark: scores, drift against the class histogram `reference` (C,), flicker, motion and route, where known."""
        return {f"{mark:g}": self._at(mark, reference) for mark in self.ends.values()}

    def _count_flicker(self, step: Step) -> None:
        mark = next(mark for end, mark in self.ends.items() if end >= step.done)
        for row, name in enumerate(("model", "truth")):
            if name in step.chunk and name in step.before:
                run = torch.cat((step.before[name].unsqueeze(1), step.chunk[name]), dim=1)
                self.flicker[mark][row] += metrics.flicker_counts(run, step.motion, self.grid, step.motion.shape[1]).cpu()

    def _count_frame(self, step: Step, clips: ClipBatch, history: int) -> None:
        mark = self.ends[step.done]
        last = {name: voxels[:, -1] for name, voxels in step.chunk.items()}
        self.histogram[mark] += metrics.class_histogram(last["model"], self.grid.num_classes).cpu()
        truth = last.pop("truth", None)
        if truth is None:
            return
        carried = warp(clips.occupancy[:, history - 1], accumulate(step.line)[:, -1], self.grid)
        seen = seen_columns(clips.motion[:, :history], step.line, self.grid)[:, -1]
        changing = [last[name] for name in ("model", "warp_cv") if name in last]
        self.scores[mark].add(truth, last, subset_masks(truth, changing, carried, seen))

    def _count_motion(self, step: Step) -> None:
        pose = accumulate(step.motion)[:, -1]
        for name in ("model", "truth"):
            if name in step.chunk and name in step.before:
                self.motion[self.ends[step.done]].add(name, step.before[name], step.chunk[name][:, -1], pose, self.grid)

    def _count_route(self, step: Step, history: Tensor) -> None:
        if step.route is None:
            return
        corridor = step.route[:, 0] > 0
        new = corridor & ~seen_columns(history, step.line, self.grid)[:, -1]
        for name in ("model", "truth"):
            if name in step.chunk:
                drivable = step.chunk[name][:, -1, :, :, self.grid.ground_index] == DRIVABLE
                for key, cells in ((name, corridor), (f"{name}_new_cells", new)):
                    self.route[self.ends[step.done]][key] += torch.stack(((drivable & cells).sum(), cells.sum())).cpu()

    def _at(self, mark: float, reference: Tensor) -> dict[str, Any]:
        out: dict[str, Any] = {"worlds": self.worlds}
        scores, histogram = self.scores[mark], self.histogram[mark]
        if scores.subsets:
            out |= scores.subset("all") | {"subsets": {name: scores.subset(name) for name in scores.subsets if name != "all"}}
        occupied = int(histogram[:-1].sum())
        out["histogram_distance"] = number(metrics.histogram_distance(histogram, reference))
        out["occupied"] = _share(occupied, int(histogram.sum()))
        out["class_share"] = {name: _share(int(histogram[i]), occupied) for i, name in enumerate(self.grid.classes[:-1])}
        for who, counts in zip(("flicker", "flicker_truth"), self.flicker[mark].tolist(), strict=True):
            if counts[1][1]:
                out[who] = {"within_chunk": _share(*counts[0]), "at_border": _share(*counts[1])}
        if self.motion[mark].counted:
            out["motion"] = self.motion[mark].report()
        if self.route[mark]:
            out["route_drivable"] = {name: _share(*counts.tolist()) for name, counts in self.route[mark].items()}
        return out


def _share(part: int, whole: int) -> float | None:
    return number(part / whole) if whole else None
