"""One broker as a process: launched, paused, killed and stopped by its own number, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND
from tools.kafka.errors import BrokerStateError, StartError
from tools.kafka.ports import check_free
from tools.kafka.properties import Node

ROOT = Path(__file__).resolve().parents[2]
START_PATIENCE = 60
"""Seconds after which a broker that does not answer is given up."""
STOP_PATIENCE = 15
"""Seconds that a broker has to end by itself; the last of several has nobody left to hand over to, and would wait for minutes."""
# Answers within a second: these clients live for one question, and brokers that are just starting refuse the first ones.
IMPATIENT: dict[str, str | int] = {"log_level": 0, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200}


@dataclass
class Broker:
    """A broker that runs `command`; `clients` is what a client needs to connect to it alone."""

    node: Node
    command: Sequence[str]
    clients: Mapping[str, str | int | float | bool]
    log: Path
    """What it says, of all its starts."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"broker {self.node.number}"

    @property
    def pid(self) -> int:
        """Number of its process; BrokerStateError if it does not run."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether its process is there, also if it is paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, with the data that it has, and wait until it answers and is among the brokers it knows."""
        self.launch()
        wait_for_brokers([self], {self.node.number})

    def launch(self) -> None:
        """Start it without waiting; only the main thread may, since the system ends it with the thread that started it."""
        if threading.current_thread() is not threading.main_thread():
            raise BrokerStateError(f"{self.name} would end with this thread; start it from the main thread")
        if self.is_running:
            raise BrokerStateError(f"{self.name} runs already; stop or kill it first")
        check_free(self.node.port)
        command = [sys.executable, "-m", "tools.kafka.launch", str(os.getpid()), *self.command]
        with self.log.open("ab") as log:
            # A group of its own: Ctrl-C reaches the process that started it, which then stops it in order.
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)

    def tail(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-4_000:]

    def pause(self) -> None:
        """Have it stand still without ending (SIGSTOP)."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after a pause."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it in the middle of whatever it does, also while it is paused; nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Have it end by itself, or kill it if it does not within STOP_PATIENCE; nothing if it does not run."""
        self.tell_to_stop()
        self.wait_for_end()

    def tell_to_stop(self) -> None:
        """Ask it to end, without waiting."""
        if self.is_running:
            self._running().send_signal(signal.SIGTERM)
            self.resume()

    def wait_for_end(self) -> None:
        """Wait until it has ended, and kill it if that takes too long."""
        wait_until(lambda: not self.is_running, STOP_PATIENCE)
        self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise BrokerStateError(f"{self.name} does not run; start it first")
        return self._process


def wait_for_brokers(brokers: Sequence[Broker], known: set[int]) -> None:
    """Wait until each of these brokers answers and knows those of the numbers; StartError if one ends or it takes too long."""
    asking = [AdminClient({**broker.clients, **IMPATIENT}) for broker in brokers]

    def all_run() -> bool:
        return all(broker.is_running for broker in brokers)

    in_time = wait_until(lambda: not all_run() or all(known <= brokers_known(client) for client in asking), START_PATIENCE)
    if in_time and all_run():
        return
    ended = [broker for broker in brokers if not broker.is_running]
    what = "ended by itself" if ended else f"not answered within {START_PATIENCE} s"
    said = "\n".join(f"{broker.name} has {what}; it said:\n{broker.tail()}" for broker in ended or brokers)
    raise StartError(said)


def brokers_known(asking: AdminClient) -> set[int]:
    """Numbers of the brokers that somebody who is asked knows; none if there is no answer."""
    try:
        return set(asking.list_topics(timeout=1).brokers)
    except KafkaException:
        return set()


def wait_until(done: Callable[[], bool], seconds: int) -> bool:
    """Look again and again until it is done; whether it was, in time."""
    clock, until = SystemClock(), SystemClock().steady() + seconds * SECOND
    while not done():
        if clock.steady() > until:
            return False
        clock.pause(50 * MILLISECOND)
    return True
