"""Makes sure, before anything else is imported, that the neighbouring packages are those of this distribution.

Their names (`models`, `agents`, ...) are words that other projects use too. Whichever comes first on the path wins, and what
then fails would fail far from the cause.
"""

from __future__ import annotations

import ast
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

NEIGHBOURS = ("agents", "kernels", "models", "scenes")
SENTINEL = ("OCCSORA_GYM", "occsora-gym")


def check_neighbours() -> None:
    """Raise ImportError that names the package in the way, if another project's comes before one of ours.

    Nothing is imported to find out: another project's package may do anything when it is.
    """
    for name in NEIGHBOURS:
        spec = find_spec(name)
        if spec is None:
            raise ImportError(f"occworld_env needs the package {name!r} of occsora-gym, and there is none: install it again")
        if not _bears_sentinel(spec):
            place = spec.origin or ", ".join(spec.submodule_search_locations or ["an unknown place"])
            raise ImportError(
                f"the package {name!r} at {place} is in the way: occworld_env needs the one of occsora-gym. "
                "Start Python from another folder, or install occsora-gym in an environment of its own"
            )


def _bears_sentinel(spec: ModuleSpec) -> bool:
    """Whether the package's source assigns the constant that all packages of this distribution bear."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return False
    tree = ast.parse(Path(spec.origin).read_bytes())
    constants = {
        (target.id, node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return SENTINEL in constants


check_neighbours()
