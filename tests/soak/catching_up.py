"""Come back after days off: all keys had one tick then, and every minute since is a bar that fills a gap.

python -m tests.soak.catching_up --keys 10000 --days 2 --workers 3
python -m tests.soak.catching_up --keys 10000 --days 2 --workers 1 --kafka

Prints how many finals are there, how fast they come and the memory of the largest worker. Fails if memory is not bounded, finals
do not come steadily, a worker loses its partitions while it works, or a bar is missing or doubled.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kandle.log.port import TopicPartition
from kandle.time.clock import SystemClock
from kandle.time.timeframe import DAY, MILLISECOND, MINUTE, SECOND
from tests.soak.declaration import CONTEXTS
from tests.soak.processes import Process, Processes, end_in_order_when_told, processes
from tests.waiting import LIMIT
from tools.kafka.cluster import Cluster

PARTITIONS = 8
MEBIBYTE = 2**20
MOST_MEMORY = 800 * MEBIBYTE
LONGEST_STANDSTILL = 20
"""Seconds without a new final after which they do not come steadily."""

FINALS = {"bars_1m_final": MINUTE, "bars_5m_final": 5 * MINUTE}


@dataclass(frozen=True, slots=True)
class Absence:
    """How many keys had a tick so long ago (microseconds), and how many workers come back."""

    keys: int
    length: int
    workers: int


@dataclass
class CatchUp:
    """The run as it was seen: finals and memory in bytes of the largest worker, by seconds since the start."""

    seconds: list[float] = field(default_factory=list)
    finals: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)

    def add(self, seconds: float, workers: Sequence[Process]) -> None:
        newest = [worker.newest() for worker in workers]
        self.seconds.append(seconds)
        self.finals.append(sum(health["finals"] for health in newest))
        self.resident.append(max(health.get("resident", 0) for health in newest))

    @property
    def standstill(self) -> float:
        """The longest time without a new final, in seconds, since the first."""
        moments = [
            at for at, before, finals in zip(self.seconds[1:], self.finals, self.finals[1:], strict=False) if finals > before
        ]
        return max(np.diff(moments), default=0.0)

    def __str__(self) -> str:
        at, finals = self.seconds[-1], self.finals[-1]
        began = next((second for second, count in zip(self.seconds, self.finals, strict=True) if count), at)
        rate = finals / max(0.1, at - began)
        return (
            f"{at:>6.0f} s  finals {finals:>12,}  {rate:>9,.0f} a second since the first  "
            f"memory {self.resident[-1] // MEBIBYTE:>5} MiB, at most {max(self.resident) // MEBIBYTE} MiB"
        )


def options_for(bootstrap: str | None) -> dict[str, Any]:
    """Options of the contexts."""
    kafka = {} if bootstrap is None else {"log": {"kind": "kafka"}, "kafka": {"bootstrap": bootstrap}}
    return {**kafka, "topics": {"ticks": {"partitions": PARTITIONS}}}


def add_ticks(soak: Processes, absence: Absence) -> int:
    """Write a tick of each key; return its instant."""
    at = (SystemClock().now() - absence.length) // MILLISECOND * MILLISECOND
    frame = pl.DataFrame({
        "time": pl.Series([at] * absence.keys).cast(pl.Datetime("us", "UTC")),
        "name": [f"k{number:06d}" for number in range(absence.keys)],
        "price": pl.Series([1] * absence.keys).cast(pl.Decimal(18, 6)),
        "number": range(absence.keys),
    })  # fmt: skip
    options = {"log": {"path": str(soak.log)}} | soak.options
    with CONTEXTS[soak.context].open(**options | {"access": "write_only", "runtime": {"enabled": False}}) as context:
        context.ticks.add_many(frame)  # type: ignore[attr-defined]
    return at


def caught_up(workers: Sequence[Process], least: int) -> bool:
    """Return whether so many finals are there, and nothing is left to be done."""
    newest = [worker.newest() for worker in workers]
    return sum(health["finals"] for health in newest) >= least and not any(health["lag"] for health in newest)


def run(soak: Processes, absence: Absence, progress: float = 10) -> list[str]:
    """Write the ticks, have the workers catch up and compare; return what is wrong."""
    clock, seen = SystemClock(), CatchUp()
    tick = add_ticks(soak, absence)
    workers = [soak.worker(f"worker{number}") for number in range(absence.workers)]
    began, printed = clock.steady(), 0.0
    least = absence.keys * (absence.length // MINUTE + absence.length // (5 * MINUTE))
    limit = max(LIMIT, least / 2_000)
    while not caught_up(workers, least):
        clock.pause(200 * MILLISECOND)
        for worker in workers:
            worker.check()
        seen.add((clock.steady() - began) / SECOND, workers)
        if seen.seconds[-1] - printed > progress:
            printed = seen.seconds[-1]
            print(seen, flush=True)
        assert seen.seconds[-1] < limit, f"not caught up after {limit:.0f} s: {seen}"
    print(seen, flush=True)
    wrong = problems(seen, workers)
    for worker in workers:
        worker.stop()
    return wrong + differences(soak, absence, tick)


def problems(seen: CatchUp, workers: Sequence[Process]) -> list[str]:
    """Return what was wrong while they worked, in words."""
    wrong = []
    if max(seen.resident) > MOST_MEMORY:
        wrong.append(f"a worker took {max(seen.resident) // MEBIBYTE} MiB")
    if seen.standstill > LONGEST_STANDSTILL:
        wrong.append(f"no final came for {seen.standstill:.0f} s")
    for worker in workers:
        lost = [line for line in worker.said.read_text().splitlines() if "lost by" in line]
        if lost or worker.newest()["fenced"]:
            wrong.append(f"{worker.name} lost partitions while it worked: {lost}")
    return wrong


def differences(soak: Processes, absence: Absence, tick: int) -> list[str]:
    """Return which finals are missing or doubled, in words: each key has one of each bucket, from its tick on."""
    wrong = []
    with soak.opened() as log:
        for topic, length in FINALS.items():
            first = tick // length
            counts = np.zeros((absence.keys, (SystemClock().now() - tick) // length + 2), np.uint8)
            for number in range(PARTITIONS):
                offset = 0
                while batches := log.read(TopicPartition(topic, number), offset, 200_000):
                    for batch in batches:
                        frame = batch.records.frame
                        keys = frame["name"].str.slice(1).cast(pl.Int64).to_numpy()
                        np.add.at(counts, (keys, frame["start"].to_physical().to_numpy() // length - first), 1)
                    offset = batches[-1].next_offset
            expected = counts[:, : absence.length // length]
            if (missing := int((expected == 0).sum())) or (counts > 1).any():
                wrong.append(f"{topic}: {missing:,} bars are missing, {int((counts > 1).sum()):,} are doubled")
    return wrong


@contextlib.contextmanager
def brokers(is_wanted: bool) -> Iterator[str | None]:
    """Start a broker, where one is wanted; give its address."""
    if not is_wanted:
        yield None
        return
    with Cluster() as cluster:
        yield cluster.bootstrap


def main() -> int:
    end_in_order_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--days", type=float, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kafka", action="store_true", help="on a broker that is started for it, not on the embedded log")
    given = parser.parse_args()
    absence = Absence(given.keys, round(given.days * DAY), given.workers)
    with (
        tempfile.TemporaryDirectory() as folder,
        brokers(given.kafka) as bootstrap,
        processes(Path(folder), options_for(bootstrap), "Minutes") as soak,
    ):
        wrong = run(soak, absence)
    print("\n".join(wrong) or "all finals are there, once; memory stays bounded, and nobody lost a partition")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
