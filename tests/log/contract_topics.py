"""The contract of topics: how they come to be, and what can be changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from kandle.errors import SchemaError, UnknownTopicError
from kandle.log.letters import Letter, LetterKind, letter_write
from kandle.log.port import GroupSpec, Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.plan.topics import TopicColumn, dead_letter_topic
from kandle.time.timeframe import DAY, HOUR
from tests.log.building import COLUMNS, INSTANT, frame_of, numbers_of, read_all, records, topic_spec, write
from tests.log.contract_base import ContractBase

VENUE = TopicColumn("venue", "string", pl.String(), nullable=True)
SYMBOL, NUMBER, TIME = COLUMNS


class TopicContract(ContractBase):
    """Topics."""

    def test_a_topic_that_is_missing_is_created_as_asked(self, log: Log, name: str) -> None:
        spec = topic_spec(name, partitions=3, retention=DAY, retention_bytes=10_000_000)
        state = log.ensure(spec)
        assert (state.spec, state.differences) == (spec, ())
        assert log.topic(name) == spec
        assert [(part.start, part.end, part.rows) for part in log.partitions(name)] == [(0, 0, 0)] * 3

    def test_a_topic_that_is_there_already_stays_as_it_is(self, log: Log, name: str) -> None:
        spec = topic_spec(name, partitions=2)
        log.ensure(spec)
        log.append([write(name, [1, 2], partition=1)])
        assert log.ensure(spec).differences == ()
        assert numbers_of(read_all(log, name, partition=1)) == [1, 2]

    def test_a_topic_is_the_same_after_a_restart(self, log: Log, name: str) -> None:
        columns = (
            *COLUMNS,
            TopicColumn("price", "Decimal(38, 6)", pl.Int128(), nullable=True),
            TopicColumn("seen", "date", pl.Date()),
        )
        spec = topic_spec(name, columns=columns, partitions=2, retention=DAY, compacted=True, keys=("number", "symbol"))
        log.ensure(spec)
        assert self.reopen(log).topic(name) == spec

    def test_topics_are_listed_by_name(self, log: Log, name: str) -> None:
        for suffix in ("c", "a", "b"):
            log.ensure(topic_spec(f"{name}.{suffix}"))
        names = [spec.name for spec in log.topics() if spec.name.startswith(name)]
        assert names == [f"{name}.a", f"{name}.b", f"{name}.c"]

    def test_a_new_nullable_column_is_added_and_older_rows_have_null_in_it(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1, 2])])
        wider = topic_spec(name, columns=(*COLUMNS, VENUE))
        assert log.ensure(wider).spec == wider
        frame = records([3]).frame.with_columns(venue=pl.lit("X"))
        log.append([Write(name, 0, Records(frame))])
        for _ in range(2):
            table = frame_of(read_all(log, name))
            assert table.schema == pl.Schema(wider.schema)
            assert table["number"].to_list() == [1, 2, 3]
            assert table["venue"].to_list() == [None, None, "X"]
            log = self.reopen(log)

    def test_a_new_column_may_stand_between_the_others(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1])])
        wider = topic_spec(name, columns=(SYMBOL, VENUE, NUMBER, TIME))
        for _ in range(2):
            log.ensure(wider)
        frame = records([2]).frame.with_columns(venue=pl.lit("X")).select(list(wider.schema))
        log.append([Write(name, 0, Records(frame))])
        table = frame_of(read_all(log, name))
        assert dict(zip(table["number"], table["venue"], strict=True)) == {1: None, 2: "X"}

    def test_an_older_version_leaves_the_columns_of_a_newer_one_alone(self, log: Log, name: str) -> None:
        older = dead_letter_topic(f"{name}_dlq", 1, 1)
        newer = replace(older, columns=(*older.columns, VENUE))
        log.ensure(older)
        log.ensure(newer)
        source = TopicPartition("ticks", 0)
        for _ in range(2):
            assert log.ensure(older).spec.schema == newer.schema
            log.append([letter_write(older, source, [Letter(LetterKind.EVENT, 7, "bad")])])
            log.append([letter_write(log.topic(older.name), source, [Letter(LetterKind.EVENT, 8, "bad")])])
            log = self.reopen(log)
        assert frame_of(read_all(log, older.name)).select("offset", "venue").rows() == [(7, None), (8, None)] * 2
        with pytest.raises(SchemaError, match="needed"):
            log.ensure(replace(newer, columns=(*newer.columns, replace(VENUE, name="needed", nullable=False))))

    @pytest.mark.parametrize(
        ("columns", "wrong"),
        [
            ((*COLUMNS, replace(VENUE, nullable=False)), "venue"),
            ((SYMBOL, TIME), "number"),
            ((SYMBOL, replace(NUMBER, physical=pl.Int128()), TIME), "number"),
            ((SYMBOL, replace(NUMBER, kind="decimal(18, 0)"), TIME), "number"),
            ((SYMBOL, replace(NUMBER, nullable=True), TIME), "number"),
            ((SYMBOL, replace(NUMBER, name="count"), TIME), "count|number"),
        ],
        ids=["new and not nullable", "left out", "of another type", "of another kind", "nullable by now", "of another name"],
    )
    def test_any_other_difference_of_a_column_is_an_error_that_names_it(
        self, log: Log, name: str, columns: tuple[TopicColumn, ...], wrong: str
    ) -> None:
        log.ensure(topic_spec(name))
        with pytest.raises(SchemaError, match=rf"(?s){name}.*\b({wrong})\b|\b({wrong})\b.*{name}"):
            log.ensure(topic_spec(name, columns=columns))
        assert log.topic(name) == topic_spec(name)

    def test_a_nullable_column_does_not_lose_its_nulls(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, columns=(*COLUMNS, VENUE)))
        with pytest.raises(SchemaError, match="venue"):
            log.ensure(topic_spec(name, columns=(*COLUMNS, replace(VENUE, nullable=False))))

    @pytest.mark.parametrize("keys", [(), ("number",), ("symbol", "number")])
    def test_another_key_is_an_error_that_names_the_columns_of_both(self, log: Log, name: str, keys: tuple[str, ...]) -> None:
        log.ensure(topic_spec(name))
        with pytest.raises(SchemaError, match=rf"(?s){name}.*symbol|symbol.*{name}") as caught:
            log.ensure(topic_spec(name, keys=keys))
        assert all(key in str(caught.value) for key in keys)

    def test_the_order_of_the_key_counts(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, keys=("symbol", "number")))
        with pytest.raises(SchemaError, match=name):
            log.ensure(topic_spec(name, keys=("number", "symbol")))

    def test_nothing_is_added_if_something_else_is_wrong(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        with pytest.raises(SchemaError):
            log.ensure(topic_spec(name, columns=(SYMBOL, replace(NUMBER, kind="other"), TIME, VENUE)))
        assert log.topic(name) == topic_spec(name)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"partitions": 4}, ("partition", "2", "4")),
            ({"retention": HOUR}, ("retention",)),
            ({"retention": None}, ("retention",)),
            ({"retention_bytes": 5_000_000}, ("retention",)),
            ({"compacted": True}, ("compact",)),
        ],
    )
    def test_other_settings_stay_as_they_are_and_are_reported(
        self, log: Log, name: str, settings: dict[str, Any], words: tuple[str, ...]
    ) -> None:
        spec = topic_spec(name, partitions=2, retention=DAY)
        log.ensure(spec)
        state = log.ensure(replace(spec, **settings))
        assert state.spec == spec == log.topic(name)
        (difference,) = state.differences
        assert all(word in difference for word in words), difference

    def test_an_unknown_topic_is_an_error_that_names_those_that_there_are(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(f"{name}.there"))
        unknown = TopicPartition(f"{name}.other", 0)
        calls: dict[str, Callable[[], object]] = {
            "topic": lambda: log.topic(unknown.topic),
            "partitions": lambda: log.partitions(unknown.topic),
            "ends": lambda: log.ends(unknown.topic),
            "first": lambda: log.first(unknown),
            "append": lambda: log.append([write(unknown.topic, [1])]),
            "read": lambda: log.read(unknown, 0, 10),
            "truncate": lambda: log.truncate(unknown, 1),
            "consumer": lambda: log.consumer(GroupSpec(name, (f"{name}.there", unknown.topic), "one")),
        }
        for call in calls.values():
            with pytest.raises(UnknownTopicError) as caught:
                call()
            assert f"{name}.other" in str(caught.value)
            assert f"{name}.there" in str(caught.value)

    def test_an_unknown_topic_is_a_lookup_error_too(self, log: Log, name: str) -> None:
        with pytest.raises(LookupError):
            log.topic(name)

    def test_what_another_connection_makes_of_a_topic_is_known_at_once(self, log: Log, name: str) -> None:
        other = log.connect()
        log.ensure(topic_spec(name))
        other.append([write(name, [1])])
        assert numbers_of(read_all(other, name)) == [1]
        wider = topic_spec(name, columns=(*COLUMNS, TopicColumn("seen", "instant", INSTANT, nullable=True)))
        log.ensure(wider)
        assert frame_of(read_all(other, name)).schema == pl.Schema(wider.schema)
        other.append([Write(name, 0, Records(records([2]).frame.with_columns(seen=pl.col("time"))))])
        assert frame_of(read_all(log, name))["seen"].null_count() == 1
        assert other.topic(name) == wider
        other.close()
