"""Checkpoints of a training, and going on from the newest one; nothing in them is unpickled.

A checkpoint is `NAME_STEPS_steps.zip`, the agent as stable-baselines3 saves it, `.safetensors` beside it with the replay buffer
where the algorithm has one, and `.json` with the counters, which is written last and makes it whole.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.save_util import load_from_zip_file

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
_ARRAYS = ("actions", "rewards", "dones", "timeouts")
_DICTS = ("observations", "next_observations")


@dataclass
class History:
    """What a training remembers beside the agent.

    Attributes:
        episodes: of each that ended: environment steps in all worlds until then, its return, its length in steps.
        best: highest mean return of an evaluation, None before the first.
    """

    episodes: list[tuple[int, float, int]] = field(default_factory=list)
    best: float | None = None


def save_agent(agent: BaseAlgorithm, path: Path) -> Path:
    """Write the agent where plain stable-baselines3 loads it; the file appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.zip")
    agent.save(partial)
    os.replace(partial, path)
    return path


def save_policy(agent: BaseAlgorithm, path: Path) -> Path:
    """The same without what the optimizers remember, a third of the size: to drive, or to learn on with fresh optimizers."""
    names, _ = agent._get_torch_save_params()
    optimizers = [attrgetter(name)(agent) for name in names if name.endswith("optimizer")]
    kept = [optimizer.state for optimizer in optimizers]
    for optimizer in optimizers:
        optimizer.state = defaultdict(dict)
    try:
        return save_agent(agent, path)
    finally:
        for optimizer, state in zip(optimizers, kept, strict=True):
            optimizer.state = state


def save_checkpoint(agent: BaseAlgorithm, history: History, folder: Path, name: str, settings: dict[str, Any]) -> None:
    """Write a checkpoint; of replay buffers only the newest is kept, since they are large.

    settings: what a training has to share to go on from it, as JSON knows it.
    """
    path = save_agent(agent, folder / f"{name}_{agent.num_timesteps}_steps.zip")
    replay = getattr(agent, "replay_buffer", None)
    if replay is not None:
        partial = path.with_name(f".{path.stem}.partial.safetensors")
        save_file(_transitions(replay), partial)
        os.replace(partial, path.with_suffix(".safetensors"))
    counters = {item: getattr(agent, item) for item in _COUNTERS}
    partial = path.with_name(f".{path.stem}.partial.json")
    partial.write_text(json.dumps({"settings": settings, "counters": counters} | asdict(history)), encoding="utf-8")
    os.replace(partial, path.with_suffix(".json"))
    for older in folder.glob(f"{name}_*_steps.safetensors"):
        if older.stem != path.stem:
            older.unlink()


def begin_with(agent: BaseAlgorithm, path: Path) -> None:
    """Give a fresh agent the policy of a file that `save_policy` or stable-baselines3 wrote; its optimizers stay fresh.

    Raises ValueError naming the file where it holds no policy, or one of another shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        _, weights, _ = load_from_zip_file(path, load_data=False, device=agent.device)
        policy: Any = weights["policy"]
        agent.policy.load_state_dict(policy)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: expected a policy saved by stable-baselines3 ({error})") from None
    except RuntimeError as error:
        raise ValueError(f"{path}: the policy is not of the shape that this training has: {error}") from None


def newest(folder: Path, name: str) -> Path | None:
    """The `.json` of the checkpoint with the most steps, None where there is none."""
    found = [path for path in folder.glob(f"{name}_*_steps.json") if path.with_suffix(".zip").exists()]
    return max(found, key=lambda path: int(path.stem.split("_")[-2]), default=None)


def restore(agent: BaseAlgorithm, path: Path, settings: dict[str, Any]) -> History:
    """Put a fresh agent where the checkpoint at `path`, a `.json`, was: weights, optimizers, counters and replay buffer.

    Raises ValueError that names the first of `settings` in which the checkpoint differs.
    """
    told = json.loads(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if told["settings"].get(name) != value:
            raise ValueError(f"{path}: expected a training with {name} {value!r}, found {told['settings'].get(name)!r}")
    device = agent.device
    _, weights, variables = load_from_zip_file(path.with_suffix(".zip"), load_data=False, device=device)
    agent.set_parameters(weights, device=device)
    for name, value in (variables or {}).items():  # of SAC the logarithm of the entropy coefficient
        getattr(agent, name).data.copy_(value.data)
    for name, value in told["counters"].items():
        setattr(agent, name, value)
    replay = getattr(agent, "replay_buffer", None)
    if replay is not None:
        _refill(replay, load_file(path.with_suffix(".safetensors")))
    return History([(int(step), float(total), int(length)) for step, total, length in told["episodes"]], told["best"])


def _transitions(replay: DictReplayBuffer) -> dict[str, np.ndarray]:
    """What the buffer holds, the oldest first: arrays (N, worlds, ...)."""
    order = np.arange(replay.size())
    if replay.full:
        order = (order + replay.pos) % replay.buffer_size
    arrays = {name: getattr(replay, name)[order] for name in _ARRAYS}
    return arrays | {f"{name}.{key}": item[order] for name in _DICTS for key, item in getattr(replay, name).items()}


def _refill(replay: DictReplayBuffer, arrays: dict[str, np.ndarray]) -> None:
    """Put `_transitions` into an empty buffer, the newest of them where it is smaller."""
    count = min(len(arrays["actions"]), replay.buffer_size)
    for name, array in arrays.items():
        kind, _, key = name.partition(".")
        target = getattr(replay, kind)[key] if key else getattr(replay, kind)
        target[:count] = array[len(array) - count :]
    replay.pos, replay.full = count % replay.buffer_size, count == replay.buffer_size
