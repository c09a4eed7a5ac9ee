"""Many keys for a long time: memory of the worker, size of the log and lag must stay bounded.

python -m tests.soak.endurance --minutes 30 --keys 10000 --rate 5000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kandle.log.embedded.log import EmbeddedLog
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.soak.declaration import PARTITIONS
from tests.soak.processes import Process, Processes, end_in_order_when_told, owns, processes
from tests.waiting import wait_until

GROUP = "kandle-bars"
OPTIONS = {
    "topics": {"ticks": {"retention": "20s"}, "bars": {"retention": "20s"}},
    "runtime": {"live_retention": "20s"},
    "heartbeat": {"retention": "5m"},
}
"""So little is kept that the file stops growing within minutes."""

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds since the start; memory of the worker and size of the log in bytes; events that are not committed; finals made."""

    seconds: float
    resident: int
    size: int
    lag: int
    finals: int

    def __str__(self) -> str:
        memory, size = self.resident // MEBIBYTE, self.size // MEBIBYTE
        return f"{self.seconds:>7.0f} s  memory {memory:>5} MiB  log {size:>6} MiB  lag {self.lag:>7,}  finals {self.finals:>12,}"


def lag(log: EmbeddedLog) -> int:
    """Events that are in the log and not committed."""
    committed = log.committed(GROUP, "ticks")
    return sum(end - committed.get(partition, 0) for partition, end in enumerate(log.ends("ticks")))


def sampled(every: Processes, worker: Process, log: EmbeddedLog, seconds: float) -> Sample:
    newest = worker.newest()
    size = sum(path.stat().st_size for path in every.log.glob("log.db*"))
    return Sample(seconds, newest["resident"], size, lag(log), newest["finals"])


def problems(samples: Sequence[Sample], left: int) -> list[str]:
    """What has grown between the middle and the last third, and what was left undone, in words."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[-third:]
    found = []
    memory = max(each.resident for each in middle), max(each.resident for each in last)
    if memory[1] > memory[0] * 1.1 + 16 * MEBIBYTE:
        found.append(f"memory has grown from {memory[0]:,} to {memory[1]:,} bytes")
    size = max(each.size for each in middle), max(each.size for each in last)
    if size[1] > size[0] * 1.2:
        found.append(f"the log has grown from {size[0]:,} to {size[1]:,} bytes")
    if left:
        found.append(f"{left:,} events were never committed")
    return found


def run(folder: Path, seconds: float, keys: int, rate: int) -> list[str]:
    """One producer and one worker; gives what is wrong."""
    clock = SystemClock()
    with processes(folder, dict(OPTIONS), "Long") as every:
        worker = every.worker("worker")
        wait_until(lambda: owns(worker, partitions=PARTITIONS), "owning the partitions", seen=worker.newest)
        producer = every.producer(keys=keys, rate=rate)
        log = EmbeddedLog(every.log)
        began, samples = clock.steady(), list[Sample]()
        printed = 0
        while (elapsed := (clock.steady() - began) / SECOND) < seconds:
            clock.pause(SECOND)
            worker.check()
            producer.check()
            samples.append(sampled(every, worker, log, elapsed))
            if elapsed // 60 > printed:
                printed = int(elapsed // 60)
                print(samples[-1], flush=True)
        producer.stop()
        clock.pause(5 * SECOND)
        left = lag(log)
        print(samples[-1])
        log.close()
        worker.stop()
        return problems(samples, left)


def main() -> int:
    end_in_order_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), options.minutes * 60, options.keys, options.rate)
    print("\n".join(found) or "memory, log and lag stay bounded")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
