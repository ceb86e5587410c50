"""What is kept on the way of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from agents import training_callbacks
from agents.checkpoint import History
from agents.training_callbacks import Evaluation


@pytest.mark.parametrize(("judged", "improved"), [((5.0, 3.0), False), ((3.0, 5.0), True)])
def test_the_best_policy_may_be_the_first(
    judged: tuple[float, float], improved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was imitated is kept where reinforcement learning makes it worse."""
    returns = iter(judged)
    monkeypatch.setattr(training_callbacks, "evaluate_policy", lambda *_, **__: ([next(returns)], [1]))
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 1), n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    history, best = History(), tmp_path / "best.zip"
    model.learn(16, callback=Evaluation(1000, make_vec_env("CartPole-v1", 1), 1, 0, history, best))
    kept = PPO.load(best, device="cpu").policy.state_dict()
    assert history.best == max(judged)
    assert all(torch.equal(kept[name], tensor) for name, tensor in before.items()) is not improved
