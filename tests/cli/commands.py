"""Runs commands: in this process, or as a process with arguments, two streams and an exit code."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import kandle
from kandle.cli.app import main
from tests.processes import RunningProcess
from tests.waiting import LIMIT

SOURCE = str(Path(kandle.__file__).parents[1])


def environment() -> dict[str, str]:
    """The environment without options of kandle."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KANDLE_")} | {"PYTHONPATH": SOURCE}


class Processes:
    """Commands that run beside a test; none outlives it."""

    def __init__(self) -> None:
        self._running: list[RunningProcess] = []

    def start(self, folder: Path, *arguments: str, **variables: str) -> RunningProcess:
        """Start one, with its output in pipes."""
        process = RunningProcess([sys.executable, "-m", "kandle.cli", *arguments], folder, environment() | variables)
        self._running.append(process)
        return process

    def close(self) -> None:
        """End those that are left."""
        for process in self._running:
            process.stop()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    command = [sys.executable, "-m", "kandle.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False)


def failure(folder: Path, *arguments: str) -> str:
    """The one line on standard error of a command that fails with exit code 2."""
    done = run(folder, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return only_line(done.stderr)


def only_line(errors: str) -> str:
    """The one line that says what went wrong."""
    (line,) = errors.splitlines()
    assert line.startswith("kandle: error: ")
    return line.removeprefix("kandle: error: ")


@dataclass(frozen=True, slots=True)
class Here:
    """Runs commands in this process, which is faster; output is what a pipe would get."""

    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(arguments)
        out, errors = self.capsys.readouterr()
        assert "\x1b" not in out + errors
        return int(left.value.code or 0), out, errors

    def output(self, *arguments: str) -> list[str]:
        """Lines of a command that goes well."""
        code, out, errors = self.run(*arguments)
        assert (code, errors) == (0, "")
        return out.splitlines()

    def failure(self, *arguments: str) -> str:
        """The one line of a command that fails."""
        code, out, errors = self.run(*arguments)
        assert (code, out) == (2, "")
        return only_line(errors)
