"""Trajectories: shapes drive as their names say, and files are read as they are written or refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenes.motion import accumulate
from scenes.trajectory import SHAPES, file_motion, shape_motion


@pytest.mark.parametrize("dt", [0.25, 0.5])
def test_shapes_drive_as_their_names_say(dt: float) -> None:
    frames = round(16 / dt)
    ends = {name: accumulate(shape_motion(name, frames, dt))[-1] for name in SHAPES}
    time = (frames - 1) * dt
    torch.testing.assert_close(ends["straight"], torch.tensor([8 * time, 0, 0], dtype=torch.float64), atol=1e-3, rtol=0)
    assert float(ends["still"].abs().max()) == 0
    assert float(ends["right"][2]) == pytest.approx(-math.pi / 2, abs=1e-4)
    torch.testing.assert_close(ends["left"] * torch.tensor([1, -1, -1]), ends["right"], atol=1e-3, rtol=0)
    assert float(ends["left"][1]) > 20
    assert float(ends["accelerate"][0]) == pytest.approx(72 + 12 * (time - 12), abs=0.1)


@given(st.sampled_from(list(SHAPES)), st.integers(1, 40), st.sampled_from([0.1, 0.25, 0.5]))
def test_a_longer_clip_begins_like_a_shorter_one(name: str, frames: int, dt: float) -> None:
    long = shape_motion(name, frames + 7, dt)
    assert long.dtype == torch.float32
    assert not long[0].any()
    torch.testing.assert_close(long[:frames], shape_motion(name, frames, dt), atol=1e-5, rtol=1e-5)


@given(st.sampled_from(list(SHAPES)), st.floats(-3, 3), st.floats(-50, 50))
def test_spacing_does_not_change_the_path(name: str, yaw: float, x: float) -> None:
    """Every other frame at 4 Hz is where the frame at 2 Hz is."""
    fine, coarse = accumulate(shape_motion(name, 41, 0.25)), accumulate(shape_motion(name, 21, 0.5))
    torch.testing.assert_close(fine[::2], coarse, atol=1e-3, rtol=1e-4)


def written(folder: Path, suffix: str, poses: np.ndarray, dt: float) -> Path:
    path = folder / f"drive{suffix}"
    names = ["x", "y", "yaw"][: poses.shape[1]]
    if suffix == ".json":
        path.write_text(json.dumps({"dt": dt, "poses": poses.tolist()}))
    elif suffix == ".csv":
        rows = [f"{dt * number},{','.join(map(str, row))}" for number, row in enumerate(poses.tolist())]
        path.write_text("\n".join([",".join(["t", *names]), *rows]))
    else:
        np.save(path, poses)
    return path


@pytest.mark.parametrize("suffix", [".json", ".csv", ".npy"])
@pytest.mark.parametrize("named", ["left", "accelerate"])
def test_files_come_back_as_motion(suffix: str, named: str, tmp_path: Path) -> None:
    """Poses in any fixed frame, at another spacing than the clip's."""
    expected = shape_motion(named, 21, 0.5)
    elsewhere = torch.tensor([100.0, -40.0, 2.0], dtype=torch.float64)
    poses = accumulate(shape_motion(named, 81, 0.125), elsewhere).numpy()
    found = file_motion(written(tmp_path, suffix, poses, 0.125), 21, 0.5, file_dt=0.125)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_without_a_yaw_the_ego_looks_along_its_path(tmp_path: Path) -> None:
    poses = accumulate(shape_motion("right", 161, 0.1)).numpy()[:, :2]
    found = file_motion(written(tmp_path, ".npy", poses, 0.1), 30, 0.5, file_dt=0.1)
    torch.testing.assert_close(found, shape_motion("right", 30, 0.5), atol=0.05, rtol=0.02)
    standing = np.zeros((9, 2))
    assert not file_motion(written(tmp_path, ".npy", standing, 0.5), 9, 0.5).any()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "expected {"),
        ("a.json", '{"poses": [[0, 0], [1, 0]]}', "KeyError"),
        ("a.json", '{"dt": -1, "poses": [[0, 0], [1, 0]]}', "dt: expected positive seconds, found -1"),
        ("a.json", '{"dt": 1, "poses": [[0, 0]]}', "expected two or more poses"),
        ("a.json", '{"dt": 1, "poses": [[0, 0, 0, 0], [1, 0, 0, 0]]}', "expected two or more poses"),
        ("a.json", '{"dt": 1, "poses": [[0, 0], [1, NaN]]}', "found NaN or infinity"),
        ("a.json", '{"dt": 0.5, "poses": [[0, 0], [1, 0]]}', "goes on for 0.5 s, and a clip of 8 frames needs 3.5 s"),
        ("a.csv", "a,b\n0,0\n", "expected a header of x, y"),
        ("a.csv", "x,y\n0,zero\n1,1\n", "expected a number in each column"),
        ("a.csv", "t,x,y\n0,0,0\n0,1,0\n", "expected seconds that grow"),
        ("a.npy", "text", "not an array of numbers"),
        ("a.txt", "", "expected a trajectory as .json, .csv, .npy, found '.txt'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(name: str, content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=r"a[.]") as error:
        file_motion(path, 8, 0.5)
    assert said in str(error.value)


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 0}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not an array of numbers"):
        file_motion(tmp_path / "a.npy", 8, 0.5)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of straight, right, left, still, accelerate or a file, found 'up'"):
        shape_motion("up", 8, 0.5)
    with pytest.raises(FileNotFoundError, match=r"or a file, found no file nowhere\.csv"):
        file_motion(Path("nowhere.csv"), 8, 0.5)
