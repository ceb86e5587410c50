"""What the benchmarks of a step count: parts, operations, bytes that are alive, and cells that agree."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import kernels
import kernels.dispatch
from models.interface import Chunk


class Model:
    """A world model of two parts."""

    def __init__(self) -> None:
        self.transformer = Transformer()

    def advance(self, x: torch.Tensor) -> torch.Tensor:
        """The part around the other."""
        return self.transformer.denoise(x) + 1


class Transformer:
    """The inner part."""

    def denoise(self, x: torch.Tensor) -> torch.Tensor:
        """One product."""
        return x @ x


def test_parts_are_opened_and_left_as_they_were() -> None:
    from step_parts import around

    simulator, seen = SimpleNamespace(model=Model()), []

    @contextmanager
    def enter(name: str):
        seen.append(name)
        yield
        seen.append(f"end of {name}")

    with around(simulator, enter):
        simulator.model.advance(torch.ones(2, 2))
    inner, outer = "transformer, denoising", "world model"
    assert seen == [outer, inner, f"end of {inner}", f"end of {outer}"]
    assert "advance" not in vars(simulator.model)
    assert "denoise" not in vars(simulator.model.transformer)


def test_operations_of_parts_are_counted() -> None:
    from gpu_roofline import STEP, Counter, _Counting
    from step_parts import around

    counter, simulator, x = Counter(), SimpleNamespace(model=Model()), torch.ones(8, 8)
    with around(simulator, counter.part), _Counting(counter):
        simulator.model.advance(x.T)
    product, addition = 3 * 8 * 8 * 4, 2 * 8 * 8 * 4
    found = counter.found
    assert found["transformer, denoising"].flops == found[STEP].flops == 2 * 8**3
    assert found["transformer, denoising"].bytes == product, "the transposition moves nothing"
    assert found["world model"].bytes == product + addition
    assert found["world model"].operations == 2


def test_a_kernel_counts_as_one_operation() -> None:
    from gpu_roofline import STEP, Counter, _Counting

    counter = Counter()
    x, book = torch.randn(100, 1, 32), torch.randn(1, 16, 32)
    with _Counting(counter):
        counter.kernel(kernels.nearest_code)(x, book)
    assert counter.found[STEP].operations == 1
    assert counter.found[STEP].bytes == 4 * (x.numel() + book.numel()) + 8 * 100
    assert counter.found[STEP].flops == 2 * 100 * 16 * 32


def test_definitions_are_put_back() -> None:
    from step_worlds import definitions

    before = kernels.dispatch.has_triton
    with definitions():
        assert not kernels.dispatch.has_triton()
        with definitions(False):
            assert kernels.dispatch.has_triton is before, "the innermost decides"
        assert not kernels.dispatch.has_triton()
    assert kernels.dispatch.has_triton is before


def test_live_bytes() -> None:
    pytest.importorskip("triton")
    from fake_gpu import fake_gpu
    from step_memory import Storages

    with fake_gpu(), Storages() as storages:
        x = torch.zeros(1000, device="cuda")
        y = x + 1
        view = y[2:5, None].view(-1)
        assert storages.live == 8000, "a view holds nothing of its own"
        del y
        assert storages.live == 8000, "but it keeps what it looks at"
        del view
        assert storages.live == 4000
        x = torch.relu(x + 1) * 2
        assert (storages.live, storages.peak) == (4000, 12000)


def test_kernels_need_less_memory(scripts: Path) -> None:
    pytest.importorskip("triton")
    program = """
import step_memory
ours, theirs = (step_memory.count("mini", 1, None, way) for way in ("kernels", "definitions, logits in memory"))
assert ours["before"] == theirs["before"] > 0, (ours, theirs)
logits = 96 * 96 * 8 * 2 * 18 * 4 / (1 << 20)
assert theirs["step"] > logits > 0, theirs
assert 0 < ours["step"] < theirs["step"] - logits, (ours, theirs)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join((str(scripts.parent), str(scripts)))
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_agreement_leaves_out_what_is_free_in_both() -> None:
    from gpu_agreement import Agreement

    tally, free = Agreement(), 17
    expected = Chunk(torch.tensor([1, 2], dtype=torch.int16), torch.tensor([17, 17, 3, 4, 5]))
    found = Chunk(torch.tensor([1, 9], dtype=torch.int16), torch.tensor([17, 6, 3, 17, 5]))
    tally.add(found, expected, free)
    assert tally.shares() == {"cells": 2 / 4, "codes": 1 / 2}
