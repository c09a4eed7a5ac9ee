"""Other processes that use the same log, told what to do by lines of text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL

from tests.log.building import PATIENCE, aside

ROOT = Path(__file__).parents[2]

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

def told():
    return sys.stdin.readline().strip()

path, *words = sys.argv[1:]
log = EmbeddedLog(Path(path))
"""


class Process:
    """A Python process that runs a script after `PRELUDE`."""

    def __init__(self, path: Path, script: str, *words: object) -> None:
        arguments = [sys.executable, "-c", PRELUDE + script, str(path), *map(str, words)]
        places = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def heard(self) -> str:
        """The next line that it says."""
        line = aside(self._output.readline).result(PATIENCE)
        assert line, f"the process ended with {self._process.wait()} and said nothing"
        return line.strip()

    def rest(self) -> list[str]:
        """All that it still says until it ends."""
        return aside(self._output.read).result(PATIENCE).splitlines()

    def tell(self, *words: object) -> None:
        """Give it a line."""
        print(*words, file=self._input, flush=True)

    def send(self, signal: int) -> None:
        """Send a signal, if it is still there."""
        self._process.send_signal(signal)

    def kill(self) -> list[str]:
        """End it in the middle of whatever it does; gives what it said before."""
        self.send(SIGKILL)
        said = self.rest()
        self._process.wait()
        return said

    def end(self) -> None:
        """Let it go."""
        self.kill()
        self._input.close()
        self._output.close()
