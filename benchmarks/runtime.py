"""The running system: ticks per second from the log to finals in the log, delay of finals in real time, memory over time.

    python -m benchmarks.runtime replay --ticks 5000000 --keys 100
    python -m benchmarks.runtime delay --seconds 20 --rate 20000 --keys 100
    python -m benchmarks.runtime memory --seconds 600 --rate 20000 --keys 100

`replay` reads ticks that are in the log already; finals, live bars and state are committed as in production. `delay` and `memory`
have a worker in a process of its own; the delay of a final is the time from its bucket's end + grace to its commit.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.declarations import GRACE, Market, Tick, ticks
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import TopicPartition
from kandle.log.records import Records, Write
from kandle.model.entity import entity_model
from kandle.plan.plan import plan
from kandle.plan.topics import entity_topic
from kandle.runtime.query_runtime import RuntimeSpec
from kandle.runtime.runtime import Runtime
from kandle.time.clock import ManualClock

START = 1_700_000_000_000_000 // 3_600_000_000 * 3_600_000_000
ROWS = 20_000
TICKS_A_SECOND = 20_000
"""Density of the replayed ticks in their own time."""


def replay(options: argparse.Namespace) -> None:
    """Fill a log, then time one worker from the first tick to the last final."""
    with tempfile.TemporaryDirectory() as folder:
        clock = ManualClock(START)
        log = EmbeddedLog(Path(folder), clock)
        log.ensure(entity_topic(entity_model(Tick)))
        random = np.random.default_rng(7)
        for begin in range(0, options.ticks, ROWS):
            instants = START + np.arange(begin, min(begin + ROWS, options.ticks)) * 1_000_000 // TICKS_A_SECOND
            clock.jump(int(instants[-1]))
            log.append([Write("ticks", 0, Records(ticks(instants, options.keys, random)))])
        clock.jump(clock.now() + GRACE + 1_000_000)
        query = next(iter(Market.model().queries.values()))
        runtime = Runtime(log, clock, [plan(query)], RuntimeSpec("benchmark", "benchmark"))
        began = time.perf_counter()
        runtime.settle()
        seconds = time.perf_counter() - began
        counters = runtime.health().queries[0].counters
        finals = sum(each.finals for each in counters.timeframes.values())
        assert counters.late == 0
        assert counters.events == options.ticks
        print(f"replay: {options.ticks:,} ticks of {options.keys:,} keys to {finals:,} finals in {seconds:.2f} s")
        print(f"        {options.ticks / seconds / 1e6:.2f} M ticks/s, {counters.commits} commits")
        runtime.stop()


def worker(folder: str) -> None:
    """Run the queries until SIGTERM; a line of health every second."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    began, used = time.perf_counter(), time.process_time()
    with Market.open(log={"path": folder}) as market:
        while not stop.wait(1):
            query = market.health().queries[0]
            line = {
                "seconds": round(time.perf_counter() - began, 1),
                "cpu": round((time.process_time() - used) / (time.perf_counter() - began), 2),
                "resident": resident(),
                "lag": query.lag,
                "finals": sum(each.finals for each in query.counters.timeframes.values()),
            }
            print(json.dumps(line), flush=True)


def resident() -> int:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def fed(options: argparse.Namespace, folder: str) -> list[dict[str, float]]:
    """Lines of a worker's health while ticks come in real time."""
    command = [sys.executable, "-m", "benchmarks.runtime", "worker", "--folder", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: list[dict[str, float]] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(json.loads(line) for line in process.stdout or ()), daemon=True)
    reader.start()
    try:
        time.sleep(3)
        with Market.open(access="write_only", log={"path": folder}) as market:
            feed(market.log, options)
        time.sleep(GRACE / 1e6 + 2)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        reader.join(5)
    return lines


def feed(log: object, options: argparse.Namespace) -> None:
    """Ticks with the time of their append, a batch every five milliseconds."""
    random = np.random.default_rng(7)
    began = time.time()
    sent = 0
    while (elapsed := time.time() - began) < options.seconds:
        count = int(elapsed * options.rate) - sent
        if count > 0:
            instants = np.full(count, time.time_ns() // 1000)
            log.append([Write("ticks", 0, Records(ticks(instants, options.keys, random)))])  # type: ignore[attr-defined]
            sent += count
        time.sleep(0.005)


def delay(options: argparse.Namespace) -> None:
    """How long after end + grace the one-second finals are committed."""
    with tempfile.TemporaryDirectory() as folder:
        lines = fed(options, folder)
        log = EmbeddedLog(Path(folder))
        found = []
        offset = 0
        while batches := log.read(TopicPartition("bars_1s_final", 0), offset, 100_000):
            for batch in batches:
                ends = batch.records.frame["start"].to_physical().to_numpy() + 1_000_000
                found.append(batch.timestamps - ends - GRACE)
            offset = batches[-1].next_offset
        log.close()
    delays = np.concatenate(found) / 1000
    median, high, most = np.median(delays), np.percentile(delays, 99), delays.max()
    print(f"delay:  {options.rate:,} ticks/s of {options.keys:,} keys for {options.seconds} s: {len(delays):,} one-second finals")
    print(f"        median {median:.1f} ms, p99 {high:.1f} ms, most {most:.1f} ms after end + grace; cpu {lines[-1]['cpu']}")


def memory(options: argparse.Namespace) -> None:
    """Resident memory of the worker over time, and the size of the log."""
    with tempfile.TemporaryDirectory() as folder:
        lines = fed(options, folder)
        size = sum(each.stat().st_size for each in Path(folder).glob("log.db*")) // 2**20
    step = max(1, len(lines) // 20)
    for line in lines[::step]:
        print(f"        {line['seconds']:>7.1f} s  {line['resident']:>5} MiB  lag {line['lag']:>7,}  finals {line['finals']:>9,}")
    resident = [line["resident"] for line in lines]
    first, second = resident[: len(resident) // 2], resident[len(resident) // 2 :]
    print(f"memory: most {max(first)} MiB in the first half, {max(second)} MiB in the second; log {size} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["replay", "delay", "memory", "worker"])
    parser.add_argument("--ticks", type=int, default=5_000_000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "worker":
        worker(options.folder)
    else:
        {"replay": replay, "delay": delay, "memory": memory}[options.what](options)


if __name__ == "__main__":
    main()
