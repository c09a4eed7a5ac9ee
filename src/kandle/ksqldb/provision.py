"""The streams, tables and queries of programs on a ksqlDB: what is missing is created, what differs is refused by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import polars as pl

from kandle.errors import KsqlError, KsqlUnavailableError
from kandle.ksql.program import LiveTable, Program
from kandle.ksql.statements import Create, CreateAs
from kandle.ksql.types import KsqlType, column_type
from kandle.ksqldb.dropping import StatementServer
from kandle.ksqldb.results import SourceDescription
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.model.types import INTEGER, MAX_PRECISION, SIMPLE_TYPES, UUID, DataType, DecimalType
from kandle.plan.query_topics import AggregatedTable
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.query.query import QueryModel

Creating = Create | CreateAs

TOKENS = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'|\d+(?:\.\d+)?|\w+|\S")
LEFT_OUT = ("(", ")", "AS", "INNER", "OUTER", ";")
"""What ksqlDB adds to a query, or takes away, when it writes down how it has understood it."""


def differences(statement: Creating, found: SourceDescription) -> list[str]:
    """In words, how a stream or table that is there differs from what the statement would create; nothing if it does not."""
    if found.kind != statement.kind.upper():
        return [f"it is a {found.kind.lower()}, not a {statement.kind}"]
    declared = _declared(statement, found) if isinstance(statement, Create) else ()
    return [*_topic(statement, found), *_columns(statement, found), *declared, *_window(statement, found)]


def _topic(statement: Creating, found: SourceDescription) -> Iterator[str]:
    there = {
        "KAFKA_TOPIC": found.topic,
        "KEY_FORMAT": found.key_format,
        "VALUE_FORMAT": found.value_format,
        "PARTITIONS": found.partitions,
    }
    for name, has in there.items():
        wanted = statement.properties.get(name, has)
        if wanted != has:
            yield f"{name} is {has}, not {wanted}"


def _columns(statement: Creating, found: SourceDescription) -> Iterator[str]:
    there = {column.name: column for column in found.columns}
    wanted = _wanted(statement)
    for name, kind in wanted.items():
        if name not in there:
            yield f"column {name} is missing"
        elif kind is not None and str(there[name].type) != kind:
            yield f"column {name} is {there[name].type}, not {kind}"
    for name in there:
        if name not in wanted:
            yield f"column {name} is not declared"


def _declared(statement: Create, found: SourceDescription) -> Iterator[str]:
    """What decides how records are read: the key, and the time."""
    wanted = [column.name for column in statement.columns if column.role.endswith("KEY")]
    there = [column.name for column in found.columns if column.is_key]
    if wanted != there:
        yield f"its key is ({', '.join(there)}), not ({', '.join(wanted)})"
    time = str(statement.properties.get("TIMESTAMP", "")).strip("`")
    if time != found.timestamp.strip("`"):
        yield f"its TIMESTAMP is {found.timestamp or 'that of the records'}, not {time or 'that of the records'}"


def _wanted(statement: Creating) -> dict[str, str | None]:
    """Columns with their types, where the statement itself says them."""
    if isinstance(statement, Create):
        return {column.name: str(column.type) for column in statement.columns}
    return {item.name: None for item in statement.select.items}


def _window(statement: Creating, found: SourceDescription) -> Iterator[str]:
    window = statement.select.window if isinstance(statement, CreateAs) else None
    wanted = None if window is None else window.split(" ", 1)[0]
    if (found.window or None) != wanted:
        yield f"its windows are {found.window or 'none'}, not {wanted or 'none'}"


def is_same_query(one: str, other: str) -> bool:
    """Return whether two CREATE .. AS SELECT have the same query.

    One of them may be as ksqlDB writes it: names with their sources, parentheses around everything, no AS.
    """
    return _words(one) == _words(other)


def _words(statement: str) -> list[str]:
    found = TOKENS.findall(statement[statement.upper().find("SELECT") :])
    words = [each if each[0] in "`'" else each.upper() for each in found]
    plain = [word for at, word in enumerate(words) if word not in LEFT_OUT and word != "." and words[at + 1 : at + 2] != ["."]]
    # A source without an alias has its own name as one.
    return [word for at, word in enumerate(plain) if not (word[0] == "`" and plain[at - 1 : at] == [word])]


# A UUID is a VARCHAR, too; only a declaration can say so.
_TYPES: dict[str, DataType] = {kind.ksql: kind for kind in SIMPLE_TYPES if kind != UUID} | {"INTEGER": INTEGER}


def aggregated(query: QueryModel, table: LiveTable, found: SourceDescription) -> AggregatedTable:
    """What tasks read of the table; KsqlError names a column that is missing or of another type."""
    types = {column.name: column.type for column in found.columns}
    fields = {each.name: each.type for each in query.target.fields}
    keys = (*table.keys, table.start)
    values = dict.fromkeys(name for name in (*fields, *table.partials.values()) if name not in keys)
    columns = [_column(table, name, types, fields.get(name), is_key=True) for name in keys]
    columns += [_column(table, name, types, fields.get(name), is_key=False) for name in values]
    spec = TopicSpec(found.topic, tuple(columns), keys, found.partitions, found.replication, compacted=True, time=table.start)
    return AggregatedTable(spec, table.partials)


def _column(table: LiveTable, name: str, types: Mapping[str, KsqlType], field: DataType | None, *, is_key: bool) -> TopicColumn:
    if name not in types:
        raise KsqlError(f"table {table.name} of ksqlDB has no column {name}; there are {', '.join(types)}")
    if field is not None and types[name] != column_type(field):
        raise KsqlError(f"table {table.name} of ksqlDB: column {name} is {types[name]}, but the field is {field}")
    kind = _type_of(table, name, types[name]) if field is None else field
    # ksqlDB's columns may all be NULL.
    return TopicColumn(name, str(kind), kind.physical, nullable=not is_key)


def _type_of(table: LiveTable, name: str, kind: KsqlType) -> DataType:
    if kind.is_decimal and kind.precision <= MAX_PRECISION:
        return DecimalType(kind.precision, kind.scale)
    if kind.name not in _TYPES:
        raise KsqlError(f"table {table.name} of ksqlDB: column {name} is {kind}, which kandle cannot read from a topic")
    return _TYPES[kind.name]


STATEMENTS = "_kandle_statements"
NAME, TEXT = "name", "statement"
SPEC = TopicSpec(
    STATEMENTS, (TopicColumn(NAME, "str", pl.String()), TopicColumn(TEXT, "str", pl.String())), (NAME,), compacted=True
)
ROWS_AT_ONCE = 10_000


class StatementLog:
    """The statements, by the name of what they created, in a topic of the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        log.ensure(SPEC)

    def all(self) -> dict[str, str]:
        """The newest statement of each name."""
        found: dict[str, str] = {}
        place = TopicPartition(STATEMENTS, 0)
        offset = self._log.first(place)
        while batches := self._log.read(place, offset, ROWS_AT_ONCE):
            for batch in batches:
                found |= dict(batch.records.frame.select(NAME, TEXT).iter_rows())
            offset = batches[-1].next_offset
        return found

    def keep(self, name: str, statement: str) -> None:
        """This created it."""
        self._log.append([Write(STATEMENTS, 0, Records(pl.DataFrame({NAME: [name], TEXT: [statement]})))])


logger = logging.getLogger("kandle")


def creating(programs: Iterable[Program]) -> list[Creating]:
    """The statements that create something, in their order, each once."""
    found: dict[str, Creating] = {}
    for program in programs:
        for statement in (*program.declarations.values(), *program.statements):
            if isinstance(statement, Create | CreateAs):
                found.setdefault(statement.creates.name, statement)
    return list(found.values())


async def provide(
    server: StatementServer, statement_log: StatementLog, programs: Sequence[Program], properties: Mapping[str, object]
) -> list[str]:
    """Create what is missing, and give the names of it; KsqlError, and nothing created, if something that is there differs."""
    statements = creating(programs)
    there = await _names(server)
    known = statement_log.all()
    for statement in statements:
        if statement.creates.name in there:
            await _check(server, statement, known.get(statement.creates.name))
    missing = [statement for statement in statements if statement.creates.name not in there]
    if missing:
        await _create(server, missing, properties)
    for statement in missing:
        statement_log.keep(statement.creates.name, statement.text)
        logger.info("ksqlDB: created %s %s", statement.kind, statement.creates.name)
    return [statement.creates.name for statement in missing]


async def _create(server: StatementServer, missing: Sequence[Creating], properties: Mapping[str, object]) -> None:
    """All in one request: the server looks at each of them before it carries out any."""
    try:
        await server.execute("\n".join(statement.text for statement in missing), properties)
    except KsqlUnavailableError:
        raise
    except KsqlError as error:
        made = await _names(server) & {statement.creates.name for statement in missing}
        so_far = (
            f"created were {', '.join(sorted(made))}; `kandle script --drop` takes them away" if made else "nothing was created"
        )
        raise KsqlError(f"{error.message}; {so_far}\n{error.statement or ''}".rstrip(), error.code, error.statement) from error


async def _names(server: StatementServer) -> set[str]:
    return {source.name for source in (*await server.streams(), *await server.tables())}


async def _check(server: StatementServer, statement: Creating, known: str | None) -> None:
    """KsqlError if what is there is not what the statement would create."""
    name = statement.creates.name
    found = differences(statement, await server.describe(name))
    if known is not None and known != statement.text:
        found.append(f"it was created with another statement: {_first_difference(known, statement.text)}")
    if found:
        raise KsqlError(
            f"{statement.kind} {name} of ksqlDB is not as declared: {'; '.join(found)}. ksqlDB cannot change it: drop it and "
            "what is made from it (`kandle script --drop`), and it is created again from the oldest events that are kept",
            statement=statement.text,
        )


def _first_difference(one: str, other: str) -> str:
    """The first lines that are not the same."""
    for old, new in zip(one.splitlines(), other.splitlines(), strict=False):
        if old != new:
            return f"there {old.strip()!r}, here {new.strip()!r}"
    return "one of them has more lines"
