"""What ksqlDB cannot do, or does differently from the engine, is refused with the reason and a way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest

import kandle
from kandle import Header, Key, Late, Precision, Timestamp
from kandle import functions as f
from kandle.errors import QueryError
from kandle.ksql.script import query_program, script
from kandle.model.entity import entity_model
from kandle.query.stages import Query
from tests.ksql.programs.cases import lots, model
from tests.ksql.programs.entities import (
    Bar,
    Copy,
    Factor,
    Fund,
    FundWeight,
    Instrument,
    LargeTrade,
    LotBar,
    LotsByName,
    Micros,
    Pair,
    Quote,
    Session,
    Tick,
    Trade,
)
from tests.ksql.programs.over_time import bar, lot


@kandle.table("places")
@dataclass(frozen=True)
class Place:
    code: Annotated[str, Key(0)]
    floor: Annotated[int, Key(1)]
    lot: int


@kandle.table("keyless")
@dataclass(frozen=True)
class Keyless:
    lot: int


@kandle.stream("bare", key_format="KAFKA")
@dataclass(frozen=True)
class TwoBareKeys:
    one: Annotated[str, Key(0)]
    two: Annotated[str, Key(1)]
    time: Annotated[datetime, Timestamp()]


@kandle.stream("bare_date", key_format="KAFKA")
@dataclass(frozen=True)
class BareDate:
    on: Annotated[date, Key(0)]
    time: Annotated[datetime, Timestamp()]


@kandle.stream("lines", value_format="DELIMITED")
@dataclass(frozen=True)
class Tagged:
    name: Annotated[str, Key(0)]
    tags: dict[str, str]


@kandle.stream("doubled")
@dataclass(frozen=True)
class Doubled:
    price: int
    Price: int


@kandle.stream("rowtimes")
@dataclass(frozen=True)
class RowTime:
    rowtime: int


@kandle.stream("bare_bars", key_format="KAFKA")
@dataclass(frozen=True)
class BareBar:
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    high: Annotated[Decimal, Precision(18, 6)]


@kandle.stream("kafka_values", value_format="KAFKA")
@dataclass(frozen=True)
class KafkaBar:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    lots: int


@kandle.stream("keys_only")
@dataclass(frozen=True)
class KeysOnly:
    symbol: Annotated[str, Key(0)]


@kandle.stream("untimed")
@dataclass(frozen=True)
class Untimed:
    symbol: Annotated[str, Key(0)]
    price: int


@kandle.table("newest")
@dataclass(frozen=True)
class Newest:
    symbol: Annotated[str, Key(0)]
    price: int


@kandle.stream("messages", value_format="PROTOBUF")
@dataclass(frozen=True)
class Message:
    name: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Annotated[Decimal | None, Precision(18, 6)]
    note: str | None


@kandle.stream("sizes")
@dataclass(frozen=True)
class Size:
    name: Annotated[str, Key(0)]
    größe: int  # noqa: PLC2401


@kandle.stream("line_lots", value_format="DELIMITED")
@dataclass(frozen=True)
class LineLots:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    buyers: int


@kandle.stream("both_cases")
@dataclass(frozen=True)
class BothCases:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    o: Annotated[Decimal, Precision(18, 6)]
    O: Annotated[Decimal, Precision(18, 6)]  # noqa: E741


@kandle.stream("headed_lots")
@dataclass(frozen=True)
class HeadedLots:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    lots: int
    buyer: Annotated[str | None, Header("buyer")]


ENTITIES: list[tuple[type, str]] = [
    (Keyless, "Keyless is a table without a key, which ksqlDB cannot have; mark its key fields"),
    (TwoBareKeys, "TwoBareKeys: key_format = 'KAFKA' holds one column, but there are 2 (one, two); choose AVRO or JSON"),
    (BareDate, "BareDate: key_format = 'KAFKA' holds a str, UUID, int or float, but on is date; choose AVRO or JSON"),
    (Tagged, "Tagged: value_format = 'DELIMITED' has no lists and maps, but tags is MAP<VARCHAR, VARCHAR>; choose AVRO or JSON"),
    (
        Message,
        "Message: value_format = 'PROTOBUF' has no NULL for VARCHAR, which is read back as 0 or empty, but note may be",
    ),
    (Size, "Size: value_format = 'AVRO' allows names of ASCII letters, digits and _ only, unlike größe; rename the field or"),
    (Doubled, "Doubled: the names of the fields price and Price differ in case only"),
    (
        RowTime,
        "RowTime: ksqlDB reserves the name 'rowtime' for a column of its own, so that no field can have it; rename",
    ),
]


@pytest.mark.parametrize(("cls", "message"), ENTITIES, ids=[cls.__name__ for cls, _ in ENTITIES])
def test_an_entity_that_ksqldb_cannot_read_is_refused(cls: type, message: str) -> None:
    with pytest.raises(QueryError) as error:
        _ = script([entity_model(cls)], []).text
    assert message in str(error.value)


QUERIES: list[tuple[str, type, Callable[[Query], Any], str]] = [
    (
        "late events",
        LotBar,
        lambda q: q.from_(Trade).tumbling(lambda t: t.time, minutes=1, late=Late.TOPIC).group_by(lambda t: t.symbol).select(lot),
        "late=Late.TOPIC: ksqlDB gives the bars of buckets, in which late events cannot be distinguished from others; choose",
    ),
    (
        "week",
        LotBar,
        lambda q: q.from_(Trade).tumbling(lambda t: t.time, weeks=1).group_by(lambda t: t.symbol).select(lot),
        "ksqlDB cannot make bars of 1wk: its longest unit of time is the day; declare a finer timeframe besides",
    ),
    (
        "zone",
        LotBar,
        lambda q: q.from_(Trade).tumbling(lambda t: t.time, days=1, tz="Asia/Tokyo").group_by(lambda t: t.symbol).select(lot),
        "ksqlDB cannot make bars of 1d: its days are days in UTC, not in Asia/Tokyo; declare a finer timeframe besides, "
        "for example hours=1, from which",
    ),
    (
        "tables by a computed field",
        FundWeight,
        lambda q: (
            q.from_(Fund)
            .join(Factor, on=lambda y, x: f.upper(y.market) == x.code)
            .select(lambda y, x: FundWeight(fund=y.fund, market=y.market, weight=x.factor))
        ),
        "f.upper(Fund.market) is computed, or is stored in its topic in another form, but ksqlDB joins tables by",
    ),
    (
        "tables, one with two keys",
        FundWeight,
        lambda q: (
            q.from_(Place)
            .join(Factor, on=lambda y, x: y.code == x.code)
            .select(lambda y, x: FundWeight(fund=y.code, market=y.code, weight=x.factor))
        ),
        "the key of the table Place has 2 parts (code, floor), but ksqlDB joins tables that have a key of one column",
    ),
    (
        "window over a table",
        LotBar,
        lambda q: (
            q.from_(Instrument)
            .tumbling(lambda i: i.time, minutes=1)
            .group_by(lambda i: i.code)
            .select(
                lambda i, w: LotBar(symbol=i.code, start=w.start, lots=f.sum(i.lot), high=f.cast(f.max(i.lot), Precision(18, 6)))
            )
        ),
        "Instrument is a table, and ksqlDB has windows over streams only; read the stream that the table is made from",
    ),
    (
        "sessions without a key",
        Bar,
        lambda q: (
            q.from_(Tick)
            .based_on(Session, open=lambda s: s.open_at, close=lambda s: s.close_at)
            .tumbling(lambda t: t.time, minutes=1)
            .select(
                lambda t, w: f.new(
                    Bar,
                    broker="b",
                    symbol="s",
                    start=w.start,
                    open=f.first(t.bid),
                    high=f.max(t.bid),
                    low=f.min(t.bid),
                    close=f.last(t.bid),
                    volume=f.sum(t.size),
                )
            )
        ),
        "the key of Bar",
    ),
    (
        "partitions of a join",
        Bar,
        lambda q: (
            q.from_(Tick)
            .join(Quote, on=lambda t, o: t.symbol == o.symbol, within="5s")
            .tumbling(lambda t, o: t.time, minutes=1)
            .group_by(lambda t, o: (t.broker, t.symbol))
            .select(lambda t, o, w: bar(t, w))
        ),
        "join: Tick has 2 partitions and Quote 1; ksqlDB only joins topics with equal numbers of partitions",
    ),
    (
        "table of two keys",
        LargeTrade,
        lambda q: (
            q.from_(Trade)
            .join(Place, on=lambda t, p: (t.symbol == p.code) & (t.size == p.floor))
            .select(lambda t, p: LargeTrade(symbol=t.symbol, time=t.time, value=t.price * p.lot))
        ),
        "join: the key of the table Place has 2 parts (code, floor), but ksqlDB finds rows of tables by a key of one column",
    ),
    (
        "time of a join",
        Pair,
        lambda q: (
            q.from_(Quote)
            .join(Micros, on=lambda o, m: o.symbol == m.code, within="5s")
            .select(
                lambda o, m: Pair(
                    symbol=o.symbol, time=o.time, traded=f.cast(m.price, Precision(18, 6)), quoted=o.price, venue=o.venue
                )
            )
        ),
        "it cannot take time of Micros for that time; mark a datetime field Timestamp(), in milliseconds",
    ),
    (
        "key of a table",
        Copy,
        lambda q: q.from_(Instrument).select(lambda i: Copy(symbol=i.code, double=i.lot)),
        "the key of Copy is (), but a table made from Instrument keeps its key; give it the key fields of Instrument",
    ),
    (
        "only keys",
        KeysOnly,
        lambda q: q.from_(Trade).select(lambda t: KeysOnly(symbol=t.symbol)),
        "select: all fields of KeysOnly are key fields, but ksqlDB needs at least one other field",
    ),
    (
        "aggregate over a table",
        LotsByName,
        lambda q: (
            q.from_(Instrument)
            .group_by(lambda i: f.coalesce(i.name, ""))
            .select(lambda i: LotsByName(name=f.coalesce(i.name, ""), instruments=f.count(), lots=f.max(i.lot)))
        ),
        "f.max(Instrument.lot): Instrument is a table, whose rows are replaced, and ksqlDB has only count, sum, avg",
    ),
    (
        "no event time",
        Newest,
        lambda q: q.from_(Untimed).group_by(lambda u: u.symbol).select(lambda u: Newest(symbol=u.symbol, price=f.last(u.price))),
        "f.last(Untimed.price) goes by event time, but no field of Untimed is marked Timestamp()",
    ),
    (
        "bare key of bars",
        BareBar,
        lambda q: (
            q.from_(Tick)
            .tumbling(lambda t: t.time, minutes=1)
            .group_by(lambda t: (t.broker, t.symbol))
            .select(lambda t, w: BareBar(broker=t.broker, symbol=t.symbol, start=w.start, high=f.max(t.bid)))
        ),
        "BareBar: key_format = 'KAFKA' holds one column, but the group key has 2; choose AVRO or JSON",
    ),
    (
        "bare value of bars",
        KafkaBar,
        lambda q: lots(q.from_(Trade)).select(lambda t, w: KafkaBar(symbol=t.symbol, start=w.start, lots=f.count())),
        "KafkaBar: value_format = 'KAFKA' holds one column, but rows of KafkaBar have more; choose AVRO or JSON",
    ),
    (
        "lists in lines of text",
        LineLots,
        lambda q: lots(q.from_(Trade)).select(
            lambda t, w: LineLots(symbol=t.symbol, start=w.start, buyers=f.count_distinct(t.buyer))
        ),
        "LineLots: value_format = 'DELIMITED' has no lists and maps, but the partial aggregate of f.count_distinct(Trade.buyer) "
        "is ARRAY<VARCHAR>; choose AVRO or JSON",
    ),
    (
        "headers of bars",
        HeadedLots,
        lambda q: lots(q.from_(Trade)).select(
            lambda t, w: HeadedLots(symbol=t.symbol, start=w.start, lots=f.count(), buyer=f.last(t.buyer))
        ),
        "HeadedLots.buyer is a header, and ksqlDB writes no headers; remove Header from the fields",
    ),
    (
        "fields of bars that differ in case only",
        BothCases,
        lambda q: lots(q.from_(Trade)).select(
            lambda t, w: BothCases(symbol=t.symbol, start=w.start, o=f.first(t.price), O=f.last(t.price))
        ),
        "BothCases: the names of the fields o and O differ in case only",
    ),
    (
        "finer than milliseconds",
        LotBar,
        lambda q: q.from_(Trade).tumbling(lambda t: t.time, minutes=1, grace="7d1us").group_by(lambda t: t.symbol).select(lot),
        "ksqlDB measures time in milliseconds; choose a whole number of milliseconds",
    ),
]


@pytest.mark.parametrize(("target", "declare", "message"), [case[1:] for case in QUERIES], ids=[case[0] for case in QUERIES])
def test_a_query_that_ksqldb_cannot_run_is_refused(target: type, declare: Callable[[Query], Any], message: str) -> None:
    with pytest.raises(QueryError) as error:
        _ = [statement.text for statement in query_program(model(target, declare)).statements]
    assert message in str(error.value)


@kandle.stream("offene_bars")
@dataclass(frozen=True)
class GermanBar:
    größe: Annotated[str, Key(0)]  # noqa: PLC2401
    broker: Annotated[str, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    events: int


def test_names_in_keys_of_bars_must_be_those_that_avro_has() -> None:
    query = model(
        GermanBar,
        lambda q: (
            q.from_(Tick)
            .tumbling(lambda t: t.time, minutes=1)
            .group_by(lambda t: (t.symbol, t.broker))
            .select(lambda t, w: GermanBar(größe=t.symbol, broker=t.broker, start=w.start, events=f.count()))
        ),
    )
    with pytest.raises(QueryError, match=r"GermanBar: key_format = 'AVRO' allows names of ASCII letters.*, unlike größe"):
        query_program(query)
