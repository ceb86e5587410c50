"""An evaluation gives the same however it is driven: in one go, resumed, by several workers, with one of them killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from agents.evaluation.cluster import cluster, drive_on_ray
from agents.evaluation.episode import Episode, load_episode
from agents.evaluation.runner import Job, claim, drive, drive_all, drive_here, episode_path
from agents.evaluation.starts import draw_starts
from agents.evaluation.worlds import WorldSettings, open_world

DRIVER = '''
"""A planner that draws its actions, and the first time it is told to, says where it runs and waits to be killed."""
import os, time
from pathlib import Path
import numpy as np

TOLD = Path({told!r})

class Wanderer:
    def reset(self):
        self.steps = 0

    def act(self, observation, info):
        self.steps += 1
        if self.steps == 3 and info["start"] == {start} and TOLD.parent.exists() and not TOLD.exists():
            TOLD.with_suffix(".partial").write_text(str(os.getpid()))
            TOLD.with_suffix(".partial").rename(TOLD)
            time.sleep(60)
        return np.random.default_rng((info["seed"], self.steps)).uniform(-0.3, 0.3, 2).astype(np.float32)
'''


@pytest.fixture(scope="module")
def jobs(open_folder: Path) -> list[Job]:
    """Four episodes of a planner of one's own."""
    settings = WorldSettings(str(open_folder))
    starts = draw_starts([open_world("warp", settings)], 4, 3, max_seconds=2.5)
    return [Job("warp", "wanderer:Wanderer", place, settings) for place in starts]


@pytest.fixture(scope="module")
def told(jobs: list[Job], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """File in which the planner says its process; it waits to be killed only where the file's folder is there."""
    folder = tmp_path_factory.mktemp("planner")
    told = folder / "armed" / "pid"
    (folder / "wanderer.py").write_text(DRIVER.format(told=str(told), start=jobs[2].place.start))
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    patch.setenv("PYTHONPATH", os.pathsep.join((str(folder), str(Path(__file__).parents[3]))))
    yield told
    patch.undo()


@pytest.fixture(scope="module")
def undisturbed(jobs: list[Job], told: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of the episodes as this process drives them."""
    return drive_all(jobs, tmp_path_factory.mktemp("here"), drive_here, lambda _: None)


def same(first: list[Path], second: list[Path]) -> None:
    for paths in zip(first, second, strict=True):
        one, other = map(load_episode, paths)
        for item in fields(Episode):
            np.testing.assert_array_equal(getattr(one, item.name), getattr(other, item.name), err_msg=item.name)


def test_the_order_of_episodes_changes_nothing(jobs: list[Job], undisturbed: list[Path], tmp_path: Path) -> None:
    assert len({load_episode(path).place.start for path in undisturbed}) == 4
    same(drive_all(jobs, tmp_path, lambda missing: drive_here(missing[::-1]), lambda _: None), undisturbed)


def test_a_stopped_evaluation_goes_on(jobs: list[Job], undisturbed: list[Path], tmp_path: Path) -> None:
    def stops(missing: list[Job]) -> Iterator[Episode]:
        yield from drive_here(missing[:2])
        raise KeyboardInterrupt

    counted: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        drive_all(jobs, tmp_path, stops, counted.append)
    broken = episode_path(tmp_path, "warp", jobs[0].planner, 0)
    broken.write_bytes(broken.read_bytes()[:100])
    driven: list[Job] = []

    def listening(missing: list[Job]) -> Iterator[Episode]:
        driven.extend(missing)
        return drive_here(missing)

    same(drive_all(jobs, tmp_path, listening, counted.append), undisturbed)
    assert driven == [jobs[0], *jobs[2:]]
    assert counted == [0, 1, 1, 1, 1, 1, 1]


def test_a_killed_worker_loses_nothing(jobs: list[Job], told: Path, undisturbed: list[Path], tmp_path: Path) -> None:
    """The third episode waits in a worker until that is killed; then it is driven again, by another."""
    pytest.importorskip("ray")
    told.parent.mkdir()
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 90
        while not told.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        if told.exists():
            killed.append(int(told.read_text()))
            os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with cluster(2, None):
        episodes = drive_all(jobs, tmp_path, lambda missing: drive_on_ray(missing, 2), lambda _: None)
    killer.join()
    assert killed
    assert killed[0] != os.getpid()
    same(episodes, undisturbed)


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    claim(tmp_path, {"seed": 0, "scenes": None})
    claim(tmp_path, {"seed": 0, "scenes": None})
    with pytest.raises(ValueError, match="holds episodes of another evaluation, other in seed; name another folder"):
        claim(tmp_path, {"seed": 1, "scenes": None})


def test_a_changed_policy_file_is_another_planner(tmp_path: Path) -> None:
    policy = tmp_path / "policy.zip"
    policy.write_bytes(b"first")
    before = episode_path(tmp_path, "dream", f"ppo:{policy}", 3)
    assert before == episode_path(tmp_path, "dream", f"ppo:{policy}", 3)
    policy.write_bytes(b"second")
    assert before != episode_path(tmp_path, "dream", f"ppo:{policy}", 3)


def test_so_is_a_changed_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "my_changing_planner.py"
    module.write_text("def act(observation, info): return 0\n", encoding="utf-8")
    before = episode_path(tmp_path, "dream", "my_changing_planner:act", 3)
    assert before == episode_path(tmp_path, "dream", "my_changing_planner:act", 3)
    module.write_text("def act(observation, info): return 1\n", encoding="utf-8")
    assert before != episode_path(tmp_path, "dream", "my_changing_planner:act", 3)


def test_what_fails_is_named(jobs: list[Job]) -> None:
    with pytest.raises(ValueError, match=r"teleport in warp, episode 0 .*planner: expected"):
        drive(replace(jobs[0], planner="teleport"))


def test_starts_are_distinct_and_the_first_of_a_longer_list(open_folder: Path) -> None:
    env = open_world("warp", WorldSettings(str(open_folder)))
    few, many = draw_starts([env], 3, 1, 20.0), draw_starts([env], 6, 1, 20.0)
    assert many[:3] == few
    assert len({(item.scene, item.ego, item.start) for item in many}) == 6
    assert draw_starts([env], 3, 2, 20.0) != few
    with pytest.raises(ValueError, match=r"--episodes: the scenes have \d+ distinct usable starts, expected 500"):
        draw_starts([env], 500, 1, 20.0)
