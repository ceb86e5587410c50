"""`occsora train-agent` leaves a policy that plain stable-baselines3 loads, checkpoints, logs and a learning curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import pytest
from rich.console import Console
from stable_baselines3 import PPO, SAC
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from occsora import train_agent
from occsora.learning_curve import Episode, curve, plot, show, sparkline
from occsora.train_agent import TrainAgent


def small(scenes: Path, out: Path, **changed: Any) -> TrainAgent:
    """A training of 64 steps of two worlds in the rigid baseline, evaluated on the same street."""
    told: dict[str, Any] = {"steps": 64, "num_envs": 2, "scenes": scenes, "held_out": scenes, "model": "warp", "out": out}
    told |= {"checkpoint_every": 32, "evaluate_every": 32, "evaluation_episodes": 2, "final_episodes": 0}
    return TrainAgent(**told | changed)


def scalars(out: Path, run: str) -> dict[str, list[int]]:
    """Steps at which TensorBoard has each value."""
    log = EventAccumulator(str(out / run))
    log.Reload()
    return {name: [item.step for item in log.Scalars(name)] for name in log.Tags()["scalars"]}


def test_training_leaves_a_policy_and_a_curve(scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "agent"
    train_agent.run(small(scene_folder, out, final_episodes=2))
    printed = capsys.readouterr().out
    assert "policy:" in printed
    assert "dream: 2 episodes a planner" in printed
    told = json.loads((out / "evaluation_ppo_64_steps" / "evaluation.json").read_text(encoding="utf-8"))
    assert set(told["worlds"]["dream"]) == {f"ppo:{out / 'ppo.zip'}", "cv", "stop", "random"}
    assert imageio.imread(out / "learning_curve.png").ndim == 3
    assert {path.stem for path in (out / "checkpoints").glob("*.zip")} == {"ppo_32_steps", "ppo_64_steps"}
    assert scalars(out, "ppo_1")["eval/mean_reward"] == [0, 32, 64]
    env = gymnasium.make("OccSora-v0", scenes=scene_folder, world_model=train_agent.find_model("warp"))
    for name in ("ppo.zip", "best.zip"):
        agent = PPO.load(out / name, device="cpu")
        observation, _ = env.reset(seed=0)
        action, _ = agent.predict(observation, deterministic=True)
        assert env.action_space.contains(action)
        env.step(action)


@pytest.mark.parametrize(("algo", "kind", "half"), [("ppo", PPO, 32), ("sac", SAC, 8)])
def test_a_resumed_training_goes_on(scene_folder: Path, tmp_path: Path, algo: Any, kind: Any, half: int) -> None:
    """Two halves count the steps of one whole, in the counter and in TensorBoard."""
    told: dict[str, Any] = {"algo": algo, "checkpoint_every": half, "evaluate_every": half}
    train_agent.run(small(scene_folder, tmp_path / "whole", steps=2 * half, **told))
    train_agent.run(small(scene_folder, tmp_path / "halves", steps=half, **told))
    going_on = small(scene_folder, tmp_path / "halves", steps=2 * half, resume=True, **told)
    train_agent.run(going_on)
    train_agent.run(going_on)  # there is nothing left to do
    whole, halves = (kind.load(tmp_path / name / f"{algo}.zip", device="cpu") for name in ("whole", "halves"))
    assert whole.num_timesteps == halves.num_timesteps == 2 * half
    assert scalars(tmp_path / "halves", f"{algo}_1")["eval/mean_reward"] == [0, half, 2 * half]
    with pytest.raises(ValueError, match="--resume goes on"):
        train_agent.run(small(scene_folder, tmp_path / "halves", **told))
    with pytest.raises(ValueError, match="num_envs 3, found 2"):
        train_agent.run(small(scene_folder, tmp_path / "halves", num_envs=3, resume=True, steps=3 * half, **told))


def test_scenes_are_read_when_they_are_driven(half_broken_folder: Path, tmp_path: Path) -> None:
    worlds = train_agent.make_worlds(small(half_broken_folder, tmp_path), 2, half_broken_folder)
    batch = worlds.unwrapped.env
    batch.reset(options={"scene": "open"})
    with pytest.raises(ValueError, match=r"broken\.scene"):
        batch.reset(options={"scene": "broken"})
    worlds.close()


def test_resume_without_a_checkpoint_says_so(scene_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--resume"):
        train_agent.run(small(scene_folder, tmp_path, resume=True))


def test_meta_actions_in_the_reference_world(scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_agent.run(small(scene_folder, tmp_path, world="reference", action="discrete", final_episodes=2))
    assert "ppo:" in capsys.readouterr().out  # the closing table: a policy is driven by the actions that it knows
    assert PPO.load(tmp_path / "best.zip", device="cpu").action_space.n == 5


def test_a_training_begins_with_what_it_is_given(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Imitation in the reference world alone, then PPO in the dream from that policy; a rate of zero leaves it as it is."""
    told: dict[str, Any] = {"imitate": "pure-pursuit", "imitate_steps": 24, "imitate_rounds": 3, "imitate_world": "reference"}
    train_agent.run(small(scene_folder, tmp_path / "shown", steps=0, **told))
    printed = capsys.readouterr().out
    assert "round 1: pure-pursuit drove 8 steps" in printed
    assert "round 3: the policy drove 8 steps" in printed
    start = tmp_path / "shown" / "imitated.zip"
    train_agent.run(small(scene_folder, tmp_path / "still", policy=start, learning_rate=0.0, exploration=0.1))
    before, after = (PPO.load(path, device="cpu").policy.state_dict() for path in (start, tmp_path / "still" / "ppo.zip"))
    assert before.keys() == after.keys()
    assert after.pop("log_std").exp().tolist() == pytest.approx([0.1, 0.1])
    assert all(bool((before[name] == after[name]).all()) for name in after)
    with pytest.raises(ValueError, match=r"imitated.zip: the policy is not of the shape"):
        train_agent.run(small(scene_folder, tmp_path / "other", policy=start, action="discrete"))
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"bad.zip: expected a policy"):
        train_agent.run(small(scene_folder, tmp_path / "other", policy=tmp_path / "bad.zip"))
    with pytest.raises(ValueError, match="--policy, --imitate"):
        train_agent.run(small(scene_folder, tmp_path / "other", policy=start, **told))


def test_curve_averages_stretches_of_the_training() -> None:
    episodes = [Episode(step, float(step >= 50), 10) for step in range(1, 101)]
    halves = curve(episodes, 2)
    assert [(part.step, part.count) for part in halves] == [(50, 50), (100, 50)]
    assert halves[0].total == pytest.approx(0.02)
    assert halves[1].total == 1.0
    assert curve([], 4) == []
    assert [part.count for part in curve([Episode(1, 0.0, 1), Episode(100, 0.0, 1)], 10)] == [1, 1]


def test_sparkline_spans_its_values() -> None:
    assert sparkline([0.0, 1.0]) == "▁█"
    assert sparkline([3.0, 3.0]) == "▁▁"


def test_a_training_without_episodes_says_so(tmp_path: Path) -> None:
    console = Console(record=True, width=100)
    show([], "PPO", console)
    assert "no learning curve" in console.export_text()
    assert plot([], "PPO", tmp_path / "curve.png").stat().st_size > 0


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--action: SAC"):
        train_agent.run(TrainAgent(algo="sac", action="discrete", out=tmp_path))
    with pytest.raises(ValueError, match="--penalty: expected 0 or more, found nan"):
        train_agent.run(TrainAgent(penalty=float("nan"), out=tmp_path))
    with pytest.raises(ValueError, match="--exploration: expected a number above 0"):
        train_agent.run(TrainAgent(algo="sac", exploration=0.1, out=tmp_path))
    with pytest.raises(ValueError, match="--steps"):
        train_agent.run(TrainAgent(steps=0, out=tmp_path))
