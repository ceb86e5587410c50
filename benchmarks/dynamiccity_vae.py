"""The ablations of DynamicCity's VAE on our scenes: Projection Module or means, Expansion & Squeeze or per-point queries.

    python benchmarks/dynamiccity_vae.py --scenes runs/mini/scenes --held-out runs/val --out runs/dynamiccity --steps 600
    python benchmarks/dynamiccity_vae.py --scenes runs/val --held-out runs/val --out runs/try --steps 2 --clips 1

Four VAEs of one preset, which differ in nothing else, are trained on the same clips for as many steps; their planes are of
one size. Each is trained by a process of its own, and a run that was stopped goes on where it was. Then each reconstructs
the same clips of held-out scenes. Printed for each: weights, mIoU over classes and IoU of occupied cells, seconds of a
training step and the memory it takes. Steps are timed afterwards, the four in turn, since they were not all trained beside
the same neighbours; memory is the highest that a process of its own had while it did one, less what it had before.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from machine import describe, say, write

from models.dynamiccity.config import HexPlaneConfig, hexplane_preset
from models.dynamiccity.pretrained import load_vae
from models.dynamiccity.train_vae import VaeLossConfig, VaeTask, short_training, train_vae
from models.dynamiccity.vae import HexPlaneVae
from models.metrics import class_iou, confusion, iou_occupied, miou
from scenes.dataset import SceneClips
from scenes.grid import Grid
from scenes.scene import Scene
from scenes.scene_file import load_scenes

FRAME_SECONDS = 0.25  # as the presets of these sizes have it
VARIANTS: dict[str, tuple[Literal["module", "average"], Literal["ess", "query"]]] = {
    "module+ess": ("module", "ess"),
    "average+ess": ("average", "ess"),
    "module+query": ("module", "query"),
    "average+query": ("average", "query"),
}


@dataclass(frozen=True)
class Config:
    """What to train and measure."""

    scenes: Path
    """Folder of scenes to train on."""
    held_out: Path
    """Folder of scenes of other towns, to measure on."""
    out: Path
    """Folder of the runs, one a variant."""
    preset: str = "dynamiccity-near"
    """Preset of models/dynamiccity/config.py."""
    trained: tuple[str, ...] = tuple(VARIANTS)
    """Variants that are trained; of the others only time and memory of a step are told."""
    steps: int = 2000
    """Training steps of each variant."""
    batch_size: int = 1
    """Clips a step."""
    clips: int = 32
    """Held-out clips that are reconstructed."""
    rounds: int = 3
    """Training steps of each variant that are timed."""
    threads: int = 2
    """CPU threads."""
    seed: int = 0
    """Of weights, clips and everything else."""
    only: str = ""
    """Train this variant and end; what the script calls itself with."""
    memory: str = ""
    """Do one step of this variant, print the memory it took in MiB, and end; likewise."""
    json: str = ""
    """Where to write JSON: a file, - for standard output, or nowhere."""


def shape_of(config: Config, name: str) -> tuple[Grid, HexPlaneConfig]:
    """Grid and shape of a variant."""
    projection, decoder = VARIANTS[name]
    grid, shape = hexplane_preset(config.preset)
    return grid, replace(shape, projection=projection, decoder=decoder)


def folder_of(config: Config, name: str) -> Path:
    """Where a variant's run lies."""
    return config.out / name.replace("+", "-")


def train(config: Config, name: str) -> None:
    """Train a variant to the end, from where it was."""
    scenes = load_scenes(config.scenes)
    settings = short_training(
        folder_of(config, name),
        config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        warmup=min(100, config.steps // 10 + 1),
    )
    grid, shape = shape_of(config, name)
    train_vae(SceneClips(scenes, grid, FRAME_SECONDS, shape.frames, seed=settings.seed), shape, settings)


class Steps:
    """Training steps of a variant on random voxels, for their cost, which does not depend on what is in them."""

    def __init__(self, config: Config, name: str) -> None:
        torch.manual_seed(config.seed)
        grid, shape = shape_of(config, name)
        share = torch.full((grid.num_classes,), 1 / grid.num_classes)
        self.task = VaeTask(HexPlaneVae(grid, shape), share, VaeLossConfig(), config.seed)
        size = (config.batch_size, shape.frames, *grid.shape)
        self.clips = torch.randint(grid.num_classes, size, dtype=torch.uint8)
        self.optimizer = torch.optim.Adam(self.task.parameters(), lr=1e-3)

    def step(self) -> None:
        """One step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.task(self.clips, 0)["loss"].backward()
        self.optimizer.step()

    def seconds(self) -> tuple[float, float]:
        """Seconds of the clock and of all processors that one step takes."""
        clock, processors = time.perf_counter(), time.process_time()
        self.step()
        return time.perf_counter() - clock, time.process_time() - processors


def peak_mib() -> float:
    """The most memory this process ever had, in MiB."""
    status = Path("/proc/self/status")  # since what getrusage tells of a process begins with what its parent had
    if status.is_file():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / (1 << 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform == "linux" else 1 << 20)


def own_process(config: Config, **changes: Any) -> str:
    """Standard output of this script with other settings."""
    given = {name: value for name, value in vars(replace(config, json="", **changes)).items() if value not in ("", ())}
    arguments: list[str] = []
    for name, value in given.items():
        arguments += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


@torch.no_grad()
def reconstruct(config: Config, name: str, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Quality of a variant on clips of held-out scenes."""
    vae = load_vae(folder_of(config, name))
    clips = SceneClips(scenes, vae.grid, FRAME_SECONDS, vae.cfg.frames, seed=config.seed + 1)
    total = torch.zeros(vae.grid.num_classes, vae.grid.num_classes, dtype=torch.int64)
    for index in range(config.clips):
        truth = clips[index]["occupancy"]
        total += confusion(truth, vae.reconstruct(truth.unsqueeze(0))[0], vae.grid.num_classes)
    classes = dict(zip(vae.grid.classes, class_iou(total).nan_to_num(-1).tolist(), strict=True))
    return {"miou": miou(total), "iou": iou_occupied(total), "classes": {k: v for k, v in classes.items() if v >= 0}}


def measure(config: Config) -> dict[str, Any]:
    """Everything, as a dict that JSON can hold."""
    for name in config.trained:
        say(f"training {name}")
        own_process(config, only=name)
    held_out = load_scenes(config.held_out)
    steps = {name: Steps(config, name) for name in VARIANTS}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for _ in range(config.rounds + 1):
        for name, one in steps.items():
            times[name].append(one.seconds())
    rows = []
    for name in VARIANTS:
        say(f"measuring {name}")
        clock, processors = (min(run[kind] for run in times[name][1:]) for kind in (0, 1))
        row = {"name": name, "weights": sum(part.numel() for part in steps[name].task.vae.parameters())}
        row |= {"step_seconds": clock, "step_cpu_seconds": processors}
        row |= {"step_mib": float(own_process(config, memory=name))}
        row |= reconstruct(config, name, held_out) if name in config.trained else {"miou": None, "iou": None}
        rows.append(row)
    return {"preset": config.preset, "steps": config.steps, "clips": config.clips, "variants": rows, **describe()}


def table(result: dict[str, Any]) -> str:
    """The result to read."""
    lines = [
        f"{result['preset']}, {result['steps']} steps, {result['clips']} held-out clips",
        f"  {'':16}{'weights':>10}{'mIoU':>8}{'IoU':>8}{'s a step':>10}{'cpu s':>8}{'MiB a step':>12}",
    ]
    for row in result["variants"]:
        cost = f"{row['step_seconds']:>10.2f}{row['step_cpu_seconds']:>8.2f}{row['step_mib']:>12.0f}"
        quality = "".join(f"{'-' if row[name] is None else f'{100 * row[name]:.2f}':>8}" for name in ("miou", "iou"))
        lines.append(f"  {row['name']:16}{row['weights']:>10,}{quality}{cost}")
    return "\n".join(lines)


def main() -> None:
    """Train, measure, print the table, and write JSON where asked."""
    config = tyro.cli(Config, description=__doc__)
    torch.set_num_threads(config.threads)
    unknown = [name for name in config.trained if name not in VARIANTS]
    if unknown:
        raise ValueError(f"--trained: expected some of {list(VARIANTS)}, found {unknown}")
    if config.only:
        train(config, config.only)
    elif config.memory:
        steps = Steps(config, config.memory)
        before = peak_mib()
        steps.step()
        print(peak_mib() - before)
    else:
        result = measure(config)
        print(table(result))
        write(json.loads(json.dumps(result)), config.json)


if __name__ == "__main__":
    main()
