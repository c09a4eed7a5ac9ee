"""From ticks in a Kafka topic, as Avro, to final bars back in Kafka: ticks per second, and per second of processor time.

    python -m benchmarks.kafka --ticks 1000000 --keys 100

A broker is started for it (Java and Maven). Ticks are in the topic already; one process makes finals, live bars and state of
them, in transactions as in production.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.declarations import Market, Tick, ticks
from kandle.context.kafka import declarations, kafka_log
from kandle.context.options import Options
from kandle.log.port import Log
from kandle.log.records import Records, Write
from kandle.log.topics import entity_topic
from kandle.model.entity import entity_model
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND
from tools.kafka.cluster import FAST, Cluster

ROWS = 20_000
TICKS_A_SECOND = 20_000
"""Density of the ticks in their own time, which ends now."""


def fill(log: Log, count: int, keys: int) -> float:
    """Append the ticks; gives the seconds it took."""
    random = np.random.default_rng(7)
    start = SystemClock().now() - count * SECOND // TICKS_A_SECOND - 5 * SECOND
    began = time.perf_counter()
    for begin in range(0, count, ROWS):
        instants = start + np.arange(begin, min(begin + ROWS, count)) * SECOND // TICKS_A_SECOND
        instants = instants // MILLISECOND * MILLISECOND
        log.append([Write("ticks", 0, Records(ticks(instants, keys, random)))])
    return time.perf_counter() - began


def made(settings: Options, count: int) -> tuple[float, float, int]:
    """Seconds and processor seconds from the start of a worker until all ticks are committed, and the finals."""
    began, used = time.perf_counter(), time.process_time()
    with Market(settings) as market:
        while (query := market.health().queries[0]).counters.events < count or query.lag:
            assert market.problem is None, market.problem
            time.sleep(0.01)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        assert query.counters.late == 0
        return seconds, cpu, sum(each.finals for each in query.counters.timeframes.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100)
    options = parser.parse_args()
    with Cluster(jvm=FAST) as cluster:
        settings = Options(log={"kind": "kafka"}, kafka={"bootstrap": cluster.bootstrap})
        log = kafka_log(settings, SystemClock(), declarations([entity_model(Tick)], []))
        log.ensure(entity_topic(entity_model(Tick)))
        written = fill(log, options.ticks, options.keys)
        log.close()
        seconds, cpu, finals = made(settings, options.ticks)
    print(f"{options.ticks:,} ticks of {options.keys:,} keys: appended with {options.ticks / written / 1e6:.2f} M ticks/s")
    print(f"to {finals:,} finals in {seconds:.2f} s: {options.ticks / seconds / 1e6:.2f} M ticks/s")
    print(f"{options.ticks / cpu / 1e6:.2f} M ticks/s per processor ({cpu:.2f} s of it)")


if __name__ == "__main__":
    main()
