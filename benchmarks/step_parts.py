"""The parts of a simulator's step, and running something around each of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

# Path from the simulator to what is timed, and the method; deeper parts are contained in the ones above them.
PARTS = {
    "what is seen next, imagined or true": ("", "_imagine"),
    "world model": ("model", "advance"),
    "agents' flow": ("model.flow", "velocity"),
    "encoder (carried past, shown chunk)": ("model.tokenizer", "encode"),
    "transformer, denoising": ("model.transformer", "denoise"),
    "transformer, writing the cache": ("model.transformer", "write"),
    "snapping": ("model.tokenizer", "snap"),
    "decoder and blend": ("model.blend", "forward"),
    "observation": ("", "observe"),
    "collision and off-road": ("", "_events"),
}


@contextmanager
def around(simulator: Any, enter: Callable[[str], AbstractContextManager[Any]]) -> Iterator[None]:
    """While open, each call of one of PARTS runs within `enter(name)`; parts that this model lacks are left out."""
    wrapped = []
    for name, (path, method) in PARTS.items():
        owner = simulator
        for step in filter(None, path.split(".")):
            owner = getattr(owner, step, None)
        if hasattr(owner, method):
            setattr(owner, method, _wrap(getattr(owner, method), name, enter))
            wrapped.append((owner, method))
    try:
        yield
    finally:
        for owner, method in wrapped:
            delattr(owner, method)


@contextmanager
def timed(simulator: Any, device: str) -> Iterator[dict[str, float]]:
    """Seconds spent in each of PARTS while the context is open."""
    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def clock(name: str) -> Iterator[None]:
        finish(device)
        begin = time.perf_counter()
        yield
        finish(device)
        spent[name] += time.perf_counter() - begin

    with around(simulator, clock):
        yield spent


def finish(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _wrap(method: Callable[..., Any], name: str, enter: Callable[[str], AbstractContextManager[Any]]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with enter(name):
            return method(*args, **kwargs)

    return call
