"""A row of the kernel table: one operation on one shape, ours against rivals, its error, its floor and its bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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
        compiled: what makes such a way out of torch.compile; these come after all rows have their other figures.
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
    compiled: dict[str, Callable[[], Callable[[], Any]]] = field(default_factory=dict)


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
    """The call compiled for the shapes of one case alone."""
    return torch.compile(call, dynamic=False)


def run_cases(job: Job, cases: Iterable[Case]) -> dict[str, Any]:
    """Rows of all cases that fit into the time, then their compiled rivals; what is missing says why."""
    rows: list[dict[str, Any]] = []
    entries = list(cases)
    lost = False
    for case in entries:
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
    for case, row in zip(entries, rows, strict=True):
        if job.compile and not lost and "ms" in row and job.clock.left() > 0:
            measure_compiled(job, case.make(), row)
            lost = job.lost()
            job.keep({"rows": rows})
    return {"rows": rows}


def measure(job: Job, work: Work) -> dict[str, Any]:
    """Error, times, share of the floor and what was reached."""
    row: dict[str, Any] = {"error": work.error(), "ms": job.clock.milliseconds(work.ours)}
    row["rivals"] = {name: _time(job, call) for name, call in work.rivals.items()}
    row |= {"bytes": work.bytes, "flops": work.flops}
    if job.peaks:
        row["floor_ms"], row["bound"] = floor(job.peaks, work.bytes, work.flops, work.rate)
        row["share"] = row["floor_ms"] / row["ms"]
    return row | ({} if job.quick else judge(row, work.bars))


def measure_compiled(job: Job, work: Work, row: dict[str, Any]) -> None:
    """Add the compiled rivals to a row that `measure` gave, and judge it again."""
    for name, make in work.compiled.items():
        torch.compiler.reset()  # nothing is left of the case before
        row["rivals"][name] = _time(job, make())
        say(show(row))
    row |= {} if job.quick else judge(row, work.bars)


def _time(job: Job, call: Callable[[], Any]) -> dict[str, Any]:
    """Milliseconds of a rival, or of one that fails the error."""
    try:
        return {"ms": job.clock.milliseconds(call)}
    except Exception as error:  # torch.compile and out-of-memory fail in many ways
        return {"failed": first_line(error)}


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
