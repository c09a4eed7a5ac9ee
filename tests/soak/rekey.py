"""Kill `kandle rekey` again and again in the middle: the topic is the same as after a copy that nobody disturbed.

python -m tests.soak.rekey --kills 10
python -m tests.soak.rekey --kills 10 --log kafka --kind table

Two topics get the same records. One is copied in one go. The copy of the other is killed (SIGKILL) each time that it has come
some way, and begun again. Then both new topics are compared: partition by partition, with headers, and the order of the copies of
each partition of the old topic. A table has rows that are overwritten and removed, some of them between two runs.
"""

from __future__ import annotations

import argparse
import json
import operator
import random
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kandle.context.context import state_of
from kandle.log.headers import header_rows
from kandle.log.port import Log, TopicPartition
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND
from tests.soak.processes import Process
from tests.soak.versions import Killed, Whole, order
from tests.waiting import wait_for, wait_until
from tools.kafka.cluster import Cluster

SYMBOLS = 500
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Rekey:
    """A run; on the embedded log without a `cluster`. `kind` is `stream` or `table`."""

    kills: int
    records: int
    kind: str = "stream"
    seed: int = 1
    cluster: Cluster | None = None

    @property
    def classes(self) -> tuple[str, str]:
        """The names of the versions that are copied."""
        return ("OrderV1", "Order") if self.kind == "stream" else ("StockV1", "Stock")

    def configured(self, folder: Path) -> Path:
        """Write the configuration of all contexts and commands, and return its file."""
        file = folder / "kandle.toml"
        settings = f"path = {json.dumps(str(folder / 'log'))}"
        if self.cluster is not None:
            settings = f'kind = "kafka"\n[kafka]\nbootstrap = "{self.cluster.bootstrap}"'
        file.write_text(f"[log]\n{settings}\n")
        return file


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out.

    Attributes:
        records: How many records were in the old topic.
        kills: How many copies were killed.
        early: How many of them had copied nothing by then.
        seconds: How long all copies of the killed one took.
        checksums: What the undisturbed and the killed copy have printed at their end.
        differences: In what the topics differ, in words.
    """

    records: int
    kills: int
    early: int
    seconds: float
    checksums: tuple[str, str]
    differences: list[str]

    def __str__(self) -> str:
        return (
            f"{self.records:,} records, {self.kills} kills ({self.early} before anything was copied), {self.seconds:.1f} s: "
            f"checksum {self.checksums[1]}, undisturbed {self.checksums[0]}; differences: {self.differences or 'none'}"
        )


def fill(run: Rekey, market: Any, first: int, end: int) -> None:
    """Write the records from a number to another one in the old topic of a context."""
    for begin in range(first, end, ROWS_AT_ONCE):
        numbers = range(begin, min(begin + ROWS_AT_ONCE, end))
        if run.kind == "stream":
            market.old_orders.add_many([order(type(market), number) for number in numbers])
            continue
        market.old_stocks.add_many([type(market).StockV1(f"s{number * 7 % SYMBOLS}", number) for number in numbers])
        for symbol in range(begin % 7, SYMBOLS, 50):
            market.old_stocks.remove(f"s{symbol}")


def content(log: Log, topic: str) -> dict[int, list[Any]]:
    """Return the records of each partition with their headers, ordered by the partition that they are copied from."""
    rows: dict[int, list[Any]] = {}
    for number, end in enumerate(log.ends(topic)):
        rows[number], offset = [], 0
        while offset < end and (batches := log.read(TopicPartition(topic, number), offset, 100_000)):
            for batch in batches:
                gone = batch.records.tombstones
                removed = [False] * len(batch) if gone is None else gone.to_list()
                for headers, row, is_gone in zip(header_rows(batch.records), batch.records.frame.rows(), removed, strict=True):
                    _, partition, at = headers.pop("copied-from").rsplit(":", 2)
                    rows[number].append((int(partition), int(at), tuple(sorted(headers.items())), is_gone, row))
            offset = batches[-1].next_offset
        # Stable: what is copied from one partition stays in the order in which it was written.
        rows[number].sort(key=lambda row: row[0])
    return rows


def newest(rows: dict[int, list[Any]]) -> dict[int, list[Any]]:
    """Return the newest row of each key, those that are removed left out: compaction may have taken any other."""
    result = {}
    for number, of_partition in rows.items():
        by_key = {row[:2]: (*origin, is_gone, row) for *origin, is_gone, row in of_partition}
        result[number] = sorted(row for row in by_key.values() if not row[-2])
    return result


def differences(killed: dict[int, list[Any]], whole: dict[int, list[Any]]) -> list[str]:
    """Return in what two topics differ, in words."""
    result = []
    for number in sorted(whole.keys() | killed.keys()):
        ours, theirs = killed.get(number, []), whole.get(number, [])
        if ours == theirs:
            continue
        first = next((row for row, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), len(ours))
        result.append(
            f"partition {number}: {len(ours)} records ({len(set(ours))} different ones), undisturbed {len(theirs)}; "
            f"first difference: {ours[first : first + 1]} and {theirs[first : first + 1]}"
        )
    return result


class Copies:
    """The processes of `kandle rekey`."""

    def __init__(self, run: Rekey, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self._count = 0

    def start(self, context: str) -> Process:
        """Start one for the killed or the undisturbed topic."""
        run = self._run
        self._count += 1
        output = self._folder / f"rekey-{self._count}.lines"
        return Process("rekey", output, "kandle.cli", "rekey", f"tests.soak.versions:{context}", *run.classes, "--json")

    def finish(self, context: str) -> dict[str, Any]:
        """Run one to its end, and return what it has printed."""
        process = self.start(context)
        try:
            wait_until(lambda: not process.is_running, "the end of the copy", pause=0.1)
        finally:
            process.end()
        said = process.said.read_text()
        lines = [line for line in said.splitlines() if line.startswith("{")]
        assert lines, f"kandle rekey has failed:\n{said}"
        result: dict[str, Any] = json.loads(lines[-1])
        return result


def run_rekey(run: Rekey, folder: Path) -> Outcome:
    """Copy both topics, one of them with kills, and compare.

    Args:
        run: What to run.
        folder: A folder of its own.

    Returns:
        What came out.
    """
    clock, chance, copies = SystemClock(), random.Random(run.seed), Copies(run, folder)
    file = run.configured(folder)
    cls = run.classes[1]
    # What comes between two runs: a table's row may be removed whose copy stands in the new topic already.
    last = run.records - run.records // 10
    with Whole.open(file) as whole, Killed.open(file) as killed:
        for market in (whole, killed):
            fill(run, market, 0, last)
        topics = [state_of(market).log for market in (whole, killed)]
        names = [market._model.entities[getattr(type(market), cls)].topic for market in (whole, killed)]
        begun, early = clock.steady(), 0
        for kill in range(run.kills):
            before = sum(topics[1].ends(names[1]))
            process = copies.start("Killed")
            try:
                # Anywhere: before the first record, within the next commit, right after one.
                share = chance.choice([0, 1, last // (3 * run.kills)])
                wait_for(
                    lambda: sum(topics[1].ends(names[1])),
                    partial(operator.le, before + share),
                    "progress of the copy",
                    check=process.check,
                    pause=0.001,
                )
                clock.pause(chance.randrange(100 if share else 3_000) * MILLISECOND)
                process.kill()
            finally:
                process.end()
            early += sum(topics[1].ends(names[1])) == before
            if kill == run.kills // 2:
                for market in (whole, killed):
                    fill(run, market, last, run.records)
        ended = copies.finish("Killed")
        seconds = (clock.steady() - begun) / SECOND
        undisturbed = copies.finish("Whole")
        contents = [content(log, name) for log, name in zip(topics, names, strict=True)]
        if run.kind == "table":
            contents = list(map(newest, contents))
        checksums = (undisturbed["checksum"], ended["checksum"])
        return Outcome(run.records, run.kills, early, seconds, checksums, differences(contents[1], contents[0]))


def check(run: Rekey, outcome: Outcome) -> None:
    """Raise AssertionError if something is not as promised."""
    assert outcome.kills == run.kills > 0
    assert outcome.early < outcome.kills, outcome
    assert outcome.checksums[0] == outcome.checksums[1], outcome
    assert not outcome.differences, outcome


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--records", type=int, default=600_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", choices=["embedded", "kafka"], default="embedded")
    parser.add_argument("--kind", choices=["stream", "table"], default="stream")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(Cluster()) if given.log == "kafka" else None
        run = Rekey(given.kills, given.records, given.kind, given.seed, cluster)
        outcome = run_rekey(run, folder)
        print(outcome)
        check(run, outcome)


if __name__ == "__main__":
    main()
