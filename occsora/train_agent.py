"""Train a driver by reinforcement learning in the world model: PPO or SAC of stable-baselines3 on a batch of worlds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium
from gymnasium.vector import VectorEnv
from rich.console import Console
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback
from stable_baselines3.common.vec_env import VecMonitor

from agents.features import OccSoraFeatures
from agents.sb3 import Sb3VecEnv
from occsora.driving import find_model, find_scenes
from occsora.learning_curve import Episode, plot, show


@dataclass(frozen=True)
class TrainAgent:
    """Settings of the training."""

    algo: Literal["ppo", "sac"] = "ppo"
    """Algorithm of stable-baselines3."""
    steps: int = 4096
    """Environment steps in all worlds together."""
    num_envs: int = 4
    """Worlds that are driven side by side."""
    observation: Literal["bev", "tokens", "occupancy"] = "bev"
    """What the policy sees."""
    action: Literal["control", "discrete"] = "control"
    """What the policy does; SAC knows `control` only."""
    scenes: Path | None = None
    """Folder or file to start from: scene files, or ScenarioNet recordings (.pkl). The bundled scenes by default."""
    model: str | None = None
    """World model: a name, a folder, a hub id, or "warp", the rigid baseline. The bundled one by default."""
    out: Path = Path("runs/agent")
    """Folder for the policy, checkpoints, TensorBoard logs and the learning curve."""
    checkpoint_every: int = 2048
    """Environment steps between checkpoints."""
    learning_rate: float = 3e-4
    """Step size of the optimizer."""
    seed: int = 0
    """Decides starts, futures, initial weights and exploration."""
    device: str = "cpu"
    """Where world model and policy live."""


COMMAND = TrainAgent


class EpisodeLog(BaseCallback):
    """Keeps each episode that ended."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[Episode] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.episodes.append(Episode(self.num_timesteps, float(info["episode"]["r"]), int(info["episode"]["l"])))
        return True


def run(config: TrainAgent) -> None:
    """Train, save the policy and show the learning curve; raises ValueError on settings that make no sense."""
    if config.steps < 1 or config.num_envs < 1:
        raise ValueError(f"expected positive --steps and --num-envs, found {config.steps} and {config.num_envs}")
    if config.algo == "sac" and config.action == "discrete":
        raise ValueError("--action: SAC needs 'control' actions, found 'discrete'")
    console = Console()
    config.out.mkdir(parents=True, exist_ok=True)
    worlds = gymnasium.make_vec(
        "OccSora-v0",
        num_envs=config.num_envs,
        scenes=find_scenes(config.scenes),
        world_model=find_model(config.model),
        observation=config.observation,
        action=config.action,
        device=config.device,
    )
    env = VecMonitor(Sb3VecEnv(worlds))
    agent = make_agent(config, env, worlds)
    log = EpisodeLog()
    every = max(config.checkpoint_every // config.num_envs, 1)
    saver = CheckpointCallback(every, str(config.out / "checkpoints"), name_prefix=config.algo)
    agent.learn(config.steps, callback=CallbackList([log, saver]), tb_log_name=config.algo, progress_bar=False)
    path = save(agent, config.out / f"{config.algo}.zip")
    env.close()
    title = f"{config.algo.upper()} on OccSora-v0, {config.steps} steps"
    show(log.episodes, title, console)
    console.print(f"policy: {path}")
    console.print(f"curve: {plot(log.episodes, title, config.out / 'learning_curve.png')}")
    console.print(f"TensorBoard: tensorboard --logdir {config.out}")


def make_agent(config: TrainAgent, env: VecMonitor, worlds: VectorEnv) -> BaseAlgorithm:
    """A fresh PPO or SAC agent with the features extractor of this project."""
    features: dict[str, Any] = {}
    if config.observation == "tokens":
        features["token_shape"] = worlds.unwrapped.simulator.model.token_shape  # type: ignore[attr-defined]
    shared: dict[str, Any] = {
        "policy": "MultiInputPolicy",
        "env": env,
        "learning_rate": config.learning_rate,
        "policy_kwargs": {"features_extractor_class": OccSoraFeatures, "features_extractor_kwargs": features},
        "tensorboard_log": str(config.out),
        "seed": config.seed,
        "device": config.device,
        "verbose": 1,
    }
    if config.algo == "sac":
        sizes: dict[str, Any] = {"buffer_size": min(config.steps, 20_000), "learning_starts": min(config.steps // 4, 1000)}
        return SAC(batch_size=128, **sizes, **shared)
    length = max(min(128, config.steps // config.num_envs), 2)
    batch = min(128, length * config.num_envs)
    return PPO(n_steps=length, batch_size=batch, n_epochs=4, gamma=0.97, ent_coef=0.003, **shared)


def save(agent: BaseAlgorithm, path: Path) -> Path:
    """Write the agent where plain stable-baselines3 loads it; the file appears only when it is whole."""
    partial = path.with_name(f".{path.stem}.partial.zip")
    agent.save(partial)
    os.replace(partial, path)
    return path
