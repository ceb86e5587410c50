"""PPO and SAC of stable-baselines3 with the settings that this project trains them with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.features import OccSoraFeatures
from occworld_env.actions import META_ACTIONS

_PPO = {
    "learning_rate": 7e-4,
    "n_steps": 32,
    "batch_size": 128,
    "n_epochs": 8,
    "gamma": 0.97,
    "gae_lambda": 0.95,
    "ent_coef": 0.005,
    "target_kl": 0.05,
}
_SAC = {"learning_rate": 3e-4, "batch_size": 128, "gamma": 0.97, "learning_starts": 1000}

SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("ppo", "bev"): _PPO,
    ("ppo", "tokens"): _PPO | {"n_epochs": 12},  # the embedding of the codes is learned from nothing
    ("ppo", "occupancy"): _PPO,
    ("sac", "bev"): _SAC | {"buffer_size": 20_000},
    ("sac", "tokens"): _SAC | {"buffer_size": 100_000},  # codes take little memory
    ("sac", "occupancy"): _SAC | {"buffer_size": 5_000},
}
"""Keyword arguments by algorithm and observation. n_steps is of one world, buffer_size and learning_starts of all together.

A discount of 0.97 a step of 0.5 s looks 17 s ahead."""

FIRST_MOVES = {"LANE_LEFT": 0.04, "IDLE": 0.6, "LANE_RIGHT": 0.04, "FASTER": 0.12, "SLOWER": 0.2}
"""How often an untrained policy of meta actions takes each of them."""

_LOG_STD = -1.5  # of PPO's exploration on pedal and wheel: a standard deviation of 0.22, where 1 is full throttle

_ROLLOUTS = 4  # of PPO at least, however short the training


@dataclass(frozen=True)
class LinearToTenth:
    """Learning rate that falls linearly from `start` to a tenth of it over the training."""

    start: float

    def __call__(self, progress_remaining: float) -> float:
        """Rate where `progress_remaining`, 1 at the start and 0 at the end, is left of the training."""
        return self.start * (0.1 + 0.9 * max(progress_remaining, 0.0))


def make_agent(
    algorithm: str,
    env: VecEnv,
    observation: str,
    steps: int,
    *,
    learning_rate: float | None = None,
    token_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    log: Path | None = None,
) -> BaseAlgorithm:
    """A fresh agent with the features extractor of this project.

    algorithm: "ppo" or "sac". observation: what `env` shows, see `SETTINGS`. steps: environment steps in all worlds that the
    whole training has; rollouts and buffers are no larger than it needs. learning_rate: at the start, by default that of
    `SETTINGS`. token_shape: (h, w, G), for `tokens`. log: folder for TensorBoard.
    """
    settings = dict(SETTINGS[algorithm, observation])
    usual = settings.pop("learning_rate")
    more = {"log_std_init": _LOG_STD} if algorithm == "ppo" and isinstance(env.action_space, spaces.Box) else {}
    features = {"token_shape": token_shape} if observation == "tokens" else {}
    shared: dict[str, Any] = {
        "policy": "MultiInputPolicy",
        "env": env,
        "learning_rate": LinearToTenth(usual if learning_rate is None else learning_rate),
        "policy_kwargs": {"features_extractor_class": OccSoraFeatures, "features_extractor_kwargs": features} | more,
        "tensorboard_log": None if log is None else str(log),
        "seed": seed,
        "device": device,
    }
    if algorithm == "sac":
        settings["buffer_size"] = min(settings["buffer_size"], max(steps, env.num_envs))
        settings["learning_starts"] = min(settings["learning_starts"], steps // 4)
        return SAC(**settings, **shared)
    settings["n_steps"] = max(min(settings["n_steps"], steps // (_ROLLOUTS * env.num_envs)), 2)
    settings["batch_size"] = min(settings["batch_size"], settings["n_steps"] * env.num_envs)
    agent = PPO(**settings, **shared)
    if isinstance(env.action_space, spaces.Discrete):
        _begin_by_driving_on(agent)
    return agent


def explore(agent: BaseAlgorithm, deviation: float) -> None:
    """Set the standard deviation of PPO's exploration on pedal and wheel, 1 being full throttle and full lock."""
    with torch.no_grad():
        agent.policy.get_parameter("log_std").fill_(math.log(deviation))


def _begin_by_driving_on(agent: PPO) -> None:
    """Give the untrained policy the probabilities of FIRST_MOVES, whatever it sees.

    Equally likely meta actions would change lanes two times in five: few episodes would come as far as traffic to learn from.
    """
    with torch.no_grad():
        head = agent.policy.get_submodule("action_net")
        head.get_parameter("bias").copy_(torch.tensor([FIRST_MOVES[name] for name in META_ACTIONS]).log())
