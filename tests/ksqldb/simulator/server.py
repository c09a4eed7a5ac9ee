"""Simulator of a ksqlDB server, for tests: statements one after the other, each accepted or refused as ksqlDB 7.4 does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.ksqldb.simulator.code import Scope, code_of
from tests.ksqldb.simulator.declaring import declared, set_timestamp
from tests.ksqldb.simulator.errors import RefusedError, UnreadError
from tests.ksqldb.simulator.nodes import Command, Create, Drop, InsertInto, InsertValues, Select, Statement
from tests.ksqldb.simulator.querying import Plan, planned
from tests.ksqldb.simulator.sources import (
    SourceColumn,
    StreamOrTable,
    check_columns,
    check_properties,
    check_source_name,
    format_of,
)
from tests.ksqldb.simulator.statements import parse_statement

SETTINGS = re.compile(
    r"auto\.offset\.reset|commit\.interval\.ms|cache\.max\.bytes\.buffering|num\.stream\.threads|processing\.guarantee|max\.task\.idle\.ms"
    r"|ksql\.[\w.]+|(consumer|producer|main\.consumer)\.[\w.]+"
)


def check_setting(name: str) -> None:
    """A property of SET or of streamsProperties."""
    if not SETTINGS.fullmatch(name):
        raise RefusedError(f"Not recognizable as ksql, streams, consumer, or producer property: '{name}'")


class Server:
    """Streams, tables and queries so far. `run` takes a statement's text and says RefusedError, or what it read."""

    def __init__(self) -> None:
        self.sources: dict[str, StreamOrTable] = {}
        self.plans: dict[str, Plan] = {}
        self.insert_plans: list[tuple[str, Plan]] = []

    def run(self, text: str) -> Statement:
        statement = parse_statement(text)
        HANDLERS[type(statement)](self, statement)
        return statement

    def create(self, statement: Create) -> None:
        existing = self.sources.get(statement.name)
        plan = planned(statement.query, self.sources) if statement.query else None
        source = declared(statement, self.sources.values()) if plan is None else _sink(statement, plan)
        if existing is not None:
            self._meet(statement, existing, source)
        if existing is None or (statement.or_replace and not statement.if_not_exists):
            self._add(source, plan)

    def _meet(self, statement: Create, existing: StreamOrTable, source: StreamOrTable) -> None:
        """A source of the name exists: IF NOT EXISTS leaves it, OR REPLACE may only add columns."""
        if statement.if_not_exists:
            return
        if not statement.or_replace:
            raise RefusedError(
                f"Cannot add {source.kind.lower()} '{source.name}': A {existing.kind.lower()} with the same name already exists"
            )
        former = self.plans.get(existing.name)
        if former is not None and former.query.window is not None:
            raise RefusedError("Cannot upgrade data source: Upgrades not yet supported for StreamWindowedAggregate")
        if source.columns[: len(existing.columns)] != existing.columns:
            raise RefusedError(
                f"Cannot upgrade data source: `{source.name}` is not upgradeable: columns are changed, missing or reordered"
            )
        self._stop(existing.name)
        source.readers, source.inserts = existing.readers, existing.inserts

    def _add(self, source: StreamOrTable, plan: Plan | None) -> None:
        self.sources[source.name] = source
        if plan is not None:
            self.plans[source.name] = plan
            for _, read in plan.sources:
                read.readers.append(source.name)

    def insert_query(self, statement: InsertInto) -> None:
        target = self._target(statement.target)
        plan = planned(statement.query, self.sources)
        if target.kind == "TABLE" or plan.kind == "TABLE":
            raise RefusedError("INSERT INTO can only be used to insert the rows of a stream into a stream.")
        result = {(output.name, str(output.code.known), output.key) for output in plan.outputs}
        sink = {(column.name, str(column.type), column.key) for column in target.columns}
        if result != sink:
            different = ", ".join(sorted(f"{name} {kind}" for name, kind, _ in result ^ sink))
            raise RefusedError(f"Incompatible schema between results and sink. They differ in {different}")
        target.inserts += 1
        self.insert_plans.append((target.name, plan))
        for _, read in plan.sources:
            read.readers.append(target.name)

    def insert_values(self, statement: InsertValues) -> None:
        target = self._target(statement.target)
        names = statement.columns or tuple(target.types)
        unknown = [name for name in names if name not in {*target.types, "ROWTIME"}]
        if unknown:
            raise RefusedError(f"Column name {unknown[0]} does not exist.")
        if len(names) != len(statement.values):
            raise RefusedError("Expected a value for each column.")
        for value in statement.values:
            code_of(value, Scope({}))

    def _target(self, name: str) -> StreamOrTable:
        target = self.sources.get(name)
        if target is None:
            raise RefusedError(f"Cannot insert into an unknown stream/table: {name}")
        if target.read_only or target.windowed or target.headers:
            raise RefusedError(f"Cannot insert into {name}: it is read-only, windowed or has headers.")
        return target

    def drop(self, statement: Drop) -> None:
        source = self.sources.get(statement.name)
        if source is None:
            if statement.if_exists:
                return
            raise RefusedError(f"{statement.kind.capitalize()} {statement.name} does not exist.")
        self._check_drop(statement, source)
        del self.sources[source.name]
        self._stop(source.name)

    def _check_drop(self, statement: Drop, source: StreamOrTable) -> None:
        if source.kind != statement.kind:
            raise RefusedError(f"Incompatible data source type is {source.kind}, but statement was DROP {statement.kind}")
        if source.readers:
            readers = ", ".join(source.readers)
            raise RefusedError(
                f"Cannot drop {source.name}. The following streams and/or tables read from this source: [{readers}]."
            )
        if source.inserts:
            raise RefusedError(
                f"Cannot drop {source.name}. The following queries write into this source: you need to terminate them"
            )
        others = [other.name for other in self.sources.values() if other.topic == source.topic and other is not source]
        if statement.delete_topic and others:
            raise RefusedError(
                f"Refusing to delete topic. Found other data sources ({', '.join(others)}) using topic {source.topic}"
            )

    def _stop(self, name: str) -> None:
        """The query behind a source is no more."""
        plan = self.plans.pop(name, None)
        for _, read in plan.sources if plan else ():
            read.readers.remove(name)

    def command(self, statement: Command) -> None:
        if statement.verb == "SET":
            check_setting(statement.operands[0])
        elif statement.verb in ("TERMINATE", "PAUSE", "RESUME"):
            self._check_query(statement.operands[0], stops=statement.verb == "TERMINATE")
        elif statement.verb == "DESCRIBE" and statement.operands[0] not in ("FUNCTION", "CONNECTOR", "STREAMS", *self.sources):
            raise RefusedError(f"Could not find STREAM/TABLE '{statement.operands[0]}' in the Metastore")

    def _check_query(self, query: str, stops: bool) -> None:
        """Queries are called CTAS_NAME_1, CSAS_NAME_2, INSERTQUERY_3; the numbers are the server's own."""
        if query == "ALL":
            return
        match = re.fullmatch(r"(CTAS|CSAS)_(.+)_\d+", query)
        names = [name for name in self.plans if match and name.upper() == match.group(2)]
        inserts = bool(self.insert_plans) and re.fullmatch(r"INSERTQUERY_\d+", query)
        if not names and not inserts:
            raise RefusedError(f"Unknown queryId: {query}")
        for name in names if stops else ():
            self._stop(name)
        if stops and inserts:
            self._stop_insert(query)

    def _stop_insert(self, query: str) -> None:
        if len(self.insert_plans) > 1:
            raise UnreadError(f"which of the INSERT queries is {query}: the server numbers them itself")
        target, plan = self.insert_plans.pop()
        self.sources[target].inserts -= 1
        for _, read in plan.sources:
            read.readers.remove(target)

    def select(self, statement: Select) -> None:
        raise RefusedError("The following statement types should be issued to the websocket endpoint '/query': PRINT, SELECT")


def _sink(statement: Create, plan: Plan) -> StreamOrTable:
    """The source that a query makes; formats that are not set are those of the first source."""
    check_source_name(statement.name)
    check_properties(statement.properties)
    if plan.kind != statement.kind:
        raise RefusedError(
            f"Invalid result type. Your SELECT query produces a {plan.kind}. Please use CREATE {plan.kind} AS SELECT."
        )
    source = StreamOrTable(
        statement.kind,
        statement.name,
        tuple(SourceColumn(output.name, output.code.known, output.key) for output in plan.outputs),
        str(statement.properties.get("KAFKA_TOPIC", statement.name)),
        format_of(statement.properties, "KEY") or plan.first.key_format,
        format_of(statement.properties, "VALUE") or plan.first.value_format,
        windowed=plan.windowed,
        queried=True,
    )
    set_timestamp(source, statement.properties)
    check_columns(source)
    return source


HANDLERS: dict[type[Statement], Callable[[Server, Any], None]] = {
    Create: Server.create,
    InsertInto: Server.insert_query,
    InsertValues: Server.insert_values,
    Drop: Server.drop,
    Command: Server.command,
    Select: Server.select,
}
