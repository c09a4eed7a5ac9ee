"""Programs of the catalogue, run by the simulated ksqlDB, give the bars that the engine makes from the same events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from kandle import Gaps
from kandle.engine.pipeline import Pipeline
from kandle.engine.schedules import session_calendar
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
from tests.ksqldb.simulator.executing import run_script

SEEDS = (1, 2)
OVER_TIME = {name: case for name, case in CASES.items() if case.query.window is not None and case.query.join is None}
CLOSED = {name: case for name, case in OVER_TIME.items() if not case.refused and name != "another_time"}
"""Without `another_time`, in which heartbeats would need a time of their own."""
END = START + timedelta(hours=1)
HEARTBEAT = "_heartbeat"


def schedule_rows(rows: Iterable[Row]) -> list[Row]:
    """Return two sessions of every key, with a break of a minute."""
    keys = {(row["broker"], row["symbol"]) for row in rows}
    bounds = [(START, START + timedelta(minutes=4)), (START + timedelta(minutes=5), START + timedelta(minutes=50))]
    return [
        {"broker": broker, "symbol": symbol, "trading_date": START.date() + timedelta(days=n), "open_at": first, "close_at": last}
        for broker, symbol in sorted(keys)
        for n, (first, last) in enumerate(bounds)
    ]


def intervals(query: QueryModel, schedule: Iterable[Row]) -> list[Row]:
    """Return the rows of the session table, which kandle writes for ksqlDB."""
    sessions_by_key: dict[str, list[Row]] = {}
    for row in schedule:
        key = key_text((row["broker"], row["symbol"]), [node.type for node in query.group_by])
        sessions_by_key.setdefault(key, []).append({"open": row["open_at"], "close": row["close_at"]})
    return [{"id": key, "since": START, "intervals": sessions} for key, sessions in sessions_by_key.items()]


def finals(query: QueryModel, rows: list[Row]) -> dict[str, list[Row]]:
    """Return the engine's bars by timeframe."""
    calendar = None
    if query.schedule is not None:
        # Bars by trading day need one date for each session; only the sessions are compared here.
        query = replace(query, schedule=replace(query.schedule, day=None))
        session = entity_model(Session)
        calendar = session_calendar(query, [to_physical(session, frame(session, schedule_rows(rows)))], is_whole=True)
    pipeline = Pipeline(plan(query), calendar)
    pipeline.process(to_physical(query.source, frame(query.source, rows)))
    bars: dict[str, list[Row]] = {bar.name: [] for bar in plan(query).emitted}
    for output in pipeline.finish(to_instant(END)):
        bars[output.plan.name] += to_logical(query.target, output.bars).to_dicts()
    return bars


def by_key(query: QueryModel, rows: Iterable[Mapping[str, Any]]) -> dict[str, Row]:
    """Return bars by their keys, with values that compare equal."""
    names = [field.name for field in query.target.fields]
    bars = [{name: comparable(row[name]) for name in names} for row in rows]
    return {repr([bar[key.name] for key in query.target.keys]): bar for bar in bars}


def comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value


def inputs(query: QueryModel, rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of the topics that ksqlDB reads, by the name of the stream or table."""
    topics = {name_of_topic(query.source.topic): server_rows(query.source, rows)}
    if query.schedule is not None:
        events_only = [row for row in rows if HEARTBEAT not in row]
        topics["sessions_by_key"] = intervals(query, schedule_rows(events_only))
    return topics


def base_of(query: QueryModel) -> QueryModel:
    """Return the query whose bars are the open ones: all bars of the base timeframe that have events."""
    window = query.window
    if isinstance(window, Hopping):
        window = Tumbling(window.time, (window.advance,), grace=window.grace)
    return replace(query, window=window, having=None, gaps=Gaps.SKIP)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", OVER_TIME)
def test_open_bars_are_those_of_the_engine(name: str, seed: int) -> None:
    case = OVER_TIME[name]
    rows = events(case.query.source, seed)
    script = case.script(ScriptRole.LIVE)
    live = script.programs[case.query.target.name].live
    assert live is not None
    expected = finals(base_of(case.query), rows)[plan(case.query).base.name]
    assert expected
    assert by_key(case.query, run_script(script.text, inputs(case.query, rows))[live.name]) == by_key(case.query, expected)


def with_heartbeats(query: QueryModel, rows: list[Row]) -> list[Row]:
    """Return the events with heartbeats of every key for every bucket, and some long after the end."""
    base, stamp = plan(query).emitted[0], query.source.timestamp
    assert stamp is not None
    kept = [name for name in heartbeat_fields(query) if name != stamp.name]
    keys = {repr([row[name] for name in kept]): {**dict.fromkeys(row), **{name: row[name] for name in kept}} for row in rows}
    step = base.timeframe.nominal if base.advance is None else base.advance.size
    due = [
        to_instant(START) + number * step + base.grace for number in range(1, (45 if step >= MINUTE else 20) * MINUTE // step + 1)
    ]
    due += [to_instant(END) + number * 10 * DAY for number in range(1, 7)]
    beats = [{**key, stamp.name: from_instant(instant), HEARTBEAT: True} for instant in due for key in keys.values()]
    return sorted([*rows, *beats], key=lambda row: (row[stamp.name], HEARTBEAT in row))


@pytest.mark.parametrize("name", CLOSED)
def test_finals_inside_of_ksqldb_are_those_of_the_engine(name: str) -> None:
    query = CLOSED[name].query
    rows = events(query.source, 3)
    having = None if query.gaps is Gaps.CARRY else query.having
    expected = finals(replace(query, gaps=Gaps.SKIP, having=having), rows)
    shown = run_script(CLOSED[name].script(ScriptRole.ALL).text, inputs(query, with_heartbeats(query, rows)))
    for bar in plan(query).emitted:
        actual = by_key(query, shown[name_of_topic(bar.final_topic)])
        wanted = by_key(query, expected[bar.name])
        if query.gaps is Gaps.SKIP:
            # Bars of larger timeframes wait for the next one with events.
            assert actual.keys() <= wanted.keys()
            wanted = {key: row for key, row in wanted.items() if key in actual or bar.source is None}
            assert actual
        assert {key: actual.get(key) for key in wanted} == wanted
    if query.gaps is Gaps.CARRY and query.having is None and plan(query).base.timeframe.nominal <= MINUTE:
        check_gaps(query, finals(query, rows), shown)


def check_gaps(query: QueryModel, expected: Mapping[str, list[Row]], shown: Mapping[str, list[Row]]) -> None:
    """Check that ksqlDB and the engine carry the same values into the last bucket, which has no events."""
    starts = [item.field for item in query.projection if item.expression in (WindowBound("start"), WindowBound("end"))]
    parts = [key.name for key in query.target.keys if key.name not in starts]
    values = [item.field for item in query.projection if item.field not in starts]

    def newest(bars: Iterable[Row]) -> dict[str, Row]:
        return {repr([row[name] for name in parts]): {name: comparable(row[name]) for name in values} for row in bars}

    for bar in plan(query).emitted:
        # Larger bars have events in their last bucket.
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
    # What the engine reads from the same texts.
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
