"""Files of trained models: safetensors beside a JSON config, written beside and renamed, so that nothing is ever half there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

T = TypeVar("T")


def from_plain(kind: type[T], plain: Any, where: str) -> T:
    """Rebuild a (nested) dataclass from what `dataclasses.asdict` and JSON made of it; `where` names the source in errors.

    Of a union of dataclasses it is the one that has just these fields.
    """
    if isinstance(kind, types.UnionType) and isinstance(plain, dict):
        return from_plain(_member(kind, plain, where), plain, where)
    if not dataclasses.is_dataclass(kind):
        return _leaf(plain)
    if not isinstance(plain, dict):
        raise ValueError(f"{where}: expected an object for {kind.__name__}, found {type(plain).__name__}")
    hints = typing.get_type_hints(kind)
    unknown = set(plain) - set(hints)
    if unknown:
        raise ValueError(f"{where}: {kind.__name__} has no field {sorted(unknown)}")
    try:
        return kind(**{name: from_plain(hints[name], value, where) for name, value in plain.items()})
    except TypeError as error:
        raise ValueError(f"{where}: {kind.__name__}: {error}") from error


def _member(union: types.UnionType, plain: dict[str, Any], where: str) -> Any:
    """The dataclass of a union whose fields are the keys of `plain`."""
    members = [kind for kind in typing.get_args(union) if dataclasses.is_dataclass(kind)]
    for kind in members:
        if {item.name for item in dataclasses.fields(kind)} == set(plain):
            return kind
    names = " or ".join(str(getattr(kind, "__name__", kind)) for kind in members)
    raise ValueError(f"{where}: expected the fields of {names}, found {sorted(plain)}")


def _leaf(plain: Any) -> Any:
    """JSON knows lists where our configs hold tuples."""
    if isinstance(plain, list):
        return tuple(_leaf(item) for item in plain)
    return plain


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file beside, then rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=2) + "\n")
    beside.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with errors that name the file."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors to a safetensors file beside, then rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, beside)
    beside.chmod(0o644)  # safetensors leaves it readable to its owner alone
    beside.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, with errors that name it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error


class StoredTensors:
    """Base of dataclasses whose fields are tensors of as many rows, kept together in one safetensors file.

    `shared` names those that have no row an item, and are the same in all parts of a whole.
    """

    shared: typing.ClassVar[tuple[str, ...]] = ()

    @classmethod
    def names(cls) -> list[str]:
        """The fields."""
        return [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(getattr(self, next(name for name in self.names() if name not in self.shared)))

    def save(self, path: Path) -> None:
        """Write all to one safetensors file."""
        write_tensors(path, {name: getattr(self, name) for name in self.names()})

    @classmethod
    def load(cls, path: Path) -> typing.Self:
        """Read what `save` wrote; ValueError names the file where something is missing."""
        tensors = read_tensors(path)
        missing = set(cls.names()) - set(tensors)
        if missing:
            raise ValueError(f"{path}: not a file of {cls.__name__}, missing {sorted(missing)}")
        return cls(**{name: tensors[name] for name in cls.names()})

    @classmethod
    def join(cls, parts: Sequence[typing.Self], count: int | None = None) -> typing.Self:
        """All rows of the parts in order, or the first `count` of them."""
        columns = {name: [getattr(part, name) for part in parts] for name in cls.names()}
        return cls(**{name: part[0] if name in cls.shared else torch.cat(part)[:count] for name, part in columns.items()})


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy named tensors into a module, in the module's own precision.

    Raises ValueError where names or shapes differ, or a tensor holds NaN or infinity: such a model would imagine empty streets.
    """
    own = module.state_dict()
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or extra:
        raise ValueError(f"{where}: weights do not fit the config: missing {missing[:3]}, unexpected {extra[:3]}")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise ValueError(
                f"{where}: {name} has shape {tuple(tensors[name].shape)}, the config asks for {tuple(tensor.shape)}: "
                "a checkpoint of another grid or size?"
            )
        if not bool(tensors[name].isfinite().all()):
            raise ValueError(f"{where}: {name} holds NaN or infinity")
    module.load_state_dict(tensors)


def half_floats(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with float32 stored in 16 bits."""
    return {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()}


class Checkpoints:
    """Numbered checkpoint folders of a training run; each appears whole or not at all, and the newest few are kept."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """Steps for which a whole checkpoint is there, oldest first."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def path(self, step: int) -> Path:
        """Folder of the checkpoint at a step."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
        """Write one safetensors file a name in `tensors` and `state.json`, then let the folder appear under its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / f".writing-{step:08d}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for name, content in tensors.items():
            write_tensors(beside / f"{name}.safetensors", content)
        write_json(beside / "state.json", state)
        shutil.rmtree(self.path(step), ignore_errors=True)
        beside.replace(self.path(step))
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))
        return self.path(step)
