"""What every part of benchmarks/gpu.py is given, and what it does about failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_clock import Clock


@dataclass
class Job:
    """One part's order.

    Attributes:
        clock: the device and the time that this part has.
        quick: whether to take small sizes, to see that everything runs.
        compile: whether rivals are compiled by torch.compile too.
        peaks: measured ceilings, see gpu_ceilings.py; empty where they were not measured.
        out: folder for files beside the JSON.
        keep: stores the result as it is by now, for the case that the part is stopped.
    """

    clock: Clock
    quick: bool
    compile: bool
    peaks: dict[str, float]
    out: Path
    keep: Callable[[dict[str, Any]], None]

    @property
    def device(self) -> str:
        """The torch device to work on."""
        return self.clock.device

    def lost(self) -> bool:
        """Whether the device answers no more, as after an illegal access: then nothing else in this process can run on it."""
        try:
            self.clock.wait()
        except RuntimeError:
            return True
        return False


def first_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    words = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {words[0][:200]}"


def free(device: str) -> None:
    """Give memory that nothing uses back to the device."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
