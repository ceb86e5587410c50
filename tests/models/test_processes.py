"""Trainings on two processes that talk over gloo on the CPU: they share the encoding, and neither reads what is half there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from models import encoded_parts
from models import train_world_model as mini
from models.dynamiccity import train_diffusion as dynamiccity
from models.occsora import train_diffusion, train_world_model as occsora
from models.occsora.config import OccSoraPreset
from models.occsora.presets import WorldPreset
from models.pretrained import from_pretrained
from models.training import TrainingConfig
from scenes.dataset import SceneClips
from tests.models.dynamiccity import small, small_world
from tests.models.dynamiccity.test_train_diffusion import Clips
from tests.models.occsora.small import GRID, LEAN, make_tokenizer
from tests.models.occsora.world import BLOCKS
from tests.models.small import CONFIG, make_model, make_street

torch.set_num_threads(1)
out, encoded_parts.PART = Path(sys.argv[1]), 1


def slowly(module, name):
    # Whoever does not wait comes too early.
    write = getattr(module, name)
    setattr(module, name, lambda *arguments: (time.sleep(0.5), write(*arguments)))


def logged(build):
    # Which items this process encodes.
    def noted(kind, encode, count, folder, origin):
        def encode_noted(indices):
            with (out / f"encoded-{os.environ['RANK']}").open("a") as file:
                file.write(f"{kind.__name__} {indices[0]}\\n")
            return encode(indices)

        return build(kind, encode_noted, count, folder, origin)

    return noted


def config(name):
    return TrainingConfig(out / name, steps=2, batch_size=1, warmup=1, save_every=2, log_every=1)


slowly(train_diffusion, "save_diffusion")
for module in (occsora, dynamiccity, mini):
    slowly(module, "save_pretrained")
for module in map(sys.modules.get, ("models.occsora.latent_clips", "models.dynamiccity.plane_clips", mini.__name__)):
    module.build_parts = logged(module.build_parts)

model, street = make_model(), [make_street()]
preset = WorldPreset(OccSoraPreset(LEAN, GRID, 16, 0.5), BLOCKS, small=True)
clips = SceneClips(street, GRID, 0.5, 16)
from_pretrained(occsora.train_world_model(clips, make_tokenizer("lean"), preset, config("occsora"), sequences=3))
world = small_world.CONFIG
clips = Clips(world.clip_frames)
from_pretrained(dynamiccity.train_diffusion(clips, small.make_vae(), world, config("dynamiccity"), count=3))
from_pretrained(mini.train_world_model(street, model.tokenizer, model.flow, CONFIG, config("mini"), sequences=3, chunks=4))
"""


def run_twice(out: Path) -> list[int]:
    """Exit statuses of two processes that run the script together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    told |= {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    started = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env=os.environ | told | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    while None in (status := [process.poll() for process in started]) and not any(status):
        time.sleep(0.1)
    for process in started:
        process.kill()  # the one that waits for another which failed
    return [process.wait() for process in started]


def test_two_processes_make_one_model(tmp_path: Path) -> None:
    """In all trainings each process encodes other items, and both can read the finished model at once."""
    assert run_twice(tmp_path) == [0, 0]
    shares = [(tmp_path / f"encoded-{rank}").read_text().split("\n")[:-1] for rank in range(2)]
    kinds = ("LatentClips", "PlaneClips", "LatentSequences")
    assert shares[0] == [f"{kind} {index}" for kind in kinds for index in (0, 2)]
    assert shares[1] == [f"{kind} 1" for kind in kinds]
