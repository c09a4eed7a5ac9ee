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
from collections.abc import Callable
from pathlib import Path

import numpy as np

import kandle.testing
from benchmarks.declarations import GRACE, Market, ticks
from kandle.context.context import state_of
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.time.timeframe import SECOND, from_instant

START = 1_700_000_000_000_000 // 3_600_000_000 * 3_600_000_000
ROWS = 20_000
PATIENCE = 60
"""Seconds that a worker has for its end."""
TICKS_A_SECOND = 20_000
"""Density of the replayed ticks in their own time."""


def replay(options: argparse.Namespace) -> None:
    """Fill a log, then time one worker from the first tick to the last final."""
    with tempfile.TemporaryDirectory() as folder:
        log = {"path": folder}
        with kandle.testing.context(Market, from_instant(START), access="write_only", log=log) as market:
            end = fill(market, options)
        with kandle.testing.context(Market, from_instant(end), log=log) as market:
            began = time.perf_counter()
            # The clock of such a context does all that is due before it goes on.
            move(market, end + GRACE + SECOND)
            seconds = time.perf_counter() - began
            counters = market.health().queries[0].counters
    finals = sum(timeframe.finals for timeframe in counters.timeframes.values())
    assert counters.late == 0
    assert counters.events == options.ticks
    print(f"replay: {options.ticks:,} ticks of {options.keys:,} keys to {finals:,} finals in {seconds:.2f} s")
    print(f"        {options.ticks / seconds / 1e6:.2f} M ticks/s, {counters.commits} commits")


def fill(market: Market, options: argparse.Namespace) -> int:
    """Append the ticks, the clock moving with them; gives the instant of the last one."""
    random, instants = np.random.default_rng(7), np.array([START])
    for begin in range(0, options.ticks, ROWS):
        instants = START + np.arange(begin, min(begin + ROWS, options.ticks)) * SECOND // TICKS_A_SECOND
        move(market, int(instants[-1]))
        state_of(market).log.append([Write("ticks", 0, Records(ticks(instants, options.keys, random)))])
    return int(instants[-1])


def move(market: Market, instant: int) -> None:
    """Set the clock of a context for tests."""
    assert isinstance(market, kandle.testing.TestContext)
    market.clock.jump(instant)


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
                "finals": sum(timeframe.finals for timeframe in query.counters.timeframes.values()),
            }
            print(json.dumps(line), flush=True)


def resident() -> int:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def fed(options: argparse.Namespace, folder: str) -> list[dict[str, float]]:
    """Return the lines of a worker's health while ticks come in real time."""
    command = [sys.executable, "-m", "benchmarks.runtime", "worker", "--folder", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: list[dict[str, float]] = []

    def read() -> None:
        for line in process.stdout or ():
            lines.append(json.loads(line))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def wait_for(done: Callable[[], bool]) -> None:
        while not done():
            if process.poll() is not None:
                sys.exit(f"the worker has ended with exit code {process.returncode}")
            time.sleep(0.05)

    try:
        wait_for(lambda: len(lines) > 1)
        with Market.open(access="write_only", log={"path": folder}) as market:
            feed(state_of(market).log, options)
        after = len(lines) + 1 + (GRACE + SECOND) // SECOND
        wait_for(lambda: len(lines) > after and not lines[-1]["lag"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        reader.join(PATIENCE)
    return lines


def feed(log: Log, options: argparse.Namespace) -> None:
    """Append ticks with the time of their append, a batch every five milliseconds."""
    random = np.random.default_rng(7)
    began = time.time()
    sent = 0
    while (elapsed := time.time() - began) < options.seconds:
        count = int(elapsed * options.rate) - sent
        if count > 0:
            instants = np.full(count, time.time_ns() // 1000)
            log.append([Write("ticks", 0, Records(ticks(instants, options.keys, random)))])
            sent += count
        time.sleep(0.005)


def delay(options: argparse.Namespace) -> None:
    """Print how long after end + grace the one-second finals are committed."""
    with tempfile.TemporaryDirectory() as folder:
        lines = fed(options, folder)
        log = EmbeddedLog(Path(folder))
        parts = []
        offset = 0
        while batches := log.read(TopicPartition("bars_1s_final", 0), offset, 100_000):
            for batch in batches:
                ends = batch.records.frame["start"].to_physical().to_numpy() + 1_000_000
                parts.append(batch.timestamps - ends - GRACE)
            offset = batches[-1].next_offset
        log.close()
    delays = np.concatenate(parts) / 1000
    median, high, most = np.median(delays), np.percentile(delays, 99), delays.max()
    print(f"delay:  {options.rate:,} ticks/s of {options.keys:,} keys for {options.seconds} s: {len(delays):,} one-second finals")
    print(f"        median {median:.1f} ms, p99 {high:.1f} ms, most {most:.1f} ms after end + grace; cpu {lines[-1]['cpu']}")


def memory(options: argparse.Namespace) -> None:
    """Print the resident memory of the worker over time, and the size of the log."""
    with tempfile.TemporaryDirectory() as folder:
        lines = fed(options, folder)
        size = sum(path.stat().st_size for path in Path(folder).glob("log.db*")) // 2**20
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
