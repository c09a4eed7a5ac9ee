"""From ticks in a Kafka topic to one-minute bars back in Kafka: kandle beside Quix Streams and Flink SQL, in one run.

    python -m benchmarks.kafka_peers --ticks 5000000 --keys 100 10000

All read the same Avro ticks from the same topic with the same schema registry, and make the same bars (first, highest, lowest,
last, total; two seconds of grace); the volume of the first minute is checked. kandle runs as `kandle run` does: finals, live bars
and state in transactions. Each runs alone, on one processor; the broker and this process, which looks at the bars, have another.
What is measured is what comes out: ticks of the bars that have come, by time and by processor time of the whole process tree,
without the first quarter of the bars that each makes (start, compilation); with it where all bars come at once. A peer that
cannot be installed is left out by name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from benchmarks.declarations import Minutes
from benchmarks.peers.environments import MissingPeerError, environment, python
from benchmarks.processes import end_tree, processor_seconds
from kandle.context.context import state_of
from kandle.context.options import Options
from kandle.log.records import Records, Write
from kandle.time.timeframe import MILLISECOND, MINUTE
from tests.serde.serving import serving
from tools.kafka.cluster import FAST, Cluster

ROWS = 20_000
HERE = Path(__file__).resolve().parent
FIRST, LAST = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
"""The processor of the contenders, and that of the broker and of this process."""


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do, and where; each key has the same number of ticks in each minute."""

    brokers: str
    registry: str
    folder: Path
    ticks: int
    keys: int
    ticks_a_minute: int

    @property
    def bars(self) -> int:
        """Bars that every contender makes: nothing comes after the last minute that would close it."""
        return (self.ticks // self.ticks_a_minute - 1) * self.keys


Volume = Callable[[bytes], int]
"""The volume of a bar, from its message."""


@dataclass(frozen=True, slots=True)
class Contender:
    """How somebody is started, where the bars go, and how the volume of a bar is read."""

    name: str
    topic: str
    command: Callable[[Work], Sequence[str]]
    volume: Callable[[Work], Volume]
    variables: Callable[[Work], Mapping[str, str]] = lambda work: {}
    environment: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How many bars had come after so many seconds, and so many of the processor."""

    bars: int
    seconds: float
    processor: float


def _kandle(work: Work) -> Sequence[str]:
    return [sys.executable, "-m", "kandle.cli", "run", "benchmarks.declarations:Minutes", "--log", f"kafka://{work.brokers}"]


def _quix(guarantee: str) -> Callable[[Work], Sequence[str]]:
    def command(work: Work) -> Sequence[str]:
        script = [python(environment("quix")), str(HERE / "peers" / "quix.py")]
        return [*script, work.brokers, work.registry, str(work.folder / guarantee), guarantee]

    return command


def _flink(work: Work) -> Sequence[str]:
    folder = environment("flink")
    return [python(folder), str(HERE / "peers" / "flink.py"), work.brokers, work.registry, str(folder / "jars")]


def _volume_in_avro(work: Work) -> Volume:
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": work.registry}))
    context = SerializationContext("", MessageField.VALUE)

    def volume(value: bytes) -> int:
        row: dict[str, Any] = deserialize(value, context)
        return int(row["total"])

    return volume


def _volume_in_json(work: Work) -> Volume:
    return lambda value: int(json.loads(value)["total"])


CONTENDERS = {
    "kandle": Contender(
        "kandle",
        "bars_1m_final",
        _kandle,
        _volume_in_avro,
        lambda work: {"KANDLE_SCHEMA_REGISTRY__URL": work.registry},
    ),
    "flink": Contender("Flink SQL 2.3 (PyFlink)", "bars_flink", _flink, _volume_in_json, environment="flink"),
    "quix": Contender(
        "Quix Streams 3.28", "bars_quix_at-least-once", _quix("at-least-once"), _volume_in_json, environment="quix"
    ),
    "quix-exactly-once": Contender(
        "Quix, exactly once", "bars_quix_exactly-once", _quix("exactly-once"), _volume_in_json, environment="quix"
    ),
}


def fill(work: Work) -> int:
    """Make all topics and append the ticks, whole minutes that lie just behind; gives the volume of the first minute."""
    random = np.random.default_rng(7)
    options = Options(
        access="write_only", log={"kind": "kafka"}, kafka={"bootstrap": work.brokers}, schema_registry={"url": work.registry}
    )
    client = AdminClient({"bootstrap.servers": work.brokers})
    topics = [NewTopic(peer.topic, 1) for peer in CONTENDERS.values() if peer is not CONTENDERS["kandle"]]
    for future in client.create_topics(topics).values():
        future.result(30)
    names = random.permutation(work.keys)
    volume = 0
    with Minutes(options) as context:
        start = (state_of(context).clock.now() - work.ticks * MINUTE // work.ticks_a_minute) // MINUTE * MINUTE - MINUTE
        for begin in range(0, work.ticks, ROWS):
            numbers = np.arange(begin, min(begin + ROWS, work.ticks))
            frame = ticks(start + numbers * MINUTE // work.ticks_a_minute, names[numbers % work.keys], random)
            volume += int(frame["size"].to_numpy()[numbers < work.ticks_a_minute].sum())
            state_of(context).log.append([Write("ticks", 0, Records(frame))])
    return volume


def ticks(instants: np.ndarray, names: np.ndarray, random: np.random.Generator) -> pl.DataFrame:
    """Return a tick at each instant, in whole milliseconds, as physical columns."""
    return pl.DataFrame(
        {
            "time": pl.Series(instants // MILLISECOND * MILLISECOND).cast(pl.Datetime("us", "UTC")),
            "venue": pl.Series(names % 4).cast(pl.String).str.pad_start(3, "v"),
            "name": pl.Series(names).cast(pl.String).str.pad_start(8, "N"),
            "price": random.integers(1_000_000, 2_000_000, len(names)),
            "size": random.integers(1, 500, len(names)),
        }
    )


@contextmanager
def running(contender: Contender, work: Work, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the contender; what it says goes to `log`."""
    variables = {**os.environ, **contender.variables(work)}
    command = ["taskset", "--cpu-list", str(FIRST), *contender.command(work)]
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=variables, stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd=HERE.parent)
        try:
            yield process
        finally:
            end_tree(process.pid)
            process.wait()


def course(contender: Contender, work: Work, log: Path, seconds: int, volume: int) -> list[Mark]:
    """Marks of one run that ends when all bars are there, or its time is up; AssertionError if the first minute is not right."""
    reader = Consumer({"bootstrap.servers": work.brokers, "group.id": contender.topic, "isolation.level": "read_committed"})
    reader.assign([TopicPartition(contender.topic, 0, 0)])
    marks: list[Mark] = []
    first: list[bytes] = []
    bars, began = 0, time.perf_counter()
    with running(contender, work, log) as process:
        while bars < work.bars and time.perf_counter() - began < seconds and process.poll() is None:
            messages = [message for message in reader.consume(ROWS, 0.1) if message.error() is None]
            if messages:
                first += [message.value() or b"" for message in messages[: work.keys - len(first)]]
                # Later ones fill the time since the last tick.
                bars = min(bars + len(messages), work.bars)
                marks.append(Mark(bars, time.perf_counter() - began, processor_seconds(process.pid)))
    reader.close()
    if len(first) == work.keys:
        assert sum(map(contender.volume(work), first)) == volume, f"{contender.name}: the first minute is not right"
    return marks


def rates(marks: Sequence[Mark], work: Work) -> tuple[float, float] | None:
    """Ticks per second and per processor second, without the first quarter of the bars; None if too few came.

    Where all come at once, as they do when a backlog is closed by one heartbeat, the start is counted as well.
    """
    if not marks or marks[-1].bars < 2 * work.keys:
        return None
    first, last = next(mark for mark in marks if mark.bars >= marks[-1].bars / 4), marks[-1]
    if first is last or first.processor == last.processor:
        first = Mark(0, 0.0, 0.0)
    count = (last.bars - first.bars) * work.ticks_a_minute / work.keys
    return count / (last.seconds - first.seconds), count / (last.processor - first.processor)


def compare(work: Work, contenders: Sequence[Contender], seconds: int) -> None:
    """Let them run one after the other, and print a line for each."""
    volume = fill(work)
    print(f"{work.ticks:,} ticks of {work.keys:,} keys, {work.ticks_a_minute:,} a minute of their own time; {work.bars:,} bars")
    ours: tuple[float, float] | None = None
    for contender in contenders:
        log = work.folder / f"{contender.topic}.log"
        marks = course(contender, work, log, seconds, volume)
        speed = rates(marks, work)
        if speed is None:
            print(f"  {contender.name:<26} made only {marks[-1].bars if marks else 0:,} bars; it said last:")
            print("".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-5:]), end="", flush=True)
            continue
        if contender is CONTENDERS["kandle"]:
            ours = speed
        print(line(contender.name, speed, ours, marks[-1], work), flush=True)


def line(name: str, speed: tuple[float, float], ours: tuple[float, float] | None, last: Mark, work: Work) -> str:
    """Return the line of one contender."""
    whole = f"{last.bars / work.bars:4.0%} of the bars in {last.seconds:5.1f} s ({last.processor:5.1f} s of processors)"
    ratio = "" if ours is None or speed is ours else f"; kandle {ours[1] / speed[1]:.1f} x"
    return f"  {name:<26} {speed[0] / 1000:7,.0f} k ticks/s {speed[1] / 1000:7,.0f} k per processor second{ratio}; {whole}"


def installed(names: Sequence[str]) -> list[Contender]:
    """Contenders that can run here; those that cannot are named with the reason."""
    present = []
    for contender in (CONTENDERS[name] for name in names):
        try:
            if contender.environment is not None:
                environment(contender.environment)
        except MissingPeerError as error:
            print(f"{contender.name.strip()} is left out: {error}", flush=True)
        else:
            present.append(contender)
    return present


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=5_000_000)
    parser.add_argument("--keys", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--ticks-a-minute", type=int, default=120_000)
    parser.add_argument("--seconds", type=int, default=60, help="most for each of them")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    options = parser.parse_args()
    contenders = installed(options.only)
    print("One topic of one partition, Avro with a schema registry; each alone on one processor, the broker on another.")
    print("Flink SQL: at least once, a checkpoint each second, bars as JSON. Quix Streams: its defaults, bars as JSON.")
    print("kandle: exactly once, finals, live bars and state committed as in production, bars as Avro.")
    os.sched_setaffinity(0, {LAST})
    for keys in options.keys:
        with Cluster(jvm=FAST) as cluster, serving() as registry, tempfile.TemporaryDirectory() as folder:
            work = Work(cluster.bootstrap, registry.url, Path(folder), options.ticks, keys, options.ticks_a_minute)
            compare(work, contenders, options.seconds)


if __name__ == "__main__":
    main()
