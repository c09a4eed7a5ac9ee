"""Ctrl-C at any time of a command: exit code 130, one line, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kandle.log.embedded.log import EmbeddedLog
from tests.cli.commands import SOURCE, environment
from tests.waiting import LIMIT

INTERRUPT = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
"""A module that is interrupted while it is imported."""

MARKET = f"{INTERRUPT}from kandle.cli.demo import Market\n"

COMMANDS = {
    "explain": ["explain", "app:Market"],
    "run": ["run", "app:Market"],
    "bars": ["bars", "app:Market", "Bar", "1s"],
    "doctor": ["doctor", "app:Market"],
    "avro": ["avro", "app:Market"],
    "script": ["script", "app:Market"],
    "topics": ["topics", "list"],
    "demo": ["demo"],
    "help": ["--help"],
}
PROGRAM = "import sys\nfrom kandle.cli.app import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


def ended(folder: Path, *command: str) -> tuple[int, str]:
    """Return exit code and errors of a command that ends by itself, with the modules of a folder before all others."""
    variables = environment() | {"PYTHONPATH": f"{folder}:{SOURCE}"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("library", ["polars", "typer"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_interrupted_while_it_loads_its_libraries_ends_in_order(
    tmp_path: Path, command: str, library: str
) -> None:
    (tmp_path / f"{library}.py").write_text(INTERRUPT)
    assert ended(tmp_path, "-m", "kandle.cli", *COMMANDS[command]) == (130, "kandle: interrupted\n")


def test_so_does_the_installed_program(tmp_path: Path) -> None:
    (tmp_path / "polars.py").write_text(INTERRUPT)
    (tmp_path / "kandle").write_text(PROGRAM)
    assert ended(tmp_path, "kandle", "--help") == (130, "kandle: interrupted\n")


@pytest.mark.parametrize("command", [name for name, words in COMMANDS.items() if "app:Market" in words])
def test_a_command_that_is_interrupted_while_it_loads_its_context_ends_in_order(tmp_path: Path, command: str) -> None:
    (tmp_path / "app.py").write_text(MARKET)
    # Data that `bars` can open, so that it comes to load the context.
    EmbeddedLog(tmp_path / "kandle-data").close()
    code, errors = ended(tmp_path, "-m", "kandle.cli", *COMMANDS[command])
    assert (code, errors.replace("kandle: interrupted\n", "")) == (130, "")


OWN = """
import kandle, os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    raise SystemExit(3)
"""

IGNORING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_program_that_imports_kandle_gets_its_interrupts_as_always(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    assert ended(tmp_path, "own.py") == (3, "")


def test_a_command_whose_interrupts_are_ignored_by_its_parent_ignores_them(tmp_path: Path) -> None:
    """A shell starts a command in the background like that."""
    (tmp_path / "app.py").write_text(MARKET)
    assert ended(tmp_path, "-c", IGNORING, "-m", "kandle.cli", "explain", "app:Market") == (0, "")
