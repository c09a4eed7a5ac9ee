"""How long after end + grace of its bucket a final can be read from Kafka (read_committed), while ticks come in real time.

    python -m benchmarks.kafka_delay --seconds 20 --rate 20000 --keys 100

A broker is started for it (Java and Maven). The worker is `kandle run`, the reader a plain client of Kafka; they, the broker and
whoever sends the ticks share the processors of this machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, TopicPartition

from benchmarks.declarations import GRACE, Market, ticks
from benchmarks.processes import end_tree, processor_seconds
from kandle.context.context import state_of
from kandle.context.options import Options
from kandle.log.kafka.log import KafkaLog
from kandle.log.port import Log
from kandle.log.records import Records, Write
from kandle.time.timeframe import MILLISECOND, SECOND
from tools.kafka.cluster import FAST, Cluster

FINALS = "bars_1s_final"
START = 2
"""Seconds that the reader has before the first tick."""
PATIENCE = 60
EVERY = 0.005

Seen = tuple[int, bytes, bytes]
"""When a message was there (microseconds), its key and its value."""


def seen(brokers: str, seconds: float) -> list[Seen]:
    """Return all finals that can be read in the next seconds."""
    # The client's default for a topic that is just being made is to look again after minutes.
    settings = {"bootstrap.servers": brokers, "group.id": "reader", "topic.metadata.refresh.interval.ms": 500}
    reader = Consumer({**settings, "isolation.level": "read_committed", "fetch.queue.backoff.ms": 2})
    reader.assign([TopicPartition(FINALS, 0, 0)])
    finals: list[Seen] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        messages = reader.consume(1, 0.1)
        now = time.time_ns() // 1000
        messages += reader.consume(10_000, 0)
        finals += [(now, message.key() or b"", message.value() or b"") for message in messages if message.error() is None]
    reader.close()
    return finals


def feed(log: Log, options: argparse.Namespace) -> int:
    """Append ticks with the time of their append, a batch every five milliseconds; gives how many they were."""
    random = np.random.default_rng(7)
    began = time.monotonic()
    sent = 0
    while (elapsed := time.monotonic() - began) < options.seconds:
        count = int(elapsed * options.rate) - sent
        if count > 0:
            instants = np.full(count, time.time_ns() // 1000 // MILLISECOND * MILLISECOND)
            log.append([Write("ticks", 0, Records(ticks(instants, options.keys, random)))])
            sent += count
        time.sleep(EVERY)
    return sent


@contextmanager
def worker(brokers: str) -> Iterator[int]:
    """Run a worker in a process of its own, and give its number."""
    command = [sys.executable, "-m", "kandle.cli", "run", "benchmarks.declarations:Market", "--log", f"kafka://{brokers}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        end_tree(process.pid)
        process.wait()


def wait_for_heartbeats(log: Log) -> None:
    """Wait until the worker works."""
    until = time.monotonic() + PATIENCE
    while not log.ends("bars_hb_1s")[0]:
        assert time.monotonic() < until, f"no heartbeats within {PATIENCE} s"
        time.sleep(0.1)


def delays(log: KafkaLog, finals: list[Seen]) -> npt.NDArray[np.float64]:
    """Return the milliseconds from end + grace until each final was there."""
    frame = log.codec(FINALS).decode([key for _, key, _ in finals], [value for _, _, value in finals]).frame
    due = frame["start"].to_physical().to_numpy() + SECOND + GRACE
    late: npt.NDArray[np.float64] = (np.array([now for now, _, _ in finals]) - due) / MILLISECOND
    return late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=100)
    options = parser.parse_args()
    readers = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with Cluster(jvm=FAST) as cluster, readers:
        settings = Options(access="write_only", log={"kind": "kafka"}, kafka={"bootstrap": cluster.bootstrap})
        with Market(settings) as market, worker(cluster.bootstrap) as number:
            wait_for_heartbeats(state_of(market).log)
            reading = readers.submit(seen, cluster.bootstrap, START + options.seconds + GRACE / SECOND)
            time.sleep(START)
            used = processor_seconds(number)
            sent = feed(state_of(market).log, options)
            used = processor_seconds(number) - used
            log = state_of(market).log
            assert isinstance(log, KafkaLog)
            late = delays(log, reading.result())
    if not len(late):
        raise SystemExit(f"no final came within {options.seconds} s; this machine is busy: give more --seconds")
    median, high, most = np.median(late), np.percentile(late, 99), late.max()
    rate = f"{sent / options.seconds:,.0f} ticks/s"
    print(f"{rate} of {options.keys:,} keys for {options.seconds} s: {len(late):,} one-second finals")
    print(f"  readable {median:.1f} ms (median), {high:.1f} ms (p99), {most:.1f} ms (most) after end + grace")
    print(f"  the worker takes {used / options.seconds:.2f} of a processor")


if __name__ == "__main__":
    main()
