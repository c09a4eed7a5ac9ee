"""Processor time and end of a process with all that it has started (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def _parents() -> dict[int, int]:
    """Process numbers, each with that of its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        # Processes come and go.
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = int(_fields(path)[1])
    return found


def _fields(path: Path) -> list[str]:
    """What the system says of a process behind its name, which may have spaces in it: state, parent, ..."""
    return path.read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """A process and all below it."""
    parents = _parents()
    found = [root]
    for number in found:
        found += [child for child, parent in parents.items() if parent == number]
    return found


def processor_seconds(root: int) -> float:
    """Processor time of a process and all below it, with those of them that have ended."""
    total = 0
    for number in tree(root):
        with contextlib.suppress(OSError):
            total += sum(int(each) for each in _fields(Path(f"/proc/{number}/stat"))[11:15])
    return total / TICKS_A_SECOND


def end_tree(root: int) -> None:
    """Kill a process and all below it."""
    for number in tree(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
