"""Reading pickled scene files without running what is in them.

A pickle is a program: it names callables, calls them and sets attributes on what they return. Here the names resolve to
nothing but the builders below, which make numpy arrays, numpy scalars and plain containers and check every argument; what
they hand to the pickle cannot be altered by it. Numpy's own `ndarray`, `dtype` and `scalar` stay out of its reach, because
a forged dtype state can make numpy take raw bytes for object pointers.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_BYTES = 1 << 30  # larger files are refused: a recorded scene has a few MiB
_KINDS = "?biufcSU"  # kinds of numpy dtypes that hold plain values: no objects, no structures


def load_pickle(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> Any:
    """What is pickled in the file at `path`: numpy arrays (as a subclass of ndarray), scalars and plain containers only.

    Raises ValueError naming the file if it is larger than `max_bytes`, is not a whole pickle, or asks for anything else, in
    which case the refused name is in the message and nothing of it was run. Raises FileNotFoundError if there is no file.
    """
    size = os.path.getsize(path)
    if size > max_bytes:
        raise ValueError(f"{path}: {size} bytes, more than the {max_bytes} that a scene file may have")
    with open(path, "rb") as file:
        try:
            return _Restricted(file).load()
        except _RefusedError as error:
            raise ValueError(f"{path}: refused {error}; a scene file may hold numpy arrays and plain containers only") from None
        except Exception as error:  # a broken pickle fails in many ways, each of them a broken file
            raise ValueError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from error


class _RefusedError(Exception):
    """Something other than plain data was asked for."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        builder = _BUILDERS.get((module, name))
        if builder is None:
            raise _RefusedError(f"the global '{module}.{name}'")
        return builder

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("a persistent id")


class _Builder:
    """A callable that a pickle may call and not alter: assigning state to it is refused."""

    __slots__ = ("_build", "_name")
    _build: Callable[..., Any]
    _name: str

    def __init__(self, name: str, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_build", build)

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError(f"an attempt to alter '{self._name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        raise _RefusedError(f"an attempt to alter '{self._name}'")


class _DType:
    """Stands for a numpy dtype inside a pickle: its kind, size and byte order, whatever else the pickle claims."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str | bytes):
            raise _RefusedError(f"a numpy dtype made from {type(code).__name__}")
        dtype = np.dtype(code.decode("ascii") if isinstance(code, bytes) else code)
        if dtype.kind not in _KINDS or dtype.names or dtype.subdtype:
            raise _RefusedError(f"numpy dtype '{dtype}'")
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        _, order, subdtype, names, fields, *_rest = state
        if subdtype is not None or names or fields:
            raise _RefusedError("a structured numpy dtype")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    """An array whose pickled state is checked before numpy sees it."""

    def __setstate__(self, state: Any) -> None:
        *_version, shape, dtype, fortran, raw = state
        real = _real(dtype)
        shape = _shape(shape)
        if not isinstance(raw, bytes | bytearray) or len(raw) != _count(shape) * real.itemsize:
            raise _RefusedError(f"an array of shape {shape} and dtype {real} whose data do not fit")
        super().__setstate__((1, shape, real, bool(fortran), bytes(raw)))  # type: ignore[arg-type]


def _real(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _DType):
        raise _RefusedError(f"{type(dtype).__name__} in place of a numpy dtype")
    return dtype.dtype


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise _RefusedError(f"{shape!r} in place of an array's shape")
    return shape


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _reconstruct(*_: Any) -> _Array:
    return _Array((0,), np.int8)


def _scalar(dtype: Any, raw: Any) -> Any:
    real = _real(dtype)
    if not isinstance(raw, bytes) or len(raw) != real.itemsize or not real.itemsize:
        raise _RefusedError(f"a scalar of dtype {real} whose data do not fit")
    return np.frombuffer(raw, real)[0]


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Any:
    array = _reconstruct()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError("an encoding other than latin1")
    return text.encode("latin1")


def _never(*_: Any) -> Any:
    raise _RefusedError("a direct call of a type")


def _builders() -> dict[tuple[str, str], _Builder]:
    plain: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): _never,  # only named, as an argument of _reconstruct
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): _encode,  # how protocol 2 writes bytes
        ("collections", "OrderedDict"): lambda *items: dict(*items),
        ("collections", "defaultdict"): lambda _factory=None, *items: dict(*items),
        ("builtins", "bytes"): lambda: b"",  # how protocol 2 writes no bytes at all
        ("builtins", "set"): lambda items=(): set(items),
        ("builtins", "frozenset"): lambda items=(): frozenset(items),
        ("builtins", "int"): _never,  # int, float, list and dict are named as factories of a defaultdict
        ("builtins", "float"): _never,
        ("builtins", "list"): _never,
        ("builtins", "dict"): _never,
    }
    for core in ("numpy.core", "numpy._core"):  # before and since numpy 2
        plain[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        plain[f"{core}.multiarray", "scalar"] = _scalar
        plain[f"{core}.numeric", "_frombuffer"] = _from_buffer
    aliases = {
        ("__builtin__", "long" if name == "int" else name): build
        for (module, name), build in plain.items()
        if module == "builtins"
    }
    return {(module, name): _Builder(f"{module}.{name}", build) for (module, name), build in {**plain, **aliases}.items()}


_BUILDERS = _builders()
