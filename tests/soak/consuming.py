"""Kill consumers at random for a while: every job is done, few twice, and dead letters are the poison exactly.

python -m tests.soak.consuming --seconds 120 --seed 1
python -m tests.soak.consuming --seconds 120 --log kafka --kind transaction

Two consumers share the partitions of a topic that a producer fills. Every one to three seconds one of them is killed (SIGKILL)
and comes back under its name, at once or after a while. A killed process leaves one message of each of its partitions in doubt,
so at most one of each partition is done twice for each kill; with transactions none is.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from kandle.context.context import state_of
from kandle.sets.reading import rows
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND
from tests.sets.consumed import Job, Work
from tests.soak.handler import is_poison
from tests.soak.processes import Process
from tests.waiting import LIMIT, wait_until
from tools.kafka.cluster import Cluster

KEYS = [f"key{number}" for number in range(12)]
PARTITIONS = 4
SESSION = "6s"


@dataclass(frozen=True, slots=True)
class Consuming:
    """A run; on the embedded log without a `cluster`. `kind` is `handler` or `transaction`, or `replay` for dead letters."""

    seconds: float
    seed: int
    kind: str = "handler"
    consumers: int = 2
    rate: int = 300
    """Jobs that are added each second."""
    cluster: Cluster | None = None

    def options(self, folder: Path) -> dict[str, Any]:
        """Options of the contexts, in JSON's types."""
        topics = {name: {"partitions": PARTITIONS} for name in ("jobs", "results")}
        if self.cluster is None:
            return {"log": {"path": str(folder / "log")}, "topics": topics}
        return {"log": {"kind": "kafka"}, "kafka": {"bootstrap": self.cluster.bootstrap, "session": SESSION}, "topics": topics}


@dataclass(slots=True)
class Outcome:
    """What came out.

    Attributes:
        added: How many jobs there were.
        kills: How many consumers were killed.
        missing: Jobs that were not done and are no dead letters.
        again: How many jobs were done twice or more often, each time counted.
        disordered: Keys whose jobs were not done in their order.
        letters: How often each number is a dead letter.
    """

    added: int
    kills: int
    missing: list[int]
    again: int
    disordered: list[str]
    letters: Counter[int] = field(default_factory=Counter)

    @property
    def wrong_letters(self) -> dict[int, int]:
        """Numbers that should be a dead letter once and are not, or that should be none."""
        wanted = Counter(number for number in range(self.added) if is_poison(number))
        return {number: self.letters[number] for number in wanted.keys() | self.letters if self.letters[number] != wanted[number]}

    def __str__(self) -> str:
        return (
            f"{self.added} jobs, {self.kills} kills: {len(self.missing)} missing, {self.again} done again, "
            f"{sum(self.letters.values())} dead letters ({len(self.wrong_letters)} wrong), keys out of order: {self.disordered}"
        )


class Consumers:
    """The consumers of a run: killed, and started again."""

    def __init__(self, run: Consuming, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self.book = folder / "book"
        self._running: dict[str, Process] = {}
        self._back: dict[str, int] = {}
        self._chance = random.Random(run.seed)
        self._count = 0
        self.kills = 0

    def start(self, name: str) -> None:
        """Start a consumer of this name."""
        options = self._run.options(self._folder) | {"runtime": {"instance": name}}
        self._count += 1
        output = self._folder / f"{name}-{self._count}.lines"
        if self._run.kind == "replay":
            self._running[name] = Process(name, output, "tests.soak.replayer", json.dumps(options))
        else:
            words = [json.dumps(options), str(self.book), self._run.kind]
            self._running[name] = Process(name, output, "tests.soak.handler", *words)

    def kill_one(self, now: int) -> None:
        """Kill one of those that run; it comes back at once, or within two seconds."""
        name = self._chance.choice(sorted(self._running))
        self._running.pop(name).kill()
        self.kills += 1
        self._back[name] = now + self._chance.choice([0, self._chance.randrange(2 * SECOND)])

    def bring_back(self, now: int) -> None:
        """Start those again whose time has come."""
        for name, at in list(self._back.items()):
            if at <= now:
                del self._back[name]
                self.start(name)

    def check(self) -> None:
        """Raise AssertionError if one has ended by itself."""
        for process in self._running.values():
            process.check()

    def next_kill(self, now: int) -> int:
        """Return when the next one is killed."""
        return now + self._chance.randrange(SECOND, 3 * SECOND)

    def stop(self) -> None:
        """Have all end in order."""
        for process in self._running.values():
            process.send(15)
        for process in self._running.values():
            process._process.wait(LIMIT)
        self._running.clear()

    def end(self) -> None:
        """Leave none behind."""
        for process in self._running.values():
            process.end()


@contextmanager
def consumers(run: Consuming, folder: Path) -> Iterator[Consumers]:
    """Consumers of which none is left at the end."""
    them = Consumers(run, folder)
    try:
        yield them
    finally:
        them.end()


def done_jobs(run: Consuming, work: Work, book: Path) -> list[tuple[str, int]]:
    """Return id and number of jobs in the order in which they were done."""
    if run.kind == "transaction":
        return [(result.id, result.number) for result in work.results.to_list()]
    lines = book.read_text().splitlines() if book.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def dead_numbers(work: Work) -> Counter[int]:
    """Return how often each number is a dead letter."""
    log = state_of(work).log
    if not any(spec.name == "jobs_dlq" for spec in log.topics()):
        return Counter()
    letters = pl.concat(rows(log, "jobs_dlq"))
    by_offset = {}
    for partition in range(PARTITIONS):
        for batch in _batches(log, partition):
            for offset, number in zip(batch.offsets.tolist(), batch.records.frame["number"].to_list(), strict=True):
                by_offset[partition, offset] = number
    return Counter(by_offset[partition, offset] for partition, offset in letters.select("partition", "offset").rows())


def _batches(log: Any, partition: int) -> Iterator[Any]:
    from kandle.log.port import TopicPartition

    offset, end = 0, log.ends("jobs")[partition]
    while offset < end and (batches := log.read(TopicPartition("jobs", partition), offset, 100_000)):
        yield from batches
        offset = batches[-1].next_offset


def run_consuming(run: Consuming, folder: Path) -> Outcome:
    """Kill for a while, then wait until everything is done.

    Args:
        run: What to run.
        folder: A folder of its own.

    Returns:
        What came out.
    """
    clock = SystemClock()
    with Work.open(**run.options(folder)) as work, consumers(run, folder) as them:
        for number in range(run.consumers):
            them.start(f"consumer{number}")
        begun = clock.steady()
        until, kill_at, added = begun + round(run.seconds * SECOND), them.next_kill(begun), 0
        while (now := clock.steady()) < until:
            due = (now - begun) * run.rate // SECOND
            work.jobs.add_many([Job(KEYS[number % len(KEYS)], number) for number in range(added, due)])
            added = max(added, due)
            if now >= kill_at:
                them.kill_one(now)
                kill_at = them.next_kill(now)
            them.bring_back(now)
            them.check()
            clock.pause(20 * MILLISECOND)
        them.bring_back(2**62)
        wanted = {number for number in range(added) if not is_poison(number)}
        poison = {number for number in range(added) if is_poison(number)}
        wait_until(
            lambda: {number for _, number in done_jobs(run, work, them.book)} >= wanted and set(dead_numbers(work)) >= poison,
            "the end of all jobs",
            check=them.check,
            pause=0.5,
        )
        them.stop()
        done = done_jobs(run, work, them.book)
        of_key = {key: [number for id, number in done if id == key] for key in KEYS}
        return Outcome(
            added,
            them.kills,
            sorted(wanted - {number for _, number in done}),
            len(done) - len(set(done)),
            [key for key, numbers in of_key.items() if numbers != sorted(numbers)],
            dead_numbers(work),
        )


def check(run: Consuming, outcome: Outcome) -> None:
    """Raise AssertionError if something is not as promised."""
    assert outcome.kills > 0
    assert not outcome.missing, outcome
    assert not outcome.wrong_letters, outcome
    assert not outcome.disordered, outcome
    assert outcome.again <= (0 if run.kind == "transaction" else outcome.kills * PARTITIONS), outcome


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", choices=["embedded", "kafka"], default="embedded")
    parser.add_argument("--kind", choices=["handler", "transaction"], default="handler")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(Cluster()) if given.log == "kafka" else None
        run = Consuming(given.seconds, given.seed, given.kind, cluster=cluster)
        outcome = run_consuming(run, folder)
        print(outcome)
        check(run, outcome)


if __name__ == "__main__":
    main()
