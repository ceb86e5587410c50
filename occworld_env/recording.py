"""Pictures to MP4 and GIF: written beside their final name and renamed when complete."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np

GIF_WIDTH = 800  # pixels


class Recorder:
    """Collects pictures into `<stem>.mp4`, and into `<stem>.gif` when it closes.

    As a context manager it closes at the end of the block, and leaves nothing behind where the block raises.
    """

    def __init__(self, stem: str | os.PathLike[str], fps: float, gif_width: int = GIF_WIDTH) -> None:
        """stem: path without suffix, whose folder is made where it is missing. fps: pictures a second, in real time."""
        if fps <= 0:
            raise ValueError(f"fps: expected a positive number, found {fps}")
        self.mp4 = Path(f"{os.fspath(stem)}.mp4")
        self.gif = Path(f"{os.fspath(stem)}.gif")
        self.count = 0
        self._fps, self._gif_width = fps, gif_width
        self._partial = self.mp4.with_name(f".{self.mp4.stem}.partial.mp4")
        self._writer: Any = None
        self._shape: tuple[int, ...] = ()

    def add(self, image: np.ndarray) -> None:
        """Append image (H, W, 3), uint8, of even height and width; ValueError where its shape is not that of the first."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] % 2 or image.shape[1] % 2:
            raise ValueError(f"image: expected uint8 (H, W, 3) with even H and W, found {image.dtype} {image.shape}")
        if self._writer is None:
            self.mp4.parent.mkdir(parents=True, exist_ok=True)
            options: Any = {"fps": self._fps, "codec": "libx264", "macro_block_size": 1, "ffmpeg_log_level": "error"}
            self._writer = imageio.get_writer(self._partial, output_params=["-crf", "18"], **options)
            self._shape = image.shape
        if image.shape != self._shape:
            raise ValueError(f"image: expected the shape of the first one, {self._shape}, found {image.shape}")
        self._writer.append_data(image)
        self.count += 1

    def close(self) -> None:
        """Finish both files; raises ValueError where no picture was added, RuntimeError where ffmpeg fails."""
        if self._writer is None:
            raise ValueError(f"{self.mp4}: no picture was recorded")
        self._writer.close()
        self._writer = None
        _gif_from(self._partial, self.gif, self._gif_width)
        os.replace(self._partial, self.mp4)

    def discard(self) -> None:
        """Throw away what was recorded."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _gif_from(video: Path, gif: Path, width: int) -> None:
    """Turn a video into a GIF with one palette for all of it, so that colours do not flicker."""
    partial = gif.with_name(f".{gif.stem}.partial.gif")
    scale = f"scale='min({width},iw)':-2:flags=area"
    palette = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=none:diff_mode=rectangle"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-i", str(video)]
    done = subprocess.run(
        [*command, "-filter_complex", f"{scale},{palette}", str(partial)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        partial.unlink(missing_ok=True)
        raise RuntimeError(f"{gif}: ffmpeg could not write it: {done.stderr.strip()[-500:]}")
    os.replace(partial, gif)
