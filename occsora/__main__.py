"""The program `occsora`: finds the command that is asked for, and says in one line what a user did wrong."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

COMMANDS = (
    "demo",
    "play",
    "generate",
    "make-scenes",
    "train-tokenizer",
    "train-agent-flow",
    "train-world-model",
    "train-agent",
    "evaluate",
    "train-features",
    "reconstruct",
    "measure-clips",
)
EXTRAS = {
    "stable_baselines3": "agents",
    "libsumo": "sumo",
    "sumolib": "sumo",
    "sumo": "sumo",
    "shapely": "data",
    "zarr": "data",
    "accelerate": "train",
    "matplotlib": "agents",
    "jinja2": "agents",
    "ray": "cluster",
    "tensorboard": "train",
}
USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 after an error that the user can do something about.

    arguments: words of the command line, by default those of the process. A fault of the program itself keeps its
    traceback, and with OCCSORA_TRACEBACK=1 in the environment every error does.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"occsora {importlib.metadata.version('occsora-gym')}")
        return 0
    try:
        _run(arguments[0], arguments[1:])
    except USER_ERRORS as error:
        if os.environ.get("OCCSORA_TRACEBACK") == "1" or _our_own_fault(error):
            raise
        print(f"occsora: error: {_message(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("occsora: stopped", file=sys.stderr)
        return 130
    return 0


def _run(name: str, arguments: list[str]) -> None:
    """Parse the arguments of one command by its `COMMAND`, a dataclass or a union of them, and give them to its `run`."""
    if name not in COMMANDS:
        raise ValueError(f"no command {name!r}; there are {', '.join(COMMANDS)}")
    module = importlib.import_module(f"occsora.{_module(name)}")
    import tyro

    module.run(tyro.cli(module.COMMAND, prog=f"occsora {name}", description=module.__doc__, args=arguments))


def _help() -> str:
    """The commands with the first line of each module's docstring, read without importing any of them."""
    lines = [f"  {name:<18} {_summary(name)}" for name in COMMANDS]
    return "\n".join(
        ["usage: occsora COMMAND [options]", "", *lines, "", "`occsora COMMAND --help` lists the options of a command."]
    )


def _summary(name: str) -> str:
    source = Path(__file__).with_name(f"{_module(name)}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _module(name: str) -> str:
    return name.replace("-", "_")


def _our_own_fault(error: BaseException) -> bool:
    """Whether an import failed inside this distribution: that is a broken program, no missing library."""
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    return missing in ("occsora", "agents", "occworld_env", "models", "kernels", "scenes")


def _message(error: BaseException) -> str:
    """What the error says, with the extra to install where it is a library that is missing."""
    library = (getattr(error, "name", None) or "").partition(".")[0]
    text = str(error) or type(error).__name__
    if isinstance(error, ImportError) and library in EXTRAS and "pip install" not in text:
        return f"{text}; to get it: pip install 'occsora-gym[{EXTRAS[library]}]'"
    return text


if __name__ == "__main__":
    sys.exit(main())
