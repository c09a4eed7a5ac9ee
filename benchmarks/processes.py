"""Processor time and end of a process with all that it has started (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def _parents() -> dict[int, int]:
    """Return the numbers of all processes, each with that of its parent."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        # Processes come and go.
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(_fields(path)[1])
    return parents


def _fields(path: Path) -> list[str]:
    """Return what the system says of a process behind its name, which may have spaces in it: state, parent, ..."""
    return path.read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """Return the numbers of a process and of all below it."""
    parents = _parents()
    numbers = [root]
    for number in numbers:
        numbers += [child for child, parent in parents.items() if parent == number]
    return numbers


def processor_seconds(root: int) -> float:
    """Return the processor time of a process and all below it, with those of them that have ended."""
    total = 0
    for number in tree(root):
        with contextlib.suppress(OSError):
            total += sum(int(ticks) for ticks in _fields(Path(f"/proc/{number}/stat"))[11:15])
    return total / TICKS_A_SECOND


def end_tree(root: int) -> None:
    """Kill a process and all below it."""
    for number in tree(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
