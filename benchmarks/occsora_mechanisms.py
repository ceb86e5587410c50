"""OccSora's mechanisms on a scaled-down model of the same structure, trained on our scenes: prints tables and JSON.

    python benchmarks/occsora_mechanisms.py --scenes runs/mini/scenes --held-out runs/val --out runs/mechanisms \\
        --json runs/mechanisms/result.json

Held-out clips through the tokenizer and back in the course of its training, beside a lean tokenizer on the same clips and
steps and beside what knows the frequency of classes alone; the diffusion model as published, without trajectory and without
time-step embedding: how well each tells the noise in held-out clips, and clips that each generates; and the distance of
generated clips by the number of denoising steps.

Each training has a budget of minutes, from which its number of steps is derived once; the rest takes as long as it takes. A
run that was stopped goes on where it was: what a stage found is in `stages` in the output folder, trainings go on from their
checkpoints, and generated clips and descriptions are kept. docs/occsora.md has the plan of the time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import machine
import torch
import tyro
from occsora_mechanisms_clips import DISTURBED, Sets
from occsora_mechanisms_noise import compare_noise_errors
from occsora_mechanisms_plan import Config, clips_of, load_towns, make_plan, sampler_of
from occsora_mechanisms_tables import tables
from occsora_mechanisms_training import (
    class_frequency,
    encode_training_clips,
    reconstruction,
    train_extractor,
    train_one_tokenizer,
    train_variant,
)
from occsora_parts import counted, tokenizer_operations
from rich.console import Console
from torch._subclasses.fake_tensor import FakeTensorMode

from models.checkpoint import read_json, write_json
from models.occsora.config import occsora_preset
from models.occsora.pretrained import load_tokenizer
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.transformer import SIZES, ClipTransformer
from scenes.scene import Scene

REBUILT = 16  # held-out clips, at most, that each kept tokenizer rebuilds
_FREE = ("scenes", "held_out", "out", "threads", "json")  # settings that a run may go on with others of: the towns count


class Stages:
    """What was done, in a folder of one JSON file a stage: a stage that has its file is read, not done again.

    Raises ValueError where the folder was begun with other settings or other towns.
    """

    def __init__(self, config: Config, towns: list[str]) -> None:
        """towns: names of all that is trained and measured on."""
        self.folder = config.out / "stages"
        self.folder.mkdir(parents=True, exist_ok=True)
        asked = {name: value for name, value in settings(config).items() if name not in _FREE} | {"towns": towns}
        kept = self.run("settings", lambda: asked)
        changed = {name: f"{kept.get(name)} then, {value} now" for name, value in asked.items() if kept.get(name) != value}
        if changed:
            raise ValueError(f"--out: {config.out} was begun with other settings: {changed}")

    def run(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a stage found, and the seconds it took since it was last begun."""
        path = self.folder / f"{name.replace(',', '').replace(' ', '-').replace('%', 'percent')}.json"
        if not path.is_file():
            machine.say(name)
            begin = time.perf_counter()
            write_json(path, make() | {"seconds": round(time.perf_counter() - begin, 1)})
        return read_json(path)


def settings(config: Config) -> dict[str, Any]:
    """The configuration as JSON holds it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return plain


def operations(config: Config) -> dict[str, float]:
    """GFLOP a clip: to encode and decode with each tokenizer, and of one call of the transformer."""
    found = {}
    for name in (config.preset, config.lean):
        encode, lookup, decode = tokenizer_operations(occsora_preset(name))
        found |= {f"{name}, encode": round(encode + lookup, 3), f"{name}, decode": round(decode, 3)}
    preset = occsora_preset(config.preset)
    with FakeTensorMode():
        shape = OccSoraTokenizer(preset.grid, preset.tokenizer).latent_shape(preset.frames)
        noisy, trajectory = torch.empty(1, preset.tokenizer.latent_channels, *shape), torch.empty(1, preset.frames, 2)
        transformer = ClipTransformer(noisy.shape[1], shape, preset.frames, SIZES[config.transformer])
        found["denoise"] = round(counted(lambda: transformer(noisy, torch.empty(1, dtype=torch.int64), trajectory)), 3)
    return found


class Tokenizers:
    """Tokenizers that learn from the same clips in as many steps, and what they are measured on."""

    def __init__(self, config: Config, stages: Stages, scenes: list[Scene], held_out: list[Scene], steps: int) -> None:
        self.config, self.stages, self.scenes, self.held_out, self.steps = config, stages, scenes, held_out, steps

    @cached_property
    def clips(self) -> list[torch.Tensor]:
        """Held-out clips uint8 (T, X, Y, Z)."""
        rendered = clips_of(self.config, self.held_out, seed=self.config.seed + 1)
        return [rendered[index]["occupancy"] for index in range(min(REBUILT, self.config.clips))]

    def trained(self, name: str) -> dict[str, Any]:
        """How a tokenizer was trained, and each moment of its training on held-out clips."""
        settings = self.stages.run(f"train {name}", partial(train_one_tokenizer, self.config, name, self.scenes, self.steps))
        return settings | self.stages.run(f"rebuild with {name}", lambda: reconstruction(self.config, name, self.clips))

    def class_frequency(self) -> dict[str, Any]:
        """The baseline beside them."""
        return self.stages.run("class frequency", lambda: class_frequency(self.config, self.scenes, self.clips))


def train_diffusion_models(config: Config, stages: Stages, scenes: list[Scene], steps: int) -> dict[str, Any]:
    """The variants of the diffusion model, on the latents of the trained tokenizer."""
    tokenizer = load_tokenizer(config.out / config.preset)
    found = {"latents": stages.run("encode", lambda: encode_training_clips(config, tokenizer, scenes))}
    for name in config.variants:
        found[name] = stages.run(f"train {name}", partial(train_variant, config, name, tokenizer, scenes, steps))
    return found


def compare_sets(config: Config, stages: Stages, sets: Sets) -> dict[str, Any]:
    """All sets against the reference, and how much farther some are from it than others."""
    yardstick, beside = f"full, {config.samplers[0]}", f"full, {config.variant_sampler}"
    samplers = [f"full, {sampler}" for sampler in config.samplers]
    variants = [f"{variant}, {config.variant_sampler}" for variant in config.variants if variant != "full"]
    pairs = [(name, yardstick) for name in samplers[1:]] + [(name, beside) for name in variants]
    pairs += [(name, yardstick) for name in DISTURBED]
    found = {name: stages.run(f"compare {name}", partial(sets.compared, name)) for name in (*DISTURBED, *samplers, *variants)}
    farther = {name: stages.run(f"farther {name}", partial(sets.farther, name, than)) for name, than in pairs}
    return {"sets": found, "farther": farther, "fewest_steps": fewest_steps(config.samplers, farther)}


def fewest_steps(samplers: tuple[str, ...], farther: dict[str, Any]) -> dict[str, str]:
    """For each kind of features, the sampler of fewest steps that is not farther than the first, within the interval.

    Of samplers of one guidance: more of it is another model, not fewer steps.
    """
    found = {}
    alike = [name for name in samplers[1:] if sampler_of(name)[1] == sampler_of(samplers[0])[1]]
    for key in farther[f"full, {alike[0]}"]["by"] if alike else ():
        lows = {name: farther[f"full, {name}"]["by"][key]["low"] for name in alike}
        as_near = [name for name, low in lows.items() if low is not None and low <= 0]
        found[key] = min([samplers[0], *as_near], key=lambda name: sampler_of(name)[0].steps)
    return found


def measure(config: Config) -> dict[str, Any]:
    """Everything, as a dict that JSON can hold."""
    scenes, held_out = load_towns(config)
    stages = Stages(config, sorted(scene.source for scene in (*scenes, *held_out)))
    plan = stages.run("plan", lambda: make_plan(config))
    tokenizers = Tokenizers(config, stages, scenes, held_out, plan["tokenizer"])
    found = {config.preset: tokenizers.trained(config.preset), "class frequency": tokenizers.class_frequency()}
    diffusion = train_diffusion_models(config, stages, scenes, plan["diffusion"])
    noise = stages.run("noise errors", partial(compare_noise_errors, config, held_out))
    features = {}
    if config.features == "voxels":
        features = stages.run("train features", partial(train_extractor, config, scenes, plan["features"]))
    sets = Sets(config, held_out)
    compared = compare_sets(config, stages, sets)
    found[config.lean] = tokenizers.trained(config.lean)  # last, since nothing else depends on it
    extractor = {"name": sets.extractor.name, "sha256": sets.extractor.sha256, "origin": sets.extractor.origin}
    return {
        "config": settings(config),
        "operations_gflop": operations(config),
        "plan": plan,
        "towns": {"trained": len(scenes), "held_out": len(held_out)},
        "tokenizers": found,
        "diffusion": diffusion,
        "noise": noise,
        "features": extractor | features,
        **compared,
        **machine.describe(),
    }


def main(config: Config) -> None:
    """Train, generate, measure; print tables and write JSON where it is wanted."""
    torch.set_num_threads(config.threads)
    result = measure(config)
    console = Console(width=150)
    for table in tables(result):
        console.print(table)
    machine.write(result, config.json)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
