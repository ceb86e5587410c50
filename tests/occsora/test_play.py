"""Keys become actions, and the window shows every frame until the driver leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occsora import play
from occsora.driving import make_env
from occsora.play import Play, drive, keys_to_action
from occworld_env.window import Window


@pytest.mark.parametrize(
    ("keys", "speed", "expected"),
    [
        ({"up"}, 0.0, (1, 0)),
        ({"w", "left"}, 2.0, (1, 1)),
        ({"down", "d"}, 2.0, (-1, -1)),
        ({"space"}, 10.0, (-1, 0)),
        ({"left", "right"}, 5.0, (-0.05, 0)),
        ({"up", "down"}, 5.0, (-0.05, 0)),
        (set(), 5.0, (-0.05, 0)),
    ],
)
def test_keys_steer(keys: set[str], speed: float, expected: tuple[float, float]) -> None:
    action = keys_to_action(keys, speed)
    assert action.dtype == np.float32
    assert np.allclose(action, expected)


def test_wheel_turns_less_at_speed() -> None:
    wheel = [keys_to_action({"left"}, speed)[1] for speed in (2.0, 8.0, 16.0)]
    assert wheel[0] > wheel[1] > wheel[2] > 0


def test_headless_drive_ends_after_its_steps(scene_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play.run(Play(scenes=scene_folder, model="warp", headless=3))
    assert "3 steps, 1.5 s, return" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--headless"):
        play.run(Play(headless=0))


def test_keys_drive_the_car_and_escape_leaves(scene_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def show(window: Window, image: np.ndarray) -> None:
        shown.append(image)
        window.pressed = {"up"}
        window.typed = {"escape"} if len(shown) == 8 else set()

    monkeypatch.setattr(Window, "show", show)
    env = make_env(scene_folder, "warp")
    steps, total = drive(env, Play())
    assert steps == 4
    assert len(shown) == 9  # the start, and two frames a step
    assert env.simulator.vehicle.acceleration[0] > 2.9
    assert total > 0
    assert not np.array_equal(shown[1], shown[2])


def test_window_shows_pictures_and_closes_twice() -> None:
    window = Window("test", 1000)
    window.show(np.zeros((48, 64, 3), dtype=np.uint8))
    window.show(np.zeros((48, 64, 3), dtype=np.uint8))
    assert not window.closed
    assert window.pressed == set()
    window.close()
    window.close()
