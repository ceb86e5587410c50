"""The kernels' own tests on the device, where they run the compiled kernels instead of Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_job import Job

_ROOT = Path(__file__).resolve().parents[1]
_QUICK = ["tests/kernels/test_noise.py"]
# Compiling ahead of time needs no GPU and is part of the suite anyway.
_ALL = ["tests/kernels", "--ignore=tests/kernels/test_compile_ahead.py"]


def run(job: Job) -> dict[str, Any]:
    """Numbers of tests by outcome, and the names of those that failed."""
    workers = min(8, len(os.sched_getaffinity(0)) // 2)
    spread = ["-n", str(workers)] if importlib.util.find_spec("xdist") and workers > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *(_QUICK if job.quick else _ALL), *spread, "-q", f"--junitxml={report}"]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        try:
            done = subprocess.run(
                command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=job.clock.left(), check=False
            )
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
            return {"failed": f"not done after {error.timeout:.0f} s", "tail": output.splitlines()[-10:]}
        if not report.is_file():
            return {"failed": f"pytest ended with {done.returncode}", "tail": (done.stdout + done.stderr).splitlines()[-10:]}
        return _read(report)


def _read(report: Path) -> dict[str, Any]:
    """The counts of a report in JUnit's format."""
    suites = list(xml.parse(report).getroot().iter("testsuite"))
    counts = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")}
    broken = [
        f"{case.get('classname')}.{case.get('name')}: {(problem.get('message') or '').splitlines()[0][:200]}"
        for suite in suites
        for case in suite.iter("testcase")
        for problem in (*case.findall("failure"), *case.findall("error"))
    ]
    return {
        "passed": counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"],
        "count": counts,
        "broken": broken,
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    if "count" in result:
        count = result["count"]
        yield f"{result['passed']} passed, {count['failures']} failed, {count['errors']} broken, {count['skipped']} skipped"
        yield from result["broken"]
    yield from result.get("tail", [])
