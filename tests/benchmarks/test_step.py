"""What the benchmarks of a step count: parts, operations, bytes that are alive, and cells that agree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import kernels
import kernels.dispatch
from models.interface import Chunk
from scenes.grid import AGENTS


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
    from step_costs import STEP, Counter, Counting
    from step_parts import around

    counter, simulator, x = Counter(), SimpleNamespace(model=Model()), torch.ones(8, 8)
    with around(simulator, counter.part), Counting(counter):
        simulator.model.advance(x.T)
    product, addition = 3 * 8 * 8 * 4, 2 * 8 * 8 * 4
    found = counter.found
    assert found["transformer, denoising"].flops == found[STEP].flops == 2 * 8**3
    assert found["transformer, denoising"].bytes == product, "the transposition moves nothing"
    assert found["world model"].bytes == product + addition
    assert found["world model"].operations == 2


def test_a_kernel_counts_as_one_operation() -> None:
    from step_costs import STEP, Counter, Counting

    counter = Counter({"memory": 1.0, "tf32": 3.0, "float32": 1.0})
    x, book = torch.randn(100, 1, 32), torch.randn(1, 16, 32)
    with Counting(counter):
        counter.kernel("nearest_code", kernels.nearest_code)(x, book)
    moved = 4 * (x.numel() + book.numel()) + 8 * 100
    assert set(counter.kinds) == {"kernel nearest_code"}
    assert counter.found[STEP] == counter.kinds["kernel nearest_code"]
    assert (counter.found[STEP].operations, counter.found[STEP].bytes) == (1, moved)
    assert counter.found[STEP].flops == 2 * 100 * 16 * 32
    assert counter.found[STEP].ms == pytest.approx(moved / 1e6), "a gigabyte takes a second, which is more than the FLOPs take"


def test_what_operations_move() -> None:
    from step_costs import STEP, Counter, Counting

    def moved(call: Callable[[], object]) -> float:
        counter = Counter()
        with Counting(counter):
            call()
        return counter.found[STEP].bytes

    x, where = torch.zeros(100, 8), torch.tensor([3, 5])
    row = 8 * 4
    assert moved(lambda: x[where]) == 2 * 2 * row + where.nbytes, "only what is found is read"
    assert moved(lambda: x.index_put_((where,), torch.ones(2, 8))) == pytest.approx(3 * 2 * row + where.nbytes)
    assert moved(lambda: x.copy_(x.clone())) == 4 * x.nbytes
    assert moved(lambda: x.zero_()) == x.nbytes
    assert moved(lambda: x.view(8, 100).T) == 0


def operations() -> dict[str, tuple]:
    """Arguments of kernels that unfused.py also has, at sizes that differ along all axes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    ids = torch.randint(0, 19, (11, 12), generator=generator, dtype=torch.uint8)
    agents = torch.randint(-1, 2, (2, 9, 7), generator=generator)
    agents = torch.where(agents < 0, agents, torch.tensor(AGENTS)[agents])
    return {
        "class_embedding": (ids, normal(18, 4), normal(24, 48), normal(24)),
        "classify_voxels": (normal(11, 24), (normal(96, 24), normal(96)), (normal(18, 8), normal(18)), normal(11, 12), ids),
        "connected_components": (agents,),
        "depthwise_norm": (normal(2, 9, 7, 24), (normal(24, 1, 5, 5), normal(24)), (normal(24), normal(24))),
        "feed_forward": (normal(2, 9, 24), normal(2, 9, 24), (normal(48, 24), normal(48)), (normal(24, 48), normal(24))),
        "nearest_code": (normal(50, 3, 4), normal(3, 16, 4)),
    }


@pytest.mark.parametrize("name", list(operations()))
def test_the_unfused_way_gives_the_same(name: str) -> None:
    import unfused

    given = operations()[name]
    expected, found = getattr(kernels, name)(*given), getattr(unfused, name)(*given)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(operations()))
def test_formulas_of_kernels(name: str) -> None:
    """FLOPs are those of the unfused operations; bytes are no more than those move, and no less than the result has."""
    import unfused
    from kernel_costs import COSTS
    from step_costs import STEP, Counter, Counting

    given, counter = operations()[name], Counter()
    cost = COSTS[name](*given)
    with Counting(counter):
        result = getattr(unfused, name)(*given)
    if name != "nearest_code":  # for so few codes torch.cdist takes differences, and no product
        assert cost.flops == counter.found[STEP].flops
    assert result.nbytes < cost.bytes <= counter.found[STEP].bytes


def test_a_step_is_counted_without_a_gpu(scripts: Path) -> None:
    """FLOPs of the transformer are those of its layers and of attention, written down here."""
    pytest.importorskip("triton")
    program = """
import step_count
result = step_count.count_all("mini", 2)
found = {row["part"]: row for row in result["rows"]}
tokens, width, depth, past, inputs, latent = 144, 256, 6, 4, 262, 64
layer = 24 * tokens * width**2 + 4 * tokens * (past + 1) * tokens * width
modulated = 12 * width**2  # one layer makes all six modulations of all blocks
ends = 2 * tokens * width * (inputs + latent) + 4 * width**2
once = depth * layer + ends + modulated
flops = round(1e9 * found["transformer, denoising"]["gflop"])
assert flops == 2 * 2 * once, (flops, 2 * 2 * once)
assert 0 < found["whole step"]["product_bound_ms"] < found["whole step"]["one_by_one_ms"]
assert found["whole step"]["one_by_one_ms"] >= found["whole step"]["bytes_ms"] * 0.999
"""
    succeeds(scripts, program)


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
ours, theirs = (step_memory.count("mini", 1, None, way) for way in ("kernels", "plain torch"))
assert ours["before"] == theirs["before"] > 0, (ours, theirs)
logits = 96 * 96 * 8 * 2 * 18 * 4 / (1 << 20)
assert theirs["step"] > logits > 0, theirs
assert 0 < ours["step"] < theirs["step"] - logits, (ours, theirs)
"""
    succeeds(scripts, program)


def succeeds(scripts: Path, program: str) -> None:
    """Run a program among the scripts, with kernels that are compiled and not interpreted."""
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
