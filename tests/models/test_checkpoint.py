"""Files of trained models: what is broken is refused by name, what is written is whole."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from models.checkpoint import Checkpoints, from_plain, read_tensors, write_tensors
from models.model_folder import CONFIG as CONFIG_FILE
from models.model_folder import WEIGHTS
from models.presets import PRESETS, preset
from models.pretrained import find_pretrained, from_pretrained, load_tokenizer, save_pretrained
from models.world_model import WorldModelConfig
from scenes.grid import OCC3D
from tests.models.small import make_model


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_config_survives_json(name: str) -> None:
    """Presets come back equal from JSON."""
    config = preset(name)
    assert from_plain(WorldModelConfig, json.loads(json.dumps(asdict(config))), "test") == config


def test_saved_model_is_the_same_model(tmp_path: Path) -> None:
    """Weights and config come back; 16 bits change them by rounding only."""
    model = make_model()
    save_pretrained(model, tmp_path / "full")
    save_pretrained(model, tmp_path / "half", half=True)
    full, half = from_pretrained(tmp_path / "full"), from_pretrained(tmp_path / "half")
    for name, tensor in model.state_dict().items():
        assert torch.equal(full.state_dict()[name], tensor)
        torch.testing.assert_close(half.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    assert load_tokenizer(tmp_path / "full").cfg == model.tokenizer.cfg


def test_checkpoint_of_another_grid_is_refused(tmp_path: Path) -> None:
    """Weights under a config of another grid are named, with both shapes."""
    model = make_model()
    save_pretrained(model, tmp_path)
    content = json.loads((tmp_path / CONFIG_FILE).read_text())
    content["config"]["grid"] = asdict(replace(OCC3D, shape=(64, 64, 4)))
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another grid or size"):
        from_pretrained(tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """A number too large for 16 bits becomes infinite when it is stored so, and is named when it is read."""
    model = make_model()
    name, parameter = next(iter(model.named_parameters()))
    with torch.no_grad():
        parameter.flatten()[0] = 1e6
    save_pretrained(model, tmp_path, half=True)
    with pytest.raises(ValueError, match=rf"model\.safetensors: {name} holds NaN or infinity"):
        from_pretrained(tmp_path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    """Truncated weights, a config that is no JSON, unknown fields and missing files: one clear error each."""
    save_pretrained(make_model(), tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a readable"):
        from_pretrained(tmp_path)
    content = json.loads((tmp_path / CONFIG_FILE).read_text())
    content["config"]["colour"] = "blue"
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="colour"):
        from_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not a JSON file"):
        from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected bundled weights"):
        find_pretrained("no-such-model")
    with pytest.raises(ValueError, match="expected one of"):
        preset("huge")


def test_only_whole_checkpoints_are_seen(tmp_path: Path) -> None:
    """A folder that was being written when the power went is ignored, and old ones go."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, {"weights": {"x": torch.full((2,), float(step))}}, {"step": step})
    (tmp_path / ".writing-00000004").mkdir()
    assert checkpoints.steps() == [2, 3]
    assert read_tensors(checkpoints.path(3) / "weights.safetensors")["x"].tolist() == [3.0, 3.0]


def test_tensors_are_written_beside_then_renamed(tmp_path: Path) -> None:
    """After a write only the file itself is there."""
    write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
