"""Kill processes at random for a while, then compare all that came out with a run without crashes.

python -m tests.soak.crash --seconds 60 --seed 1 --state memory --workers 2
python -m tests.soak.crash --seconds 300 --workers 3 --brokers 3 --kill-broker
python -m tests.soak.crash --seconds 300 --workers 3 --brokers 3 --company

Workers share the partitions of the query; a producer adds ticks to it. Every one to three seconds one of them is killed
(SIGKILL), stopped (SIGTERM) or paused until others have taken over (SIGSTOP). It comes back under its name at once, or later.
With `--company` every second worker belongs to a service of another name, the clock of one is half a minute fast, a tick whose
bars do not fit comes every second, and the brokers of a cluster die in turn.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND, from_instant, to_instant
from tests.soak.comparing import Outcome, is_settled, outcome
from tests.soak.declaration import PARTITIONS
from tests.soak.processes import Process, Processes, end_in_order_when_told, owns, processes
from tests.waiting import LIMIT, wait_until
from tools.kafka.cluster import Cluster

START = datetime(2024, 3, 8, 14, 30, tzinfo=UTC)
"""All processes have a clock that says this when the killing begins, so that the same buckets end during each run.

Except on a cluster, where brokers would take old records away by their own clock."""

GROUP = "kandle-bars"
LONGEST = 15 * SECOND
LEASE = 2 * SECOND
FAST = 30 * SECOND
"""By how much the clock of a worker in a company is fast."""
BROKER_DIES_EVERY = 12 * SECOND


def protocol_settings(session: int) -> dict[str, str]:
    """Properties of brokers, which say how long a session is with the protocol "consumer"."""
    times = {"session.timeout.ms": session // MILLISECOND, "heartbeat.interval.ms": 250}
    return {f"group.consumer.{least}{name}": str(time) for name, time in times.items() for least in ("", "min.")}


def clock_options(ahead: float) -> tuple[dict[str, Any], Clock]:
    """Options of a clock that says START in so many seconds, and the clock itself."""
    since = from_instant(SystemClock().now()) + timedelta(seconds=ahead)
    clock = ScaledClock(to_instant(START), to_instant(since), 1.0)
    return {"start": START.isoformat(), "since": since.isoformat()}, clock


def settled_after(services: Processes, until: int) -> None:
    """Wait until all buckets up to an instant are final."""
    with services.opened() as log:
        wait_until(lambda: is_settled(log, services.plan, GROUP, until), "the last buckets' closing")


@dataclass(frozen=True, slots=True)
class Crash:
    """A run; `state` is the option `state.store`, `cluster` brokers to run on, one of which is killed if `kills_broker`.

    With `standby` workers keep the state of each other's partitions ready. The run goes on until there were so many `kills`.
    """

    seconds: float
    seed: int
    state: str = "memory"
    workers: int = 2
    cluster: Cluster | None = None
    kills_broker: bool = False
    standby: bool = False
    protocol: str = "classic"
    kills: int = 0
    is_company: bool = False
    """Whether there is a second service, a clock that is fast, poison, and brokers that die in turn."""

    @property
    def partitions(self) -> int:
        return PARTITIONS if self.cluster is None else 2 * PARTITIONS

    @property
    def options(self) -> dict[str, Any]:
        """Options of the contexts."""
        options: dict[str, Any] = {"runtime": {"lease": LEASE}, "state": {"store": self.state, "standby": self.standby}}
        if self.cluster is None:
            return options
        kafka = {"bootstrap": self.cluster.bootstrap, "session": LEASE, "replication": self.cluster.brokers}
        kafka["protocol"] = self.protocol
        topics = {"ticks": {"partitions": self.partitions}}
        return options | {"log": {"kind": "kafka"}, "kafka": kafka, "topics": topics}


class Killer:
    """Kills one after the other, and brings them back."""

    def __init__(self, services: Processes, crash: Crash) -> None:
        self._services = services
        self._crash = crash
        self._chance = random.Random(crash.seed)
        self._workers = [f"worker{number}" for number in range(crash.workers)]
        self._running: dict[str, Process] = {}
        self._back: dict[str, int] = {}
        self._paused: dict[str, int] = {}
        self._brokers = itertools.cycle(range(1, (crash.cluster.brokers if crash.cluster else 0) + 1))
        self.kills: Counter[str] = Counter()

    def start(self) -> None:
        """Start all, and wait until the workers share the partitions."""
        for name in self._workers:
            self._running[name] = self._services.worker(name)
        workers = list(self._running.values())
        wait_until(
            lambda: owns(*workers, partitions=self._crash.partitions),
            "sharing the partitions",
            seen=lambda: [worker.newest() for worker in workers],
        )
        self._running["producer"] = self._producer()

    def _producer(self) -> Process:
        settings = {} if self._crash.cluster is None else {"keys": 200}
        poison = {"poison": SECOND} if self._crash.is_company else {}
        return self._services.producer(**settings, **poison)

    def run(self, until: int, clock: Clock) -> None:
        """Kill somebody every one to three seconds until an instant, and until there were as many kills as wanted."""
        following, broker_at = clock.now(), sys.maxsize
        if self._crash.cluster is not None and self._crash.is_company:
            broker_at = clock.now() + BROKER_DIES_EVERY
        elif self._crash.kills_broker:
            broker_at = (clock.now() + until) // 2
        while clock.now() < until or sum(self.kills.values()) < self._crash.kills:
            assert clock.now() < until + LIMIT * SECOND, f"{self._crash.kills} kills expected, but there were {dict(self.kills)}"
            if clock.now() >= broker_at:
                self._kill_broker()
                broker_at = clock.now() + BROKER_DIES_EVERY if self._crash.is_company else sys.maxsize
            self._bring_back(clock.now())
            for name, process in self._running.items():
                if process.could_not_begin:
                    self.kills[f"{name} could not begin"] += 1
                    self._back[name] = clock.now()
                else:
                    process.check()
            for name in self._back.keys() & self._running.keys():
                del self._running[name]
            if clock.now() >= following:
                self._kill(clock.now())
                following = clock.now() + round(self._chance.uniform(1, 3) * SECOND)
            clock.pause(20 * MILLISECOND)
        self._bring_back(sys.maxsize)

    def _kill_broker(self) -> None:
        assert self._crash.cluster is not None
        broker = self._crash.cluster.broker(next(self._brokers))
        broker.kill()
        self.kills["broker"] += 1
        SystemClock().pause(2 * SECOND)
        broker.start()

    def _kill(self, now: int) -> None:
        name = self._chance.choice([*self._workers, *self._workers, "producer"])
        # At once under the same name, or so late that others take over.
        back = now + self._chance.choice([0, 0, round(1.5 * LEASE)])
        if name not in self._running or name in self._paused:
            return
        how = self._chance.choice(["killed", "killed", "stopped", "paused"])
        self.kills[f"{name} {how}"] += 1
        if how == "paused":
            self._running[name].send(signal.SIGSTOP)
            self._paused[name] = now + round(1.5 * LEASE)
            return
        process = self._running.pop(name)
        if how == "killed":
            process.kill()
        else:
            process.stop()
        self._back[name] = back

    def _bring_back(self, now: int) -> None:
        for name, instant in list(self._back.items()):
            if instant <= now:
                del self._back[name]
                self._running[name] = self._producer() if name == "producer" else self._services.worker(name)
        for name, instant in list(self._paused.items()):
            if instant <= now:
                del self._paused[name]
                self._running[name].send(signal.SIGCONT)

    def stop(self) -> None:
        """The quiet end of the workers."""
        for name in self._workers:
            self._running[name].stop()

    def stop_producer(self) -> None:
        self._running["producer"].stop()


def run(crash: Crash, folder: Path) -> tuple[Counter[str], Outcome]:
    """Kill, wait for the end of the last buckets, compare; gives the kills by name and what came out."""
    options: dict[str, Any] = dict(crash.options)
    clock: Clock = SystemClock()
    if crash.cluster is None:
        options["clock"], clock = clock_options(3)
    names = [f"worker{number}" for number in range(crash.workers)]
    contexts = dict.fromkeys(names[1::2], "Twin") if crash.is_company else {}
    # The processes of an embedded log have the clock of one machine.
    ahead = {names[-1]: FAST} if crash.is_company and crash.cluster is not None else {}
    with processes(folder, options, contexts=contexts, ahead=ahead) as services:
        killer = Killer(services, crash)
        killer.start()
        begin = clock.now() if crash.cluster is not None else max(clock.now(), to_instant(START))
        killer.run(begin + round(crash.seconds * SECOND), clock)
        wait_until(lambda: bool(services.of("producer")[-1].lines()), "the producer's first tick after the last kill")
        killer.stop_producer()
        until = -(-clock.now() // LONGEST) * LONGEST
        settled_after(services, until)
        killer.stop()
        return killer.kills, outcome(services, until)


def main() -> int:
    end_in_order_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", choices=["memory", "rocksdb"], default="memory")
    parser.add_argument("--standby", action="store_true", help="workers keep the state of each other's partitions ready")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--brokers", type=int, default=0, choices=[0, 1, 3], help="run on a Kafka of so many brokers")
    parser.add_argument("--protocol", choices=["classic", "consumer"], default="classic", help="of groups, on a Kafka")
    parser.add_argument("--kill-broker", action="store_true", help="and kill one of them in the middle")
    parser.add_argument("--company", action="store_true", help="two services, a fast clock, poison, brokers that die in turn")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        brokers = Cluster(brokers=options.brokers or 1, properties=protocol_settings(LEASE))
        cluster = stack.enter_context(brokers) if options.brokers else None
        crash = Crash(
            *(options.seconds, options.seed, options.state, options.workers),
            cluster=cluster,
            kills_broker=options.kill_broker,
            standby=options.standby,
            protocol=options.protocol,
            is_company=options.company,
        )
        kills, found = run(crash, folder)
    print(f"seed {options.seed}, state {options.state}; kills: {', '.join(f'{name} {n}' for name, n in sorted(kills.items()))}")
    print(found.table())
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
