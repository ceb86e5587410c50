"""The demo drives for the time asked for, films all of it and counts honestly."""

from __future__ import annotations

from pathlib import Path

import imageio.v2 as imageio
import pytest

from occsora import demo, driving
from occsora.demo import Demo
from occworld_env.picture import Picture


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures without smoothing, which are drawn faster."""
    draw = Picture.draw
    monkeypatch.setattr(Picture, "draw", lambda self, frame=-1, smooth=False: draw(self, frame))


def test_demo_films_every_frame_and_prints_the_table(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.run(Demo(scenes=scene_folder, seconds=2.0, out=tmp_path, model="warp"))
    printed = capsys.readouterr().out
    for word in ("return", "progress", "collision", "steps/s", "4 of 0.5 s", "demo.gif", "demo.mp4"):
        assert word in printed
    assert imageio.get_reader(tmp_path / "demo.mp4").count_frames() == 8
    assert len(imageio.mimread(tmp_path / "demo.gif")) == 8


@pytest.mark.usefixtures("plain_pictures")
def test_demo_goes_on_after_a_crash_and_says_so(walled_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    monkeypatch.setattr(demo, "table", lambda log, env, config: logs.append(log) or "")
    demo.run(Demo(scenes=walled_folder, seconds=7.0, out=tmp_path, model="warp", planner="cv"))
    log = logs[0]
    assert log.steps == 14
    assert "collision" in log.endings
    assert log.metres == pytest.approx(7.0 * 6.0, abs=0.5)
    assert log.terms["collision"] == -20 * log.endings.count("collision")
    shown = imageio.get_reader(tmp_path / "demo.mp4").count_frames()
    assert shown == 2 * 14 + 4 * len(log.endings)


@pytest.mark.usefixtures("plain_pictures")
@pytest.mark.parametrize("planner", ["lattice", "cem"])
def test_any_planner_drives_the_demo(planner: str, scene_folder: Path, tmp_path: Path) -> None:
    demo.run(Demo(scenes=scene_folder, seconds=0.5, out=tmp_path, model="warp", planner=planner))
    assert (tmp_path / "demo.mp4").stat().st_size > 0


@pytest.mark.usefixtures("plain_pictures")
def test_same_seed_same_drive(scene_folder: Path, tmp_path: Path) -> None:
    films = []
    for name in ("a", "b"):
        demo.run(Demo(scenes=scene_folder, seconds=1.0, out=tmp_path / name, model="warp", seed=7))
        films.append((tmp_path / name / "demo.gif").read_bytes())
    assert films[0] == films[1]


@pytest.mark.usefixtures("plain_pictures")
def test_a_scene_that_is_not_driven_is_not_read(half_broken_folder: Path, tmp_path: Path) -> None:
    demo.run(Demo(scenes=half_broken_folder, scene="open", seconds=0.5, out=tmp_path, model="warp"))
    assert (tmp_path / "demo.mp4").stat().st_size > 0
    with pytest.raises(ValueError, match=r"broken\.scene"):
        demo.run(Demo(scenes=half_broken_folder, scene="broken", seconds=0.5, out=tmp_path, model="warp"))


def test_recorded_scenes_are_driven(shared_data: Path, scene_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    folder.mkdir()
    recording = sorted((shared_data / "nuscenes_mini").glob("*.pkl"))[0]
    (folder / recording.name).symlink_to(recording)
    demo.run(Demo(scenes=folder, seconds=0.5, out=tmp_path, model="warp"))
    assert (tmp_path / "demo.mp4").stat().st_size > 0
    env = driving.make_env(folder, "warp")
    env.reset(seed=0, options=demo.start_options(env, Demo(scenes=folder), 0))
    assert env.simulator.state["start"].item() == pytest.approx(0.25)  # where the recording begins
    assert env.simulator.state["ego"].item() == 0
    (folder / "open.scene").symlink_to(next(scene_folder.iterdir()))
    assert driving.is_recorded(folder / recording.name)
    assert not driving.is_recorded(folder)  # scene files come before recordings


def test_what_cannot_be_driven_is_named(scene_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FileNotFoundError, match=f"{path.name}: expected scene files .* found none"):
            driving.make_env(path, "warp")
    with pytest.raises(ValueError, match="--seconds: expected a positive number"):
        demo.run(Demo(seconds=0.0))
    with pytest.raises(ValueError, match=r"planner: expected one of cv, .*, module:object, found 'fast'"):
        demo.run(Demo(scenes=scene_folder, planner="fast", model="warp", out=tmp_path))
    with pytest.raises(ValueError, match="--scene: expected one of open, found 'closed'"):
        demo.run(Demo(scenes=scene_folder, scene="closed", model="warp", out=tmp_path))
