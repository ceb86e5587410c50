"""Drive through the world model in closed loop, write a GIF and an MP4 of it and print how it went.

The planner follows the route and keeps its distance to what it sees; the world it sees is imagined step by step from one
recorded start. Where an episode ends early, another one begins, until the time asked for is driven.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from agents.load import make_planner
from agents.planner import Planner, attach, interface_of
from occsora.driving import is_recorded, make_env, what_happened
from occworld_env.drawing import FRAME_SIZE
from occworld_env.env import OccSoraEnv
from occworld_env.loading import scene_numbers
from occworld_env.recording import Recorder
from occworld_env.window import draw_text

_HOLD = 4  # pictures for which the end of an episode stays


@dataclass(frozen=True)
class Demo:
    """Settings of the demo."""

    scenes: Path | None = None
    """Folder or file to start from: scene files, or ScenarioNet recordings (.pkl). The bundled scenes by default."""
    seconds: float = 24.0
    """Time to drive."""
    out: Path = Path("out/demo")
    """Folder for demo.gif and demo.mp4."""
    model: str | None = None
    """World model: a name, a folder, a hub id, or "warp", the rigid baseline. The bundled one by default."""
    planner: str = "idm"
    """Who drives: cv, stop, random, log, idm, pure-pursuit, lattice, cem, mppi, ppo, ppo:FILE, sac:FILE or module:object;
    from idm to mppi also with parameters, NAME:name=value,name=value."""
    scene: str | None = None
    """Name of the scene to start from; by default one is drawn, and recordings are taken in turn."""
    seed: int = 9
    """Decides starts and futures."""


COMMAND = Demo


@dataclass
class Log:
    """What is counted while driving: `terms` are sums of the weighted reward terms, `endings` why each episode ended."""

    steps: int = 0
    metres: float = 0.0
    step_time: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    endings: list[str] = field(default_factory=list)

    def add(self, before: dict[str, Any], info: dict[str, Any], seconds: float) -> None:
        """Count a step that took `seconds` to compute, by the infos before and after it."""
        self.steps += 1
        self.step_time += seconds
        self.metres += math.dist(before["pose"][:2], info["pose"][:2])
        for name, term in info["rewards"].items():
            self.terms[name] = self.terms.get(name, 0.0) + term


def run(config: Demo) -> None:
    """Drive, write the files and print the table; raises ValueError on settings that make no sense."""
    if not config.seconds > 0:
        raise ValueError(f"--seconds: expected a positive number, found {config.seconds}")
    console = Console()
    planner = make_planner(config.planner, config.seed)
    env = make_env(config.scenes, config.model, **vars(interface_of(planner)))
    attach(planner, env)
    with Recorder(config.out / "demo", fps=1 / env.world_model.dt) as recorder:
        log = drive(env, planner, config, recorder, console)
    env.close()
    console.print(table(log, env, config))
    for path in (recorder.gif, recorder.mp4):
        console.print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB", soft_wrap=True)


def drive(env: OccSoraEnv, planner: Planner, config: Demo, recorder: Recorder, console: Console) -> Log:
    """Drive for the time asked for and record every frame."""
    duration, log = env.simulator.step_seconds, Log()
    steps = math.ceil(config.seconds / duration - 1e-9)
    observation, info = env.reset(seed=config.seed, options=start_options(env, config, 0))
    planner.reset()
    columns = (TextColumn("driving"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=steps * duration)
        while log.steps < steps:
            action = planner.act(observation, info)
            before, clock = info, time.perf_counter()
            observation, _, terminated, truncated, info = env.step(action)
            log.add(before, info, time.perf_counter() - clock)
            _record(env, recorder)
            bar.advance(task, duration)
            if terminated or truncated:
                log.endings.append(what_happened(info))
                _hold_end(env, recorder, log.endings[-1])
                observation, info = env.reset(options=start_options(env, config, len(log.endings)))
                planner.reset()
    return log


def start_options(env: OccSoraEnv, config: Demo, episode: int) -> dict[str, Any]:
    """Where an episode begins: in the scene asked for, and in recordings where the recording begins.

    A recording's route is known for as long as it lasts, and goes straight on after it, across whatever is there.
    """
    scenes = env.simulator.scenes
    numbers = {} if config.scene is None else scene_numbers(scenes)
    if config.scene is not None and config.scene not in numbers:
        raise ValueError(f"--scene: expected one of {', '.join(numbers)}, found {config.scene!r}")
    if not is_recorded(config.scenes):
        return {} if config.scene is None else {"scene": config.scene}
    number = episode % len(scenes) if config.scene is None else numbers[config.scene]
    ego = scenes[number].egos[0]
    history = (env.world_model.history_frames - 1) * env.world_model.dt
    return {"scene": number, "ego": ego, "start": scenes[number].ego_span(ego)[0] + history}


def _record(env: OccSoraEnv, recorder: Recorder) -> None:
    for frame in range(env.simulator.frames):
        recorder.add(env.picture.draw(frame, smooth=True))


def _hold_end(env: OccSoraEnv, recorder: Recorder, ending: str) -> None:
    """Let the last picture of an episode stand, with the reason for its end on it."""
    image = env.picture.draw(smooth=True)
    draw_text(image, f"episode ended: {ending}", (FRAME_SIZE[0] - 320, 12), 26, (255, 214, 120))
    for _ in range(_HOLD):
        recorder.add(image)


def table(log: Log, env: OccSoraEnv, config: Demo) -> Table:
    """How it went, as a table."""
    seconds = log.steps * env.simulator.step_seconds
    rows = Table(title=f"OccSora-v0, {config.planner}, {seconds:.0f} s of closed loop", show_header=False, title_justify="left")
    rows.add_column(style="cyan")
    rows.add_column(justify="right")
    rows.add_row("return", f"{sum(log.terms.values()):+.2f}")
    for name, total in log.terms.items():
        rows.add_row(f"  {name}", f"{total:+.2f}")
    rows.add_section()
    rows.add_row("steps", f"{log.steps} of {env.simulator.step_seconds:.1f} s")
    rows.add_row("distance", f"{log.metres:.0f} m")
    rows.add_row("mean speed", f"{3.6 * log.metres / seconds:.1f} km/h")
    rows.add_row("episodes that ended", ", ".join(log.endings) or "none")
    for name in ("collision", "offroad", "offroute"):
        rows.add_row(f"  {name}", str(log.endings.count(name)))
    rows.add_section()
    rows.add_row("steps/s", f"{log.steps / log.step_time:.1f}")
    rows.caption = f"steps/s of env.step alone, without drawing and encoding, on {torch.get_num_threads()} threads"
    return rows
