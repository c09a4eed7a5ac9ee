"""Processes beside a test: their lines as they come, and their end with exit code and errors."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from signal import Signals
from threading import Thread
from typing import IO

from tests.waiting import LIMIT

SHORT = 10
"""Seconds to wait for what a process has written that is gone."""


class Lines:
    """The lines of one stream, read by a thread so that the process never waits for its reader."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: list[str] = []
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._has_ended = False
        self._reader = Thread(target=self._read, args=[stream], daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.append(line)
                self._queue.put(line)
        self._queue.put("")

    @property
    def text(self) -> str:
        """All that has come until now."""
        return "".join(self._lines)

    def next(self, limit: float = LIMIT) -> str | None:
        """Return the next line, "" at the end of the stream, or None if nothing came within so many seconds."""
        if self._has_ended:
            return ""
        try:
            line = self._queue.get(timeout=limit)
        except Empty:
            return None
        self._has_ended = not line
        return line

    def rest(self, limit: float = LIMIT) -> str:
        """Return all lines that were not asked for yet, up to the end of the stream."""
        lines: list[str] = []
        while line := self.next(limit):
            lines.append(line)
        return "".join(lines)


class RunningProcess:
    """A process with its two streams.

    Args:
        command: Program and arguments.
        folder: Where it runs.
        environment: All its variables.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] = os.environ) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._process.stdout is not None and self._process.stderr is not None and self._process.stdin is not None
        self._input = self._process.stdin
        self._output, self._errors = Lines(self._process.stdout), Lines(self._process.stderr)
        self._command = " ".join(command)[-300:]

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def next_line(self) -> str:
        """Return the next line of standard output, with its line break.

        Raises:
            AssertionError: The process ended without one, or wrote none in time; the message shows its exit code and errors.
        """
        line = self._output.next()
        if not line:
            self._fail("another line on standard output")
        assert line is not None
        return line

    def next_error(self) -> str:
        """Return the next line of standard error; raise AssertionError as `next_line` does."""
        line = self._errors.next()
        if not line:
            self._fail("another line on standard error")
        assert line is not None
        return line

    def tell(self, *words: object) -> None:
        """Write a line to its standard input."""
        print(*words, file=self._input, flush=True)

    def send(self, signal: Signals) -> None:
        """Send a signal, if it still runs."""
        self._process.send_signal(signal)

    def ended(self, code: int = 0) -> tuple[str, str]:
        """Wait until it has ended by itself.

        Args:
            code: The exit code that is expected.

        Returns:
            The lines of standard output that `next_line` has not given, and all of standard error.

        Raises:
            AssertionError: It did not end in time, or with another exit code; the message shows what it wrote.
        """
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self._fail("its end")
        output = self.kill()
        self._errors.rest(SHORT)
        if self._process.returncode != code:
            self._fail(f"exit code {code}")
        return output, self._errors.text

    def stop(self) -> None:
        """Have it end, with SIGTERM, whatever its exit code is."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LIMIT)
        self.kill()

    def check(self) -> None:
        """Raise AssertionError, which shows what it wrote, if it has ended by itself."""
        if not self.is_running:
            self._fail("that it still runs")

    def kill(self) -> str:
        """End it at once, wherever it is; return the lines of standard output that `next_line` has not given."""
        if self.is_running:
            self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._input.close()
        # A process that it has started itself may hold the stream open.
        return self._output.rest(SHORT)

    def _fail(self, expected: str) -> None:
        state = "still ran" if self.is_running else f"ended with exit code {self._process.returncode}"
        self.kill()
        self._errors.rest(SHORT)
        wrote = f"It wrote:\n{self._output.text}\nand to standard error:\n{self._errors.text}"
        raise AssertionError(f"{expected} expected, but `{self._command}` {state}. {wrote}")
