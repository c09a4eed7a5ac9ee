"""End one of three workers on a Kafka cluster again and again, and measure how long its partitions have no finals.

python -m tests.soak.failover --times 10 --every 30 --how killed --back same
python -m tests.soak.failover --times 40 --every 3-8 --back same --standby

`--how` is killed (SIGKILL), stopped (SIGTERM) or paused (SIGSTOP for 20 s). `--back` is how it comes back after that: at once
under the same name, at once under another name, or so late that the others have gone on for long. With a span of seconds the
times between two ends are irregular, and nobody waits until the workers have shared the partitions anew.

Bars of a second are watched as any client sees them. The silence of an end is the time until all partitions of the worker had
another final (up to a second of it is the bucket's); the delay is how long a final was due when it came, at most.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.soak.crash import protocol_settings
from tests.soak.processes import Process, Processes, end_in_order_when_told, owns, processes
from tests.soak.watching import Seen, Watch, longest_silence
from tests.waiting import wait_until
from tools.kafka.cluster import Cluster

PARTITIONS = 8
SESSION = 6 * SECOND
PAUSED = 20 * SECOND
FINALS = "bars_1s_final"
BROKERS = protocol_settings(SESSION)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is done, how often, with so much time in between (seconds, from the least to the most)."""

    times: int
    every: tuple[float, float]
    how: str
    back: str
    standby: bool = False
    protocol: str = "classic"
    seed: int = 1

    @property
    def is_regular(self) -> bool:
        """Whether each end waits until the one before is over."""
        return self.every[0] == self.every[1]

    def options(self, bootstrap: str) -> dict[str, Any]:
        """Options of the contexts."""
        kafka = {"bootstrap": bootstrap, "session": SESSION, "protocol": self.protocol}
        topics = {"ticks": {"partitions": PARTITIONS}}
        return {"log": {"kind": "kafka"}, "kafka": kafka, "topics": topics, "state": {"standby": self.standby}}


@dataclass(frozen=True, slots=True)
class End:
    """When a worker ended, and which partitions it had."""

    at: int
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of each end the silence and the delay, and the longest silence of any partition in the whole run; all in seconds."""

    silences: Sequence[float]
    delays: Sequence[float]
    longest: float

    def __str__(self) -> str:
        rows = [("silence", self.silences), ("delay", self.delays)]
        lines = [f"{name:<8} {', '.join(f'{each:.1f}' for each in found)}" for name, found in rows]
        lines += [f"{name:<8} median {statistics.median(found):.1f} s, maximum {max(found):.1f} s" for name, found in rows]
        return "\n".join([*lines, f"longest silence of any partition {self.longest:.1f} s"])


class Ender:
    """Ends workers and has them come back."""

    def __init__(self, trial: Trial, every: Processes) -> None:
        self._trial = trial
        self._every = every
        self._clock = SystemClock()
        self._chance = random.Random(trial.seed)
        self.workers = [every.worker(f"worker{number}") for number in range(3)]
        self.ends: list[End] = []

    def share(self) -> None:
        """Wait until the workers have all partitions between them."""
        wait_until(
            lambda: owns(*self.workers, partitions=PARTITIONS),
            "sharing the partitions",
            seen=lambda: [worker.newest() for worker in self.workers],
        )

    def run(self) -> None:
        """End one after the other, or any of them where the times are irregular."""
        for number in range(self._trial.times):
            begun, length = self._clock.steady(), round(self._chance.uniform(*self._trial.every) * SECOND)
            place = number % 3 if self._trial.is_regular else self._chance.randrange(3)
            self.workers[place] = self._ended(self.workers[place], number, length)
            if self._trial.is_regular:
                self.share()
            self._clock.pause(max(0, length - (self._clock.steady() - begun)))
            for worker in self.workers:
                worker.check()

    def _ended(self, worker: Process, number: int, length: int) -> Process:
        self.ends.append(End(self._clock.now(), tuple(worker.newest()["partitions"])))
        if self._trial.how == "paused":
            worker.send(signal.SIGSTOP)
            self._clock.pause(PAUSED)
            worker.send(signal.SIGCONT)
            return worker
        if self._trial.how == "killed":
            worker.kill()
        else:
            worker.stop()
        if self._trial.back == "late":
            self._clock.pause(length * 2 // 3)
        return self._every.worker(worker.name if self._trial.back == "same" else f"worker-{number}")


def figures(ends: Sequence[End], seen: Seen, until: int) -> Figures:
    """What the ends have cost; an end counts until the next one."""
    every = [*(end for end in ends if end.partitions)]
    silences = [max(seen.next(partition, end.at) - end.at for partition in end.partitions) / SECOND for end in every]
    limits = [*(end.at for end in every[1:]), until]
    delays = [
        max(seen.delay(partition, end.at, limit) for partition in end.partitions) / SECOND
        for end, limit in zip(every, limits, strict=True)
    ]
    return Figures(silences, delays, longest_silence(seen, ends[0].at, until) / SECOND)


def run(trial: Trial, folder: Path, cluster: Cluster) -> Figures:
    """Start, end, and start again; then count."""
    clock = SystemClock()
    with processes(folder, trial.options(cluster.bootstrap)) as every:
        ender = Ender(trial, every)
        ender.share()
        producer = every.producer(keys=200)
        with Watch(cluster.bootstrap, FINALS, PARTITIONS) as watch:
            clock.pause(5 * SECOND)
            ender.run()
            ender.share()
            until = clock.now()
            # The last silences end too.
            clock.pause(5 * SECOND)
        producer.stop()
        with every.opened() as log:
            return figures(ender.ends, watch.seen(log), until)


def span(text: str) -> tuple[float, float]:
    """Seconds, or from the least to the most of them."""
    least, _, most = text.partition("-")
    return float(least), float(most or least)


def main() -> int:
    end_in_order_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--every", type=span, default=(30, 30), metavar="SECONDS", help="such as 30, or 3-8")
    parser.add_argument("--how", choices=["killed", "stopped", "paused"], default="killed")
    parser.add_argument("--back", choices=["same", "other", "late"], default="same")
    parser.add_argument("--standby", action="store_true", help="workers keep the state of each other's partitions ready")
    parser.add_argument("--protocol", choices=["classic", "consumer"], default="classic")
    parser.add_argument("--seed", type=int, default=1)
    trial = Trial(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder, Cluster(properties=BROKERS) as cluster:
        found = run(trial, Path(folder), cluster)
    print(f"{trial}\n{found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
