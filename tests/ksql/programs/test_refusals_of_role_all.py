"""What only role "all" refuses, since ksqlDB would have to do everything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import pytest

import kandle
from kandle import Gaps, Key, Precision, Timestamp
from kandle import functions as f
from kandle.errors import QueryError
from kandle.ksql.program import ScriptRole
from kandle.ksql.script import query_program, script
from kandle.model.entity import entity_model
from kandle.query.query import QueryModel
from kandle.query.stages import Query
from tests.ksql.programs.cases import lots, model
from tests.ksql.programs.entities import (
    LotBar,
    Traced,
    Trade,
)
from tests.ksql.programs.over_time import lot
from tests.ksqldb.simulator.checking import check_script


@kandle.stream("plain_messages", value_format="PROTOBUF")
@dataclass(frozen=True)
class PlainMessage:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    size: int


def test_an_order_is_refused_in_role_all_and_left_to_kandle_in_role_live() -> None:
    query = model(LotBar, lambda q: lots(q.from_(Trade)).select(lot).order_by(lambda b: b.high).limit(3))
    message = "query of LotBar on ksqlDB: order_by: ksqlDB neither orders nor limits the rows of its streams and tables"
    with pytest.raises(QueryError, match=message):
        query_program(query, ScriptRole.ALL)
    assert "kandle orders and limits the bars of a bucket." in query_program(query).notes


def test_having_with_roll_up_and_without_filling_is_refused_in_role_all() -> None:
    query = model(
        LotBar,
        lambda q: (
            q.from_(Trade)
            .tumbling(lambda t: t.time, minutes=(1, 5), gaps=Gaps.SKIP)
            .group_by(lambda t: t.symbol)
            .having(lambda t, w: f.count() > 1)
            .select(lot)
        ),
    )
    assert "kandle applies the condition of having" in " ".join(query_program(query).notes)
    with pytest.raises(QueryError, match=r'having: bars that it drops still count in the roll-up.*use role "live"'):
        query_program(query, ScriptRole.ALL)


def test_bounds_of_windows_in_having_are_refused_in_role_all_where_no_gaps_are_filled() -> None:
    def declare(q: Query, gaps: Gaps) -> Any:
        return (
            q.from_(Trade)
            .tumbling(lambda t: t.time, minutes=1, gaps=gaps)
            .group_by(lambda t: t.symbol)
            .having(lambda t, w: f.hour(w.start) > 8)
            .select(lot)
        )

    with pytest.raises(QueryError, match=r'having: ksqlDB cannot use w\.start in a condition over windows; .* use role "live"'):
        query_program(model(LotBar, lambda q: declare(q, Gaps.SKIP)), ScriptRole.ALL)
    filled = model(LotBar, lambda q: declare(q, Gaps.CARRY))
    assert check_script(script([entity_model(Trade)], [filled], ScriptRole.ALL).text) == []


def test_messages_without_null_are_refused_in_role_all() -> None:
    query = model(
        LotBar,
        lambda q: lots(q.from_(PlainMessage)).select(
            lambda t, w: LotBar(symbol=t.symbol, start=w.start, lots=f.sum(t.size), high=f.cast(f.max(t.size), Precision(18, 6)))
        ),
    )
    assert check_script(script([entity_model(PlainMessage)], [query]).text) == []
    with pytest.raises(
        QueryError,
        match="PlainMessage: value_format = 'PROTOBUF' has no NULL for most types, but heartbeats",
    ):
        query_program(query, ScriptRole.ALL)


def test_a_group_key_that_is_a_header_is_refused_in_role_all() -> None:
    query = model(
        LotBar,
        lambda q: (
            q.from_(Traced)
            .tumbling(lambda t: t.time, minutes=1)
            .group_by(lambda t: f.coalesce(t.source, ""))
            .select(lambda t, w: LotBar(symbol=f.coalesce(t.source, ""), start=w.start, lots=f.count(), high=f.max(t.price)))
        ),
    )
    with pytest.raises(QueryError, match=r"source of Traced is a header, which ksqlDB cannot write into heartbeats"):
        query_program(query, ScriptRole.ALL)


def test_gaps_of_keys_that_are_made_of_the_time_are_refused_in_role_all() -> None:
    def by_day(gaps: Gaps) -> QueryModel:
        return model(
            LotBar,
            lambda q: (
                q.from_(Trade)
                .tumbling(lambda t: t.time, minutes=1, gaps=gaps)
                .group_by(lambda t: f.format_timestamp(t.time, "%Y-%m-%d"))
                .select(
                    lambda t, w: LotBar(
                        symbol=f.format_timestamp(t.time, "%Y-%m-%d"), start=w.start, lots=f.count(), high=f.max(t.price)
                    )
                )
            ),
        )

    with pytest.raises(QueryError, match=r"of the group key depends on the time, .* fill none of their gaps; choose Gaps.SKIP"):
        query_program(by_day(Gaps.CARRY), ScriptRole.ALL)
    assert query_program(by_day(Gaps.SKIP), ScriptRole.ALL).statements
    assert query_program(by_day(Gaps.CARRY), ScriptRole.LIVE).statements
