"""`occsora evaluate`: drives, ranks, writes, goes on where it was, and says what is wrong with what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.evaluation import runner, worlds
from agents.evaluation.episode import StartState
from agents.evaluation.worlds import WorldSettings, open_world
from agents.planner import Interface
from models.warp import WarpWorldModel
from occsora import evaluate
from occsora.__main__ import main
from occsora.evaluate import Evaluate
from scenes.grid import NEAR


def words(folder: Path, out: Path, *more: str) -> list[str]:
    """A small evaluation: two planners, two episodes of five seconds in the rigid world."""
    given = ["evaluate", "--planners", "cv", "idm", "--worlds", "warp", "--episodes", "2", "--max-seconds", "5"]
    return [*given, "--films", "1", "--counterfactuals", "0", "--scenes", str(folder), "--out", str(out), *more]


def found(out: Path) -> dict[str, Any]:
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))


def test_it_ranks_and_writes(walled_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wall closes the road within 5 s: who does not brake runs into it."""
    assert main(words(walled_folder, tmp_path, "--counterfactuals", "4")) == 0
    printed = capsys.readouterr().out
    assert "warp: 2 episodes a planner" in printed
    assert "report.html" in printed
    told = found(tmp_path)
    assert list(told["worlds"]["warp"]) == ["idm", "cv"]
    constant, follower = (told["worlds"]["warp"][name] for name in ("cv", "idm"))
    assert constant["terms"]["score"]["value"] == 0.0
    assert constant["collisions"] == {"manmade": {"any": 2, "at fault": 2}}
    assert follower["terms"]["score"]["value"] > 0.0
    assert [item["start"] for item in constant["episodes"]] == [item["start"] for item in follower["episodes"]]
    assert set(told["counterfactuals"]) >= {"all", "hit"}
    assert told["settings"]["seed"] == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "hit: manmade" in page
    assert page.count("data:video/mp4;base64,") == 1
    assert len(list(tmp_path.glob("episodes/warp/*/*.npz"))) == 4


def test_it_goes_on_where_it_was(scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(words(scene_folder, tmp_path)) == 0
    before, driven = found(tmp_path), []
    drive = runner.drive
    monkeypatch.setattr(runner, "drive", lambda job: driven.append(job) or drive(job))
    assert main(words(scene_folder, tmp_path)) == 0
    assert (driven, found(tmp_path)) == ([], before)
    assert main(words(scene_folder, tmp_path, "--episodes", "3")) == 0
    assert [(job.planner, job.place.number) for job in driven] == [("cv", 2), ("idm", 2)]
    assert found(tmp_path)["worlds"]["warp"]["cv"]["episodes"][:2] == before["worlds"]["warp"]["cv"]["episodes"]


def test_planners_are_called_what_they_are_named(scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name in the tables is no other planner: nothing is driven again."""
    assert main(words(scene_folder, tmp_path)) == 0
    before = found(tmp_path)["worlds"]["warp"]
    monkeypatch.setattr(runner, "drive", lambda job: pytest.fail(f"drives {job} again"))
    assert main([*words(scene_folder, tmp_path), "--planners", "straight on=cv", "idm"]) == 0
    again = found(tmp_path)["worlds"]["warp"]
    assert set(again) == {"straight on", "idm"}
    assert again["straight on"] == before["cv"]


def test_two_worlds_are_compared(walled_folder: Path, tmp_path: Path) -> None:
    """A world compared with its equal agrees with it."""
    assert main([*words(walled_folder, tmp_path, "--model", "warp"), "--worlds", "dream", "warp"]) == 0
    told = found(tmp_path)
    for name in ("cv", "idm"):
        assert told["worlds"]["dream"][name]["terms"] == told["worlds"]["warp"][name]["terms"]
    assert told["agreement"]["dream against warp"]["all planners"]["tau"]["value"] == 1.0
    assert "Dream against warp" in (tmp_path / "report.html").read_text(encoding="utf-8")


READER = """
from agents.planner import Interface

class Reader:
    interface = Interface("tokens", "control")

    def reset(self):
        pass

    def act(self, observation, info):
        assert observation["tokens"].any()
        return 0 * observation["vector"][:2]
"""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A planner of one's own that sees tokens."""
    (tmp_path / "reader.py").write_text(READER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "reader:Reader"


def test_tokens_are_seen_in_the_reference_world_too(reader: str, scene_folder: Path, tmp_path: Path) -> None:
    """Under the model that drives the dream where none is named."""
    given = words(scene_folder, tmp_path / "out", "--episodes", "1", "--max-seconds", "0.5")
    assert main([*given, "--planners", reader, "--worlds", "dream", "reference"]) == 0
    assert set(found(tmp_path / "out")["worlds"]) == {"dream", "reference"}
    seen = []
    for world in ("dream", "reference"):
        env = open_world(world, WorldSettings(str(scene_folder)), Interface("tokens", "control"))
        seen.append(env.reset(seed=0, options={"scene": "open", "ego": 0, "start": 2.0})[0]["tokens"])
    assert np.array_equal(*seen)


def test_who_cannot_drive_in_a_world_is_named_before_anyone_drives(
    reader: str, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(scene_folder, tmp_path), "--planners", reader, "--worlds", "dream", "warp"]) == 2
    assert "--planners: reader:Reader in warp: observation: 'tokens' needs a world model" in capsys.readouterr().err
    assert not (tmp_path / "episodes").exists()


def test_counterfactuals_need_short_steps(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a world whose steps last 4 s there are none, and whoever asks for some is told before anyone drives."""
    monkeypatch.setattr(worlds, "load_world_model", lambda *given: WarpWorldModel(NEAR, 0.5, 8))
    given = words(scene_folder, tmp_path, "--model", "slow")
    assert main([*given, "--counterfactuals", "5"]) == 2
    assert "--counterfactuals: expected a world with steps of 2 s or less" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    place = given.index("--counterfactuals")
    assert main(given[:place] + given[place + 2 :]) == 0
    assert "no counterfactuals: expected a world with steps of 2 s or less" in capsys.readouterr().out.replace("\n", " ")
    told = found(tmp_path)
    assert (told["counterfactuals"], told["settings"]["counterfactuals"]) == ({}, 0)


def test_what_was_driven_is_written_before_the_counterfactuals(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        raise ValueError("no such luck")

    monkeypatch.setattr(evaluate.optimism, "run_cases", fails)
    assert main([*words(scene_folder, tmp_path), "--counterfactuals", "5"]) == 2
    assert set(found(tmp_path)["worlds"]["warp"]) == {"cv", "idm"}


def test_scenes_of_one_name_are_refused(scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Starts are told by the names of their scenes: the second scene would never be driven."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.scene").symlink_to(next(scene_folder.iterdir()))
    assert main(words(tmp_path, tmp_path / "out")) == 2
    assert "scenes: expected different names, found 'open'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_recorded_scenes_are_evaluated(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    folder.mkdir()
    recording = sorted((shared_data / "nuscenes_mini").glob("*.pkl"))[0]
    (folder / recording.name).symlink_to(recording)
    assert main(words(folder, tmp_path / "out")) == 0
    episodes = found(tmp_path / "out")["worlds"]["warp"]["idm"]["episodes"]
    assert len({item["start"] for item in episodes}) == 2
    assert {item["scene"] for item in episodes} != {""}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--worlds", "moon"], "--worlds: expected some of dream, reference, warp, found 'moon'"),
        (["--planners", "cv", "cv"], "--planners: expected one or more different ones, found cv cv"),
        (["--planners", "cv", "slow=cv"], "--planners: expected different ones, found slow = cv beside cv slow=cv"),
        (["--planners", "fast=idm", "fast=cv"], "--planners: expected different ones, found fast = cv beside"),
        (["--episodes", "0"], "--episodes: expected 1 or more, found 0"),
        (["--max-seconds", "-1"], "--max-seconds: expected a positive number, found -1"),
        (["--scenes", "nowhere"], "--scenes: nowhere does not exist"),
        (["--planners", "telepathy"], "--planners: telepathy in warp: planner: expected"),
        (["--seed", "1"], "holds episodes of another evaluation, other in seed"),
    ],
)
def test_what_is_wrong_is_said(
    more: list[str], said: str, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.plan(Evaluate(worlds=("warp",), episodes=1, max_seconds=5.0, scenes=scene_folder, out=tmp_path))
    assert main([*words(scene_folder, tmp_path), *more]) == 2
    assert said in capsys.readouterr().err


def test_missing_sumo_is_said_before_anyone_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(dynamics: str) -> None:
        simulator = SimpleNamespace(scenes=[SimpleNamespace(name="town")], dynamics_of=lambda scene: dynamics)
        starts = [StartState(0, "town", "sedan.0", 2.0, 5.0, 1)]
        evaluate._check_sumo([SimpleNamespace(simulator=SimpleNamespace()), SimpleNamespace(simulator=simulator)], starts)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate.importlib.util, "find_spec", lambda name: None)
        begin("replay")
        with pytest.raises(ImportError, match="--worlds: reference is live SUMO"):
            begin("sumo")
