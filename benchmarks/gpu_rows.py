"""A row of the kernel table: one operation on one shape, ours against rivals, its error, its floor and its bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gpu_ceilings import floor
from gpu_job import Job, first_line, free
from machine import say


@dataclass(frozen=True)
class Bar:
    """What a row must reach: so many times a rival's speed, or, where rival is None, a share of the floor."""

    rival: str | None
    least: float

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.least:g} of the floor" if self.rival is None else f"{self.least:g}x {self.rival}"


@dataclass
class Work:
    """One operation on one set of numbers.

    Attributes:
        ours: the call as the models make it.
        rivals: other ways to the same result, by name.
        bytes: what must be moved at the least. flops: of the products that cannot be avoided. rate: see `floor`.
        error: how far `ours` is from a reference of higher precision, called before anything is timed.
        bars: what is asked of this row.
    """

    ours: Callable[[], Any]
    rivals: dict[str, Callable[[], Any]]
    bytes: float
    flops: float
    rate: str
    error: Callable[[], float]
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Case:
    """What identifies a row, and the call that sets it up."""

    kernel: str
    what: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Work]

    @property
    def labels(self) -> dict[str, Any]:
        """The row's first columns."""
        kind = str(self.dtype).removeprefix("torch.")
        return {"kernel": self.kernel, "what": self.what, "shape": list(self.shape), "type": kind}


def compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call compiled for the shapes of this case alone, with nothing left from the case before."""
    torch.compiler.reset()
    return torch.compile(call, dynamic=False)


def run_cases(job: Job, cases: Iterator[Case]) -> dict[str, Any]:
    """Rows of all cases that fit into the time; the others say why they are missing."""
    rows: list[dict[str, Any]] = []
    lost = False
    for case in cases:
        if lost or job.clock.left() <= 0:
            why = "the device answers no more" if lost else "the time of this part was spent"
            rows.append({**case.labels, "skipped": why})
            continue
        try:
            rows.append({**case.labels, **measure(job, case.make())})
        except Exception as error:  # a kernel that fails must not hide what the others do
            rows.append({**case.labels, "failed": first_line(error)})
            lost = job.lost()
        say(show(rows[-1]))
        free(job.device)
        job.keep({"rows": rows})
    return {"rows": rows}


def measure(job: Job, work: Work) -> dict[str, Any]:
    """Error, times, share of the floor and what was reached; of a rival that fails, the error instead of a time."""
    row: dict[str, Any] = {"error": work.error(), "ms": job.clock.milliseconds(work.ours), "rivals": {}}
    for name, call in work.rivals.items():
        try:
            row["rivals"][name] = {"ms": job.clock.milliseconds(call)}
        except Exception as error:  # torch.compile and out-of-memory fail in many ways
            row["rivals"][name] = {"failed": first_line(error)}
            if job.lost():
                break
    row |= {"bytes": work.bytes, "flops": work.flops}
    if job.peaks:
        row["floor_ms"], row["bound"] = floor(job.peaks, work.bytes, work.flops, work.rate)
        row["share"] = row["floor_ms"] / row["ms"]
    return row | ({} if job.quick else judge(row, work.bars))


def judge(row: dict[str, Any], bars: tuple[Bar, ...]) -> dict[str, Any]:
    """Each bar with whether it was met, and `meets` for all of them; a bar whose rival has no time is not decided: None."""
    if not bars:
        return {}
    found: dict[str, bool | None] = {}
    for bar in bars:
        reached = row.get("share")
        if bar.rival is not None:
            rival = row["rivals"].get(bar.rival, {}).get("ms")
            reached = None if rival is None else rival / row["ms"]
        found[bar.name] = None if reached is None else reached >= bar.least
    verdict = False if False in found.values() else None if None in found.values() else True
    return {"bars": found, "meets": verdict}


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    shape = "x".join(map(str, row["shape"]))
    words = f"{row['kernel']:<20} {row['what']:<34} {shape:<18} {row['type']:<9}"
    if "ms" not in row:
        return words + (row.get("failed") or row.get("skipped") or "")
    figures = f"{row['ms']:>9.4f} ms  error {row['error']:.1e}"
    if "share" in row:
        figures += f"  {row['share']:.2f} of the floor ({row['bound']})"
    for name, rival in row["rivals"].items():
        figures += f"  {name} " + (f"x{rival['ms'] / row['ms']:.2f}" if "ms" in rival else rival["failed"])
    if "bars" in row:
        words_of = {True: "yes", False: "NO", None: "open"}
        figures += "  " + ", ".join(f"{name}: {words_of[met]}" for name, met in row["bars"].items())
    return words + figures


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    for row in result["rows"]:
        yield show(row)
