"""Evaluation of world models: subsets, what the figures must be for models whose quality is known, and their plain form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.baselines import ConstantVelocityWorldModel, CopyWorldModel
from models.evaluation import baseline_models, evaluate_tokenizer, evaluate_world_model
from models.evaluation_cells import moved_cells, seen_columns, subset_masks
from models.evaluation_clips import batches, scene_clips
from models.evaluation_motion import MotionTally, commands
from models.interface import Chunk, Rollout
from models.tokenizer import ChunkTokenizer, TokenizerConfig
from models.warp import UNKNOWN, WarpWorldModel, warp
from scenes.grid import CLASS_ID, FREE, MINI
from scenes.scene import Scene

CAR = CLASS_ID["car"]


class Oracle(CopyWorldModel):
    """Knows the future of one clip: what a perfect world model is measured as."""

    def __init__(self, clip: dict[str, Any]) -> None:
        super().__init__(MINI)
        self.clip, self.history_frames = clip, 6

    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        rollout = super().start(occupancy, motion, seeds)
        same = (self.clip["occupancy"] == occupancy[0, -1]).flatten(1).all(1)
        rollout["frame"] = torch.full((len(occupancy),), int(same.nonzero()[0, 0]))
        return rollout

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        frame = int(rollout["frame"][0])
        rollout["frame"] += 2
        if torch.equal(motion[0], self.clip["motion"][frame + 1 : frame + 3]):
            return Chunk(None, self.clip["occupancy"][None, frame + 1 : frame + 3].clone())
        return Chunk(None, self.clip["truth"](frame, motion[0]).unsqueeze(0))


@pytest.fixture(scope="module")
def clips(town: Callable[..., Scene]) -> list[dict[str, Any]]:
    return scene_clips([town(seed) for seed in range(2)], MINI, count=2, frames=16, chunk_frames=2)


@pytest.fixture(scope="module")
def warp_report(clips: list[dict[str, Any]]) -> dict[str, Any]:
    return evaluate_world_model(WarpWorldModel(MINI), clips, starts=2, horizons=(0.5, 2.0), long=(3.0, 6.0), long_clips=1)


def test_clips_come_from_each_scene_in_turn_and_render_the_truth(clips: list[dict[str, Any]]) -> None:
    assert [clip["source"] for clip in clips] == ["town/0", "town/1"]
    clip = clips[0]
    assert clip["occupancy"].shape == (16, *MINI.shape)
    assert clip["route"].shape == (8, 2, 96, 96)
    again = clip["truth"](5, clip["motion"][6:8])
    assert float((again == clip["occupancy"][6:8]).float().mean()) > 0.9999
    with pytest.raises(ValueError, match="expected at least one of 17 frames"):
        list(batches(clips, 2, MINI, "cpu", 17))


def test_seen_columns_are_those_a_history_frame_covered() -> None:
    history = torch.zeros(1, 3, 3)
    motion = torch.tensor([[[8.0, 0.0, 0.0], [8.0, 0.0, 0.0]]])
    seen = seen_columns(history, motion, MINI)[0]
    assert bool(seen[0, :86].all())
    assert not bool(seen[0, 86:].any())
    assert int(seen[1].sum()) == 76 * 96
    back = seen_columns(motion, -motion, MINI)  # back to where the ego came from: all seen before
    assert bool(back[:, 0].all())


def test_moved_cells_are_where_agents_moved_and_rounding_is_not() -> None:
    before = torch.full((1, *MINI.shape), FREE, dtype=torch.uint8)
    after = before.clone()
    before[0, 20:26, 40:42, 1] = CAR
    after[0, 24:30, 40:42, 1] = CAR  # a car drove four columns
    before[0, 60:66, 50:52, 1] = CAR
    after[0, 61:67, 50:52, 1] = CAR  # a parked car, rounded otherwise
    after[0, 80, 80, 1] = CLASS_ID["vegetation"]  # not an agent
    moved = moved_cells(after, before)
    assert sorted(set(moved.nonzero()[:, 1].tolist())) == [20, 21, 22, 23, 26, 27, 28, 29]
    unseen = torch.where(before == CAR, UNKNOWN, before)
    assert not bool(moved_cells(before, unseen).any())


def test_subsets_divide_all_cells(clips: list[dict[str, Any]]) -> None:
    occupancy, motion = clips[0]["occupancy"][6:8], clips[0]["motion"][None, 6:7]
    carried = warp(occupancy[:1], clips[0]["motion"][7:8], MINI)
    seen = seen_columns(clips[0]["motion"][None, :6], motion, MINI)[0]
    masks = subset_masks(occupancy[1:], [occupancy[:1]], carried, seen)
    assert int(masks["agents_truth"].sum()) > 0
    assert torch.equal(
        masks["seen_static"].int() + masks["new"].int() + masks["agents"].int(), torch.ones_like(masks["all"].int())
    )
    assert not bool((masks["agents_truth"] & ~masks["agents"]).any())


def test_a_baseline_is_measured_equal_to_itself(warp_report: dict[str, Any]) -> None:
    assert warp_report["miou"] == warp_report["miou_warp"] > warp_report["miou_copy"]
    assert warp_report["miou_warp_cv"] > warp_report["miou"]
    for name, subset in warp_report["subsets"].items():
        assert subset["accuracy"] == subset["accuracy_warp"], name
    assert warp_report["subsets"]["new"]["iou"] == 0
    assert warp_report["subsets"]["agents_truth"]["miou_of_agents"] < 0.1
    assert "miou_tokenizer" not in warp_report
    assert warp_report["per_class"]["car"]["iou"] == warp_report["per_class"]["car"]["iou_warp"]


def test_rollouts_lose_the_truth_with_time_and_end_without_one(warp_report: dict[str, Any]) -> None:
    horizons, long = warp_report["horizons"], warp_report["long"]
    assert horizons["0.5"]["miou"] > horizons["2"]["miou"] > 0
    assert "miou" not in long["6"]
    assert long["6"]["occupied"] < long["3"]["occupied"]
    assert 0 < long["3"]["histogram_distance"] < 1
    flicker, truth = horizons["2"]["flicker"], horizons["2"]["flicker_truth"]
    assert flicker["at_border"] < 0.5
    assert truth["at_border"] == pytest.approx(truth["within_chunk"], abs=0.1)
    assert "flicker_truth" not in long["6"]


def test_a_warped_world_moves_as_commanded(warp_report: dict[str, Any]) -> None:
    assert set(warp_report["motion"]) == {"recorded", "swapped", "turn_left", "turn_right"}
    for name, report in warp_report["motion"].items():
        for who in ("model", "truth"):
            assert report[who]["failed"] == 0
            assert report[who]["translation_m"]["median"] < 0.25, name
            assert report[who]["yaw_deg"]["median"] < 0.5, name
    route = warp_report["horizons"]["2"]["route_drivable"]
    assert route["model_new_cells"] == 0
    assert route["truth"] > 0.9 > route["model"] > 0.5


def test_an_oracle_is_perfect_and_a_frozen_world_is_found_out(clips: list[dict[str, Any]]) -> None:
    oracle = evaluate_world_model(Oracle(clips[0]), clips[:1], starts=2, horizons=(1.0,), long=(1.0,))
    assert oracle["miou"] == oracle["accuracy"] == oracle["horizons"]["1"]["miou"] == 1
    assert oracle["subsets"]["agents"]["miou"] == 1 > oracle["subsets"]["agents"]["miou_warp"]
    assert oracle["motion"]["turn_left"]["model"] == oracle["motion"]["turn_left"]["truth"]
    frozen = MotionTally()
    batch = next(batches(clips, 2, MINI, "cpu", 16))
    turn = commands(batch, 6, 2, 0.25)["turn_left"]
    frozen.add("model", batch.occupancy[:, 5], batch.occupancy[:, 5], turn.sum(1), MINI)
    assert frozen.report()["model"]["translation_m"]["median"] > 1
    assert frozen.report()["model"]["yaw_deg"]["median"] > 5


def test_a_report_is_plain_json_and_a_budget_still_measures_everything(clips: list[dict[str, Any]]) -> None:
    parts: list[str] = []
    report = evaluate_world_model(
        ConstantVelocityWorldModel(MINI),
        clips,
        batch=1,
        starts=1,
        horizons=(0.5,),
        long=(1.0,),
        seconds=0.01,
        progress=parts.append,
    )
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["chunks"] == 1
    assert parts == ["next_chunk", "rollout", "no_route", "motion", "long"]
    assert set(baseline_models(MINI, 0.25, 2)) == {"copy", "warp", "warp_cv"}


def test_tokenizer_figures(clips: list[dict[str, Any]]) -> None:
    tokenizer = ChunkTokenizer(MINI, TokenizerConfig(class_dim=4, widths=(8, 8, 8))).eval()
    report = evaluate_tokenizer(tokenizer, [{"occupancy": clips[0]["occupancy"][:5]}])
    assert report["frames"] == 4
    assert report["bits_per_frame"] == tokenizer.bits_per_frame
    assert 0 <= report["miou"] < report["miou_papers"] < 1
    assert 1 <= report["perplexity"] <= tokenizer.cfg.num_codes
    assert 0 < report["codebook_use"] <= 1


def test_motion_quantiles_count_failures_as_infinite() -> None:
    tally = MotionTally()
    errors = torch.arange(1.0, 11.0).double()
    tally._errors["model"].append(torch.stack((errors, errors), dim=-1))
    report = tally.report()["model"]
    assert report["translation_m"] == {"median": 5.5, "p90": 9.0}
    tally._errors["model"].append(torch.full((2, 2), torch.nan, dtype=torch.float64))
    report = tally.report()["model"]
    assert report["failed"] == 2
    assert report["yaw_deg"] == {"median": 6.5, "p90": None}
