"""Copying history to the topic of another key: each record once, however often it is killed, and compared at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pytest

import kandle
from kandle import DataError, Key, StateError
from kandle.context.adapters import embedded_log
from kandle.log.headers import header_column, header_rows
from kandle.log.port import GroupSpec, Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.log.versions import adapters
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.topics import entity_topic
from kandle.sets.copies import Copies
from kandle.sets.dual_writing import append_frame
from kandle.sets.reading import EventSelection, event_rows
from kandle.sets.rekeying import rekey
from kandle.sets.topic_pairs import entity_pair
from kandle.sets.writing import writes_of
from kandle.store.memory import MemoryStore
from kandle.time.clock import SystemClock
from tests.sets.rekeyed import NEW, OLD, RECORDS, Fuse, Number, NumberV1, WatchedLog, copied
from tests.waiting import LIMIT


@pytest.fixture
def log() -> Iterator[Log]:
    log = embedded_log(None, SystemClock())
    yield log
    log.close()


def with_numbers(log: Log, count: int = RECORDS) -> None:
    """Write so many numbers with the former key, in batches as programs do."""
    log.ensure(entity_topic(OLD))
    for first in range(0, count, 100):
        append_frame(log, OLD, mapping(OLD).to_frame([NumberV1(number) for number in range(first, first + 100)]))


def content(log: Log, topic: str) -> dict[int, list[tuple[Any, ...]]]:
    """Return the records of each partition with their headers, ordered by where they are copied from."""
    rows: dict[int, list[tuple[Any, ...]]] = {}
    for number in range(log.topic(topic).partitions):
        rows[number] = []
        offset = 0
        while batches := log.read(TopicPartition(topic, number), offset, 1000):
            for batch in batches:
                headers = header_rows(batch.records)
                rows[number] += zip((row["copied-from"] for row in headers), batch.records.frame.rows(), strict=True)
            offset = batches[-1].next_offset
        rows[number].sort()
    return rows


def test_a_rekey_that_is_killed_again_and_again_gives_the_same_topic(tmp_path: Path, log: Log) -> None:
    with_numbers(log)
    assert copied(log).copied == RECORDS
    killed = embedded_log(tmp_path, SystemClock())
    with_numbers(killed)
    for kill in range(5):
        # In the middle of the records of a commit, at another place each time, or right after something was written.
        fuses = ("0", "1") if kill % 2 else (str(130 + 37 * kill), "0")
        process = [sys.executable, "-m", "tests.sets.rekeyed", str(tmp_path), *fuses]
        done = subprocess.run(process, cwd=Path(__file__).parents[2], timeout=LIMIT, check=False)
        assert done.returncode == -signal.SIGKILL
    last = copied(killed)
    assert 0 < last.copied < RECORDS
    assert last.new.records == RECORDS and last.is_whole
    assert content(killed, NEW.topic) == content(log, NEW.topic)
    killed.close()


def test_a_second_run_copies_what_has_come_since(log: Log) -> None:
    with_numbers(log)
    first = copied(log)
    with_numbers(log, 100)
    second = copied(log)
    assert (first.copied, second.copied, second.new.records) == (RECORDS, 100, RECORDS + 100)


def test_readers_have_each_record_once_before_and_after_its_copy_and_once_the_original_is_gone(log: Log) -> None:
    with_numbers(log, 200)
    expected = [Number(number % 10, number) for number in range(200)]

    def read() -> list[Number]:
        return sorted(mapping(NEW).from_frame(event_rows(log, NEW, EventSelection({}))), key=lambda one: one.number)

    log.ensure(entity_topic(NEW))
    assert read() == expected
    copied(log)
    assert read() == expected
    for partition in range(2):
        log.truncate(TopicPartition(OLD.topic, partition), log.ends(OLD.topic)[partition] // 2)
    assert read() == expected
    for partition in range(2):
        log.truncate(TopicPartition(OLD.topic, partition), log.ends(OLD.topic)[partition])
    assert read() == expected


def test_copies_that_are_not_what_their_originals_are_are_named(log: Log) -> None:
    with_numbers(log, 100)
    copied(log)
    log.truncate(TopicPartition(NEW.topic, 0), log.ends(NEW.topic)[0])
    with pytest.raises(StateError, match=r"topic numbers has 100 records .*, and their copies in numbers_v2 are \d+"):
        copied(log)


@dataclass(frozen=True)
class Parts:
    """One table in two versions, of which the former has a row that cannot be upgraded if asked for."""

    old: kandle.model.entity.EntityModel
    new: kandle.model.entity.EntityModel


def table() -> Parts:
    @kandle.table("rows")
    @dataclass(frozen=True)
    class RowV1:
        name: str
        value: int

    RowV1.__annotations__ = {"name": Annotated[str, Key(0)], "value": int}

    @kandle.table("rows", key_version=2, previous=RowV1, upgrade=lambda old: Row(old.name[:1], old.name, 10 // old.value))
    @dataclass(frozen=True)
    class Row:
        group: str
        name: str
        value: int

    Row.__annotations__ = {"group": Annotated[str, Key(0)], "name": Annotated[str, Key(1)], "value": int}
    return Parts(entity_model(RowV1), entity_model(Row))


def put(log: Log, parts: Parts, name: str, value: int | None) -> None:
    """Write a row of the former version, or its tombstone."""
    records = Records(pl.DataFrame([(name, value)], schema=["name", "value"], orient="row").cast({"value": pl.Int64}))
    if value is None:
        records = replace(records, tombstones=pl.Series([True]))
    log.append(writes_of(log, "rows", records))


def rows(log: Log, parts: Parts) -> list[tuple[Any, ...]]:
    copies = Copies(log, SystemClock(), lambda topic, is_large: MemoryStore())
    copy = copies.table(parts.new)
    with copy.current(None, lambda: None) as check:
        result = [tuple(row[4:]) for row in copy.rows(b"", check)]
    copies.close()
    return result


def test_rows_that_are_removed_between_two_runs_are_removed_in_the_new_table(log: Log) -> None:
    parts = table()
    log.ensure(entity_topic(parts.old))
    log.ensure(entity_topic(parts.new))
    put(log, parts, "ab", 1)
    put(log, parts, "cd", 2)
    assert rekey(log, entity_pair(parts.new)).is_whole
    put(log, parts, "ab", None)
    # What the row was is known from its copy, also if the old topic holds nothing but the tombstone any more.
    log.truncate(TopicPartition("rows", 0), log.ends("rows")[0] - 1)
    assert rekey(log, entity_pair(parts.new)).is_whole
    log.truncate(TopicPartition("rows", 0), log.ends("rows")[0])
    assert rows(log, parts) == [("c", "cd", 5)]


def test_a_record_that_cannot_be_upgraded_ends_the_run_or_is_left_out(log: Log) -> None:
    parts = table()
    log.ensure(entity_topic(parts.old))
    log.ensure(entity_topic(parts.new))
    for name, value in (("ab", 1), ("bad", 0), ("cd", 2)):
        put(log, parts, name, value)
    for _ in range(2):
        with pytest.raises(DataError, match=r"topic rows, partition 0, offset 1: .*ZeroDivisionError.*--unreadable skip"):
            rekey(log, entity_pair(parts.new))
        assert log.ends("rows_v2") == [1]
    result = rekey(log, entity_pair(parts.new), "skip")
    assert (result.copied, result.skipped, result.new.records) == (1, 1, 2)
    again = rekey(log, entity_pair(parts.new))
    assert (again.copied, again.skipped) == (0, 1)


def test_whoever_reads_the_old_topic_is_named(log: Log) -> None:
    with_numbers(log, 100)
    consumer = log.consumer(GroupSpec("readers", (OLD.topic,), "one"))
    for batch in consumer.poll(0, 1000):
        consumer.commit({TopicPartition(batch.topic, batch.partition): batch.next_offset})
    assert copied(log).readers == {"readers": "members"}
    consumer.close()
    result = copied(log)
    assert (result.readers, result.active) == ({"readers": "stands"}, [])


def joined(log: Log, count: int) -> Any:
    """Return a consumer of both topics, as programs of the new version have it, that has read so many numbers of the old one."""
    consumer = log.consumer(GroupSpec("new-readers", (OLD.topic, NEW.topic), "one"))
    for batch in consumer.poll(0, count):
        consumer.commit({TopicPartition(batch.topic, batch.partition): batch.next_offset})
    return consumer


def test_readers_of_both_topics_need_the_old_one_until_they_have_read_it(log: Log) -> None:
    with_numbers(log, 100)
    log.ensure(entity_topic(NEW))
    consumer = joined(log, 10)
    first = copied(log)
    assert (first.readers, first.active) == ({"new-readers": "behind"}, ["new-readers"])
    while batches := consumer.poll(0, 1000):
        for batch in batches:
            consumer.commit({TopicPartition(batch.topic, batch.partition): batch.next_offset})
    second = copied(log)
    assert (second.readers, second.active, second.is_free) == ({"new-readers": "both"}, [], True)
    consumer.close()


class BusyLog(WatchedLog):
    """A log on which something else happens before the first commit of a copy."""

    def __init__(self, log: Any, meanwhile: list[Any]) -> None:
        super().__init__(log, Fuse())
        self._meanwhile = meanwhile

    def consumer(self, *arguments: Any) -> Any:
        return BusyLog(self._log.consumer(*arguments), self._meanwhile)

    def commit(self, *arguments: Any) -> Any:
        while self._meanwhile:
            self._meanwhile.pop()()
        return super().commit(*arguments)


def test_what_is_written_during_a_copy_is_reported_and_copied_by_the_next_one(log: Log) -> None:
    with_numbers(log, 100)
    busy: Any = BusyLog(log, [lambda: with_numbers(log, 200)])
    first = copied(busy)
    assert (first.copied + first.since, first.is_whole, first.is_free) == (300, True, False)
    second = copied(log)
    assert (first.copied + second.copied, second.since, second.is_free) == (300, 0, True)


def test_a_second_process_that_copies_the_same_topic_takes_over_and_the_first_one_says_so(log: Log) -> None:
    """
    one    poll ─────────────── commit: refused
    two          copies all
    """
    with_numbers(log, 100)
    busy: Any = BusyLog(log, [lambda: copied(log)])
    with pytest.raises(StateError, match="this process does not copy numbers any more: another one has begun to copy it, or"):
        copied(busy)
    result = copied(log)
    assert (result.copied, result.new.records) == (0, 100)


def test_records_that_retention_removes_during_the_comparison_are_no_difference(log: Log) -> None:
    with_numbers(log, 400)
    copied(log)

    class Aging(WatchedLog):
        """A log whose old topic loses records while the new one is read."""

        def read(self, partition: TopicPartition, *arguments: Any) -> Any:
            if partition.topic == OLD.topic and not self._fuse.left:
                self._fuse.left = -1
                for number, end in enumerate(log.ends(OLD.topic)):
                    log.truncate(TopicPartition(OLD.topic, number), end // 2)
            return self._log.read(partition, *arguments)

    aging: Any = Aging(log, Fuse())
    result = copied(aging)
    assert result.is_whole and 0 < result.new.records < 400


def test_an_entity_without_versions_and_forms_is_read_as_it_is(log: Log) -> None:
    assert adapters(log, OLD) == {"numbers": None}


def test_copies_keep_the_headers_of_their_originals(log: Log) -> None:
    log.ensure(entity_topic(OLD))
    frame = mapping(OLD).to_frame([NumberV1(7)])
    trace = header_column([{"trace": "t"}])
    log.append([Write(OLD.topic, 0, Records(frame, trace))])
    copied(log)
    [batch] = [batch for number in range(3) for batch in log.read(TopicPartition(NEW.topic, number), 0, 10)]
    assert header_rows(batch.records) == [{"trace": "t", "key-version": "2", "copied-from": "numbers:0:0"}]
