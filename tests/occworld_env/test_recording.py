"""Videos hold the pictures they were given, and only complete ones get their name."""

from __future__ import annotations

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from occworld_env.recording import Recorder


def pictures(count: int) -> list[np.ndarray]:
    """Grey pictures that get lighter."""
    return [np.full((48, 64, 3), 20 + 20 * index, dtype=np.uint8) for index in range(count)]


def test_both_files_hold_every_picture_in_order(tmp_path: Path) -> None:
    with Recorder(tmp_path / "new" / "drive", fps=4) as recorder:
        for picture in pictures(8):
            recorder.add(picture)
    for path in (recorder.mp4, recorder.gif):
        frames = [np.asarray(frame)[..., :3].mean() for frame in imageio.mimread(path)]
        assert np.allclose(frames, [20 + 20 * index for index in range(8)], atol=6)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["drive.gif", "drive.mp4"]
    assert imageio.get_reader(recorder.mp4).get_meta_data()["fps"] == 4


def test_gif_is_scaled_down_to_its_width(tmp_path: Path) -> None:
    with Recorder(tmp_path / "drive", fps=4, gif_width=32) as recorder:
        for picture in pictures(2):
            recorder.add(picture)
    assert np.asarray(imageio.mimread(recorder.gif)[0]).shape[:2] == (24, 32)


def test_an_error_leaves_nothing_behind_and_the_old_file_untouched(tmp_path: Path) -> None:
    (tmp_path / "drive.mp4").write_text("old")
    with pytest.raises(ValueError, match="expected uint8"), Recorder(tmp_path / "drive", fps=4) as recorder:  # noqa: PT012
        recorder.add(pictures(1)[0])
        recorder.add(pictures(1)[0][..., 0])
    assert [path.name for path in tmp_path.iterdir()] == ["drive.mp4"]
    assert (tmp_path / "drive.mp4").read_text() == "old"


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "drive", fps=4)
    with pytest.raises(ValueError, match=r"even H and W, found uint8 \(47, 64, 3\)"):
        recorder.add(np.zeros((47, 64, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="no picture was recorded"):
        recorder.close()
    recorder.add(pictures(1)[0])
    with pytest.raises(ValueError, match="shape of the first one"):
        recorder.add(np.zeros((50, 64, 3), dtype=np.uint8))
    recorder.discard()
    with pytest.raises(ValueError, match="fps"):
        Recorder(tmp_path / "drive", fps=0)
