"""Other processes that use the same log, told what to do by lines of text."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from signal import Signals

from tests.processes import RunningProcess

ROOT = Path(__file__).parents[3]

PRELUDE = """
import sys
from pathlib import Path
from kandle.errors import FencedError, StorageError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Fence, GroupSpec, TopicPartition
from kandle.log.records import Records, Write
from tests.log.building import *

def say(*words):
    print(*words, flush=True)

def instruction():
    return sys.stdin.readline().strip()

path, *words = sys.argv[1:]
log = EmbeddedLog(Path(path))
"""


class Process:
    """A Python process that runs a script after `PRELUDE`."""

    def __init__(self, path: Path, script: str, *words: object) -> None:
        places = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
        command = [sys.executable, "-c", PRELUDE + script, str(path), *map(str, words)]
        self._process = RunningProcess(command, ROOT, environment)

    def heard(self) -> str:
        """The next line that it says."""
        return self._process.next_line().strip()

    def tell(self, *words: object) -> None:
        """Give it a line."""
        self._process.tell(*words)

    def send(self, signal: Signals) -> None:
        """Send a signal, if it is still there."""
        self._process.send(signal)

    def kill(self) -> list[str]:
        """End it in the middle of whatever it does; gives what it said before."""
        return self._process.kill().splitlines()
