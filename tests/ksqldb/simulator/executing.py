"""Simulator of ksqlDB's execution: queries over a list of rows, in the order of arrival, as if in one partition.

    rows = execute(ctas_text, {"ticks": [{...}, ...]}, server)     # what stands in the sink at the end
    tables = run_script(script_text, {"ticks": [...], "sessions": [...]})   # {name: rows} of every source of a script

A server knows the sources: `server = Server(); server.run("CREATE STREAM ..;")`. Each statement runs to the end of its
input before the next, so tables are complete when streams are joined with them. Rows hold Decimal, int, float, str, bool,
date, aware datetime, list and dict; without a TIMESTAMP column "ROWTIME" is a row's time in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.ksqldb.simulator.aggregates import Accumulator
from tests.ksqldb.simulator.code import Row, value_or_null
from tests.ksqldb.simulator.errors import UnreadError
from tests.ksqldb.simulator.nodes import Create, InsertInto, Window
from tests.ksqldb.simulator.querying import DAY, Plan, planned
from tests.ksqldb.simulator.records import Record, event_time, inputs, records_of
from tests.ksqldb.simulator.server import Server
from tests.ksqldb.simulator.sources import StreamOrTable
from tests.ksqldb.simulator.statements import parse_statement, split_statements
from tests.ksqldb.simulator.values import stored

Rows = Mapping[str, Iterable[Mapping[str, Any]]]


def execute(text: str, rows: Rows, server: Server) -> list[dict[str, Any]]:
    """The rows in the sink of one CREATE .. AS SELECT or INSERT INTO: of a table the newest of each key and window."""
    statement = parse_statement(text)
    assert isinstance(statement, Create | InsertInto) and statement.query is not None, "only statements with a query run"
    plan = planned(statement.query, server.sources)
    records = {source.name: records_of(source, rows[source.name]) for _, source in plan.sources}
    return newest(changes(plan, records), plan.kind == "TABLE", [output.name for output in plan.outputs if output.key])


def run_script(text: str, rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """What stands in every stream and table of a script at the end; sources over a topic that a query writes read from it."""
    server = Server()
    written: dict[str, list[Record]] = {}
    for part in split_statements(text):
        statement = server.run(part)
        if isinstance(statement, Create) and statement.name not in written:
            written[statement.name] = _written(server.sources[statement.name], server, rows, written)
        elif isinstance(statement, InsertInto):
            written[statement.target].extend(changes(server.insert_plans[-1][1], written))
    return {
        name: newest(records, server.sources[name].kind == "TABLE", [column.name for column in server.sources[name].keys])
        for name, records in written.items()
        if name in server.sources
    }


def _written(source: StreamOrTable, server: Server, rows: Rows, written: Mapping[str, list[Record]]) -> list[Record]:
    """The records of a new source: a query's, those of a topic that another source writes, or the test's."""
    if source.name in server.plans:
        records = changes(server.plans[source.name], written)
        return [replace(record, time=event_time(source, record.values, record.time)) for record in records]
    writers = [other for other in server.sources.values() if other.topic == source.topic and other is not source]
    if not writers:
        return records_of(source, rows.get(source.name, ()))
    return [_read_again(source, record) for record in written[writers[0].name] if not record.deleted]


def _read_again(source: StreamOrTable, record: Record) -> Record:
    by_name = {name.upper(): value for name, value in record.values.items()}
    values = {name: by_name.get(name.upper()) for name in source.types}
    return Record(values, event_time(source, values, record.time), record.window if source.windowed else None)


def newest(records: Iterable[Record], table: bool, keys: Sequence[str]) -> list[dict[str, Any]]:
    """All rows of a stream; of a table the newest for each key and window, in the order in which keys came."""
    if not table:
        return [dict(record.values) for record in records]
    newest: dict[str, Record] = {}
    for record in records:
        newest[repr(([record.values[key] for key in keys], record.window))] = record
    return [dict(record.values) for record in newest.values() if not record.deleted]


def changes(plan: Plan, records: Mapping[str, Sequence[Record]]) -> Iterator[Record]:
    """Every record that the query writes, in order."""
    passing = ((row, record) for row, record in inputs(plan, records) if passes(plan, row))
    if plan.collector is None:
        return (projected(plan, row, record) for row, record in passing)
    if plan.first.kind == "TABLE" or (plan.query.window and plan.query.window.kind == "SESSION"):
        raise UnreadError("running an aggregate of a table, or with SESSION windows")
    return _aggregated(plan, passing)


def passes(plan: Plan, row: Row) -> bool:
    """A row whose condition fails is left out."""
    return plan.where is None or value_or_null(plan.where, row) is True


def _outputs(plan: Plan, row: Row) -> dict[str, Any]:
    return {output.name: stored(output.code.run(row), output.code.known) for output in plan.outputs}


def projected(plan: Plan, row: Row, record: Record) -> Record:
    return Record(_outputs(plan, row), record.time, record.window)


@dataclass(slots=True)
class Group:
    """One key in one window, with its aggregates at work."""

    values: dict[str, Any]
    window: tuple[int, int] | None
    running: dict[str, Accumulator]
    time: int | None = None

    def row(self) -> dict[str, Any]:
        bounds = {"WINDOWSTART": self.window[0], "WINDOWEND": self.window[1]} if self.window else {}
        return {**self.values, **bounds, **{slot: accumulator.value for slot, accumulator in self.running.items()}}


def _aggregated(plan: Plan, rows: Iterable[tuple[dict[str, Any], Record]]) -> Iterator[Record]:
    """Groups grow with each row; what is too late for its window is left out, EMIT FINAL writes closed windows only."""
    groups: dict[str, Group] = {}
    window, final = plan.query.window, plan.query.emit == "FINAL"
    grace = grace_of(window, final) if window else 0
    stream_time = -1
    for row, record in rows:
        keys = [group.run(row) for group in plan.groups]
        if any(key is None for key in keys):
            continue
        stream_time = max(stream_time, record.time if record.time is not None else -1)
        for bounds in windows_of(window, record.time):
            if bounds is None or bounds[1] + grace > stream_time:
                name = repr((keys, bounds))
                group = groups.get(name) or groups.setdefault(name, started(plan, keys, bounds))
                _grow(plan, group, row, record)
                if not final:
                    yield result(plan, group)
        if final:
            yield from _closed(plan, groups, stream_time - grace)


def grace_of(window: Window, final: bool) -> int:
    return window.grace if window.grace is not None else 0 if final else max(DAY - window.size, 0)


def windows_of(window: Window | None, time: int | None) -> list[tuple[int, int] | None]:
    """The windows that a time falls into, the earliest first; without windows one group for all time."""
    if window is None:
        return [None]
    assert time is not None, "a row needs a time to fall into a window: TIMESTAMP column or ROWTIME"
    last = time // window.advance * window.advance
    first = max((time - window.size) // window.advance * window.advance + window.advance, 0)
    return [(start, start + window.size) for start in range(first, last + 1, window.advance)]


def started(plan: Plan, keys: Sequence[Any], bounds: tuple[int, int] | None) -> Group:
    assert plan.collector is not None
    starts: list[tuple[str, Callable[[], Accumulator]]] = [
        (aggregation.slot, aggregation.start) for aggregation in plan.collector.aggregations
    ]
    return Group(
        {f"group {position}": key for position, key in enumerate(keys)}, bounds, {slot: start() for slot, start in starts}
    )


def _grow(plan: Plan, group: Group, row: Row, record: Record) -> None:
    assert plan.collector is not None
    for aggregation in plan.collector.aggregations:
        group.running[aggregation.slot].add([argument.run(row) for argument in aggregation.arguments])
    group.time = max(time for time in (group.time, record.time, -1) if time is not None)


def result(plan: Plan, group: Group) -> Record:
    row = group.row()
    unwanted = plan.having is not None and value_or_null(plan.having, row) is not True
    return Record(_outputs(plan, row), group.time, group.window, deleted=unwanted)


def _closed(plan: Plan, groups: dict[str, Group], until: int) -> Iterator[Record]:
    """The windows that end by then, each once, the earliest first."""
    done = sorted(
        (key for key, group in groups.items() if group.window and group.window[1] <= until),
        key=lambda key: groups[key].window or (),
    )
    for key in done:
        record = result(plan, groups.pop(key))
        if not record.deleted:
            yield record
