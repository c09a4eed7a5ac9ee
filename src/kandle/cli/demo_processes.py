"""The processes of the demo: started with a configuration file of their own, and always stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from kandle.errors import StateError

CONFIG = "kandle.toml"
PATIENCE = 10.0
"""Seconds that a process has to stop by itself."""


class Child:
    """One process; what it says goes into a file of its name."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self._output = folder / f"{name}.log"
        with self._output.open("wb") as output:
            self._process = _started(command, folder, output)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def check(self) -> None:
        """StateError if it has ended by itself."""
        if (code := self._process.poll()) is not None:
            raise StateError(f"the {self.name} process has ended with exit code {code}: {self._last_line()} (see {self._output})")

    def stop(self) -> int:
        """Ask it to end, kill it if it does not, and give its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _last_line(self) -> str:
        lines = self._output.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.removeprefix("kandle: error: ") for line in lines if line.strip()]
        return said[-1] if said else "it said nothing"


def _started(command: Sequence[str], folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process that finds the same modules, but no configuration other than that of the demo."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KANDLE_")}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in sys.path if each)
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


class Children:
    """All processes of the demo."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Child] = {}

    def start(self, name: str, *command: str) -> None:
        """Start a process: a module and its arguments."""
        self._running[name] = Child(name, command, self._folder)

    def check(self) -> None:
        """StateError if any has ended by itself."""
        for child in self._running.values():
            child.check()

    def stop(self, name: str) -> None:
        """Stop one; StateError unless it ends well."""
        child = self._running.pop(name)
        if (code := child.stop()) != 0:
            raise StateError(f"the {name} process ended with exit code {code} when it was stopped")

    def stop_all(self) -> None:
        """Stop what still runs, whatever it says."""
        for name in list(self._running):
            self._running.pop(name).stop()


@contextmanager
def children(folder: Path) -> Iterator[Children]:
    """Processes that are stopped at the end, also if this one is told to end."""
    found = Children(folder)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield found
    finally:
        found.stop_all()
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def write_config(folder: Path, clock: dict[str, str | float]) -> Path:
    """The configuration file that all processes share."""
    lines = ['context = "kandle.cli.demo_market:Market"', "[log]", f"path = {json.dumps(str(folder.absolute()))}", "[clock]"]
    path = folder / CONFIG
    path.write_text("\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in clock.items())]) + "\n")
    return path
