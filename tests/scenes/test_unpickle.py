"""Scene files are read without running them."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest

from scenes.unpickle import load_pickle


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(tmp_path: Path, protocol: int) -> None:
    data = {
        "float": np.linspace(0, 1, 12).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big": np.arange(4, dtype=">f4"),
        "flags": np.array([True, False]),
        "names": np.array(["a", "bcd"]),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "scalar": np.float32(2.5),
        "plain": [1, "two", (3.0, None), {4}, frozenset({5}), b"six", True],
        "ordered": OrderedDict(a=1),
        "counts": defaultdict(int, b=2),
    }
    loaded = load_pickle(_write(tmp_path / "x.pkl", pickle.dumps(data, protocol=protocol)))
    for name in ("float", "fortran", "big", "flags", "names", "empty"):
        assert isinstance(loaded[name], np.ndarray)
        assert loaded[name].dtype == data[name].dtype.newbyteorder("=")  # type: ignore[attr-defined]
        np.testing.assert_array_equal(loaded[name], data[name])
    assert loaded["scalar"] == data["scalar"]
    assert loaded["plain"] == data["plain"]
    assert loaded["ordered"] == {"a": 1}
    assert loaded["counts"] == {"b": 2}


def test_old_numpy_module_paths_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(np.arange(3.0), protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(load_pickle(_write(tmp_path / "x.pkl", data)), np.arange(3.0))


class _Runs:
    def __init__(self, target: object, *args: object) -> None:
        self.reduced = (target, args)

    def __reduce__(self) -> tuple:  # type: ignore[type-arg]
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_by_name_and_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    path = _write(tmp_path / "x.pkl", pickle.dumps({"a": _Runs(os.mkdir, str(trace))}, protocol=protocol))
    with pytest.raises(ValueError, match=r"x\.pkl: refused .*mkdir") as caught:
        load_pickle(path)
    assert not trace.exists()
    assert str(path) in str(caught.value)


FORGED = {
    "eval": b"cbuiltins\neval\n(V1+1\ntR.",
    "old name of builtins": b"c__builtin__\neval\n(V1+1\ntR.",
    "attribute of an allowed global": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.",
    "ndarray called directly": b"cnumpy\nndarray\n(I10\ntR.",
    "object dtype": b"cnumpy\ndtype\n(VO8\nI00\nI01\ntR.",
    "dtype from a list with an object field": b"cnumpy\ndtype\n((lp0\n(Va\nVO\ntatR.",
    "structured dtype forged through its state": (
        b"cnumpy\ndtype\n(Vi8\nI00\nI01\ntR(I3\nV|\nN(Va\nt(dVa\n(Vx\nI0\ntsI8\nI1\nI0\ntb."
    ),
    "altering an allowed global": b"cnumpy\ndtype\n(N(dV_build\nI1\nstb.",
    "building an allowed global": b"cnumpy.core.multiarray\n_reconstruct\n}b.",
    "array larger than its data": (
        b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I1000000000\ntcnumpy\ndtype\n(Vf8\nI00\nI01\ntRI00\nB\x00\x00\x00\x00tb."
    ),
    "real dtype smuggled past its stand-in": b"cnumpy.core.multiarray\nscalar\n(VO8\nVxxxxxxxx\ntR.",
    "codec that is not text": b"c_codecs\nencode\n(Vabc\nVzlib\ntR.",
    "persistent id": b"Pname\n.",
    "instance opcode": b"(Vls\nios\nsystem\n.",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_pickles_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"forged\.pkl: refused"):
        load_pickle(_write(tmp_path / "forged.pkl", FORGED[name]))


@pytest.mark.parametrize("array", [np.array([print, None], dtype=object), np.zeros(2, dtype=[("a", "f4")])])
def test_object_and_structured_arrays_are_refused(tmp_path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=r"x\.pkl: refused"):
        load_pickle(_write(tmp_path / "x.pkl", pickle.dumps(array)))


def test_broken_and_oversized_files_are_named(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(100)})
    for length in (0, 1, 10, len(whole) - 1):
        with pytest.raises(ValueError, match=r"cut\.pkl: not a readable pickle"):
            load_pickle(_write(tmp_path / "cut.pkl", whole[:length]))
    with pytest.raises(ValueError, match=r"big\.pkl: .* more than the 10"):
        load_pickle(_write(tmp_path / "big.pkl", whole), max_bytes=10)
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / "absent.pkl")
