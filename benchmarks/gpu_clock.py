"""Timing on one device within a budget: by the device's own clock, cold caches, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

_FLUSH = 1 << 30  # bytes written before each timed call: more than any L2 holds, and long enough to queue the call meanwhile
_LEAST, _MOST = 5, 50  # calls that a median is taken of


@dataclass
class Clock:
    """Times calls on one device until `seconds` have passed since `begin`.

    Attributes:
        device: "cpu", "cuda" or "cuda:1".
        seconds: the budget. begin: when it started, as `time.perf_counter` has it.
        each: seconds that one median may take.
    """

    device: str
    seconds: float
    each: float = 0.25
    begin: float = field(default_factory=time.perf_counter)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.seconds - (time.perf_counter() - self.begin)

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def milliseconds(self, call: Callable[[], Any]) -> float:
        """Median time of a call after two that warm up; on a GPU its caches are cold and launching is not counted."""
        call(), call()
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        count = int(min(_MOST, max(_LEAST, self.each / max(time.perf_counter() - start, 1e-6))))
        return self._by_events(call, count) if self.on_gpu else self._by_wall(call, count)

    def replayed(self, call: Callable[[], Any]) -> float | None:
        """Median time of a call replayed as a CUDA graph, None on a CPU; raises RuntimeError where it cannot be captured."""
        if not self.on_gpu:
            return None
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call(), call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return self.milliseconds(graph.replay)

    def waited(self, call: Callable[[], Any], count: int) -> list[float]:
        """Milliseconds of each of up to `count` calls (three at the least) as whoever waits for their results sees them."""
        times: list[float] = []
        end = time.perf_counter() + 20 * self.each
        while len(times) < 3 or (len(times) < count and time.perf_counter() < end):
            start = time.perf_counter()
            call()
            self.wait()
            times.append(1000 * (time.perf_counter() - start))
        return times

    def _by_events(self, call: Callable[[], Any], count: int) -> float:
        pairs = []
        for _ in range(count):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self._flush.zero_()
            begin.record()
            call()
            end.record()
            pairs.append((begin, end))
        self.wait()
        return statistics.median(begin.elapsed_time(end) for begin, end in pairs)

    def _by_wall(self, call: Callable[[], Any], count: int) -> float:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)

    @cached_property
    def _flush(self) -> Tensor:
        return torch.empty(_FLUSH, dtype=torch.uint8, device=self.device)
