"""Kill processes at random for a while, then compare all that came out with a run without crashes.

python -m tests.soak.crash --seconds 60 --seed 1 --state memory --workers 2

Workers share the partitions of the query; a producer adds ticks to it. Every one to three seconds one of them is killed
(SIGKILL). It comes back under its name at once, or later, when others have taken over what it had.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kandle.log.embedded import EmbeddedLog
from kandle.plan.plan import Plan, plan
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND, from_instant, to_instant
from tests.soak.comparing import Outcome, is_settled, outcome
from tests.soak.declaration import PARTITIONS, Bar, Short
from tests.soak.processes import Process, Processes, end_in_order_when_told, owns, processes, wait_until

START = datetime(2024, 3, 8, 14, 30, tzinfo=UTC)
"""All processes have a clock that says this when the killing begins, so that the same buckets end during each run."""

GROUP = "short-bars"
LONGEST = 15 * SECOND
LEASE = 2 * SECOND


def clock_options(ahead: float) -> tuple[dict[str, Any], Clock]:
    """Options of a clock that says START in so many seconds, and the clock itself."""
    since = from_instant(SystemClock().now()) + timedelta(seconds=ahead)
    clock = ScaledClock(to_instant(START), to_instant(since), 1.0)
    return {"start": START.isoformat(), "since": since.isoformat()}, clock


def query() -> Plan:
    """The plan of the bars."""
    return plan(Short.model().queries[Bar])


def settled_after(every: Processes, until: int) -> None:
    """Wait until all buckets up to an instant are final."""
    log = EmbeddedLog(every.log)
    try:
        wait_until(lambda: is_settled(log, query(), GROUP, until), "the last buckets' closing")
    finally:
        log.close()


@dataclass(frozen=True, slots=True)
class Crash:
    """A run; `state` is the option `state.store`."""

    seconds: float
    seed: int
    state: str = "memory"
    workers: int = 2


class Killer:
    """Kills one after the other, and brings them back."""

    def __init__(self, every: Processes, crash: Crash) -> None:
        self._every = every
        self._chance = random.Random(crash.seed)
        self._workers = [f"worker{number}" for number in range(crash.workers)]
        self._running: dict[str, Process] = {}
        self._back: dict[str, int] = {}
        self.kills: Counter[str] = Counter()

    def start(self) -> None:
        """Start all, and wait until the workers share the partitions."""
        for name in self._workers:
            self._running[name] = self._every.worker(name)
        wait_until(lambda: owns(*self._running.values(), partitions=PARTITIONS), "sharing the partitions")
        self._running["producer"] = self._every.producer()

    def run(self, until: int, clock: Clock) -> None:
        """Kill somebody every one to three seconds until an instant."""
        following = clock.now()
        while clock.now() < until:
            self._bring_back(clock.now())
            for process in self._running.values():
                process.check()
            if clock.now() >= following:
                self._kill(clock.now())
                following = clock.now() + round(self._chance.uniform(1, 3) * SECOND)
            clock.pause(20 * MILLISECOND)
        self._bring_back(sys.maxsize)

    def _kill(self, now: int) -> None:
        name = self._chance.choice([*self._workers, *self._workers, "producer"])
        # At once under the same name, or so late that others take over.
        back = now + self._chance.choice([0, 0, round(1.5 * LEASE)])
        if name in self._running:
            self._running.pop(name).kill()
            self._back[name] = back
            self.kills[name] += 1

    def _bring_back(self, now: int) -> None:
        for name, instant in list(self._back.items()):
            if instant <= now:
                del self._back[name]
                self._running[name] = self._every.producer() if name == "producer" else self._every.worker(name)

    def stop(self) -> None:
        """The quiet end of the workers."""
        for name in self._workers:
            self._running[name].stop()

    def stop_producer(self) -> None:
        self._running["producer"].stop()


def run(crash: Crash, folder: Path) -> tuple[Counter[str], Outcome]:
    """Kill, wait for the end of the last buckets, compare; gives the kills by name and what came out."""
    clock_settings, clock = clock_options(3)
    options = {"clock": clock_settings, "runtime": {"lease": LEASE}, "state": {"store": crash.state}}
    with processes(folder, options) as every:
        killer = Killer(every, crash)
        killer.start()
        killer.run(max(clock.now(), to_instant(START)) + round(crash.seconds * SECOND), clock)
        wait_until(lambda: bool(every.of("producer")[-1].lines()), "the producer's first tick after the last kill")
        killer.stop_producer()
        until = -(-clock.now() // LONGEST) * LONGEST
        settled_after(every, until)
        killer.stop()
        return killer.kills, outcome(every, until)


def main() -> int:
    end_in_order_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", choices=["memory", "rocksdb"], default="memory")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills, found = run(Crash(options.seconds, options.seed, options.state, options.workers), Path(folder))
    print(f"seed {options.seed}, state {options.state}; kills: {', '.join(f'{name} {n}' for name, n in sorted(kills.items()))}")
    print(found.table())
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
