"""What happens beside the steps of a training: episodes are noted, the policy is judged and saved, progress is told."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from agents.checkpoint import History, save_checkpoint, save_policy


class EpisodeLog(BaseCallback):
    """Notes each episode that ended."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self.history = history

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.history.episodes.append((self.num_timesteps, float(info["episode"]["r"]), int(info["episode"]["l"])))
        return True


class ProgressBar(BaseCallback):
    """Tells how many environment steps were made since it was last told."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.advance = advance
        self._told = 0

    def _on_training_start(self) -> None:
        self.advance(self.model.num_timesteps)  # those before a resumed training
        self._told = self.model.num_timesteps

    def _on_step(self) -> bool:
        self.advance(self.num_timesteps - self._told)
        self._told = self.num_timesteps
        return True


class Periodic(BaseCallback):
    """Does something every so many environment steps and at the end, always between two rollouts.

    PPO throws away what it collected of a rollout when it is stopped in the middle; between two, nothing is lost.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every, self._last = every, 0

    @abstractmethod
    def act(self) -> None:
        """What is to be done."""

    def _on_training_start(self) -> None:
        self._last = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps // self.every > self._last // self.every:
            self._run()

    def _on_training_end(self) -> None:
        if self.model.num_timesteps > self._last:
            self._run()

    def _run(self) -> None:
        self._last = self.model.num_timesteps
        self.act()


class Checkpoints(Periodic):
    """Saves what a training needs to go on, see `agents.checkpoint`."""

    def __init__(self, every: int, history: History, folder: Path, name: str, settings: dict[str, Any]) -> None:
        super().__init__(every)
        self.history, self.folder, self.name, self.settings = history, folder, name, settings

    def act(self) -> None:
        """Save one."""
        save_checkpoint(self.model, self.history, self.folder, self.name, self.settings)


class Evaluation(Periodic):
    """Drives the deterministic policy from the same starts each time, logs how it did and keeps the best policy.

    stable-baselines3's EvalCallback goes on to other starts each time, so that one lucky draw would be the best for good.
    """

    def __init__(self, every: int, env: VecEnv, episodes: int, seed: int, history: History, best: Path) -> None:
        """env: worlds of its own, with VecMonitor. best: file of the best policy."""
        super().__init__(every)
        self.env, self.episodes, self.seed, self.history, self.best = env, episodes, seed, history, best

    def _on_training_start(self) -> None:
        super()._on_training_start()
        if self.history.best is None:  # what the training begins with, imitated or loaded, may stay the best
            self.act()

    def act(self) -> None:
        """Judge the policy as it is."""
        self.env.seed(self.seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Training and eval env")
            returns, lengths = evaluate_policy(self.model, self.env, self.episodes, return_episode_rewards=True)
        mean = float(np.mean(returns))
        self.logger.record("eval/mean_reward", mean)
        self.logger.record("eval/mean_ep_length", float(np.mean(lengths)))
        self.logger.dump(self.model.num_timesteps)
        if self.history.best is None or mean > self.history.best:
            self.history.best = mean
            save_policy(self.model, self.best)
