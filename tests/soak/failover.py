"""End one of three workers on a Kafka cluster again and again, and measure how long its partitions have no finals.

python -m tests.soak.failover --times 10 --every 30 --how killed --back same

`--how` is killed (SIGKILL), stopped (SIGTERM) or paused (SIGSTOP for 20 s). `--back` is how it comes back after that: at once
under the same name, at once under another name, or so late that the others have gone on for long.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kandle.log.port import Log
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.soak.comparing import read
from tests.soak.processes import Process, Processes, end_in_order_when_told, owns, processes, wait_until
from tools.kafka.cluster import Cluster

PARTITIONS = 8
SESSION = 6 * SECOND
PAUSED = 20 * SECOND
FINALS = "bars_1s_final"


@dataclass(frozen=True, slots=True)
class Trial:
    """What is done, how often, with so much time in between (seconds)."""

    times: int
    every: float
    how: str
    back: str


@dataclass(frozen=True, slots=True)
class End:
    """When a worker ended, and which partitions it had."""

    at: int
    partitions: tuple[int, ...]


def silences(log: Log, ends: list[End]) -> list[float]:
    """Seconds from each end until each of its partitions had another final."""
    times = {
        partition: np.sort(np.concatenate([batch.timestamps for batch in read(log, FINALS, partition)]))
        for partition in range(PARTITIONS)
    }
    found = []
    for end in ends:
        first = [times[partition][np.searchsorted(times[partition], end.at, side="right")] for partition in end.partitions]
        found.append((max(first) - end.at) / SECOND)
    return found


def ended(every: Processes, worker: Process, trial: Trial, number: int) -> tuple[End, Process]:
    """End a worker, and have it back as the trial says."""
    clock = SystemClock()
    end = End(clock.now(), tuple(worker.newest()["partitions"]))
    if trial.how == "paused":
        worker.send(signal.SIGSTOP)
        clock.pause(PAUSED)
        worker.send(signal.SIGCONT)
        return end, worker
    if trial.how == "killed":
        worker.kill()
    else:
        worker.stop()
    if trial.back == "late":
        clock.pause(round(trial.every * SECOND * 2 / 3))
    return end, every.worker(worker.name if trial.back == "same" else f"worker-{number}")


def run(trial: Trial, folder: Path, cluster: Cluster) -> list[float]:
    """The silences, one for each time."""
    kafka = {"bootstrap": cluster.bootstrap, "session": SESSION}
    options = {"log": {"kind": "kafka"}, "kafka": kafka, "topics": {"ticks": {"partitions": PARTITIONS}}}
    clock, ends = SystemClock(), list[End]()
    with processes(folder, options) as every:
        workers = [every.worker(f"worker{number}") for number in range(3)]
        wait_until(lambda: owns(*workers, partitions=PARTITIONS), "sharing the partitions")
        producer = every.producer(keys=200)
        clock.pause(5 * SECOND)
        for number in range(trial.times):
            begun = clock.steady()
            end, workers[number % 3] = ended(every, workers[number % 3], trial, number)
            ends.append(end)
            wait_until(lambda: owns(*workers, partitions=PARTITIONS), "sharing the partitions again")
            clock.pause(max(0, round(trial.every * SECOND) - (clock.steady() - begun)))
            for worker in workers:
                worker.check()
        producer.stop()
        with every.opened() as log:
            return silences(log, ends)


def main() -> int:
    end_in_order_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--every", type=float, default=30)
    parser.add_argument("--how", choices=["killed", "stopped", "paused"], default="killed")
    parser.add_argument("--back", choices=["same", "other", "late"], default="same")
    options = parser.parse_args()
    trial = Trial(**vars(options))
    with tempfile.TemporaryDirectory() as folder, Cluster() as cluster:
        found = run(trial, Path(folder), cluster)
    print(f"{trial}\nseconds without finals: {', '.join(f'{each:.1f}' for each in found)}")
    print(f"median {statistics.median(found):.1f} s, maximum {max(found):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
