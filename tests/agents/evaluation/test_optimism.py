"""What a world shows of paths that go wrong: worlds that show all of it, and one that shows nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from agents.evaluation.optimism import EVENTS, Case, Outcome, as_json, detections, run_cases
from models.interface import Chunk, Rollout
from models.warp import WarpWorldModel
from occworld_env.config import EnvConfig
from occworld_env.footprint import NO_CLASS
from occworld_env.loading import load_scene_list
from occworld_env.simulator import Simulator
from scenes.counterfactual import PathKind
from scenes.grid import CLASS_ID, DRIVABLE, MINI

torch.set_num_threads(1)


class Harmless(WarpWorldModel):
    """Dreams of nothing but road."""

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        chunk = super().advance(rollout, motion, route, decode=decode)
        assert chunk.voxels is not None
        chunk.voxels.fill_(MINI.free)
        chunk.voxels[..., MINI.ground_index] = DRIVABLE
        return chunk


def simulator(model: WarpWorldModel, folder: Path) -> Simulator:
    return Simulator(model, load_scene_list(folder), EnvConfig())


@pytest.fixture(scope="module")
def photograph(walled_folder: Path) -> Simulator:
    """A world that stands still shows all that happens in a scene that does."""
    return simulator(WarpWorldModel(MINI), walled_folder)


def test_a_still_world_is_shown_by_its_photograph(photograph: Simulator) -> None:
    cases = run_cases(photograph, 12, seed=0)
    found = detections(cases, photograph)["all"]
    assert found["collision"].true >= 3
    assert found["off-road"].true >= 1
    assert found["collision with what stands"].true == found["collision"].true
    assert found["collision"].recall.value == 1.0
    assert found["off-road"].recall.value >= 0.6  # but for a voxel more or less, since it is carried along by whole ones
    assert sum(case.truth == Outcome(NO_CLASS, False) for case in cases) == 6


def test_same_seed_same_cases(photograph: Simulator) -> None:
    assert run_cases(photograph, 2, seed=4) == run_cases(photograph, 2, seed=4)


def test_a_world_without_harm_is_found_out(walled_folder: Path) -> None:
    harmless = simulator(Harmless(MINI), walled_folder)
    found = detections(run_cases(harmless, 12, seed=0), harmless)["all"]
    assert found["collision"].true >= 3
    assert found["collision"].shown < found["collision"].true  # the first step still remembers the wall it was shown
    assert found["off-road"].shown == 0


class Measured(WarpWorldModel):
    """Takes note of its steps, and of what its matrix products would be computed in."""

    def __init__(self, *given: float) -> None:
        super().__init__(MINI, *given)
        self.precisions: set[torch.dtype] = set()
        self.steps = 0

    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        self.precisions.add((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
        return super().start(occupancy, motion, seeds)

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        self.steps += 1
        self.precisions.add((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
        return super().advance(rollout, motion, route, decode=decode)


@pytest.mark.parametrize(("precision", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_what_is_judged_is_computed_as_what_is_driven(walled_folder: Path, precision: str, expected: torch.dtype) -> None:
    model = Measured()
    judged = Simulator(model, load_scene_list(walled_folder), EnvConfig(), precision=precision)
    assert len(run_cases(judged, 2, seed=0)) == 2
    assert model.precisions == {expected}
    judged.reset(seed=0)
    judged.step(torch.zeros(1, 2))
    assert model.precisions == {expected}


def test_no_path_is_longer_than_the_recording_holds(walled_folder: Path) -> None:
    """A path has as many steps as fit into 2 s."""
    for dt, frames, steps in ((0.5, 4, 1), (0.25, 3, 2)):
        model = Measured(dt, frames)
        assert len(run_cases(simulator(model, walled_folder), 1, seed=0)) == 1
        assert model.steps == steps
    for frames, seconds in ((8, "4 s"), (5, "2.5 s")):
        with pytest.raises(ValueError, match=f"steps of 2 s or less, .* found {seconds}"):
            run_cases(simulator(WarpWorldModel(MINI, 0.5, frames), walled_folder), 2, seed=0)


def test_counts_by_hand(photograph: Simulator) -> None:
    car, foot, wall = (Outcome(CLASS_ID[name], False) for name in ("car", "pedestrian", "manmade"))
    none, off = Outcome(NO_CLASS, False), Outcome(NO_CLASS, True)
    pairs = [(car, car), (car, none), (foot, wall), (wall, none), (none, car), (off, off), (off, none)]
    kinds = [PathKind.HIT, PathKind.SWERVE, PathKind.HIT, PathKind.HIT, PathKind.BRAKE, PathKind.LEAVE_ROAD, PathKind.HIT]
    cases = [Case("s", "e", 0.0, kind, *pair) for kind, pair in zip(kinds, pairs, strict=True)]
    found = detections(cases, photograph)
    counts = {event: vars(found["all"][event]) for event in EVENTS}
    assert counts["collision"] == {"true": 4, "shown": 2, "imagined": 3, "true_shown": 2}
    assert counts["collision with a vehicle"] == {"true": 2, "shown": 1, "imagined": 2, "true_shown": 1}
    assert counts["collision with a pedestrian or cyclist"] == {"true": 1, "shown": 1, "imagined": 0, "true_shown": 0}
    assert counts["collision with what stands"] == {"true": 1, "shown": 0, "imagined": 1, "true_shown": 1}
    assert counts["off-road"] == {"true": 2, "shown": 1, "imagined": 1, "true_shown": 1}
    assert vars(found["hit"]["collision"]) == {"true": 3, "shown": 2, "imagined": 2, "true_shown": 2}
    told = as_json(found)
    assert told["all"]["collision"]["recall"][0] == 0.5
    assert told["all"]["collision with a pedestrian or cyclist"]["precision"] is None
    assert told["brake"] == {
        event: {
            "true": 0,
            "shown": 0,
            "imagined": 1,
            "true_shown": 0,
            "recall": None,
            "precision": told["brake"][event]["precision"],
        }
        for event in ("collision", "collision with a vehicle")
    }
