"""One training loop for every model: mixed precision and several GPUs, a time budget, checkpoints and exact resume.

All randomness of a step follows from (seed, step), so a run that was killed and resumed ends with the same weights, bit for
bit on the CPU, as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from models.checkpoint import Checkpoints, load_weights, read_json, read_tensors
from models.muon import Muon

if TYPE_CHECKING:
    from accelerate import PartialState

_FREE = ("out", "minutes", "save_every", "log_every")  # settings that a training may go on with others of
ADAMW_SHARE = 0.2  # Muon's updates have 0.2 of the size of AdamW's at one learning rate


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        out: folder of the run: checkpoints, TensorBoard logs and the finished model.
        steps: optimiser steps in all; the learning rate's schedule spans them.
        batch_size: samples a step and process.
        optimizer: "muon", for the weights of linear layers and of convolutions between all channels, with AdamW for the rest
            and for modules whose class has `without_muon`; or "adamw" for everything.
        learning_rate: peak of the schedule; beside Muon, AdamW's is a fifth of it.
        schedule: after the warm-up, "cosine" down to a twentieth, or "constant".
        warmup: steps of linear warm-up.
        weight_decay: decoupled, of Muon, or of AdamW where that is alone.
        clip: largest norm of the gradient.
        ema_decay: of the moving average of the weights, which is what is saved as the model.
        minutes: stop, with a checkpoint, after this wall time; None for no budget.
        save_every: steps between checkpoints.
        log_every: steps between logged figures.
        seed: of all randomness.
        precision: "no" for float32, "bf16" for mixed precision on a GPU.
    """

    out: Path
    steps: int = 2000
    batch_size: int = 8
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 2e-2
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    ema_decay: float = 0.995
    minutes: float | None = None
    save_every: int = 200
    log_every: int = 10
    seed: int = 0
    precision: str = "no"


class Clips(Protocol):
    """Where training clips come from: item i is a dict with `occupancy` uint8 (T, X, Y, Z) and `motion` float32 (T, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


def processes() -> PartialState:
    """The processes of this training, joined by the first call; each has a `device` of its own.

    Raises ModuleNotFoundError without accelerate.
    """
    try:
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("training needs accelerate: pip install 'occsora-gym[train]'") from error
    # What `accelerate launch --cpu` sets is heeded by Accelerator, but not by PartialState, which must then be told.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def step_generator(seed: int, step: int) -> torch.Generator:
    """CPU generator that depends on (seed, step) alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 2 + 1)


def own_generator(seed: int, step: int) -> torch.Generator:
    """The same, another one on each process: what each draws for its own samples."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    # An odd offset far from other seeds: torch's CPU generator takes 32 bits of what it is seeded with.
    return step_generator(seed + 7_368_787 * (torch.distributed.get_rank() if distributed else 0), step)


def _optimizers(task: nn.Module, cfg: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Those of `cfg.optimizer`; "peak" is each group's own share of the learning rate."""
    if cfg.optimizer == "adamw":
        learned = [parameter for parameter in task.parameters() if parameter.requires_grad]
        return [torch.optim.AdamW([{"params": learned, "peak": cfg.learning_rate, "weight_decay": cfg.weight_decay}])]
    matrices = [layer.weight for layer in _layers(task) if layer.weight.requires_grad]
    chosen = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in task.parameters() if parameter.requires_grad and id(parameter) not in chosen]
    groups = {
        Muon: [{"params": matrices, "peak": cfg.learning_rate, "weight_decay": cfg.weight_decay}],
        torch.optim.AdamW: [{"params": others, "peak": ADAMW_SHARE * cfg.learning_rate, "weight_decay": 0.0}],
    }
    return [kind(group) for kind, group in groups.items() if group[0]["params"]]


def _layers(module: nn.Module) -> Iterator[nn.Linear | nn.Conv3d]:
    """Layers that Muon trains: all that mix channels, but those of a module that says it is to be trained `without_muon`."""
    if getattr(module, "without_muon", False):
        return
    if _mixes_channels(module):
        yield module
    for child in module.children():
        yield from _layers(child)


def _mixes_channels(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv3d]:
    """Whether the weight is a matrix from all input channels to all output channels, at each tap of a kernel if it has one."""
    convolutions = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return isinstance(layer, nn.Linear) or (isinstance(layer, convolutions) and layer.groups == 1)


class Trainer:
    """Runs `task`, a module whose forward takes (batch, step) and returns figures, "loss" among them.

    make_batch(step) gives the batch of a step on this process; it must depend on nothing but the step and the rank.
    export(task) writes the finished model; it is called with the averaged weights in place. further: settings beside those of
    the configuration that a training may not go on with others of, as JSON holds them.
    """

    def __init__(
        self,
        task: nn.Module,
        make_batch: Callable[[int], Any],
        export: Callable[[nn.Module], None],
        cfg: TrainingConfig,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        processes()
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        self.cfg, self.make_batch, self.export = cfg, make_batch, export
        self.further = json.loads(json.dumps(further or {}))
        handler = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        self.accelerator = Accelerator(mixed_precision=cfg.precision, kwargs_handlers=[handler])
        self.task = task
        self.parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
        self.model = self.accelerator.prepare(task)
        self.optimizers = [self.accelerator.prepare(optimizer) for optimizer in _optimizers(task, cfg)]
        self.learned = {name for name, parameter in task.named_parameters() if parameter.requires_grad}
        self.average = {name: tensor.detach().clone() for name, tensor in task.state_dict().items()}
        self.checkpoints = Checkpoints(cfg.out / "checkpoints")
        self.step = 0

    def run(self) -> None:
        """Train to the last step or the end of the time budget, from the newest checkpoint if there is one."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._resume()
        writer = self._writer()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        begin, last_saved = time.monotonic(), self.step
        with Progress(*columns, disable=not self.accelerator.is_main_process) as progress:
            bar = progress.add_task("training", total=self.cfg.steps, completed=self.step)
            while self.step < self.cfg.steps and not self._out_of_time(begin):
                figures = self._train_step()
                if self.step % self.cfg.log_every == 0:
                    self._check_finite(figures)
                    description = " ".join(f"{name} {float(value):.3f}" for name, value in figures.items())
                    progress.update(bar, description=description)
                    for name, value in figures.items() if writer is not None else ():
                        writer.add_scalar(name, float(value), self.step)
                progress.update(bar, completed=self.step)
                if self.step % self.cfg.save_every == 0:
                    self._save()
                    last_saved = self.step
        if last_saved != self.step:
            self._save()
        if writer is not None:
            writer.close()

    def in_turn(self, step: int, count: int) -> list[int]:
        """Which of `count` items this process takes in a step, one after the other; after the last comes the first."""
        first = (step * self.accelerator.num_processes + self.accelerator.process_index) * self.cfg.batch_size
        return [index % count for index in range(first, first + self.cfg.batch_size)]

    def at_random(self, step: int, count: int) -> Tensor:
        """Which of `count` items this process takes in a step, int64 (batch_size,), drawn at random."""
        size = self.accelerator.num_processes, self.cfg.batch_size
        return torch.randint(count, size, generator=step_generator(self.cfg.seed + 1, step))[self.accelerator.process_index]

    def _train_step(self) -> dict[str, Tensor]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self._schedule()
            optimizer.zero_grad(set_to_none=True)
        self.model.train()
        figures = self.model(self.make_batch(self.step), self.step)
        self.accelerator.backward(figures["loss"])
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.cfg.clip)
        if not math.isfinite(float(norm)):
            self._stop_on_nan()
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        decay = min(self.cfg.ema_decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.task.state_dict().items():
            # Only what the optimiser moves is averaged: codebooks are moving averages already, and revived codes jump.
            average = self.average[name]
            average.lerp_(tensor, 1 - decay) if name in self.learned else average.copy_(tensor)
        return {name: value.detach() for name, value in figures.items()} | {"gradient_norm": norm}

    def _schedule(self) -> float:
        """Share of the peak learning rate at this step."""
        if self.step < self.cfg.warmup:
            return (self.step + 1) / self.cfg.warmup
        if self.cfg.schedule == "constant":
            return 1.0
        share = (self.step - self.cfg.warmup) / max(self.cfg.steps - self.cfg.warmup, 1)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def _out_of_time(self, begin: float) -> bool:
        """Whether the budget is spent, by the clock of the main process, so that all stop at the same step."""
        if self.cfg.minutes is None:
            return False
        from accelerate.utils import broadcast

        spent = int(time.monotonic() - begin > self.cfg.minutes * 60)
        return bool(broadcast(torch.tensor(spent, device=self.accelerator.device)))

    def _check_finite(self, figures: dict[str, Tensor]) -> None:
        if not all(math.isfinite(float(value)) for value in figures.values()):
            self._stop_on_nan()

    def _stop_on_nan(self) -> None:
        steps = self.checkpoints.steps()
        good = str(self.checkpoints.path(steps[-1])) if steps else "none was written yet"
        raise FloatingPointError(f"training: NaN or infinity at step {self.step}; last good checkpoint: {good}")

    def _save(self) -> None:
        """Write model and checkpoint on the main process; the others wait, since they may read them next."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._write()
        self.accelerator.wait_for_everyone()

    def _write(self) -> None:
        # The model first: whoever is killed between the two makes these steps again, and the model with them.
        current = {name: tensor.detach().clone() for name, tensor in self.task.state_dict().items()}
        self.task.load_state_dict(self.average)
        self.export(self.task)
        self.task.load_state_dict(current)
        tensors = {"weights": self.task.state_dict(), "optimizer": self._optimizer_tensors()}
        if self.cfg.ema_decay:  # without it the average is the weights
            tensors["average"] = self.average
        self.checkpoints.save(self.step, tensors, {"step": self.step, "settings": self._lasting()})

    def _lasting(self) -> dict[str, Any]:
        """Settings that all parts of a training share, as JSON holds them."""
        return {name: value for name, value in vars(self.cfg).items() if name not in _FREE} | self.further

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {
            f"{number}.{index}.{name}": value
            for number, optimizer in enumerate(self.optimizers)
            for index, entry in optimizer.state_dict()["state"].items()
            for name, value in entry.items()
        }

    def _load_optimizers(self, tensors: dict[str, Tensor]) -> None:
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
        for key, value in tensors.items():
            number, index, name = key.split(".", 2)
            states[int(number)].setdefault(int(index), {})[name] = value
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def _resume(self) -> None:
        steps = self.checkpoints.steps()
        if not steps:
            return
        folder = self.checkpoints.path(steps[-1])
        state = read_json(folder / "state.json")
        then, now = state.get("settings", {}), self._lasting()
        if self.further and not self.further.keys() & then.keys():
            # An older version of us began it, and noted the schedule alone.
            asked = ", ".join(self.further)
            self.accelerator.print(f"{folder}: does not say with which {asked} it was trained; taken to be those of this run")
            then = then | self.further
        if differ := [name for name in now if then.get(name) != now[name]]:
            was, asked = (", ".join(f"{name}={told.get(name)!r}" for name in differ) for told in (then, now))
            expected = "choose another --out or the same settings"
            raise ValueError(f"{folder}: was trained with {was}, this run asks for {asked}; {expected}")
        weights = folder / "weights.safetensors"
        load_weights(self.task, read_tensors(weights), str(weights))
        device = self.accelerator.device
        average = folder / "average.safetensors" if self.cfg.ema_decay else weights
        self.average = {name: tensor.to(device) for name, tensor in read_tensors(average).items()}
        self._load_optimizers(read_tensors(folder / "optimizer.safetensors"))
        self.step = int(state["step"])
        self.accelerator.print(f"resumed from {folder}")

    def _writer(self) -> Any:
        """Where figures go, on the main process; None on the others."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("training logs need tensorboard: pip install 'occsora-gym[train]'") from error
        if not self.accelerator.is_main_process:
            return None
        return SummaryWriter(self.cfg.out / "logs", purge_step=self.step)
