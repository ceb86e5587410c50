"""Episodes spread over processes and machines by ray: what a lost worker was driving is driven again by another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agents.evaluation.episode import Episode
from agents.evaluation.runner import Job, drive

RETRIES = 4  # times that an episode is begun again when the worker that drives it is lost


@contextmanager
def cluster(workers: int, address: str | None, threads: int = 1) -> Iterator[None]:
    """Ray with `workers` workers on this machine, or the cluster at `address`; left again at the end of the block.

    Raises ImportError where ray is not installed, ConnectionError where no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as ray's own warning asks
    os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # ray would put a function of its own in the place of Python's print
    os.environ.setdefault("RAY_worker_niceness", "0")  # ray's 15 would let anything else on the machine go first
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(address="local", num_cpus=workers * threads, include_dashboard=False, **quiet)
    else:
        ray.init(address=address, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def drive_on_ray(jobs: list[Job], workers: int) -> Iterator[Episode]:
    """Drive episodes on the ray of `cluster`, given as they finish; raises RuntimeError where workers are lost again and again.

    workers: how many share a GPU, where the worlds live on one.
    """
    import ray

    jobs_of: dict[Any, Job] = {}
    task = ray.remote(max_retries=RETRIES)(drive)
    for job in jobs:
        share = 1.0 / max(workers, 1) if job.settings.device.startswith("cuda") else 0.0
        jobs_of[task.options(num_cpus=job.threads, num_gpus=share).remote(job)] = job
    waiting = list(jobs_of)
    while waiting:
        ready, waiting = ray.wait(waiting)
        for reference in ready:
            job = jobs_of.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                where = f"{job.planner} in {job.world}, episode {job.place.number}"
                raise RuntimeError(f"{where}: its worker was lost {RETRIES + 1} times") from error
