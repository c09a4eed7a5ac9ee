"""The contract of what is kept: truncation, retention and compaction."""

from __future__ import annotations

from uuid import uuid4

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.log.headers import header_column
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.time.timeframe import DAY, HOUR, MINUTE, SECOND
from tests.log.building import (
    headers_of,
    maintain_fully,
    numbers_of,
    offsets_of,
    poll_until,
    positions_of,
    read_all,
    records,
    table_of,
    tombstones_of,
    topic_spec,
    write,
)
from tests.log.contract_base import ContractBase, Join
from tests.log.contract_records import LAWS
from tests.waiting import wait_until


def changes(topic: str, symbols: str, gone: list[bool], first: int = 0) -> Write:
    """Return a record for each letter with its index as number; it is a tombstone where `gone` is true."""
    frame = records(range(first, first + len(symbols)), list(symbols)).frame
    return Write(topic, 0, Records(frame, tombstones=pl.Series(gone, dtype=pl.Boolean)))


class KeepingContract(ContractBase):
    """Truncation, retention and compaction."""

    def test_records_below_an_offset_are_forgotten(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        for first in range(0, 12, 3):
            log.append([write(name, range(first, first + 3)), write(name, [first], 1)])
        before = log.partitions(name)[0]
        log.truncate(TopicPartition(name, 0), 6)
        after, other = log.partitions(name)
        assert (after.start, after.end, after.rows) == (6, 12, 6)
        assert (log.first(TopicPartition(name, 0)), log.ends(name)) == (6, [12, 4])
        assert after.bytes < before.bytes
        assert (other.start, other.rows) == (0, 4)
        batches = read_all(log, name)
        assert numbers_of(batches) == offsets_of(batches) == list(range(6, 12))
        assert numbers_of(read_all(self.reopen(log), name)) == list(range(6, 12))

    def test_a_cut_in_the_middle_of_an_append_keeps_all_from_the_cut_on(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        for first in range(0, 12, 3):
            log.append([write(name, range(first, first + 3))])
        log.truncate(TopicPartition(name, 0), 7)
        batches = read_all(log, name)
        assert offsets_of(batches)[-5:] == list(range(7, 12))
        assert 6 <= log.partitions(name)[0].start <= 7
        assert numbers_of(read_all(log, name, offset=7)) == list(range(7, 12))

    def test_offsets_are_not_used_again_when_everything_is_forgotten(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(5))])
        log.truncate(TopicPartition(name, 0), 5)
        state = log.partitions(name)[0]
        assert (state.start, state.end, state.rows) == (5, 5, 0)
        assert (log.first(TopicPartition(name, 0)), log.ends(name)) == (5, [5])
        assert read_all(log, name) == []
        log = self.reopen(log)
        assert log.append([write(name, [5])]) == [5]
        assert offsets_of(read_all(log, name)) == [5]

    def test_a_cut_below_the_first_record_forgets_nothing_more(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        for number in range(4):
            log.append([write(name, [number])])
        for before in (2, 1, 0):
            log.truncate(TopicPartition(name, 0), before)
        assert numbers_of(read_all(log, name)) == [2, 3]

    def test_a_consumer_whose_position_is_forgotten_reads_on_from_the_first_record_that_is_left(
        self, log: Log, name: str, join: Join, caplog: pytest.LogCaptureFixture
    ) -> None:
        """How many were removed before they were read is counted, and each loss is logged once."""
        log.ensure(topic_spec(name))
        for number in range(6):
            log.append([write(name, [number])])
        consumer = join("one")
        assert numbers_of(poll_until(consumer, 1, max_rows=1))[:1] == [0]
        assert consumer.removed == 0
        partition = TopicPartition(name, 0)
        consumer.seek({partition: 1})
        log.truncate(partition, 4)
        assert numbers_of(poll_until(consumer, 2)) == [4, 5]
        for _ in range(3):
            consumer.poll(0, 10)
        assert consumer.removed == 3
        lost = [record.message for record in caplog.records if "are gone before" in record.message]
        assert lost == [
            f"records 1 to 3 of {name}, partition 0, are gone before group {name} has read them: "
            "the retention of the topic removed them"
        ]

    def test_a_consumer_of_which_all_records_are_gone_says_so_before_another_comes(
        self, log: Log, name: str, join: Join, caplog: pytest.LogCaptureFixture
    ) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(5))])
        consumer = join("one")
        poll_until(consumer, 5)
        partition = TopicPartition(name, 0)
        log.truncate(partition, 5)
        consumer.seek({partition: 2})
        wait_until(lambda: consumer.removed == 3, check=lambda: consumer.poll(10_000, 10))
        assert f"records 2 to 4 of {name}, partition 0, are gone" in caplog.text
        log.append([write(name, [5])])
        assert numbers_of(poll_until(consumer, 1)) == [5]

    def test_records_that_are_older_than_the_retention_go(self, log: Log, name: str) -> None:
        """
        retention       |<---- 1 h ---->|
        0     30      60      90     100 min
        [0-9] [10-19]         [20-29] maintain
        """
        log.ensure(topic_spec(name, retention=HOUR))
        log.append([write(name, range(10))])
        self.pass_time(HOUR // 2)
        log.append([write(name, range(10, 20))])
        maintain_fully(log)
        assert numbers_of(read_all(log, name)) == list(range(20))
        self.pass_time(HOUR)
        log.append([write(name, range(20, 30))])
        self.pass_time(HOUR // 6)
        maintain_fully(log)
        assert offsets_of(read_all(log, name)) == list(range(20, 30))
        assert log.partitions(name)[0].start == 20

    def test_a_topic_without_retention_keeps_everything(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(10))])
        self.pass_time(100_000 * HOUR)
        maintain_fully(log)
        assert numbers_of(read_all(log, name)) == list(range(10))

    def test_a_partition_above_its_bytes_loses_its_oldest_records(self, log: Log, name: str) -> None:
        limit = 20_000
        log.ensure(topic_spec(name, partitions=2, retention_bytes=limit))
        for first in range(0, 20_000, 200):
            log.append([write(name, range(first, first + 200))])
        log.append([write(name, [1], 1)])
        maintain_fully(log)
        state, other = log.partitions(name)
        assert 0 < state.bytes <= limit
        assert other.rows == 1
        assert state.rows >= 200
        assert numbers_of(read_all(log, name)) == list(range(state.start, 20_000))

    def test_a_consumer_reads_through_what_retention_removes(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, retention=HOUR))
        consumer = join("one", lease=100 * HOUR)
        log.append([write(name, range(10))])
        consumer.commit(positions_of(poll_until(consumer, 10)))
        self.pass_time(2 * HOUR)
        maintain_fully(log)
        log.append([write(name, range(10, 12))])
        assert numbers_of(poll_until(consumer, 2)) == [10, 11]

    def test_a_compacted_topic_keeps_the_newest_record_of_each_key_at_its_offset(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, compacted=True))
        count = self.worth + 400
        symbols = [f"S{number % 7}" for number in range(count)]
        for first in range(0, count, 40):
            log.append([write(name, range(first, first + 40), symbols=symbols[first : first + 40])])
        rest = maintain_fully(log)
        batches = read_all(log, name)
        assert len(numbers_of(batches)) == count - rest == log.partitions(name)[0].rows
        assert rest >= count // 2, f"compaction removed {rest} of {count - 7} old records"
        assert table_of(batches) == {f"S{number % 7}": number for number in range(count - 7, count)}
        assert numbers_of(batches) == offsets_of(batches)
        assert log.append([write(name, [count])]) == [count]

    def test_a_topic_that_is_not_compacted_keeps_old_records_of_a_key(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        count = self.worth + 400
        for first in range(0, count, 40):
            log.append([write(name, range(first, first + 40))])
        assert maintain_fully(log) == 0
        assert numbers_of(read_all(log, name)) == list(range(count))

    def test_compaction_compares_the_whole_key(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, compacted=True, keys=("symbol", "number")))
        for _ in range(10):
            log.append([write(name, [1, 2, 1, 2] * (self.worth // 40), symbols=["A", "A", "B", "B"] * (self.worth // 40))])
        assert maintain_fully(log) >= self.worth // 2
        batches = read_all(log, name)
        newest = {
            (symbol, number): offset
            for batch in batches
            for (symbol, number, _), offset in zip(batch.records.frame.iter_rows(), batch.offsets, strict=True)
        }
        last = self.worth
        assert newest == {("A", 1): last - 4, ("A", 2): last - 3, ("B", 1): last - 2, ("B", 2): last - 1}

    def test_compaction_keeps_headers_and_times_with_their_records(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, compacted=True))
        step = self.worth // 10
        for first in range(0, self.worth + step, step):
            symbols = ["A" if number % 3 else f"only {number}" for number in range(first, first + step)]
            headers = header_column([{"of": f"{symbol} {number}"} for number, symbol in enumerate(symbols, first)])
            log.append([Write(name, 0, Records(records(range(first, first + step), symbols).frame, headers))])
            self.pass_time(SECOND)
        times = {int(o): int(t) for b in read_all(log, name) for o, t in zip(b.offsets, b.timestamps, strict=True)}
        assert maintain_fully(log) >= self.worth // 2
        batches = read_all(log, name)
        symbols = [symbol for batch in batches for symbol in batch.records.frame["symbol"]]
        assert len(symbols) >= self.worth // 3
        assert headers_of(batches) == [
            {"of": f"{symbol} {number}"} for symbol, number in zip(symbols, numbers_of(batches), strict=True)
        ]
        assert {int(o): int(t) for b in batches for o, t in zip(b.offsets, b.timestamps, strict=True)}.items() <= times.items()

    def test_compaction_does_not_make_records_older(self, log: Log, name: str) -> None:
        """
        retention      |<------- 60 ------->|
        0              10    40             70 min
        [old ...]            [new ...]      maintain
                             maintain
        """
        log.ensure(topic_spec(name, compacted=True, retention=HOUR))
        keys = self.worth // 2
        log.append([write(name, range(self.worth), symbols=[f"old {number % keys}" for number in range(self.worth)])])
        self.pass_time(40 * MINUTE)
        log.append([write(name, range(self.worth), symbols=[f"new {number % keys}" for number in range(self.worth)])])
        assert maintain_fully(log) >= keys
        self.pass_time(30 * MINUTE)
        maintain_fully(log)
        newest = {f"new {number % keys}": number for number in range(self.worth)}
        assert newest.items() <= table_of(read_all(log, name)).items()

    def test_a_key_that_is_gone_does_not_come_back_after_compaction(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, compacted=True))
        for first in range(0, self.worth, 4):
            log.append([changes(name, "ABAB", [False, False, False, first == self.worth - 4], first)])
        assert maintain_fully(log) >= self.worth // 2
        assert table_of(read_all(log, name)) == {"A": self.worth - 2}
        log.append([changes(name, "A" * self.worth + "B", [False] * (self.worth + 1), self.worth)])
        maintain_fully(log)
        assert table_of(read_all(log, name)) == {"A": 2 * self.worth - 1, "B": 2 * self.worth}

    def test_tombstones_go_in_the_end_and_what_they_removed_stays_gone(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, compacted=True))
        log.append([changes(name, "AB" * self.worth, [False] * (2 * self.worth - 1) + [True])])
        maintain_fully(log)
        assert tombstones_of(read_all(log, name)).count(True) == 1
        self.pass_time(30 * DAY)
        log.append([changes(name, "A" * 2 * self.worth, [False] * 2 * self.worth, 2 * self.worth)])
        maintain_fully(log)
        batches = read_all(log, name)
        assert table_of(batches) == {"A": 4 * self.worth - 1}
        assert True not in tombstones_of(batches)

    def test_a_consumer_reads_on_through_the_holes_of_a_compaction(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, compacted=True))
        consumer = join("one")
        count = self.worth + 400
        symbols = [f"S{number % 7}" for number in range(count)]
        for first in range(0, count, 40):
            log.append([write(name, range(first, first + 40), symbols=symbols[first : first + 40])])
        seen = poll_until(consumer, 1, max_rows=20)
        maintain_fully(log)
        while batches := consumer.poll(0, 3):
            seen += batches
        assert offsets_of(seen) == sorted(set(offsets_of(seen)))
        assert table_of(seen) == {f"S{number % 7}": number for number in range(count - 7, count)}

    @given(
        appends=st.lists(
            st.lists(st.tuples(st.sampled_from("ABC"), st.booleans()), min_size=1, max_size=12), min_size=1, max_size=12
        ),
        rounds=st.sets(st.integers(0, 11)),
    )
    @LAWS
    def test_compaction_at_any_time_leaves_the_same_table(
        self, log: Log, name: str, appends: list[list[tuple[str, bool]]], rounds: set[int]
    ) -> None:
        topic = f"{name}.{uuid4().hex}"
        log.ensure(topic_spec(topic, compacted=True))
        expected: dict[str, int] = {}
        count = 0
        for number, rows in enumerate(appends):
            log.append([changes(topic, "".join(symbol for symbol, _ in rows), [mark for _, mark in rows], count)])
            for symbol, mark in rows:
                expected[symbol] = count
                if mark:
                    del expected[symbol]
                count += 1
            if number in rounds or number == len(appends) - 1:
                log.append([changes(topic, "F" * self.worth, [False] * self.worth, count)])
                count += self.worth
                expected["F"] = count - 1
                maintain_fully(log)
        batches = read_all(log, topic)
        assert table_of(batches) == expected
        assert numbers_of(batches) == offsets_of(batches)
        assert len(offsets_of(batches)) < count
        assert log.partitions(topic)[0].end == count
