"""The import rule of docs/design.md: occsora -> agents -> occworld_env -> models -> kernels, and scenes beside kernels."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "kernels": set(),
    "scenes": set(),
    "models": {"kernels", "scenes"},
    "occworld_env": {"kernels", "models", "scenes"},
    "agents": {"kernels", "models", "occworld_env", "scenes"},
    "occsora": {"agents", "kernels", "models", "occworld_env", "scenes"},
}
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
OPTIONAL = (
    "accelerate",
    "jinja2",
    "libsumo",
    "matplotlib",
    "ray",
    "shapely",
    "stable_baselines3",
    "sumo",
    "sumolib",
    "tensorboard",
    "zarr",
)


def is_import_call(node: ast.AST) -> bool:
    """Whether this is import_module("name"), importlib.import_module("name") or __import__("name")."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return called in ("import_module", "__import__")


def names(node: ast.AST) -> Iterator[str]:
    """Modules that one node of a syntax tree imports, by their full names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif is_import_call(node):
        yield node.args[0].value  # type: ignore[attr-defined]


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: bodies of functions do not, nor what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import(child)


@cache
def imports(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """What a file imports anywhere, and what it imports as soon as it is imported itself."""
    tree = ast.parse(path.read_bytes())
    anywhere = frozenset(name for node in ast.walk(tree) for name in names(node))
    return anywhere, frozenset(name for node in at_import(tree) for name in names(node))


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def top(name: str) -> str:
    return name.partition(".")[0]


def users(library: str) -> list[str]:
    """Our files that import the library, in a function or not."""
    return [str(path.relative_to(ROOT)) for path in SOURCES if library in map(top, imports(path)[0])]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    ours = {top(name) for name in imports(path)[0]} & set(MAY_IMPORT) - {package(path)}
    assert ours <= MAY_IMPORT[package(path)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_third_party_stays_in_its_place(path: Path) -> None:
    anywhere, at_once = ({top(name) for name in found} for found in imports(path))
    here = package(path)
    if here in ("kernels", "models", "scenes"):
        assert not anywhere & {"gymnasium", "pygame", "stable_baselines3", "tyro"}
    if here == "agents" or path == ROOT / "occsora" / "train_agent.py":
        at_once -= {"stable_baselines3"}
    else:
        assert "stable_baselines3" not in anywhere
    assert not at_once & set(OPTIONAL), "optional libraries are imported where they are used"
    assert "triton" not in anywhere or (here == "kernels" and path.stem.endswith("_triton"))
    if not path.stem.endswith("_triton"):
        kernels = {name.split(".")[1] for name in imports(path)[1] if top(name) == "kernels" and "." in name}
        assert not any(name.endswith("_triton") for name in kernels), "kernels are imported when a GPU tensor comes"


def test_libraries_with_one_home() -> None:
    drawing = [path for path in users("pygame") if path != "occsora/play.py"]
    assert len(drawing) == 1
    assert drawing[0].startswith("occworld_env/")
    assert len(users("libsumo")) == 1
    assert users("libsumo")[0].startswith("scenes/")
    assert users("triton")


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_packages_bear_the_sentinel(name: str) -> None:
    body = ast.parse((ROOT / name / "__init__.py").read_bytes()).body
    assigned = [ast.unparse(node) for node in body if isinstance(node, ast.Assign)]
    assert "OCCSORA_GYM = 'occsora-gym'" in assigned


def run_python(program: str, *path: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def modules(*packages: str) -> list[str]:
    found = (path.relative_to(ROOT).with_suffix("") for path in SOURCES if package(path) in packages)
    return [".".join(path.parts) for path in found if path.name != "__init__" and not path.name.endswith("_triton")]


@pytest.mark.parametrize("packages", [("kernels", "models"), ("scenes",)])
def test_training_and_kernels_need_a_bare_machine(packages: tuple[str, ...]) -> None:
    absent = {"gymnasium", "huggingface_hub", "imageio", "pygame", "rich", "tyro", *OPTIONAL}
    absent |= {"scipy"} if "models" in packages else set()  # what grows and reads scenes may use it, what trains does not
    program = f"""
import importlib, sys
for name in {sorted(absent)}:
    sys.modules[name] = None
for name in {modules(*packages)}:
    importlib.import_module(name)
"""
    result = run_python(program)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("place", ["agents/__init__.py", "kernels/__init__.py", "models.py", "scenes.py"])
def test_a_foreign_neighbour_is_named(place: str, tmp_path: Path) -> None:
    foreign, name = tmp_path / place, Path(place).with_suffix("").parts[0]
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise SystemExit('foreign code ran')")
    result = run_python("import occworld_env", tmp_path, cwd=tmp_path)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: the package '{name}' at {foreign} is in the way")
