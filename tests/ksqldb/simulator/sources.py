"""Streams and tables as the server knows them, and the rules that hold for every one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.ksqldb.simulator.cursor import Cursor
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.expressions import PSEUDO_COLUMNS
from tests.ksqldb.simulator.types import Type

FORMATS = frozenset(("AVRO", "JSON", "JSON_SR", "DELIMITED", "PROTOBUF", "PROTOBUF_NOSR", "KAFKA", "NONE"))
REGISTRY_FORMATS = frozenset(("AVRO", "JSON_SR", "PROTOBUF"))
UNFIT_TYPES = {
    "KAFKA": frozenset(("BOOLEAN", "DECIMAL", "DATE", "TIME", "TIMESTAMP", "ARRAY", "MAP", "STRUCT")),
    "DELIMITED": frozenset(("ARRAY", "MAP", "STRUCT")),
}
PROPERTIES = frozenset(
    (
        *("KAFKA_TOPIC", "PARTITIONS", "REPLICAS", "RETENTION_MS", "CLEANUP_POLICY", "FORMAT", "KEY_FORMAT", "VALUE_FORMAT"),
        *("TIMESTAMP", "TIMESTAMP_FORMAT", "WINDOW_TYPE", "WINDOW_SIZE", "WRAP_SINGLE_VALUE", "KEY_DELIMITER", "VALUE_DELIMITER"),
        *("KEY_SCHEMA_ID", "VALUE_SCHEMA_ID", "KEY_SCHEMA_FULL_NAME", "VALUE_SCHEMA_FULL_NAME", "VALUE_AVRO_SCHEMA_FULL_NAME"),
    )
)


@dataclass(frozen=True, slots=True)
class SourceColumn:
    name: str
    type: Type
    key: bool = False


@dataclass(slots=True)
class StreamOrTable:
    """A source; `readers` are sources that queries make of it, `inserts` counts the INSERT queries that write into it."""

    kind: str
    name: str
    columns: tuple[SourceColumn, ...]
    topic: str
    key_format: str
    value_format: str
    windowed: bool = False
    timestamp: str | None = None
    timestamp_format: str | None = None
    read_only: bool = False
    queried: bool = False
    headers: frozenset[str] = frozenset()
    readers: list[str] = field(default_factory=list)
    inserts: int = 0

    @property
    def keys(self) -> tuple[SourceColumn, ...]:
        return tuple(column for column in self.columns if column.key)

    @property
    def types(self) -> dict[str, Type]:
        return {column.name: column.type for column in self.columns}


def check_source_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise RefusedError(
            f"Illegal argument at Source name '{name}'. Source names may only contain alphanumeric values, '_' or '-'."
        )


def check_properties(properties: Mapping[str, object]) -> None:
    unknown = sorted(set(properties) - PROPERTIES)
    if unknown:
        raise RefusedError(f"Invalid config variable(s) in the WITH clause: {', '.join(unknown)}")
    both = {"KEY_FORMAT", "VALUE_FORMAT"} & set(properties)
    if "FORMAT" in properties and both:
        raise RefusedError(
            f"Cannot supply both '{min(both)}' and 'FORMAT' properties, as 'FORMAT' sets both key and value formats."
        )
    for name in ("FORMAT", "KEY_FORMAT", "VALUE_FORMAT"):
        if name in properties and str(properties[name]).upper() not in FORMATS:
            raise RefusedError(f"Unknown format: {properties[name]}")


def format_of(properties: Mapping[str, object], part: str) -> str | None:
    """The format of "KEY" or "VALUE" that a WITH clause sets."""
    value = properties.get(f"{part}_FORMAT", properties.get("FORMAT"))
    return None if value is None else str(value).upper()


def check_columns(source: StreamOrTable) -> None:
    """Names, formats and the timestamp column fit together."""
    _check_names(column.name for column in source.columns)
    keys = source.keys
    values = [column for column in source.columns if not column.key and column.name not in source.headers]
    if not values:
        raise RefusedError("The projection contains no value columns.")
    _check_format("Key", source.key_format, keys)
    _check_format("Value", source.value_format, values)
    if source.key_format == "AVRO" and len(keys) > 1:
        _check_avro_name("".join(word.capitalize() for word in source.name.split("_")) + "Key")
    if source.timestamp is not None:
        _check_timestamp(source)


def _check_names(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in PSEUDO_COLUMNS:
            raise RefusedError(f"Reserved column name in select or declaration: `{name}`. Please remove or alias the column.")
        if name in seen:
            raise RefusedError(f"Duplicate columns found in schema: `{name}`")
        seen.add(name)


def _check_format(part: str, name: str, columns: Iterable[SourceColumn]) -> None:
    listed = list(columns)
    if (name == "KAFKA" and len(listed) > 1) or (name == "NONE" and listed):
        single = "only supports a single field" if name == "KAFKA" else "can only be used when no columns are defined"
        raise RefusedError(f"{part} format does not support schema. format: {name} reason: The '{name}' format {single}.")
    for column in listed:
        if column.type.name in UNFIT_TYPES.get(name, ()):
            raise RefusedError(
                f"{part} format does not support schema. reason: The '{name}' format does not support type '{column.type}'"
            )


def _check_avro_name(name: str) -> None:
    """Of the record of a key, which is called after its stream or table."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        part = "initial character" if re.match(r"[A-Za-z_]", name) is None else "character in"
        raise RefusedError(f"Schema is not compatible with Avro: Illegal {part}: {name}")


def column_named(text: str) -> str:
    """The column that a property names: in backticks as it stands, else in upper case."""
    cursor = Cursor(text)
    name = cursor.identifier()
    cursor.advance("end")
    return name


def _check_timestamp(source: StreamOrTable) -> None:
    kind = source.types.get(str(source.timestamp))
    if kind is None:
        raise RefusedError(f"The TIMESTAMP column set in the WITH clause does not exist in the schema: '{source.timestamp}'")
    if kind.name == "VARCHAR" and source.timestamp_format is None:
        raise RefusedError("A String timestamp field has been specified without also specifying the timestamp_format")
    if kind.name not in ("TIMESTAMP", "BIGINT", "VARCHAR"):
        raise RefusedError(
            f"Timestamp column, '{source.timestamp}', should be LONG(INT64), TIMESTAMP, or a String with a timestamp_format"
        )
