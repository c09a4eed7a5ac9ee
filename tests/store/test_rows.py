"""A copy of a table is what a plain reading of its topic gives, whatever was written, and however often it was stopped."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, Records, RejectedRecord, Write
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.serde.keys import partition_numbers
from kandle.store.follower import Follower
from kandle.store.memory import MemoryStore
from kandle.store.ordering import ordered_key, ordered_prefix
from kandle.store.port import Store
from kandle.store.rocks import RocksStore
from kandle.store.rows import TableRows
from kandle.time.clock import ManualClock, SystemClock
from kandle.time.timeframe import DAY
from tests.processes import RunningProcess
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, pl.DataType] = {"name": pl.String(), "number": pl.Int64(), "value": pl.Int64()}
KEYS = ["name", "number"]
SPEC = TopicSpec(
    "table",
    tuple(TopicColumn(name, "any", dtype, nullable=name == "value") for name, dtype in SCHEMA.items()),
    tuple(KEYS),
    compacted=True,
)
Row = tuple[str, int, int]
Key = tuple[str, int]


class KeptStore(MemoryStore):
    """A store in memory that outlives those who use it, as a folder does."""

    def close(self) -> None:
        """Keep everything."""


def write(log: Log, rows: Sequence[Row], *, gone: bool = False, partition: int | None = None) -> None:
    """Append rows, or tombstones of their keys, to the partition of their key or to another one."""
    frame = pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
    numbers = partition_numbers(frame.select(KEYS), log.partition_count("table"))
    marks = pl.Series([True] * len(rows)) if gone else None
    for number, row in zip(numbers.tolist() if partition is None else [partition] * len(rows), range(len(rows)), strict=True):
        part = Records(frame[[row]], tombstones=None if marks is None else marks[[row]])
        log.append([Write("table", number, part)])


def scanned(log: Log) -> dict[Key, int]:
    """Read the whole topic as a table, partition by partition."""
    table: dict[Key, int] = {}
    for number in range(log.partition_count("table")):
        offset = 0
        while batches := log.read(TopicPartition("table", number), offset, 1_000):
            offset = batches[-1].next_offset
            for batch in batches:
                marks = batch.records.tombstones
                gone = [False] * len(batch) if marks is None else marks.to_list()
                for (name, part, value), is_gone in zip(batch.records.frame.rows(), gone, strict=True):
                    table.pop((name, part), None)
                    if not is_gone:
                        table[name, part] = value
    return table


@dataclass
class Followed:
    """A follower and its view."""

    log: Log
    follower: Follower
    view: TableRows

    def settle(self) -> None:
        """Wait until everything is in the copy that is in the topic now."""
        ends = dict(enumerate(self.log.ends("table")))
        wait_until(lambda: self.follower.has(ends), "the copy", pause=0.002)

    def table(self, prefix: bytes = b"") -> dict[Key, int]:
        """Return the rows of the copy, with all that is in the topic now."""
        self.settle()
        return {(name, number): value for _, _, _, _, name, number, value in self.view.rows(prefix)}


def followed(log: Log, store: Store, clock: Any = None, **settings: Any) -> Followed:
    """Follow the table of a log."""
    view = TableRows(store, "table", SCHEMA, KEYS, **settings)
    return Followed(log, Follower(log, "table", store, view, clock or SystemClock()), view)


@contextmanager
def following(log: Log, store: Store, clock: Any = None, **settings: Any) -> Iterator[Followed]:
    """Follow the table of a log for the block."""
    copy = followed(log, store, clock, **settings)
    try:
        yield copy
    finally:
        copy.follower.close()


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(None)
    opened.ensure(SPEC)
    yield opened
    opened.close()


NAMES = st.sampled_from(["a", "ab", "b", "a\0", "\1"])
ROWS = st.lists(st.tuples(NAMES, st.integers(-1, 1), st.integers(0, 99)), min_size=1, max_size=6)


class TableModel(RuleBasedStateMachine):
    """Any run of writes, removals, compactions and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.log = EmbeddedLog(None)
        self.log.ensure(replace(SPEC, partitions=2))
        self.store = KeptStore()
        self.copy = followed(self.log, self.store)

    @rule(rows=ROWS, gone=st.booleans())
    def write(self, rows: list[Row], gone: bool) -> None:
        write(self.log, rows, gone=gone)

    @rule(between=ROWS)
    def restart(self, between: list[Row]) -> None:
        self.copy.follower.close()
        write(self.log, between)
        self.copy = followed(self.log, self.store)

    @rule()
    def read(self) -> None:
        table = scanned(self.log)
        assert self.copy.table() == table
        assert list(self.copy.table()) == sorted(table)

    @rule(name=NAMES)
    def read_by_the_first_part(self, name: str) -> None:
        wanted = {key: value for key, value in scanned(self.log).items() if key[0] == name}
        assert self.copy.table(ordered_prefix({"name": name}, SCHEMA)) == wanted

    @invariant()
    def nothing_has_failed(self) -> None:
        assert not self.copy.follower.has_failed

    def teardown(self) -> None:
        assert self.copy.table() == scanned(self.log)
        self.copy.follower.close()
        self.log.close()


TestTableModel = TableModel.TestCase
TestTableModel.settings = settings(max_examples=15, stateful_step_count=12)


def test_a_copy_goes_on_where_it_stopped(log: EmbeddedLog) -> None:
    store = KeptStore()
    write(log, [("a", 1, 1), ("b", 1, 2)])
    with following(log, store) as copy:
        assert copy.table() == {("a", 1): 1, ("b", 1): 2}
    taken: list[int] = []
    write(log, [("c", 1, 3)])
    with following(log, store) as copy:
        copy.follower.listeners.append(lambda changes: taken.append(len(changes.puts)))
        assert copy.table() == {("a", 1): 1, ("b", 1): 2, ("c", 1): 3}
    assert sum(taken) <= 1


@pytest.mark.parametrize("change", ["columns", "formats", "keys"])
def test_a_copy_of_another_declaration_is_built_anew(log: EmbeddedLog, change: str) -> None:
    store = KeptStore()
    write(log, [("a", 1, 1)])
    with following(log, store) as copy:
        copy.settle()
    schema = {**SCHEMA, "more": pl.String()} if change == "columns" else SCHEMA
    if change == "columns":
        log.ensure(replace(SPEC, columns=(*SPEC.columns, TopicColumn("more", "any", pl.String(), nullable=True))))
    keys = KEYS[::-1] if change == "keys" else KEYS
    view = TableRows(store, "table", schema, keys, formats="other" if change == "formats" else "")
    copy = Followed(log, Follower(log, "table", store, view, SystemClock()), view)
    copy.settle()
    assert [row[4:7] for row in view.rows(b"")] == [["a", 1, 1]]
    assert len(list(store.scan(b"row/"))) == 1
    copy.follower.close()


def test_a_topic_that_was_created_anew_is_not_taken_for_the_former_one(tmp_path: Path) -> None:
    """Let the new topic have more records than the former one, so that its offsets tell nothing."""
    store = KeptStore()
    for rows in ([("a", 1, 1), ("b", 1, 1)], [("c", 1, 1), ("d", 1, 1), ("e", 1, 1)]):
        log = EmbeddedLog(tmp_path / rows[0][0])
        log.ensure(SPEC)
        write(log, rows)
        with following(log, store) as copy:
            assert copy.table() == {(name, number): value for name, number, value in rows}
        log.close()


def test_a_log_that_has_lost_its_newest_records_and_got_others_is_read_anew(tmp_path: Path) -> None:
    """Lose, as in a power failure, the newest transactions of a log, but not those of the copy."""
    store = KeptStore()
    log = EmbeddedLog(tmp_path)
    log.ensure(SPEC)
    write(log, [("a", 1, 1), ("b", 1, 1)])
    with following(log, store) as copy:
        copy.settle()
    log.database.run("DELETE FROM batch WHERE last = 1")
    log.database.run("UPDATE partition SET next = 1")
    write(log, [("c", 1, 1), ("d", 1, 1)])
    with following(log, store) as copy:
        assert copy.table() == scanned(log) == {("a", 1): 1, ("c", 1): 1, ("d", 1): 1}
    log.close()


def test_who_may_have_missed_tombstones_reads_anew() -> None:
    clock = ManualClock(20_000 * DAY)
    log, store = EmbeddedLog(None, clock), KeptStore()
    log.ensure(SPEC)
    write(log, [("a", 1, 1), ("b", 1, 2)])
    with following(log, store, clock) as copy:
        copy.settle()
    # The tombstone of "a" was compacted away while nobody looked.
    write(log, [("a", 1, 0)], gone=True)
    log.truncate(TopicPartition("table", 0), 1)
    log.truncate(TopicPartition("table", 0), 3)
    write(log, [("b", 1, 3)])
    clock.jump(clock.now() + 2 * DAY)
    with following(log, store, clock) as copy:
        assert copy.table() == scanned(log) == {("b", 1): 3}
    log.close()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]])
@pytest.mark.parametrize("gone", [False, True])
def test_a_key_that_has_moved_to_an_added_partition_has_its_newest_row(order: list[int], gone: bool) -> None:
    """
    partition 0, of old     a=1 b=1 c=1 ...
    partition by key                          a=2 b=2 c=2 ...  (or tombstones)
    """
    rows = [(name, 1, 1) for name in "abcdefgh"]
    log = EmbeddedLog(None)
    log.ensure(replace(SPEC, partitions=4))
    write(log, rows, partition=0)
    write(log, [(name, number, 2) for name, number, _ in rows], gone=gone)
    batches = [log.read(TopicPartition("table", number), 0, 1_000) for number in order]
    store = MemoryStore()
    view = TableRows(store, "table", SCHEMA, KEYS)
    for number, batch in enumerate(batches):
        view.take(batch, 4)
        changes = view.changes(is_current=number == len(batches) - 1)
        assert changes is not None
        store.write(changes.puts, changes.deletes)
        view.written()
    assert [row[6] for row in view.rows(b"")] == ([] if gone else [2] * len(rows))
    assert not list(store.scan(b"gone/"))
    assert len(list(store.scan(b"row/"))) == (0 if gone else len(rows))
    log.close()


def batch_of(offset: int, rows: Sequence[Row] = (), rejects: Sequence[tuple[int, Key | None]] = ()) -> Batch:
    """Return records from an offset on, and records that cannot be read, at their offsets."""
    frame = pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
    offsets = np.arange(offset, offset + len(rows))
    rejected = tuple(RejectedRecord(at, b"key", b"value", "no JSON", key_values=key) for at, key in rejects)
    return Batch("table", 0, offsets, offsets * 10, Records(frame), offset + len(rows), rejected)


@pytest.fixture
def take() -> Iterator[tuple[TableRows, Callable[..., None]]]:
    store = MemoryStore()
    view = TableRows(store, "table", SCHEMA, KEYS)

    def take(*batches: Batch, partitions: int = 1) -> None:
        view.take(batches, partitions)
        changes = view.changes(is_current=True)
        assert changes is not None
        store.write(changes.puts, changes.deletes)
        view.written()

    yield view, take
    store.close()


Taking = tuple[TableRows, Callable[..., None]]


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_row_is_not_shown_once_a_newer_record_of_its_key_cannot_be_read(take: Taking, partitions: int) -> None:
    view, apply = take
    apply(batch_of(0, [("a", 1, 1), ("b", 1, 1)]), batch_of(2, rejects=[(2, ("a", 1))]), partitions=partitions)
    assert [row[4] for row in view.rows(b"")] == ["b"]
    [record] = view.unreadable.values()
    key = ordered_key(["a", 1], [pl.String(), pl.Int64()])
    assert (record.offset, record.reason, record.key) == (2, "no JSON", key)
    assert view.row(key) is None


@pytest.mark.parametrize("how", ["same round", "later", "removed"])
def test_a_row_that_is_written_again_is_not_missed(take: Taking, how: str) -> None:
    view, apply = take
    bad, good = batch_of(1, rejects=[(1, ("a", 1))]), batch_of(2, [("a", 1, 2)])
    apply(batch_of(0, [("a", 1, 1)]))
    if how == "same round":
        # Records and rejects of a batch stand among each other.
        apply(replace(good, rejects=bad.rejects))
    else:
        apply(bad)
        assert view.unreadable
        gone = pl.Series([True]) if how == "removed" else None
        apply(replace(good, records=replace(good.records, tombstones=gone)))
    assert view.unreadable == {}
    assert [row[6] for row in view.rows(b"")] == ([] if how == "removed" else [2])
    view.load()
    assert view.unreadable == {}


def test_a_record_whose_key_cannot_be_read_is_known_after_a_restart(take: Taking) -> None:
    view, apply = take
    apply(batch_of(0, [("a", 1, 1)], rejects=[(5, None)]))
    before = dict(view.unreadable)
    view.load()
    assert view.unreadable == before
    assert [record.key for record in before.values()] == [None]


FOLLOWER = """
import sys
from pathlib import Path
from tests.store.test_rows import EmbeddedLog, RocksStore, followed

log = EmbeddedLog(Path(sys.argv[1]) / "log")
copy = followed(log, RocksStore(Path(sys.argv[1]) / "copy"))
while True:
    copy.settle()
    print(sum(log.ends("table")), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_process_that_is_killed_leaves_a_copy_that_goes_on(tmp_path: Path) -> None:
    """follow ... KILL ... follow ... KILL; each next one begins where the store says, and ends with the same rows."""
    choice = random.Random(20240304)
    log = EmbeddedLog(tmp_path / "log")
    log.ensure(SPEC)
    for _ in range(3):
        process = RunningProcess([sys.executable, "-c", FOLLOWER, str(tmp_path)], ROOT)
        process.next_line()
        for _ in range(choice.randrange(1, 30)):
            rows = [(choice.choice("abcdef"), choice.randrange(9), choice.randrange(99)) for _ in range(20)]
            write(log, rows, gone=choice.random() < 0.3)
            process.next_line()
        process.kill()
        with following(log, RocksStore(tmp_path / "copy")) as copy:
            assert copy.table() == scanned(log)
    log.close()


def test_rows_whose_records_retention_has_removed_are_deleted() -> None:
    clock = ManualClock(20_000 * DAY)
    log, store = EmbeddedLog(None, clock), KeptStore()
    log.ensure(replace(SPEC, retention=DAY))
    write(log, [("a", 1, 1), ("b", 1, 1)])
    with following(log, store, clock) as copy:
        copy.settle()
    log.truncate(TopicPartition("table", 0), 1)
    with following(log, store, clock) as copy:
        wait_until(lambda: len(list(store.scan(b"row/"))) == 1, "the row is deleted")
        assert copy.table() == scanned(log) == {("b", 1): 1}
    log.close()
