"""The statements of several queries fit together: order, names, windows, drops."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest

import kandle
from kandle import Key, Precision, Timestamp
from kandle import functions as f
from kandle.errors import QueryError
from kandle.ksql.program import ScriptRole, WindowStore
from kandle.ksql.script import query_program, script
from kandle.model.entity import entity_model
from kandle.query.stages import Query
from tests.ksql.programs.cases import lots, model
from tests.ksql.programs.entities import (
    Bar,
    InstrumentName,
    LargeTrade,
    LotBar,
    Session,
    Tick,
    Total,
    Trade,
)
from tests.ksql.programs.over_time import bar, lot
from tests.ksqldb.simulator.checking import check_script


@kandle.stream("market.ticks")
@dataclass(frozen=True)
class Dotted:
    price: int


@kandle.stream("market_ticks")
@dataclass(frozen=True)
class Underlined:
    price: int


def test_topics_whose_names_are_the_same_there_are_refused() -> None:
    with pytest.raises(QueryError, match="two statements make a stream or table 'market_ticks'"):
        script([entity_model(Dotted), entity_model(Underlined)], [])


def test_queries_may_read_what_others_make_of_events_but_not_their_bars() -> None:
    large = model(
        LargeTrade, lambda q: q.from_(Trade).select(lambda t: LargeTrade(symbol=t.symbol, time=t.time, value=t.price * 2))
    )
    over = model(
        LotBar,
        lambda q: lots(q.from_(LargeTrade)).select(
            lambda t, w: LotBar(symbol=t.symbol, start=w.start, lots=f.count(), high=f.cast(f.max(t.value), Precision(18, 6)))
        ),
    )
    entities = [entity_model(cls) for cls in (LotBar, LargeTrade, Trade)]
    result = script(entities, [over, large])
    assert [statement.creates.name for statement in result.statements if statement.creates] == [
        "trades",
        "large_trades",
        "lots_1m_live",
    ]
    assert check_script(result.text) == []
    total = model(
        Total,
        lambda q: (
            q.from_(LotBar)
            .group_by(lambda b: b.symbol)
            .select(lambda b: Total(symbol=b.symbol, trades=f.count(), volume=f.sum(b.lots), newest=f.last(b.high)))
        ),
    )
    with pytest.raises(
        QueryError, match="it reads LotBar, whose bars are in one topic for each timeframe; read LargeTrade instead"
    ):
        script(entities, [over, large, total])


def test_queries_in_a_circle_are_refused() -> None:
    one = model(InstrumentName, lambda q: q.from_(Total).select(lambda t: InstrumentName(code=t.symbol, label=t.symbol)))
    other = model(
        Total,
        lambda q: q.from_(InstrumentName).select(lambda i: Total(symbol=i.code, trades=1, volume=1, newest=Decimal(1))),
    )
    with pytest.raises(QueryError, match="in a circle: InstrumentName -> Total -> InstrumentName"):
        script([], [one, other])


def test_queries_that_need_different_tables_of_one_schedule_are_refused() -> None:
    @kandle.stream("by_broker")
    @dataclass(frozen=True)
    class BrokerBar:
        broker: Annotated[str, Key(0)]
        start: Annotated[datetime, Timestamp(), Key(1)]
        volume: int

    def sessions(q: Query) -> Any:
        return q.from_(Tick).based_on(Session, open=lambda s: s.open_at, close=lambda s: s.close_at)

    one = model(
        Bar, lambda q: sessions(q).tumbling(lambda t: t.time, minutes=1).group_by(lambda t: (t.broker, t.symbol)).select(bar)
    )
    other = model(
        BrokerBar,
        lambda q: (
            sessions(q)
            .tumbling(lambda t: t.time, minutes=1)
            .group_by(lambda t: t.broker)
            .select(lambda t, w: BrokerBar(broker=t.broker, start=w.start, volume=f.sum(t.size)))
        ),
    )
    with pytest.raises(QueryError, match="the queries of Bar and BrokerBar are both based on Session"):
        script([], [one, other])


def test_readers_are_dropped_before_what_they_read() -> None:
    query = model(LotBar, lambda q: lots(q.from_(Trade)).select(lot))
    drops = [drop.text for drop in script([entity_model(Trade)], [query], ScriptRole.ALL).drops]
    assert drops == [
        "DROP TABLE IF EXISTS `lots_1m_filled` DELETE TOPIC;",
        "DROP STREAM IF EXISTS `lots_1m_final_declared`;",
        "DROP TABLE IF EXISTS `lots_1m_final` DELETE TOPIC;",
        "DROP STREAM IF EXISTS `trades`;",
    ]


def test_windows_are_kept_as_long_as_is_said_and_never_less_than_they_need() -> None:
    query = model(LotBar, lambda q: lots(q.from_(Trade)).select(lot))
    hour = 3_600_000_000
    text = query_program(query, ScriptRole.LIVE, WindowStore(48 * hour, hour)).statements[-1].text
    assert "RETENTION 2 DAYS, GRACE PERIOD 1 HOURS" in text
    text = query_program(query, ScriptRole.LIVE, WindowStore(hour, hour)).statements[-1].text
    assert "RETENTION 61 MINUTES, GRACE PERIOD 1 HOURS" in text
