"""Rows on their way through a query: what time they are of, and how tables stand beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.ksqldb.simulator.code import Code
from tests.ksqldb.simulator.errors import UnreadError
from tests.ksqldb.simulator.patterns import parsed
from tests.ksqldb.simulator.querying import Plan
from tests.ksqldb.simulator.sources import StreamOrTable
from tests.ksqldb.simulator.values import milliseconds_of, stored


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a source; `time` in milliseconds; `window` from and to, if it has one; `deleted` is a tombstone."""

    values: Mapping[str, Any]
    time: int | None = None
    window: tuple[int, int] | None = None
    deleted: bool = False


def records_of(source: StreamOrTable, rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Rows given by a test as the server reads them: those without a good timestamp are dropped."""
    records = []
    for row in rows:
        values = {name: stored(row.get(name), kind) for name, kind in source.types.items()}
        time = event_time(source, values, row.get("ROWTIME"))
        if source.timestamp is None or (time is not None and time >= 0):
            records.append(Record(values, time))
    return records


def event_time(source: StreamOrTable, values: Mapping[str, Any], time: int | None) -> int | None:
    """The time of a row: of the TIMESTAMP column if there is one, else the record's own."""
    if source.timestamp is None:
        return time
    value = values[source.timestamp]
    if isinstance(value, str):
        moment = parsed(value, str(source.timestamp_format))
        value = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return milliseconds_of(value) if isinstance(value, datetime) else value


def inputs(plan: Plan, records: Mapping[str, Sequence[Record]]) -> Iterator[tuple[dict[str, Any], Record]]:
    """What the query sees: rows by the slots of their columns, tables looked up as they are at the end."""
    alias, first = plan.sources[0]
    tables = [
        _table(source, pair[1], records[source.name]) for (_, source), pair in zip(plan.sources[1:], plan.join_codes, strict=True)
    ]
    for offset, record in enumerate(records[first.name]):
        slots = {**_slots(record), "ROWOFFSET": offset}
        if not plan.join_codes:
            yield slots, record
        else:
            row = _joined(plan, tables, {f"{alias}.{name}": value for name, value in slots.items()})
            if row is not None:
                yield row, record


def _slots(record: Record) -> dict[str, Any]:
    bounds = {"WINDOWSTART": record.window[0], "WINDOWEND": record.window[1]} if record.window else {}
    return {**record.values, **bounds, "ROWTIME": record.time}


def _table(source: StreamOrTable, key: Code, records: Sequence[Record]) -> dict[Any, Mapping[str, Any]]:
    """The newest row of each key."""
    if source.kind != "TABLE":
        raise UnreadError("running a join of streams")
    column = source.keys[0].name
    return {record.values[column]: record.values for record in records if record.values[column] is not None}


def _joined(plan: Plan, tables: Sequence[Mapping[Any, Mapping[str, Any]]], row: dict[str, Any]) -> dict[str, Any] | None:
    """The row with those of the tables beside it; None if an inner join finds none."""
    for position, table in enumerate(tables):
        alias, source = plan.sources[position + 1]
        joined = table.get(plan.join_codes[position][0].run(row))
        if joined is None and plan.query.joins[position].kind == "INNER":
            return None
        row |= {f"{alias}.{name}": (joined or {}).get(name) for name in source.types}
    return row
