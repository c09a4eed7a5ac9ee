"""Keys of joins that are not columns of the topics as they stand, or that may be NULL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import pytest

import kandle
from kandle import DatetimeFormat, Key, Timestamp
from kandle import functions as f
from kandle.errors import QueryError
from kandle.ksql.script import script
from kandle.model.entity import entity_model
from kandle.query.stages import Query, build
from tests.ksqldb.simulator.checking import check_script

OWN_FORM = DatetimeFormat("%d.%m.%Y %H:%M:%S")


@kandle.stream("orders", value_format="JSON")
@dataclass(frozen=True)
class Order:
    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    due: Annotated[datetime, OWN_FORM]
    sent: datetime
    desk: str | None = None


@kandle.stream("fills", value_format="JSON")
@dataclass(frozen=True)
class Fill:
    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    due: Annotated[datetime, OWN_FORM]
    sent: datetime
    size: int
    desk: str | None = None


@kandle.table("days", key_format="JSON")
@dataclass(frozen=True)
class Day:
    due: Annotated[datetime, Key(0), OWN_FORM]
    size: int


@kandle.stream("done")
@dataclass(frozen=True)
class Done:
    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    size: int


def text_of(declare: Callable[[Query], Any]) -> str:
    return script([entity_model(cls) for cls in (Order, Fill, Day, Done)], [build(entity_model(Done), declare)]).text


def done(order: Any, other: Any) -> Done:
    return Done(code=order.code, time=order.time, size=f.coalesce(other.size, 0))


JOINS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "texts of both": (lambda o, x: o.due == x.due, "`o`.`_id`"),
    "text and instant": (lambda o, x: o.due == x.sent, "PARSE_TIMESTAMP(`t`.`due`, 'dd.MM.yyyy HH:mm:ss') = `o`.`sent`"),
    "instant and text": (lambda o, x: o.sent == x.due, "CAST(UNIX_TIMESTAMP(`t`.`sent`) AS VARCHAR) = `o`.`_id`"),
    "instants": (lambda o, x: o.sent == x.sent, "`t`.`sent` = `o`.`sent`"),
}


@pytest.mark.parametrize(("on", "shown"), JOINS.values(), ids=JOINS)
def test_a_join_of_streams_has_a_column_as_its_key(on: Callable[[Any, Any], Any], shown: str) -> None:
    text = text_of(lambda q: q.from_(Order).join(Fill, on=on, within="5s").select(done))
    assert check_script(text) == []
    assert shown in text


def test_a_part_of_a_key_that_is_null_finds_nothing() -> None:
    def both(o: Any, x: Any) -> Any:
        return (o.code == x.code) & (o.desk == x.desk)

    text = text_of(lambda q: q.from_(Order).join(Fill, on=both, within="5s").select(done))
    assert check_script(text) == []
    assert "CASE WHEN `desk` IS NOT NULL THEN REPLACE(" in text
    assert "ON CASE WHEN `t`.`desk` IS NOT NULL THEN REPLACE(" in text


def test_events_with_a_null_key_would_get_lost_in_a_left_join() -> None:
    message = r"join: Order\.desk may be NULL, and ksqlDB drops such events even in a left join; write f\.coalesce"
    with pytest.raises(QueryError, match=message):
        text_of(
            lambda q: (
                q.from_(Order).join(Fill, on=lambda o, x: o.desk == x.desk, how="left", within="5s", grace="1m").select(done)
            )
        )
    text = text_of(
        lambda q: (
            q.from_(Order)
            .join(Fill, on=lambda o, x: f.coalesce(o.desk, "") == x.desk, how="left", within="5s", grace="1m")
            .select(done)
        )
    )
    assert check_script(text) == []


def test_a_table_is_not_found_by_an_instant_that_stands_as_text() -> None:
    with pytest.raises(QueryError, match="join: the key due of the table Day is a number or text in its topic"):
        text_of(lambda q: q.from_(Order).join(Day, on=lambda o, d: o.due == d.due).select(done))


@kandle.stream("asks")
@dataclass(frozen=True)
class Ask:
    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    Size: int


@kandle.stream("bids")
@dataclass(frozen=True)
class Bid:
    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    size: int


def test_fields_of_two_entities_that_differ_in_case_are_told_apart_in_records() -> None:
    query = build(
        entity_model(Done),
        lambda q: (
            q.from_(Ask)
            .join(Bid, on=lambda a, b: a.code == b.code, within="5s")
            .select(lambda a, b: Done(code=a.code, time=a.time, size=a.Size - b.size))
        ),
    )
    text = script([entity_model(Ask), entity_model(Bid), entity_model(Done)], [query]).text
    assert check_script(text) == []
    assert "`Size` - `bid_size` AS `size`" in text


@kandle.stream("asks", partitions=1)
@dataclass(frozen=True)
class OtherAsk:
    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    Size: int


@kandle.stream("copied_asks")
@dataclass(frozen=True)
class CopiedAsk:
    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    size: int


def test_a_topic_is_joined_with_itself_by_way_of_a_copy_only() -> None:
    done = entity_model(Done)
    direct = build(
        done,
        lambda q: (
            q.from_(Ask)
            .join(OtherAsk, on=lambda a, b: a.code == b.code, within="5s")
            .select(lambda a, b: Done(code=a.code, time=a.time, size=a.Size - b.Size))
        ),
    )
    message = r"Ask and OtherAsk have the same topic 'asks', .* make OtherAsk by a query, from_\(Ask\)\.select\(\.\.\.\)"
    with pytest.raises(QueryError, match=message):
        script([], [direct])
    copy = build(
        entity_model(CopiedAsk), lambda q: q.from_(Ask).select(lambda a: CopiedAsk(code=a.code, time=a.time, size=a.Size))
    )
    over = build(
        done,
        lambda q: (
            q.from_(Ask)
            .join(CopiedAsk, on=lambda a, b: a.code == b.code, within="5s")
            .select(lambda a, b: Done(code=a.code, time=a.time, size=a.Size - b.size))
        ),
    )
    assert check_script(script([entity_model(Ask)], [over, copy]).text) == []


def test_a_float_cannot_be_part_of_a_key_of_several_parts() -> None:
    def both(o: Any, x: Any) -> Any:
        return (o.code == x.code) & (f.cast(f.length(o.code), float) == f.cast(x.size, float))

    message = r"f\.cast\(Fill\.size, float\): ksqlDB has no exact text of DOUBLE, so it cannot be part of a key; cast it"
    with pytest.raises(QueryError, match=message):
        text_of(lambda q: q.from_(Order).join(Fill, on=both, within="5s").select(done))
