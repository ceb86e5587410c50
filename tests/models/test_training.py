"""Training: a killed run resumes to the same weights, a NaN stops it, and the losses go down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from models.checkpoint import Checkpoints, read_tensors
from models.latent_cache import LatentSequences
from models.pretrained import from_pretrained, load_agent_flow, load_tokenizer
from models.train_agent_flow import AgentFlowTask, flow_batch, train_agent_flow
from models.train_tokenizer import train_tokenizer
from models.train_world_model import WorldModelTask, train_world_model
from models.training import Trainer, TrainingConfig, own_generator
from scenes.dataset import SceneClips
from tests.models.small import CONFIG, GRID, history, make_street

SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from models.train_agent_flow import train_agent_flow
from models.train_tokenizer import train_tokenizer
from models.train_world_model import train_world_model
from models.training import TrainingConfig
from models.pretrained import load_agent_flow, load_tokenizer
from tests.models.small import CONFIG, make_street

out = Path(sys.argv[1])
scenes = [make_street()]
train_tokenizer(scenes, CONFIG, TrainingConfig(out / "tokenizer", steps=24, batch_size=2, warmup=4, save_every=4, log_every=4))
train_agent_flow(scenes, CONFIG, TrainingConfig(out / "flow", steps=24, batch_size=2, warmup=4, save_every=4, log_every=4))
train_world_model(
    scenes, load_tokenizer(out / "tokenizer"), load_agent_flow(out / "flow"), CONFIG,
    TrainingConfig(out / "world", steps=24, batch_size=2, warmup=4, save_every=4, log_every=4), sequences=4, chunks=6,
)
"""


def run(out: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env=environment, stdout=subprocess.DEVNULL)


def test_killed_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    """SIGKILL in the middle of each training; the resumed runs end with the very same bits."""
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    assert run(calm).wait() == 0
    for part, step in (("tokenizer", 8), ("flow", 8), ("world", 12)):
        process = run(torn)
        checkpoints = Checkpoints(torn / part / "checkpoints")
        while process.poll() is None and not any(done >= step for done in checkpoints.steps()):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"{part} ended before it could be killed"
    assert run(torn).wait() == 0
    for part in ("tokenizer", "flow", "world"):
        for name in ("weights", "average", "optimizer"):
            expected = read_tensors(calm / part / "checkpoints" / "step-00000024" / f"{name}.safetensors")
            found = read_tensors(torn / part / "checkpoints" / "step-00000024" / f"{name}.safetensors")
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[key], found[key]) for key in expected), f"{part} {name}"
    model = from_pretrained(torn / "world")
    assert model.cfg.transformer == CONFIG.transformer


class Exploding(nn.Module):
    """A model whose loss is NaN from step 7 on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, batch: Tensor, step: int) -> dict[str, Tensor]:
        loss = (self.weight * batch).square().sum()
        return {"loss": loss * float("nan") if step >= 7 else loss}


def test_nan_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The run stops before a NaN reaches the weights, and says where to go on from."""
    cfg = TrainingConfig(tmp_path, steps=20, save_every=3)
    trainer = Trainer(Exploding(), lambda step: torch.ones(2), lambda task: None, cfg)
    with pytest.raises(FloatingPointError, match="step-00000006"):
        trainer.run()
    weights = read_tensors(tmp_path / "checkpoints" / "step-00000006" / "weights.safetensors")
    assert torch.isfinite(weights["weight"]).all()


def test_time_budget_stops_with_a_checkpoint(tmp_path: Path) -> None:
    """When the time is up the run ends before its last step, and the step it came to is saved."""

    def slow_batch(step: int) -> Tensor:
        time.sleep(0.1)
        return torch.ones(2)

    trainer = Trainer(Exploding(), slow_batch, lambda task: None, TrainingConfig(tmp_path, steps=20, minutes=0.25 / 60))
    trainer.run()
    assert 0 < trainer.step < 20
    assert trainer.checkpoints.steps() == [trainer.step]


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    """A folder that holds a run with another schedule, or on other data, is refused, not mixed."""
    data = {"clips": 7, "shape": (2, 3)}
    first = Trainer(Exploding(), lambda step: torch.ones(2), lambda task: None, TrainingConfig(tmp_path, steps=4), data)
    first.run()
    Trainer(Exploding(), lambda step: torch.ones(2), lambda task: None, TrainingConfig(tmp_path, steps=4), data).run()
    more = Trainer(
        Exploding(), lambda step: torch.ones(2), lambda task: None, TrainingConfig(tmp_path, steps=4), data | {"clips": 8}
    )
    with pytest.raises(ValueError, match="clips=7, this run asks for clips=8"):
        more.run()
    for told, found in (({"steps": 5}, "steps=4, .*steps=5"), ({"optimizer": "adamw"}, "optimizer='muon', .*'adamw'")):
        settings = TrainingConfig(**{"out": tmp_path, "steps": 4} | told)
        again = Trainer(Exploding(), lambda step: torch.ones(2), lambda task: None, settings, data)
        with pytest.raises(ValueError, match=found):
            again.run()


def test_a_training_that_does_not_say_its_data_goes_on_with_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that an older version began; another schedule is refused as ever, and weights that do not fit are named."""

    def trainer(task: nn.Module, steps: int, further: dict[str, Any]) -> Trainer:
        return Trainer(task, lambda step: torch.ones(2), lambda task: None, TrainingConfig(tmp_path, steps=steps), further)

    trainer(Exploding(), 4, {}).run()
    told, notice = {"shape": (2, 3), "data": "a3"}, "does not say with which shape, data it was trained"
    again = trainer(Exploding(), 4, told)
    again.run()
    assert again.step == 4
    assert notice in capsys.readouterr().out
    with pytest.raises(ValueError, match="steps=4, this run asks for steps=5"):
        trainer(Exploding(), 5, told).run()
    with pytest.raises(ValueError, match=r"weights\.safetensors: weights do not fit the config"):
        trainer(Steep(), 4, told).run()


def test_the_model_is_there_before_its_checkpoint(tmp_path: Path) -> None:
    """Whoever is killed while the model is written makes the steps again, and the model with them."""
    done: list[int] = []

    def killed(task: torch.nn.Module) -> None:
        raise KeyboardInterrupt

    settings = TrainingConfig(tmp_path, steps=4)
    with pytest.raises(KeyboardInterrupt):
        Trainer(Exploding(), lambda step: torch.ones(2), killed, settings).run()
    Trainer(Exploding(), lambda step: torch.ones(2), lambda task: done.append(4), settings).run()
    assert done == [4]


@pytest.fixture
def other_precision() -> Iterator[None]:
    """accelerate keeps one precision a process: forget it before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("other_precision")
def test_mixed_precision_runs(tmp_path: Path) -> None:
    """A few steps in bfloat16 keep every figure finite, in all trainings."""
    scenes = [make_street()]

    def config(part: str) -> TrainingConfig:
        return TrainingConfig(tmp_path / part, steps=3, batch_size=2, warmup=1, log_every=1, precision="bf16")

    tokenizer = load_tokenizer(train_tokenizer(scenes, CONFIG, config("tokenizer")))
    flow = load_agent_flow(train_agent_flow(scenes, CONFIG, config("flow")))
    model = from_pretrained(train_world_model(scenes, tokenizer, flow, CONFIG, config("world"), sequences=2, chunks=4))
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values() if tensor.is_floating_point())


def test_training_learns(tmp_path: Path) -> None:
    """On one street the tokenizer reconstructs well, the flow sees the cars drive, and the world model's step from noise beats
    the past that is carried along."""
    scenes = [make_street()]
    cfg = TrainingConfig(tmp_path / "tokenizer", steps=150, batch_size=4, warmup=10, learning_rate=4e-2, save_every=150)
    tokenizer = load_tokenizer(train_tokenizer(scenes, CONFIG, cfg))
    occupancy, _ = history(scenes[0], 4)
    right = (tokenizer.reconstruct(occupancy[:, :2]) == occupancy[:, :2]).float().mean()
    assert float(right) > 0.95
    cfg = TrainingConfig(tmp_path / "flow", steps=60, batch_size=4, warmup=10, save_every=60)
    flow = load_agent_flow(train_agent_flow(scenes, CONFIG, cfg))
    clips = SceneClips(scenes, GRID, frames=6, seed=1)
    figures = AgentFlowTask(flow, 0.25, 0).eval()(flow_batch(clips, range(8), 4, 2), step=0)
    assert float(figures["moving"]) < 0.5 * 3.5
    cfg = TrainingConfig(tmp_path / "world", steps=60, batch_size=2, warmup=10, learning_rate=1e-2, save_every=60)
    folder = train_world_model(scenes, tokenizer, flow, CONFIG, cfg, sequences=16, chunks=6)
    parts = [LatentSequences.load(path) for path in sorted((folder / "latents").glob("part-*"))]
    batch, seed = LatentSequences.join(parts), 1
    task = WorldModelTask(from_pretrained(folder), seed).eval()
    with torch.no_grad():
        figures = task(batch, step=0)
    assert float(figures["from_noise"]) < 0.9 * float(figures["warp"])


def test_items_are_taken_in_turn_and_drawn_by_step(tmp_path: Path) -> None:
    """In turn they begin again after the last; drawn ones follow from the step."""
    trainer = Trainer(Steep(), lambda step: torch.ones(2), lambda task: None, TrainingConfig(tmp_path, batch_size=3))
    assert [trainer.in_turn(step, 7) for step in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]
    drawn = [trainer.at_random(step, 1000) for step in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_processes_draw_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of several processes draws as one alone does, the others differ."""
    alone = torch.rand(4, generator=own_generator(3, 5))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    found = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        found.append(torch.rand(4, generator=own_generator(3, 5)))
    assert torch.equal(found[0], alone)
    assert len({tuple(part.tolist()) for part in found}) == 3


class Apart(nn.Module):
    """Two layers, one of which is not for Muon."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.small = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3))
        self.small.without_muon = True


def test_modules_may_do_without_muon(tmp_path: Path) -> None:
    """Their matrices are AdamW's, as are all biases."""
    task = Apart()
    trainer = Trainer(task, lambda step: torch.ones(2), lambda task: None, TrainingConfig(tmp_path))
    held = [{id(weight) for group in part.param_groups for weight in group["params"]} for part in trainer.optimizers]
    assert held[0] == {id(task.plain.weight)}
    assert held[1] == {id(weight) for weight in (task.plain.bias, task.small[0].weight, task.small[0].bias)}


class Steep(nn.Module):
    """A model whose gradient is one everywhere, so that AdamW moves a weight by the learning rate in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(2, 2, bias=False)
        nn.init.zeros_(self.matrix.weight)

    def forward(self, batch: Tensor, step: int) -> dict[str, Tensor]:
        return {"loss": self.matrix.weight.sum()}


def test_adamw_alone_at_a_constant_rate(tmp_path: Path) -> None:
    """The papers' optimiser: matrices move by AdamW at the whole learning rate, which stays what it is."""
    cfg = TrainingConfig(
        tmp_path, steps=20, optimizer="adamw", schedule="constant", learning_rate=1e-3, warmup=0, weight_decay=0.0
    )
    trainer = Trainer(Steep(), lambda step: torch.ones(2), lambda task: None, cfg)
    trainer.run()
    weight = read_tensors(tmp_path / "checkpoints" / "step-00000020" / "weights.safetensors")["matrix.weight"]
    torch.testing.assert_close(weight, torch.full((2, 2), -20e-3))
