"""`occsora train-agent` leaves a policy that plain stable-baselines3 loads, checkpoints, logs and a learning curve."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import imageio.v2 as imageio
import pytest
from rich.console import Console
from stable_baselines3 import PPO

from occsora import train_agent
from occsora.driving import find_scenes
from occsora.learning_curve import Episode, curve, plot, show, sparkline
from occsora.train_agent import TrainAgent


def test_training_leaves_a_policy_and_a_curve(scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "agent"
    train_agent.run(TrainAgent(steps=64, num_envs=2, scenes=scene_folder, model="warp", out=out, checkpoint_every=32))
    assert "policy:" in capsys.readouterr().out
    assert imageio.imread(out / "learning_curve.png").ndim == 3
    assert len(list((out / "checkpoints").glob("ppo_*_steps.zip"))) == 2
    assert list(out.glob("ppo_1/events.out.tfevents.*"))
    agent = PPO.load(out / "ppo.zip", device="cpu")
    env = gymnasium.make("OccSora-v0", scenes=find_scenes(scene_folder), world_model=train_agent.find_model("warp"))
    observation, _ = env.reset(seed=0)
    action, _ = agent.predict(observation, deterministic=True)
    assert env.action_space.contains(action)
    env.step(action)


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
    with pytest.raises(ValueError, match="--steps"):
        train_agent.run(TrainAgent(steps=0, out=tmp_path))
