"""Talking to SUMO in a process of its own: requests, answers, and forks that go on from the same moment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

from scenes.sumo_network import sumo_home

_PATIENCE = 10.0  # seconds until a process that does not end is killed
_PROGRAM = "from scenes.sumo_live import main; main()"


class SumoEndedError(RuntimeError):
    """SUMO's process is gone, as after one of its own crashes."""


class SumoProcess:
    """One simulation; `branch` gives another one in the same state. It ends when it is closed or forgotten."""

    def __init__(self, line: Connection, started: subprocess.Popen[bytes] | None = None) -> None:
        """started: the process, where it is a child of this one and not a branch."""
        self._line, self._started, self._user = line, started, os.getpid()
        self._end = weakref.finalize(self, _end, line, started, self._user)

    @classmethod
    def open(cls, net_file: Path, route_file: Path, dt: float, seed: int) -> SumoProcess:
        """A simulation of these files in steps of dt seconds, before its first step."""
        if not hasattr(os, "fork"):
            raise RuntimeError("live SUMO needs a system whose processes can be forked (Linux, macOS); use dynamics='replay'")
        sumo_home()  # says what is missing
        ours, theirs = socket.socketpair()
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())]
        with theirs:
            started = subprocess.Popen(command, env=environment, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        process = cls(Connection(ours.detach()), started)
        process.ask("open", net_file, route_file, dt, seed)
        return process

    def branch(self) -> SumoProcess:
        """Another process in the same state, which goes on by itself."""
        self._check()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._line.send(("branch",))
                send_handle(self._line, theirs.fileno(), None)
            except BrokenPipeError as error:
                ours.close()
                raise SumoEndedError("the SUMO process has ended unexpectedly") from error
        return SumoProcess(Connection(ours.detach()))

    @property
    def alive(self) -> bool:
        """Whether somebody is there to answer."""
        # a process that has ended leaves an end of the line to be read, one that waits nothing
        return self._end.alive and not self._line.poll()

    def ask(self, request: str, *arguments: Any) -> Any:
        """The answer of the method `request` of `scenes.sumo_live.LiveTraffic`; raises what it raised."""
        self.send(request, *arguments)
        return self.receive()

    def send(self, request: str, *arguments: Any) -> None:
        """Ask without waiting; the answer is for `receive`."""
        self._check()
        try:
            self._line.send((request, *arguments))
        except BrokenPipeError as error:
            raise SumoEndedError("the SUMO process has ended unexpectedly") from error

    def receive(self) -> Any:
        """The answer to the request sent last; raises what it raised."""
        try:
            answer = self._line.recv()
        except (EOFError, ConnectionResetError) as error:
            raise SumoEndedError("the SUMO process has ended unexpectedly") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the simulation; may be called again."""
        self._end()

    def _check(self) -> None:
        if not self._end.alive:
            raise RuntimeError("the environment is closed; reset it to begin again")
        if self._user != os.getpid():
            raise RuntimeError("live SUMO belongs to the process that opened it; make the environment in the one that steps it")


def _end(line: Connection, started: subprocess.Popen[bytes] | None, user: int) -> None:
    """Close the line, on which the process ends, and take note of its end; nothing in a process that was forked from ours."""
    if os.getpid() != user:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(line.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)  # closing is not enough while a process that was forked from ours holds the line too
    line.close()
    if started is not None:
        try:
            started.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
