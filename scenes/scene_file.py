"""Scene files: compact, written atomically, and safe to open, for they hold plain arrays and a JSON header, never a pickle."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenes.grid import CLASSES
from scenes.scene import Lights, Scene, StaticWorld, Tracks

SUFFIX = ".scene"
FORMAT = "occsora-scene"
VERSION = 1
METRE = 100  # steps of the stored positions in a metre
RADIAN = 1000  # steps of the stored headings in a radian
_STEPS = np.array((METRE, METRE, RADIAN), dtype=np.float64)


def scene_paths(folder: Path | str) -> list[Path]:
    """Scene files in a folder, in the order of their names; FileNotFoundError where there is none."""
    paths = sorted(path for path in Path(folder).glob(f"*{SUFFIX}") if path.is_file())
    if not paths:
        raise FileNotFoundError(f"{folder}: expected a folder with scene files (*{SUFFIX}), found none")
    return paths


def load_scenes(folder: Path | str) -> list[Scene]:
    """All scenes of a folder, in the order of their file names; errors as in `load_scene` and `scene_paths`."""
    return [load_scene(path) for path in scene_paths(folder)]


def save_scene(scene: Scene, path: Path | str) -> None:
    """Write a scene; the file appears only when it is whole.

    Positions are kept to 1 cm, headings to 1 mrad; poses where a track is not there are not kept (its last pose is held).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header, arrays = _packed(scene)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr(_member("header.json"), json.dumps(header), zipfile.ZIP_LZMA)
            for key, array in arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(_member(f"{key}.npy"), buffer.getvalue(), zipfile.ZIP_LZMA)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_scene(path: Path | str) -> Scene:
    """Read a scene; ValueError that names the file and what is wrong with it, FileNotFoundError where there is none."""
    with _opened(Path(path)) as (header, archive):
        return _unpacked(header, {name: archive[name] for name in archive.files if name != "header.json"})


def scene_name(path: Path | str) -> str:
    """Name of the scene in a file, of which only the header is read; errors as in `load_scene`."""
    with _opened(Path(path)) as (header, _):
        return str(header["name"])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Header and archive of a scene file; what goes wrong inside is told with its path."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a scene file, found no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile) or "header.json" not in archive:
                raise ValueError("expected a scene file with a header, found none")
            header = json.loads(bytes(archive["header.json"]))
            _check_header(header)
            yield header, archive
    except KeyError as error:
        raise ValueError(f"{path}: expected a field {error}, found none") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # what zipfile, zlib and lzma raise on damaged data has no common base
        raise ValueError(f"{path}: expected a whole scene file, found a truncated or damaged one ({error})") from error


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name)  # without a date: the same scene gives the same file


def _check_header(header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError("expected a scene file, found another kind of archive")
    if header.get("version") != VERSION:
        raise ValueError(f"expected scene format version {VERSION}, found {header.get('version')}; make the scene again")
    if list(header["classes"]) != list(CLASSES):
        raise ValueError(f"expected the classes {list(CLASSES)}, found {header['classes']}")


def _packed(scene: Scene) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    static, tracks, lights = scene.to("cpu").static, scene.to("cpu").tracks, scene.lights
    header = {"format": FORMAT, "version": VERSION, "classes": CLASSES, "ids": tracks.ids, "frames": scene.frames}
    header |= {name: getattr(scene, name) for name in ("name", "source", "dt", "recipe")}
    header |= {name: getattr(static, name) for name in ("origin", "cell", "recorded", "grown")}
    egos = scene.egos
    routes = [scene.routes[ego].cpu().numpy() for ego in egos]
    points = np.concatenate(routes) if routes else np.zeros((0, 2))
    arrays = {
        **_pack_world(static),
        **_pack_poses(tracks.poses.numpy(), tracks.valid.numpy()),
        "classes": tracks.classes.numpy(),
        "sizes": np.rint(tracks.sizes.numpy() * METRE).astype(np.uint16),
        "rear_axle": np.rint(tracks.rear_axle.numpy() * METRE).astype(np.int16),
        "egos": np.array(egos, dtype=np.int32),
        "route_lengths": np.array([len(route) for route in routes], dtype=np.int32),
        "route_points": _narrow(np.diff(_steps(points, METRE), n=2, axis=0, prepend=np.zeros((2, 2), dtype=np.int64)).T),
        "light_poses": lights.poses.cpu().numpy(),
        "light_states": lights.states.cpu().numpy(),
    }
    return header, arrays


def _unpacked(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Scene:
    agents, frames = len(header["ids"]), int(header["frames"])
    poses, valid = _unpack_poses(arrays, agents, frames)
    _expect("sizes", arrays["sizes"], (agents, 3))
    tracks = Tracks(
        ids=tuple(str(name) for name in header["ids"]),
        classes=_tensor(_class_ids("classes", arrays["classes"], len(CLASSES) - 1)),
        sizes=_tensor(arrays["sizes"].astype(np.float32) / METRE),
        rear_axle=_tensor(arrays["rear_axle"].astype(np.float32) / METRE),
        poses=_tensor(poses),
        valid=_tensor(valid),
    )
    lengths = arrays["route_lengths"].astype(np.int64)
    _expect("egos", arrays["egos"], lengths.shape)
    _expect("route_points", arrays["route_points"], (2, int(lengths.sum())))
    points = arrays["route_points"].astype(np.int64).cumsum(axis=1).cumsum(axis=1).T / METRE
    pieces = np.split(points, lengths.cumsum()[:-1]) if len(lengths) else []
    if len(lengths) and not 0 <= int(arrays["egos"].min()) <= int(arrays["egos"].max()) < agents:
        raise ValueError(f"egos: expected track numbers below {agents}, found {int(arrays['egos'].max())}")
    routes = {int(ego): _tensor(piece) for ego, piece in zip(arrays["egos"], pieces, strict=True)}
    poses_of_lights, states = arrays["light_poses"], arrays["light_states"]
    _expect("light_poses", poses_of_lights, (len(poses_of_lights), 3))
    _expect("light_states", states, (len(poses_of_lights), *states.shape[1:2]))
    lights = Lights(_tensor(poses_of_lights.astype(np.float64)), _tensor(_class_ids("light_states", states, 4)))
    dt, recipe = float(header["dt"]), header.get("recipe")  # older files have none
    if recipe is not None and not isinstance(recipe, dict):
        raise ValueError(f"recipe: expected names and values, or null, found {recipe!r}")
    name, source = str(header["name"]), str(header["source"])
    return Scene(name, source, dt, _unpack_world(header, arrays), tracks, routes, lights, recipe)


def _pack_world(static: StaticWorld) -> dict[str, np.ndarray]:
    """Columns of the world that are alike share an entry of a palette, and the raster holds its number."""
    planes = [static.ground.numpy(), *(part[layer].numpy() for layer in range(len(static.standing)) for part in _parts(static))]
    grounds, number = np.unique(planes[0], return_inverse=True)
    table = grounds[:, None]
    for first in range(1, len(planes), 3):
        key = number.reshape(-1).astype(np.uint64)
        for plane in planes[first : first + 3]:
            key = (key << np.uint64(8)) | plane.reshape(-1)
        keys, number = np.unique(key, return_inverse=True)
        columns = [(keys >> np.uint64(shift)).astype(np.uint8) for shift in (16, 8, 0)]
        table = np.column_stack((table[(keys >> np.uint64(24)).astype(np.int64)], *columns))
    raster = number.reshape(static.ground.shape)
    return {"world_palette": table.astype(np.uint8), "world": raster.astype(np.uint16 if len(table) <= 65536 else np.uint32)}


def _parts(static: StaticWorld) -> tuple[Tensor, Tensor, Tensor]:
    return static.standing, static.bottom, static.top


def _unpack_world(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> StaticWorld:
    palette, raster = arrays["world_palette"], arrays["world"]
    if palette.ndim != 2 or palette.dtype != np.uint8 or palette.shape[1] % 3 != 1:
        raise ValueError(f"world_palette: expected uint8 (N, 1 + 3 L), found {palette.dtype} {palette.shape}")
    if raster.ndim != 2 or raster.dtype.kind != "u" or (raster.size and int(raster.max()) >= len(palette)):
        raise ValueError(f"world: expected unsigned (H, W) below {len(palette)}, found {raster.dtype} {raster.shape}")
    _class_ids("world", palette[:, [0, *range(1, palette.shape[1], 3)]], len(CLASSES))
    planes = [_tensor(palette[:, column][raster]) for column in range(palette.shape[1])]
    empty = torch.zeros(0, *raster.shape, dtype=torch.uint8)
    standing, bottom, top = (torch.stack(planes[part::3]) if len(planes) > 1 else empty for part in (1, 2, 3))
    origin = (float(header["origin"][0]), float(header["origin"][1]))
    names = {key: tuple(str(name) for name in header[key]) for key in ("recorded", "grown")}
    return StaticWorld(origin, float(header["cell"]), planes[0], standing, bottom, top, **names)


def _pack_poses(poses: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Second differences over time, which are small where things move smoothly."""
    frames = np.arange(valid.shape[1])
    latest = np.maximum.accumulate(np.where(valid, frames, -1), axis=1)
    source = np.where(latest < 0, valid.argmax(axis=1)[:, None], latest)
    held: np.ndarray = np.take_along_axis(poses, source[..., None], axis=1)
    held[~valid.any(axis=1)] = 0.0
    held[..., 2] = np.unwrap(held[..., 2], axis=1)
    steps = _steps(held, _STEPS).transpose(2, 0, 1)
    change = np.diff(steps, axis=2)
    return {
        "pose_first": steps[:, :, 0].astype(np.int32),
        "pose_second": change[:, :, :1].astype(np.int32),
        "pose_rest": _narrow(np.diff(change, axis=2)),
        "valid": np.packbits(valid, axis=1),
    }


def _unpack_poses(arrays: dict[str, np.ndarray], agents: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    _expect("pose_first", arrays["pose_first"], (3, agents))
    _expect("pose_second", arrays["pose_second"], (3, agents, min(frames - 1, 1)))
    _expect("pose_rest", arrays["pose_rest"], (3, agents, max(frames - 2, 0)))
    _expect("valid", arrays["valid"], (agents, (frames + 7) // 8))
    change = np.concatenate((arrays["pose_second"], arrays["pose_rest"]), axis=2, dtype=np.int64).cumsum(axis=2)
    steps = np.concatenate((arrays["pose_first"][:, :, None], change), axis=2, dtype=np.int64).cumsum(axis=2)
    poses = steps.transpose(1, 2, 0) / _STEPS
    poses[..., 2] = np.remainder(poses[..., 2] + np.pi, 2 * np.pi) - np.pi
    return poses, np.unpackbits(arrays["valid"], axis=1, count=frames).astype(bool)


def _steps(values: np.ndarray, per_unit: float | np.ndarray) -> np.ndarray:
    return np.rint(values * per_unit).astype(np.int64)


def _narrow(values: np.ndarray) -> np.ndarray:
    """As int16 where all fit, int32 otherwise."""
    small = not values.size or int(np.abs(values).max()) < 2**15
    return values.astype(np.int16 if small else np.int32)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, found {array.shape}")


def _class_ids(name: str, array: np.ndarray, below: int) -> np.ndarray:
    if array.dtype != np.uint8:
        raise ValueError(f"{name}: expected uint8, found {array.dtype}")
    if array.size and int(array.max()) >= below:
        raise ValueError(f"{name}: expected class ids below {below}, found {int(array.max())}")
    return array
