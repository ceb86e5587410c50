"""A warm start for PPO: it learns to do what a planner does, and what that earns, before it learns from its own mistakes.

Exploration that has to find out by chance that a car brakes by holding the brake takes more steps than a world model on a CPU
can give. In the first round the planner drives with noise added to its actions while the pure ones are learned; in the others
the policy drives and the planner says what it would do there, so that the policy learns to leave the states that its own
errors lead to (DAgger, Ross, Gordon and Bagnell 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from torch import Tensor

from agents.planner import Planner

_NOISE = 0.1  # standard deviation of what is added to the planner's actions
_BATCH = 128

EPOCHS = 10
"""Passes over what was shown so far, in each round."""

_QUIETEST = -3.0  # logarithm of the standard deviation that exploration keeps at least


@dataclass(frozen=True)
class Demonstration:
    """What N drives of T steps showed.

    Attributes:
        observations: each entry (T * N, ...). actions: what the planner chose (T * N, A).
        returns: discounted sum of scaled rewards until the end of the episode (T * N,), NaN where the end was not seen.
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    returns: np.ndarray


def demonstrate(
    env: gymnasium.vector.VectorEnv,
    planner: Planner,
    steps: int,
    *,
    gamma: float,
    scale: float,
    seed: int,
    learner: PPO | None = None,
) -> Demonstration:
    """Let an attached planner drive `steps` steps in all worlds together, or tell a `learner` that drives what it would do.

    env: a native batch with `control` actions and SAME_STEP resets. gamma: discount. scale: of the rewards.
    """
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    planner.reset()
    seen: list[dict[str, np.ndarray]] = []
    actions, rewards, ends = [], [], []
    for _ in range(max(1, steps // env.num_envs)):
        action = planner.act(observation, info)
        seen.append({name: np.array(value) for name, value in observation.items()})
        actions.append(action)
        if learner is None:
            driven = np.clip(action + rng.normal(0.0, _NOISE, action.shape), -1, 1).astype(np.float32)
        else:
            driven, _ = learner.predict(dict(observation), deterministic=False)
        observation, reward, terminated, truncated, info = env.step(driven)
        rewards.append(np.array(reward))
        ends.append(np.stack((terminated, truncated)))
    returns = _returns(np.stack(rewards) * scale, np.stack(ends, axis=1), gamma)
    observations = {name: np.concatenate([item[name] for item in seen]) for name in seen[0]}
    return Demonstration(observations, np.concatenate(actions), returns.reshape(-1))


def _returns(rewards: np.ndarray, ends: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted returns (T, N) of rewards (T, N) by where episodes ended, bool (2, T, N): terminated, or cut off.

    What was cut off, by the time limit or by the end of the drives, would have gone on: its returns are not known, NaN.
    """
    after = np.full(rewards.shape[1], np.nan)
    returns = np.empty_like(rewards)
    for step in reversed(range(len(rewards))):
        terminated, truncated = ends[:, step]
        after = np.where(terminated, 0.0, np.where(truncated, np.nan, after))
        after = rewards[step] + gamma * after
        returns[step] = after
    return returns


def join(shown: list[Demonstration]) -> Demonstration:
    """Several drives as one."""
    names = shown[0].observations
    return Demonstration(
        {name: np.concatenate([drive.observations[name] for drive in shown]) for name in names},
        np.concatenate([drive.actions for drive in shown]),
        np.concatenate([drive.returns for drive in shown]),
    )


def imitate(agent: PPO, shown: Demonstration, epochs: int, seed: int) -> dict[str, float]:
    """Train the agent's policy on the actions and its critic on the returns.

    Its exploration becomes as large as the last epoch's error of each action, which is what is most likely to have shown these
    actions, but no larger than it was. Returns the last epoch's mean squared errors of `action` and `value`.
    """
    policy = agent.policy
    learned = [parameter for name, parameter in policy.named_parameters() if name != "log_std"]
    optimizer = torch.optim.Adam(learned, lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    generator = torch.Generator().manual_seed(seed)
    actions, values = list[Tensor](), list[float]()
    policy.set_training_mode(True)
    for _ in range(epochs):
        actions, values = [], []
        for index in torch.randperm(len(shown.actions), generator=generator).split(_BATCH):
            action, value = _errors(agent, shown, index.numpy())
            optimizer.zero_grad()
            (action.mean() + agent.vf_coef * value).backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            actions.append(action.detach())
            values.append(value.item())
        schedule.step()
    error = torch.stack(actions).mean(0)
    with torch.no_grad():
        exploration = policy.get_parameter("log_std")
        exploration.copy_(torch.minimum(exploration, (error.log() / 2).clamp(min=_QUIETEST)))
    return {"action": float(error.mean()), "value": float(np.mean(values))}


def _errors(agent: PPO, shown: Demonstration, index: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean squared errors of the policy's mean action (A,), and of the values whose returns are known."""
    policy: Any = agent.policy
    tensors, _ = policy.obs_to_tensor({name: value[index] for name, value in shown.observations.items()})
    features = policy.extract_features(tensors)
    actor, critic = policy.mlp_extractor(features)
    wanted = torch.as_tensor(shown.actions[index], device=agent.device)
    known = np.isfinite(shown.returns[index])
    returns = torch.as_tensor(shown.returns[index][known], dtype=torch.float32, device=agent.device)
    found = policy.value_net(critic).squeeze(1)[torch.as_tensor(known, device=agent.device)]
    value = (found - returns).square().mean() if len(returns) else found.sum()
    return (policy.action_net(actor) - wanted).square().mean(0), value
