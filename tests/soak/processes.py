"""Real processes of a long run: started, paused, killed and stopped, each by its own number, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kandle.context.kafka import declarations, kafka_log
from kandle.context.options import Options
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Log
from kandle.plan.plan import Plan as BarsPlan
from kandle.plan.plan import plan
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.soak.declaration import CONTEXTS, Bar
from tests.soak.producer import Plan
from tests.waiting import LIMIT

ROOT = Path(__file__).parents[2]


class Process:
    """One process; what it says is in a file beside that of its book or health."""

    def __init__(self, name: str, output: Path, module: str, *words: str) -> None:
        self.name = name
        self.output = output
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KANDLE_")}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
        self.said = output.with_suffix(".said")
        with self.said.open("wb") as said:
            command = [sys.executable, "-m", module, *words]
            self._process = subprocess.Popen(
                command, cwd=output.parent, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def check(self) -> None:
        """AssertionError if it has ended by itself."""
        assert self.is_running, f"{self.name} has ended with {self._process.returncode}:\n{self.said.read_text()[-4_000:]}"

    @property
    def could_not_begin(self) -> bool:
        """Whether it has ended before it did anything, since the brokers were away: whoever watches over it starts it again."""
        return not self.is_running and not self.lines() and "UnavailableError: Kafka at" in self.said.read_text()

    def lines(self) -> list[str]:
        """The whole lines of its book or health."""
        text = self.output.read_text() if self.output.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def health(self) -> list[dict[str, Any]]:
        """What a worker has said of itself, oldest first."""
        return [json.loads(line) for line in self.lines()]

    def newest(self) -> dict[str, Any]:
        """What a worker has said last."""
        lines = self.lines()
        nothing: dict[str, Any] = {"steady": 0, "partitions": [], "leader": False, "finals": 0, "fenced": 0, "lag": 0}
        return {**nothing, **json.loads(lines[-1])} if lines else nothing

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def send(self, number: int) -> None:
        """Send a signal."""
        self.check()
        self._process.send_signal(number)

    def stop(self) -> None:
        """Have it end by itself."""
        self.send(signal.SIGTERM)
        try:
            code = self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            # Have it write down where its threads are.
            self.send(signal.SIGUSR1)
            SystemClock().pause(SECOND)
            raise AssertionError(f"{self.name} does not end:\n{self.said.read_text()[-8_000:]}") from None
        said = self.said.read_text()
        # One that is told before it has begun to listen just ends.
        is_early = code == -signal.SIGTERM and not said
        assert code == 0 or is_early, f"{self.name} has ended with {code}:\n{said[-4_000:]}"

    def end(self) -> None:
        """Let it go, whatever it does; also one that is paused."""
        if self.is_running:
            self._process.kill()
        self._process.wait()


@dataclass
class Processes:
    """All processes that were started on one log; `options` are those of the context, in JSON's types."""

    folder: Path
    options: dict[str, Any]
    context: str = "Short"
    contexts: Mapping[str, str] = field(default_factory=dict)
    """The contexts of workers that have another one, by the workers' names."""
    ahead: Mapping[str, int] = field(default_factory=dict)
    """By how many microseconds the clocks of workers run ahead, by the workers' names."""
    started: list[Process] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """The folder of the log."""
        return self.folder / "log"

    @property
    def is_on_kafka(self) -> bool:
        """Whether the log is a cluster's."""
        return "kafka" in self.options

    @contextmanager
    def opened(self) -> Iterator[Log]:
        """The log, to look at what is in it."""
        context = CONTEXTS[self.context]
        if self.is_on_kafka:
            log: Log = kafka_log(
                Options(**self.options), SystemClock(), declarations(context.model().entities.values(), [self.plan])
            )
        else:
            log = EmbeddedLog(self.log)
        try:
            yield log
        finally:
            log.close()

    @property
    def plan(self) -> BarsPlan:
        """The plan of the bars."""
        return plan(CONTEXTS[self.context].model().queries[Bar])

    def worker(self, name: str) -> Process:
        """Start a worker of this name."""
        runtime = {**self.options.get("runtime", {}), "instance": name}
        words = [str(self.ahead[name])] if name in self.ahead else []
        return self._start(name, "tests.soak.worker", {**self.options, "runtime": runtime}, *words)

    def producer(self, **settings: int) -> Process:
        """Start a producer."""
        return self._start("producer", "tests.soak.producer", self.options, Plan(len(self.started), **settings).to_text())

    def _start(self, name: str, module: str, options: dict[str, Any], *words: str) -> Process:
        output = self.folder / f"{name}-{len(self.started)}.lines"
        content = json.dumps({"log": {"path": str(self.log)}} | options)
        context = self.contexts.get(name, self.context)
        process = Process(name, output, module, context, content, str(output), *words)
        self.started.append(process)
        return process

    def of(self, name: str) -> list[Process]:
        """All processes that ever had this name, oldest first."""
        return [process for process in self.started if process.name == name]

    def lines(self, name: str) -> Iterator[str]:
        """All that processes of this name have written."""
        for process in self.of(name):
            yield from process.lines()


@contextmanager
def processes(
    folder: Path,
    options: dict[str, Any],
    context: str = "Short",
    *,
    contexts: Mapping[str, str] | None = None,
    ahead: Mapping[str, int] | None = None,
) -> Iterator[Processes]:
    """Processes on a log in this folder, of which none is left at the end."""
    running = Processes(folder, options, context, contexts or {}, ahead or {})
    try:
        yield running
    finally:
        for process in running.started:
            process.end()


def end_in_order_when_told() -> None:
    """Have SIGTERM end this process through its `finally`, so that it leaves no other process behind."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def owns(*workers: Process, partitions: int) -> bool:
    """Whether these workers have all partitions by now, and each of them has some; AssertionError if one has ended."""
    for worker in workers:
        worker.check()
    shares = [worker.newest()["partitions"] for worker in workers]
    return all(shares) and sorted(number for share in shares for number in share) == list(range(partitions))
