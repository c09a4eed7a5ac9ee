"""What programs of the catalogue compute, run by a reading of KSQL of its own, is what the engine computes of the same events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from kandle import Gaps
from kandle.engine.compiled import session_calendar
from kandle.engine.pipeline import Pipeline
from kandle.ksql.heartbeats import heartbeat_fields
from kandle.ksql.joins import key_text
from kandle.ksql.program import ScriptRole
from kandle.ksql.types import name_of_topic
from kandle.model.columns import to_logical, to_physical
from kandle.model.entity import entity_model
from kandle.model.parsing import timestamp_from_text
from kandle.plan.plan import plan
from kandle.query.nodes import WindowBound
from kandle.query.query import Hopping, QueryModel, Tumbling
from kandle.time.timeframe import DAY, MINUTE, from_instant, to_instant
from tests.ksql.programs.catalogue import CASES
from tests.ksql.programs.entities import Session
from tests.ksql.programs.events import START, Row, events, frame, server_rows
from tests.ksqldb.server.executing import run_script

SEEDS = (1, 2)
OVER_TIME = {name: case for name, case in CASES.items() if case.query.window is not None and case.query.join is None}
CLOSED = {name: case for name, case in OVER_TIME.items() if not case.refused and name != "another_time"}
"""Heartbeats of the other one have a time of their own."""
END = START + timedelta(hours=1)
HEARTBEAT = "_heartbeat"


def schedule_rows(rows: Iterable[Row]) -> list[Row]:
    """Two sessions of every key, with a break of a minute."""
    keys = {(row["broker"], row["symbol"]) for row in rows}
    bounds = [(START, START + timedelta(minutes=4)), (START + timedelta(minutes=5), START + timedelta(minutes=50))]
    return [
        {"broker": broker, "symbol": symbol, "trading_date": START.date() + timedelta(days=n), "open_at": first, "close_at": last}
        for broker, symbol in sorted(keys)
        for n, (first, last) in enumerate(bounds)
    ]


def intervals(query: QueryModel, schedule: Iterable[Row]) -> list[Row]:
    """The rows that kandle writes for ksqlDB."""
    found: dict[str, list[Row]] = {}
    for row in schedule:
        key = key_text((row["broker"], row["symbol"]), [node.type for node in query.group_by])
        found.setdefault(key, []).append({"open": row["open_at"], "close": row["close_at"]})
    return [{"id": key, "since": START, "intervals": sessions} for key, sessions in found.items()]


def finals(query: QueryModel, rows: list[Row]) -> dict[str, list[Row]]:
    """The engine's bars by timeframe."""
    calendar = None
    if query.schedule is not None:
        # Days of trading dates want one date a session; it is the sessions that are compared here.
        query = replace(query, schedule=replace(query.schedule, day=None))
        session = entity_model(Session)
        calendar = session_calendar(query, [to_physical(session, frame(session, schedule_rows(rows)))], is_whole=True)
    pipeline = Pipeline(plan(query), calendar)
    pipeline.process(to_physical(query.source, frame(query.source, rows)))
    found: dict[str, list[Row]] = {bar.name: [] for bar in plan(query).emitted}
    for made in pipeline.finish(to_instant(END)):
        found[made.plan.name] += to_logical(query.target, made.bars).to_dicts()
    return found


def by_key(query: QueryModel, rows: Iterable[Mapping[str, Any]]) -> dict[str, Row]:
    """Bars by their keys, in forms that compare equal."""
    names = [each.name for each in query.target.fields]
    found = [{name: comparable(row[name]) for name in names} for row in rows]
    return {repr([row[key.name] for key in query.target.keys]): row for row in found}


def comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value


def inputs(query: QueryModel, rows: list[Row]) -> dict[str, list[Row]]:
    """What ksqlDB finds in the topics."""
    found = {name_of_topic(query.source.topic): server_rows(query.source, rows)}
    if query.schedule is not None:
        events_only = [row for row in rows if HEARTBEAT not in row]
        found["sessions_by_key"] = intervals(query, schedule_rows(events_only))
    return found


def base_of(query: QueryModel) -> QueryModel:
    """The query whose bars are the open ones: of the base timeframe, all of those with events."""
    window = query.window
    if isinstance(window, Hopping):
        window = Tumbling(window.time, (window.advance,), grace=window.grace)
    return replace(query, window=window, having=None, gaps=Gaps.SKIP)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", OVER_TIME)
def test_open_bars_are_those_of_the_engine(name: str, seed: int) -> None:
    case = OVER_TIME[name]
    rows = events(case.query.source, seed)
    made = case.script(ScriptRole.LIVE)
    live = made.programs[case.query.target.name].live
    assert live is not None
    expected = finals(base_of(case.query), rows)[plan(case.query).base.name]
    assert expected
    assert by_key(case.query, run_script(made.text, inputs(case.query, rows))[live.name]) == by_key(case.query, expected)


def with_heartbeats(query: QueryModel, rows: list[Row]) -> list[Row]:
    """The events, and heartbeats of every key for every bucket, then some long after the end."""
    base, stamp = plan(query).emitted[0], query.source.timestamp
    assert stamp is not None
    kept = [name for name in heartbeat_fields(query) if name != stamp.name]
    keys = {repr([row[name] for name in kept]): {**dict.fromkeys(row), **{name: row[name] for name in kept}} for row in rows}
    step = base.timeframe.nominal if base.advance is None else base.advance.size
    due = [
        to_instant(START) + number * step + base.grace for number in range(1, (45 if step >= MINUTE else 20) * MINUTE // step + 1)
    ]
    due += [to_instant(END) + number * 10 * DAY for number in range(1, 7)]
    beats = [{**key, stamp.name: from_instant(each), HEARTBEAT: True} for each in due for key in keys.values()]
    return sorted([*rows, *beats], key=lambda row: (row[stamp.name], HEARTBEAT in row))


@pytest.mark.parametrize("name", CLOSED)
def test_finals_inside_of_ksqldb_are_those_of_the_engine(name: str) -> None:
    query = CLOSED[name].query
    rows = events(query.source, 3)
    having = None if query.gaps is Gaps.CARRY else query.having
    expected = finals(replace(query, gaps=Gaps.SKIP, having=having), rows)
    shown = run_script(CLOSED[name].script(ScriptRole.ALL).text, inputs(query, with_heartbeats(query, rows)))
    for bar in plan(query).emitted:
        found = by_key(query, shown[name_of_topic(bar.final_topic)])
        wanted = by_key(query, expected[bar.name])
        if query.gaps is Gaps.SKIP:
            # Bars of larger timeframes wait for the next one with events.
            assert found.keys() <= wanted.keys()
            wanted = {key: row for key, row in wanted.items() if key in found or bar.source is None}
            assert found
        assert {key: found.get(key) for key in wanted} == wanted
    if query.gaps is Gaps.CARRY and query.having is None and plan(query).base.timeframe.nominal <= MINUTE:
        check_gaps(query, finals(query, rows), shown)


def check_gaps(query: QueryModel, expected: Mapping[str, list[Row]], shown: Mapping[str, list[Row]]) -> None:
    """In the last bucket, in which nothing happens, the same values are carried."""
    starts = [item.field for item in query.projection if item.expression in (WindowBound("start"), WindowBound("end"))]
    parts = [key.name for key in query.target.keys if key.name not in starts]
    values = [item.field for item in query.projection if item.field not in starts]

    def newest(bars: Iterable[Row]) -> dict[str, Row]:
        return {repr([row[name] for name in parts]): {name: comparable(row[name]) for name in values} for row in bars}

    for bar in plan(query).emitted:
        # Larger ones have events in their last bucket.
        if bar.timeframe.nominal <= 5 * MINUTE:
            assert newest(shown[name_of_topic(f"{query.target.topic}_{bar.name}_filled")]) == newest(expected[bar.name])


@pytest.mark.parametrize(("name", "is_left"), [("with_a_table", False), ("with_a_table_left", True)])
def test_a_join_puts_the_row_of_a_table_beside_each_event(name: str, is_left: bool) -> None:
    case = CASES[name]
    rows = events(case.query.source, 5)
    lots = {"a|b": 3, "A%": 5}
    table = [{"code": code, "lot": lot, "time": START, "name": None} for code, lot in lots.items()]
    live = case.script(ScriptRole.LIVE).programs["LotBar"].live
    assert live is not None
    shown = run_script(case.script(ScriptRole.LIVE).text, {"trades": server_rows(case.query.source, rows), "instruments": table})
    expected: dict[tuple[str, datetime], list[Any]] = {}
    for row in rows:
        lot = lots.get(row["symbol"])
        counts = is_left or (lot is not None and row["size"] >= lot)
        if counts:
            bar = expected.setdefault((row["symbol"], row["time"].replace(second=0, microsecond=0)), [0, row["price"]])
            bar[0] += row["size"] * (1 if lot is None else lot) if is_left else lot
            bar[1] = max(bar[1], row["price"])
    assert expected
    assert {(row["symbol"], row["start"]): [row["lots"], row["high"]] for row in shown[live.name]} == expected


def test_times_as_text_with_other_offsets_are_the_instants_that_the_engine_reads() -> None:
    case = CASES["topics_with_dashes"]
    texts = ["2026-03-08T10:00:00.250+0000", "2026-03-08T12:30:59.999+0230", "2026-03-08T02:01:00.000-0800"]
    # The engine's reading of the same texts.
    pattern = case.query.source.field("taken").datetime_format
    minutes = [at.replace(second=0, microsecond=0) for at in timestamp_from_text(pl.Series(texts), pattern).to_list()]
    rows = [{"plant": "a", "line": line, "taken": text, "value": Decimal(line)} for line, text in enumerate(texts)]
    shown = run_script(case.script(ScriptRole.LIVE).text, {"t_2_probes_raw": rows})["probe_bars_1m_live"]
    assert [row["start"] for row in shown] == minutes == [START, START, START + timedelta(minutes=1)]


def test_a_value_that_is_null_in_a_bucket_with_events_is_not_filled() -> None:
    query = CASES["averages"].query
    minutes = [(0, 10, 2), (1, 20, 0), (3, 30, 1)]
    rows: list[Row] = [
        {
            **dict.fromkeys(("buyer", "seen")),
            "symbol": "A",
            "time": START + timedelta(minutes=minute),
            "price": Decimal(price),
            "size": size,
            "ratio": 1.0,
            "active": True,
            "settles": START.date(),
            "fine": Decimal(0),
        }
        for minute, price, size in minutes
    ]
    until = {0: Decimal(10), 1: None, 2: Decimal(20), 3: Decimal(30)}
    engine = {row["start"]: row["weighted"] for row in finals(query, rows)["1m"]}
    for minute, weighted in until.items():
        now = START + timedelta(minutes=minute)
        events_so_far = [row for row in rows if row["time"] <= now]
        beat = {**dict.fromkeys(rows[0]), "symbol": "A", HEARTBEAT: True}
        beats = [{**beat, "time": START + timedelta(minutes=number, seconds=59)} for number in range(minute + 2)]
        shown = run_script(
            CASES["averages"].script(ScriptRole.ALL).text,
            inputs(query, sorted([*events_so_far, *beats], key=lambda row: row["time"])),
        )
        (newest,) = shown["means_1m_filled"]
        assert (newest["start"], newest["weighted"]) == (now, weighted)
        assert engine[now] == weighted
