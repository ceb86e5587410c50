"""The program `occsora`: a fast help, one line for what a user did wrong, a traceback for what we did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest

from occsora.__main__ import COMMANDS, main


@dataclass(frozen=True)
class Config:
    """A command that only this test knows."""

    number: int = 3
    """Any number."""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Config], None]], None]:
    """Puts a command of the test's own in the place of `occsora demo`."""

    def install(run: Callable[[Config], None]) -> None:
        module = ModuleType("occsora.demo", "Say a number.")
        vars(module).update(COMMAND=Config, run=run)
        monkeypatch.setitem(sys.modules, "occsora.demo", module)

    return install


def failing(error: BaseException) -> Callable[[Config], None]:
    def run(config: Config) -> None:
        raise error

    return run


def test_arguments_reach_the_command(command: Callable[..., None]) -> None:
    given: list[Config] = []
    command(given.append)
    assert main(["demo", "--number", "7"]) == 0
    assert given == [Config(number=7)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("grid: expected 8 layers, found 9"), "grid: expected 8 layers, found 9"),
        (FileNotFoundError("scenes/x: no such folder"), "scenes/x: no such folder"),
        (FloatingPointError("loss is NaN at step 7"), "loss is NaN at step 7"),
        (ModuleNotFoundError("No module named 'zarr'", name="zarr"), "pip install 'occsora-gym[data]'"),
        (ModuleNotFoundError("No module named 'libsumo'", name="libsumo"), "pip install 'occsora-gym[sumo]'"),
    ],
)
def test_errors_of_the_user_are_one_line(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], error: BaseException, said: str
) -> None:
    command(failing(error))
    assert main(["demo"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("occsora: error: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err


@pytest.mark.parametrize(
    "error",
    [TypeError("a bug"), KeyError("a bug"), ImportError("cannot import name 'f'", name="scenes.grid"), RuntimeError("a bug")],
)
def test_our_own_faults_keep_their_traceback(command: Callable[..., None], error: Exception) -> None:
    command(failing(error))
    with pytest.raises(type(error)):
        main(["demo"])


def test_traceback_on_demand(command: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    command(failing(ValueError("wrong")))
    monkeypatch.setenv("OCCSORA_TRACEBACK", "1")
    with pytest.raises(ValueError, match="wrong"):
        main(["demo"])


def test_interrupt_is_quiet(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command(failing(KeyboardInterrupt()))
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "occsora: stopped\n"


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    said = capsys.readouterr().err
    assert "no command 'fly'" in said
    assert "demo" in said


def test_help_lists_every_command_and_imports_none() -> None:
    program = """
import sys
from occsora.__main__ import main
main(["--help"])
sys.exit(bool({"torch", "numpy", "tyro", "gymnasium"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == list(COMMANDS)
    assert all(len(summary) > 20 for _, summary in lines)
