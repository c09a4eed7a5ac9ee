"""CREATE STREAM and CREATE TABLE over a topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.ksqldb.simulator.cursor import Cursor
from tests.ksqldb.simulator.errors import RefusedError, UnreadError
from tests.ksqldb.simulator.nodes import ColumnDefinition, Create
from tests.ksqldb.simulator.sources import (
    REGISTRY_FORMATS,
    SourceColumn,
    StreamOrTable,
    check_columns,
    check_properties,
    check_source_name,
    column_named,
    format_of,
)
from tests.ksqldb.simulator.types import BYTES, VARCHAR, array, struct

HEADER_TYPES = {"HEADERS": array(struct({"KEY": VARCHAR, "VALUE": BYTES})), "HEADER": BYTES}


def declared(statement: Create, known: Iterable[StreamOrTable]) -> StreamOrTable:
    """The source that a statement with columns, or with columns to be inferred, declares."""
    properties = statement.properties
    check_source_name(statement.name)
    check_properties(properties)
    value_format = format_of(properties, "VALUE")
    if value_format is None:
        raise RefusedError("Statement is missing the 'VALUE_FORMAT' property from the WITH clause.")
    topic = str(properties.get("KAFKA_TOPIC", statement.name))
    columns = tuple(map(_column, statement.columns)) or _inferred(topic, value_format, known)
    _check_keys(statement)
    source = StreamOrTable(
        statement.kind,
        statement.name,
        columns,
        topic,
        format_of(properties, "KEY") or "KAFKA",
        value_format,
        windowed=_is_windowed(properties),
        read_only=statement.read_only,
        headers=frozenset(column.name for column in statement.columns if column.constraint.startswith("HEADER")),
    )
    set_timestamp(source, properties)
    check_columns(source)
    return source


def set_timestamp(source: StreamOrTable, properties: Mapping[str, object]) -> None:
    """The column of event time is what a WITH clause says."""
    name, pattern = properties.get("TIMESTAMP"), properties.get("TIMESTAMP_FORMAT")
    source.timestamp = None if name is None else column_named(str(name))
    source.timestamp_format = None if pattern is None else str(pattern)


def _column(definition: ColumnDefinition) -> SourceColumn:
    expected = HEADER_TYPES.get(definition.constraint, definition.type)
    if str(expected).upper() != str(definition.type).upper():
        raise RefusedError(f"Invalid type for {definition.constraint} column '{definition.name}': expected {expected}")
    return SourceColumn(definition.name, definition.type, definition.constraint in ("KEY", "PRIMARY KEY"))


def _check_keys(statement: Create) -> None:
    wrong = {"STREAM": "PRIMARY KEY", "TABLE": "KEY"}[statement.kind]
    for definition in statement.columns:
        if definition.constraint == wrong:
            right = {"STREAM": "KEY", "TABLE": "PRIMARY KEY"}[statement.kind]
            raise RefusedError(
                f"Column `{definition.name}` is a '{wrong}' column: please use '{right}' for {statement.kind.lower()}s."
            )
    if statement.kind == "TABLE" and statement.columns and not any(column.constraint for column in statement.columns):
        raise RefusedError("Tables require a PRIMARY KEY. Please define the PRIMARY KEY.")


def _inferred(topic: str, value_format: str, known: Iterable[StreamOrTable]) -> tuple[SourceColumn, ...]:
    """The value columns of a topic that the server writes itself, in upper case."""
    if value_format not in REGISTRY_FORMATS:
        raise RefusedError("No columns supplied, and the value format has no schema to infer them from.")
    writers = [source for source in known if source.topic == topic]
    if not writers:
        raise UnreadError(f"the schema of the topic {topic} is in a registry that this reading does not see: declare the columns")
    return tuple(SourceColumn(column.name.upper(), column.type) for column in writers[0].columns if not column.key)


def _is_windowed(properties: Mapping[str, object]) -> bool:
    kind = str(properties.get("WINDOW_TYPE", "")).upper()
    size = properties.get("WINDOW_SIZE")
    if kind not in ("", "TUMBLING", "HOPPING", "SESSION"):
        raise RefusedError(f"Invalid value {kind} for property WINDOW_TYPE: String must be one of: SESSION, HOPPING, TUMBLING")
    if (kind in ("TUMBLING", "HOPPING")) != (size is not None):
        raise RefusedError("WINDOW_SIZE is required for TUMBLING and HOPPING windows, and for them only")
    if size is not None:
        cursor = Cursor(str(size))
        cursor.duration()
        cursor.advance("end")
    return bool(kind)
