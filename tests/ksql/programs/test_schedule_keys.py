"""Events find their sessions by keys of every type: kandle writes the text that ksqlDB computes from an event."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated
from uuid import UUID

import kandle
from kandle import Key, Precision, Timestamp
from kandle import functions as f
from kandle.engine.schedules import session_calendar
from kandle.ksql.program import ScriptRole
from kandle.ksql.script import script
from kandle.ksqldb.intervals import ROW, IntervalWriter
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import TopicPartition
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.topics import intervals_topic
from kandle.query.stages import build
from kandle.time.timeframe import MILLISECOND, from_instant
from tests.ksqldb.simulator.executing import run_script

OPEN = datetime(2026, 3, 8, 10, tzinfo=UTC)
Fine = Annotated[Decimal, Precision(38, 10)]


@dataclass(frozen=True)
class Parts:
    """Key parts of every type."""

    fine: Annotated[Fine, Key(0)]
    day: Annotated[date, Key(1)]
    moment: Annotated[datetime, Key(2)]
    number: Annotated[UUID, Key(3)]
    active: Annotated[bool, Key(4)]
    seal: Annotated[bytes, Key(5)]
    name: Annotated[str, Key(6)]


@kandle.stream("lots")
@dataclass(frozen=True)
class Lot(Parts):
    time: Annotated[datetime, Timestamp()]
    size: int


@kandle.table("hours")
@dataclass(frozen=True)
class Hours(Parts):
    session: Annotated[int, Key(7)]
    opens: datetime
    closes: datetime


@kandle.stream("lot_bars")
@dataclass(frozen=True)
class LotBar(Parts):
    start: Annotated[datetime, Timestamp(), Key(7)]
    size: int


def test_an_event_finds_the_sessions_of_its_key(tmp_path: Path) -> None:
    query = build(
        entity_model(LotBar),
        lambda q: (
            q.from_(Lot)
            .based_on(Hours, open=lambda h: h.opens, close=lambda h: h.closes)
            .tumbling(lambda t: t.time, minutes=1)
            .group_by(lambda t: (t.fine, t.day, t.moment, t.number, t.active, t.seal, t.name))
            .select(
                lambda t, w: LotBar(
                    fine=t.fine,
                    day=t.day,
                    moment=t.moment,
                    number=t.number,
                    active=t.active,
                    seal=t.seal,
                    name=t.name,
                    start=w.start,
                    size=f.sum(t.size),
                )
            )
        ),
    )
    key = {
        # More digits than Python's own decimal context keeps.
        "fine": Decimal("1234567890123456789012345678.0123456789"),
        "day": date(2026, 3, 8),
        "moment": datetime(2026, 3, 8, 1, 2, 3, 456_000, tzinfo=UTC),
        "number": UUID(int=255),
        "active": True,
        "seal": b"\xff|",
        "name": "a|b%",
    }
    hours = [Hours(**key, session=1, opens=OPEN, closes=OPEN + timedelta(hours=1))]  # type: ignore[arg-type]
    calendar = session_calendar(query, [mapping(entity_model(Hours)).to_frame(hours)], is_whole=True)
    result = script([entity_model(cls) for cls in (Lot, Hours, LotBar)], [query], ScriptRole.LIVE)
    table = result.programs["LotBar"].schedule
    assert table is not None
    with closing(EmbeddedLog(tmp_path)) as log:
        log.ensure(intervals_topic(table.topic, table.partitions, 1))
        assert IntervalWriter(log, query, table).write(calendar) == 1
        (batch,) = log.read(TopicPartition(table.topic, 0), 0, 10)
        ((text, row),) = batch.records.frame.select("id", ROW).iter_rows()
        # A second write writes nothing.
        assert IntervalWriter(log, query, table).write(calendar) == 0
    bounds = json.loads(row)["intervals"][0]
    intervals = {name: from_instant(at * MILLISECOND) for name, at in bounds.items()}
    event = {**key, "number": str(key["number"]), "time": OPEN, "size": 3}
    sessions = {"id": text, "since": OPEN, "intervals": [intervals]}
    shown = run_script(result.text, {"lots": [event], table.name: [sessions]})
    assert [bar["size"] for bar in shown["lot_bars_1m_live"]] == [3]
