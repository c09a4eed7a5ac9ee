"""The contract of records: what is appended is what is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.errors import DataError, FencedError, LogError, SchemaError, UnknownTopicError
from kandle.log.headers import Headers, header_column, header_pairs, raw_header_rows
from kandle.log.port import Fence, Log, TopicPartition
from kandle.log.records import Batch, EncodedWrite, Records, Write
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.time.timeframe import DAY, MILLISECOND, SECOND
from tests.log.building import (
    COLUMNS,
    INSTANT,
    frame_of,
    headers_of,
    instant,
    numbers_of,
    offsets_of,
    partitions_of,
    poll_until,
    read_all,
    records,
    settle_on,
    tombstones_of,
    topic_spec,
    write,
)
from tests.log.contract_base import ContractBase, Join

LAWS = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)

ENTRIES = pl.List(pl.Struct({"key": pl.String(), "value": pl.String()}))
VALUES: dict[str, tuple[str, pl.DataType, list[object]]] = {
    "whole": ("int", pl.Int64(), [0, -1, 2**63 - 1, -(2**63)]),
    "price": ("Decimal(38, 6)", pl.Int128(), [0, -1, 10**38 - 1, -(10**38) + 1]),
    "text": ("string", pl.String(), ["", "a", "Zürich 株 🚀", "x" * 70_000]),
    "raw": ("bytes", pl.Binary(), [b"", b"\x00", b"\xff\x00\xfe", bytes(range(256))]),
    "flag": ("bool", pl.Boolean(), [True, False, True, True]),
    "ratio": ("float", pl.Float64(), [0.1, -0.0, float("inf"), float("nan")]),
    "day": ("date", pl.Date(), [date(1970, 1, 1), date(1, 1, 1), date(9999, 12, 31), date(2024, 2, 29)]),
    "time": (
        "instant",
        INSTANT,
        [
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2024, 3, 31, 1, 0, 0, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        ],
    ),
    "labels": (
        "dict[str, str]",
        ENTRIES,
        [[], [{"key": "a", "value": "b"}], [{"key": "a", "value": "株"}, {"key": "ü", "value": ""}], [{"key": "", "value": "z"}]],
    ),
}


def every_type(topic: str) -> TopicSpec:
    """Return a topic with a column of each type that an entity can have."""
    columns = tuple(TopicColumn(name, kind, physical, nullable=True) for name, (kind, physical, _) in VALUES.items())
    return TopicSpec(topic, columns, time="time")


class RecordContract(ContractBase):
    """Appends and reads."""

    def test_records_fail_each_for_itself(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        missing = pl.Series("symbol", ["B", None, "C"])
        broken = Records(records([2, 3, 4]).frame.with_columns(missing))
        errors = log.append_each(
            [write(name, [1]), Write(name, 1, broken), Write(f"no-{name}", 0, records([5])), write(name, [6])]
        )
        assert {number: list(rows) for number, rows in errors.items()} == {1: [1], 2: [0]}
        assert isinstance(errors[1][1], SchemaError | DataError)
        assert isinstance(errors[2][0], UnknownTopicError)
        assert [numbers_of(read_all(log, name, number)) for number in (0, 1)] == [[1, 6], [2, 4]]
        assert log.append_each([write(name, [7], 1)]) == {}
        assert numbers_of(read_all(log, name, 1)) == [2, 4, 7]

    def test_a_topic_that_others_create_is_missed_with_its_settings(self, log: Log, name: str) -> None:
        spec = topic_spec(name, partitions=3, retention=7 * DAY, is_created=False)
        with pytest.raises(
            UnknownTopicError, match=rf"{name} \(3 partitions, replication 1, cleanup.policy=delete, retention.ms"
        ):
            log.ensure(spec)
        log.ensure(replace(spec, is_created=True))
        assert log.ensure(spec).differences == ()

    def test_values_of_every_type_are_read_as_they_were_written(self, log: Log, name: str) -> None:
        log.ensure(every_type(name))
        columns = {column: pl.Series(column, [*values, None], dtype=physical) for column, (_, physical, values) in VALUES.items()}
        written = pl.DataFrame(columns)
        log.append([Write(name, 0, Records(written))])
        assert_frame_equal(frame_of(read_all(log, name)), written)
        assert_frame_equal(frame_of(read_all(self.reopen(log), name)), written)

    def test_columns_of_nothing_but_null_keep_their_types(self, log: Log, name: str) -> None:
        spec = every_type(name)
        log.ensure(spec)
        written = pl.DataFrame({column: [None, None] for column in spec.schema}, schema=spec.schema)
        log.append([Write(name, 0, Records(written))])
        assert_frame_equal(frame_of(read_all(log, name)), written)

    def test_a_part_of_a_larger_frame_is_written_as_that_part(self, log: Log, name: str) -> None:
        log.ensure(every_type(name))
        columns = {column: pl.Series(column, values * 50, dtype=physical) for column, (_, physical, values) in VALUES.items()}
        part = pl.DataFrame(columns).slice(17, 5)
        log.append([Write(name, 0, Records(part))])
        assert_frame_equal(frame_of(read_all(log, name)), part)

    def test_bytes_that_are_no_rows_come_back_as_they_were_beside_the_rows(self, log: Log, name: str, join: Join) -> None:
        """
        offset      0    1       2          3    4
        record      1    torn    no bytes   2    a torn key
        """
        log.ensure(topic_spec(name))
        torn = [(b"\xff", b"\x00\x01torn"), (None, b""), (b"\x00", None)]
        headers: list[tuple[str, bytes | None]] = [("trace", b"\xff"), ("trace", b"2"), ("none", None)]
        bad = EncodedWrite(name, 0, [key for key, _ in torn[:2]], [value for _, value in torn[:2]], [headers, None])
        assert log.append([write(name, [1]), bad, write(name, [2])]) == [0, 1, 3]
        consumer = join("one")
        batches = poll_until(consumer, 2)
        consumer.commit({TopicPartition(name, 0): 4}, [EncodedWrite(name, 0, [torn[2][0]], [torn[2][1]])])
        assert self.rejected(batches) == [(1, *torn[0], tuple(headers)), (2, *torn[1], ())]
        consumer.close()
        for _ in range(2):
            batches = read_all(log, name)
            assert (numbers_of(batches), offsets_of(batches)) == ([1, 2], [0, 3])
            assert self.rejected(batches) == [(1, *torn[0], tuple(headers)), (2, *torn[1], ()), (4, *torn[2], ())]
            assert all(reject.reason and reject.timestamp for batch in batches for reject in batch.rejects)
            assert self.rejected(read_all(log, name, offset=2)) == [(2, *torn[1], ()), (4, *torn[2], ())]
            assert self.rejected(read_all(log, name, offset=4)) == [(4, *torn[2], ())]
            with pytest.raises(DataError):
                log.decoded(bad)
            log = self.reopen(log)

    @staticmethod
    def rejected(batches: list[Batch]) -> list[tuple[int, bytes | None, bytes | None, tuple[Any, ...]]]:
        """Return offset, key, value and headers of the records that are no rows."""
        rejects = [reject for batch in batches for reject in batch.rejects]
        return [(reject.offset, reject.key, reject.value, tuple(reject.headers)) for reject in rejects]

    def test_offsets_go_up_by_one_in_each_partition(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        assert log.append([write(name, [1, 2, 3], 0), write(name, [10], 1)]) == [0, 0]
        assert log.append([write(name, [11, 12], 1), write(name, [4], 0), write(name, [13], 1)]) == [1, 3, 3]
        for partition, numbers in enumerate([[1, 2, 3, 4], [10, 11, 12, 13]]):
            batches = read_all(log, name, partition)
            assert numbers_of(batches) == numbers
            assert offsets_of(batches) == [0, 1, 2, 3]
            assert {(batch.topic, batch.partition) for batch in batches} == {(name, partition)}

    def test_partitions_say_where_they_begin_and_end(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, range(7), 1)])
        log.append([write(name, range(3), 1)])
        first, second = log.partitions(name)
        assert (first.start, first.end, first.rows) == (0, 0, 0)
        assert (second.start, second.end, second.rows) == (0, 10, 10)
        assert log.ends(name) == [0, 10]
        assert [log.first(TopicPartition(name, partition)) for partition in range(2)] == [0, 0]

    def test_records_and_their_offsets_are_the_same_after_a_restart(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1, 2])])
        log = self.reopen(log)
        assert log.append([write(name, [3])]) == [2]
        log = self.reopen(log)
        assert numbers_of(read_all(log, name)) == [1, 2, 3]
        assert log.partitions(name)[0].end == 3

    def test_each_record_says_when_it_was_appended(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1, 2])])
        self.pass_time(2 * SECOND)
        log.append([write(name, [3])])
        first, second, third = [int(time) for batch in read_all(log, name) for time in batch.timestamps]
        assert first == second
        assert 2 * SECOND <= third - first < 60 * SECOND

    def test_a_frame_may_have_its_columns_in_any_order(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([Write(name, 0, Records(records([1]).frame.select("time", "number", "symbol")))])
        assert_frame_equal(frame_of(read_all(log, name)), records([1]).frame)

    @pytest.mark.parametrize(
        ("frame", "column"),
        [
            (records([1]).frame.drop("number"), "number"),
            (records([1]).frame.with_columns(venue=pl.lit("X")), "venue"),
            (records([1]).frame.with_columns(pl.col("number").cast(pl.Int32)), "number"),
            (records([1]).frame.with_columns(pl.col("number").cast(pl.Int128)), "number"),
            (records([1]).frame.with_columns(pl.col("time").dt.cast_time_unit("ns")), "time"),
            (records([1]).frame.with_columns(pl.col("time").dt.replace_time_zone(None)), "time"),
        ],
        ids=["left out", "too many", "narrower", "wider", "of another unit", "without a zone"],
    )
    def test_a_frame_with_a_wrong_column_is_refused_by_name(self, log: Log, name: str, frame: pl.DataFrame, column: str) -> None:
        log.ensure(topic_spec(name))
        with pytest.raises(SchemaError) as caught:
            log.append([Write(name, 0, Records(frame))])
        assert name in str(caught.value)
        assert column in str(caught.value)
        assert log.partitions(name)[0].end == 0

    def test_several_writes_are_appended_all_or_none(self, log: Log, name: str) -> None:
        other = f"{name}.other"
        for topic in (name, other):
            log.ensure(topic_spec(topic, partitions=2))
        good, elsewhere = write(name, [1, 2], 1), write(other, [3], 0)
        wrong_column = Write(name, 0, Records(records([1]).frame.drop("number")))
        for wrong in (wrong_column, write(f"{name}.missing", [1]), write(name, [1], partition=2), write(name, [1], partition=-1)):
            with pytest.raises(LogError, match=name):
                log.append([good, elsewhere, wrong])
        assert [part.end for topic in (name, other) for part in log.partitions(topic)] == [0, 0, 0, 0]
        assert log.append([good, elsewhere]) == [0, 0]
        assert numbers_of(read_all(log, name, 1)) == [1, 2]
        assert numbers_of(read_all(log, other)) == [3]

    def test_an_append_of_nothing_changes_nothing(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1])])
        assert log.append([]) == []
        log.append([write(name, [])])
        assert log.append([write(name, []), write(name, [2])])[1] == 1
        assert numbers_of(read_all(log, name)) == [1, 2]

    def test_headers_stay_with_their_records(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        rows = [{"source": "feed", "trace": "ü🚀"}, None, {"source": ""}]
        frame = records([1, 2, 3]).frame
        log.append([write(name, [0]), Write(name, 0, Records(frame, headers=header_column(rows))), write(name, [4])])
        batches = read_all(log, name)
        assert numbers_of(batches) == [0, 1, 2, 3, 4]
        assert headers_of(batches) == [{}, {"source": "feed", "trace": "ü🚀"}, {}, {"source": ""}, {}]

    def test_a_place_is_found_by_the_time_of_the_append(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        times = []
        for first in (0, 3, 6):
            log.append([write(name, range(first, first + 3))])
            times += [time for batch in read_all(log, name, offset=first) for time in batch.timestamps.tolist()]
            self.pass_time(SECOND)
        for moment in [0, *times, *(time + MILLISECOND for time in times)]:
            expected = next((offset for offset, time in enumerate(times) if time >= moment), len(times))
            assert log.offset_at(TopicPartition(name, 0), moment) == expected

    def test_headers_are_kept_as_they_are(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        rows: list[Headers | None] = [[("h", None)], [("h", b"\xff\xfe\x00"), ("empty", b"")], [("d", b"1"), ("d", b"2")], None]
        log.append([Write(name, 0, Records(records(range(4)).frame, header_column(rows)))])
        read = [pairs for batch in read_all(log, name) for pairs in raw_header_rows(batch.records)]
        assert read == [header_pairs(row) for row in rows]
        assert headers_of(read_all(log, name)) == [{}, {"empty": ""}, {"d": "2"}, {}]

    def test_a_header_that_is_no_text_is_null_in_its_column(self, log: Log, name: str) -> None:
        traced = TopicColumn("traced", "string", pl.String(), nullable=True, header="trace")
        log.ensure(topic_spec(name, columns=(*COLUMNS, traced)))
        headed = header_column([[("trace", b"\xff")], [("trace", b"a"), ("trace", b"b")], [("trace", None)]])
        log.append([Write(name, 0, Records(records(range(3)).frame, headed))])
        batches = read_all(log, name)
        assert frame_of(batches)["traced"].to_list() == [None, "b", None]
        assert raw_header_rows(batches[0].records)[0] == (("trace", b"\xff"),)

    def test_a_column_of_a_header_is_written_there_and_read_from_there(self, log: Log, name: str) -> None:
        traced = TopicColumn("traced", "string", pl.String(), nullable=True, header="trace")
        log.ensure(topic_spec(name, columns=(*COLUMNS, traced)))
        frame = records([1, 2, 3]).frame
        said = frame.with_columns(pl.Series("traced", ["a", None, "ü"], pl.String))
        headed = header_column([{"trace": "b", "source": "feed"}, None, {"source": "feed"}])
        log.append([write(name, [0]), Write(name, 0, Records(said)), Write(name, 0, Records(frame, headed))])
        log.append([Write(name, 0, Records(said, headed))])
        batches = read_all(log, name)
        log.append([Write(name, 0, batch.records) for batch in batches[-1:]])
        (again,) = read_all(log, name, offset=len(frame_of(batches)))
        assert again.records.headers is not None and batches[-1].records.headers is not None
        assert again.records.headers.to_list() == batches[-1].records.headers.to_list()[-len(again) :]
        assert frame_of(batches)["traced"].to_list() == [None, "a", None, "ü", "b", None, None, "a", None, "ü"]
        assert [row.get("trace") for row in headers_of(batches)] == frame_of(batches)["traced"].to_list()
        assert [row.get("source") for row in headers_of(batches)][-3:] == ["feed", None, "feed"]

    def test_tombstones_stay_tombstones_and_other_records_are_none(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        marked = Records(records([1, 2, 3]).frame, tombstones=pl.Series([False, True, False]))
        log.append([write(name, [0]), Write(name, 0, marked), write(name, [4])])
        batches = read_all(log, name)
        assert tombstones_of(batches) == [False, False, True, False, False]
        assert offsets_of(batches) == [0, 1, 2, 3, 4]

    def test_a_tombstone_needs_no_values_beside_its_key(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        schema = {column.name: column.physical for column in COLUMNS}
        frame = pl.DataFrame({"symbol": ["A"], "number": [None], "time": [None]}, schema=schema)
        log.append([write(name, [1]), Write(name, 0, Records(frame, tombstones=pl.Series([True]))), write(name, [2])])
        batches = read_all(log, name)
        assert tombstones_of(batches) == [False, True, False]
        assert frame_of(batches)["symbol"].to_list() == ["A", "A", "A"]

    def test_headers_and_tombstones_are_kept_when_a_batch_is_read_from_its_middle(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        headers = header_column([{"n": str(number)} for number in range(4)])
        marked = Records(records(range(4)).frame, headers, pl.Series([False, True, True, False]))
        log.append([Write(name, 0, marked)])
        batches = read_all(log, name, offset=2)
        assert offsets_of(batches) == [2, 3]
        assert headers_of(batches) == [{"n": "2"}, {"n": "3"}]
        assert tombstones_of(batches) == [True, False]

    def test_a_read_begins_at_its_offset_even_in_the_middle_of_an_append(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(10))])
        log.append([write(name, range(10, 20))])
        for offset in range(21):
            assert offsets_of(read_all(log, name, offset=offset)) == list(range(offset, 20))
            assert numbers_of(read_all(log, name, offset=offset)) == list(range(offset, 20))

    def test_a_read_at_the_end_or_behind_it_finds_nothing(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1])])
        assert log.read(TopicPartition(name, 0), 1, 10) == []
        assert log.read(TopicPartition(name, 0), 1000, 10) == []

    def test_a_read_of_a_few_rows_leads_on_to_the_rest(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        for first in range(0, 200, 10):
            log.append([write(name, range(first, first + 10))])
        partition = TopicPartition(name, 0)
        for max_rows in (1, 3, 10, 25, 1000):
            assert numbers_of(read_all(log, name, max_rows=max_rows)) == list(range(200))
            assert 1 <= len(numbers_of(log.read(partition, 0, max_rows))) <= max_rows + 10

    def test_a_read_from_a_span_of_time_loses_no_row_of_it(self, log: Log, name: str) -> None:
        """
        numbers (= seconds)   0   10   20   30   40   50   60   70   80   90
        appends               [........]         [.......................]
                                   [........................]        [...]
        """
        log.ensure(topic_spec(name))
        for first, last in ((0, 19), (10, 60), (40, 90), (80, 90)):
            log.append([write(name, reversed(range(first, last)))])
        rows = numbers_of(read_all(log, name))
        for start, end in (
            (0, 1),
            (18, 19),
            (19, 20),
            (35, 41),
            (59, 60),
            (60, 61),
            (89, 90),
            (90, 99),
            (-5, 0),
            (0, 1000),
            (30, 30),
        ):
            for max_rows in (1, 1000):
                batches = read_all(log, name, max_rows=max_rows, span=(instant(start), instant(end)))
                assert [n for n in numbers_of(batches) if start <= n < end] == [n for n in rows if start <= n < end]

    def test_a_span_ends_before_its_end(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [5])])
        assert numbers_of(read_all(log, name, span=(instant(5), instant(6)))) == [5]
        assert numbers_of(read_all(log, name, span=(instant(5), instant(5) + 1))) == [5]

    def test_a_span_of_a_topic_without_a_time_narrows_nothing(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, time=None))
        log.append([write(name, [1, 2, 3])])
        assert numbers_of(read_all(log, name, span=(instant(100), instant(200)))) == [1, 2, 3]

    def test_rows_without_a_time_do_not_hide_the_others_of_their_append(self, log: Log, name: str) -> None:
        symbol, number, time = COLUMNS
        log.ensure(topic_spec(name, columns=(symbol, number, TopicColumn(time.name, time.kind, time.physical, nullable=True))))
        frame = records([1, 2, 3]).frame.with_columns(time=pl.when(pl.col("number") == 2).then(pl.col("time")))
        log.append([Write(name, 0, Records(frame)), Write(name, 0, Records(frame.with_columns(time=pl.lit(None, INSTANT))))])
        assert 2 in numbers_of(read_all(log, name, span=(instant(2), instant(3))))
        assert numbers_of(read_all(log, name)) == [1, 2, 3, 1, 2, 3]

    def test_another_connection_reads_what_was_appended_at_once(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        other = log.connect()
        for number in range(20):
            writer, reader = (log, other) if number % 2 else (other, log)
            assert writer.append([write(name, [number])]) == [number]
            assert numbers_of(read_all(reader, name, offset=number)) == [number]
        other.close()

    def test_a_connection_that_is_closed_leaves_the_others_open(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        other = log.connect()
        other.append([write(name, [1])])
        other.close()
        log.append([write(name, [2])])
        assert numbers_of(read_all(log, name)) == [1, 2]

    def test_an_append_with_a_claim_that_holds_is_made_and_one_that_does_not_writes_nothing(
        self, log: Log, name: str, join: Join
    ) -> None:
        log.ensure(topic_spec(name))
        partition = TopicPartition(name, 0)
        first = join("one")
        settle_on([first], partitions_of(name, 1))
        older = Fence(name, partition, first.assignment[partition])
        assert log.append([write(name, [1])], older) == [0]
        first.close()
        second = join("two")
        settle_on([second], partitions_of(name, 1))
        newer = Fence(name, partition, second.assignment[partition])
        for wrong in (older, Fence(name, partition, newer.epoch + 1), Fence(f"{name}.other", partition, newer.epoch)):
            with pytest.raises(FencedError, match=name):
                log.append([write(name, [2])], wrong)
        (later,) = log.append([write(name, [3])], newer)
        batches = read_all(log, name)
        assert (numbers_of(batches), offsets_of(batches)) == ([1, 3], [0, later])

    @given(
        appends=st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40)), max_size=4), max_size=8),
        max_rows=st.integers(1, 60),
        offset=st.integers(0, 50),
    )
    @LAWS
    def test_any_split_into_appends_and_reads_gives_the_same_records_and_offsets(
        self, log: Log, appends: list[list[tuple[int, int]]], max_rows: int, offset: int
    ) -> None:
        topic = f"t{uuid4().hex[:10]}"
        log.ensure(topic_spec(topic, partitions=2))
        expected: list[list[int]] = [[], []]
        for writes in appends:
            appended, firsts = [], []
            for partition, count in writes:
                first = len(expected[partition])
                firsts.append(first)
                appended.append(write(topic, range(first, first + count), partition))
                expected[partition] += range(first, first + count)
            given_offsets = log.append(appended)
            assert [g for g, (_, count) in zip(given_offsets, writes, strict=True) if count] == [
                f for f, (_, count) in zip(firsts, writes, strict=True) if count
            ]
        for partition, numbers in enumerate(expected):
            batches = read_all(log, topic, partition, offset, max_rows)
            assert numbers_of(batches) == offsets_of(batches) == numbers[offset:]
            assert log.partitions(topic)[partition].end == len(numbers)
