"""Entities as declared streams and tables: the columns that ksqlDB reads, and what their values mean.

A column may be stored in another form than the field has: a datetime as a number or text
(`DatetimeFormat`), a header as bytes. `stored_type` is the type of the column, `field_term` the field's value
made from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kandle.errors import QueryError
from kandle.ksql.statements import ColumnDefinition, Create
from kandle.ksql.terms import Term
from kandle.ksql.times import has_offset, java_pattern
from kandle.ksql.types import (
    BIGINT,
    BYTES,
    TIMESTAMP,
    VARCHAR,
    KsqlType,
    check_name,
    column_type,
    name_of_topic,
    quoted,
    text_literal,
)
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.markers import EPOCH_FORMATS
from kandle.model.types import FloatType, IntegerType, StringType, TimestampType, UuidType
from kandle.time.timeframe import MILLISECOND

TEXT_FORMATS = ("JSON", "DELIMITED")
"""Formats in which a datetime with a pattern is text, and one with an epoch format a number."""

KAFKA_TYPES = (StringType, UuidType, IntegerType, FloatType)
"""Types that the format KAFKA, a bare value, can hold."""

NAMED_FORMATS = ("AVRO", "PROTOBUF")
"""Formats whose schemas contain the names of columns. A key with one column is a bare value in them."""

NULL_IN_PROTOBUF = ("DECIMAL", "DATE", "TIMESTAMP")
"""Types whose NULL stays NULL in PROTOBUF; NULL of other types is read as 0 or as empty."""

_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def declaration(entity: EntityModel) -> Create:
    """Return the statement that declares the topic of an entity.

    Raises:
        QueryError: If ksqlDB cannot read the entity; the message names the field or format.
    """
    _check_formats(entity)
    check_names(entity)
    role = "KEY" if entity.kind == "stream" else "PRIMARY KEY"
    columns = (
        *(ColumnDefinition(field.name, stored_type(entity, field), role) for field in entity.keys),
        *(ColumnDefinition(field.name, stored_type(entity, field)) for field in entity.values),
        *(_header_column(field) for field in entity.headers),
    )
    properties = _topic_properties(entity) | _format_properties(entity) | _time_properties(entity)
    comment = f"{entity.name}: topic {entity.topic}{_time_zone_warning(properties)}"
    return Create(entity.kind, name_of_topic(entity.topic), columns, properties, comment=comment)


def _header_column(field: FieldModel) -> ColumnDefinition:
    return ColumnDefinition(field.name, BYTES, f"HEADER({text_literal(field.header or '')})")


def _topic_properties(entity: EntityModel) -> dict[str, str | int]:
    """Return how ksqlDB creates the topic if it does not exist."""
    properties: dict[str, str | int] = {"KAFKA_TOPIC": entity.topic, "PARTITIONS": entity.partitions}
    if entity.replication is not None:
        properties["REPLICAS"] = entity.replication
    if entity.retention is not None and entity.kind == "stream":
        properties["RETENTION_MS"] = entity.retention // MILLISECOND
    return properties


def _format_properties(entity: EntityModel) -> dict[str, str | int]:
    key: dict[str, str | int] = {"KEY_FORMAT": entity.key_format} if entity.keys else {}
    return key | {"VALUE_FORMAT": entity.value_format}


def _time_properties(entity: EntityModel) -> dict[str, str | int]:
    stamp = entity.timestamp
    if stamp is None or not is_record_time(entity, stamp):
        return {}
    properties: dict[str, str | int] = {"TIMESTAMP": quoted(stamp.name)}
    if stored_type(entity, stamp) == VARCHAR:
        properties["TIMESTAMP_FORMAT"] = java_pattern(stamp.datetime_format or "")
    return properties


def _time_zone_warning(properties: Mapping[str, str | int]) -> str:
    """Return a warning about times that are text without an offset: ksqlDB does not read them as UTC."""
    pattern = properties.get("TIMESTAMP_FORMAT")
    if pattern is None or has_offset(str(pattern)):
        return ""
    return ", whose times ksqlDB reads in the time zone of its server, which must be UTC"


def is_record_time(entity: EntityModel, field: FieldModel) -> bool:
    """Return whether ksqlDB can use the field as the time of the records."""
    return field.is_timestamp and stored_type(entity, field) in (TIMESTAMP, VARCHAR)


def stored_type(entity: EntityModel, field: FieldModel) -> KsqlType:
    """Return the type of a field's column in the topic."""
    if field.header is not None:
        return BYTES
    if isinstance(field.type, TimestampType):
        if _to_milliseconds(entity, field) is not None:
            return BIGINT
        if field.datetime_format is not None and "%" in field.datetime_format and _is_text(entity, field):
            return VARCHAR
    return column_type(field.type)


def _is_text(entity: EntityModel, field: FieldModel) -> bool:
    return (entity.value_format if field.key_order is None else entity.key_format) in TEXT_FORMATS


def _to_milliseconds(entity: EntityModel, field: FieldModel) -> str | None:
    """Return the KSQL that turns a stored number into milliseconds; None if ksqlDB reads an instant."""
    pattern = field.datetime_format
    if pattern not in EPOCH_FORMATS or pattern == "epoch_ms":
        return None
    if _is_text(entity, field):
        return {"epoch_s": " * 1000", "epoch_us": " / 1000", "epoch_ns": " / 1000000"}[pattern]
    # In Avro kandle writes timestamp-micros for formats finer than milliseconds, else timestamp-millis.
    return None if pattern == "epoch_s" else " / 1000"


def field_term(entity: EntityModel, field: FieldModel, column: str) -> Term:
    """Return the value of a field.

    Args:
        entity: The entity whose topic is read.
        field: One of its fields.
        column: KSQL text that refers to the field's column.
    """
    if field.header is not None:
        return Term(f"FROM_BYTES({column}, 'utf8')", VARCHAR, nullable=True)
    stored = stored_type(entity, field)
    if not isinstance(field.type, TimestampType) or stored == TIMESTAMP:
        return Term(column, stored, field.nullable)
    if stored == VARCHAR:
        value = f"PARSE_TIMESTAMP({column}, {text_literal(java_pattern(field.datetime_format or ''))})"
    else:
        value = f"FROM_UNIXTIME({column}{_to_milliseconds(entity, field)})"
    text = f"CASE WHEN {column} IS NOT NULL THEN {value} END" if field.nullable else value
    return Term(text, TIMESTAMP, field.nullable)


def is_stored_as_is(entity: EntityModel, name: str) -> bool:
    """Return whether a field's column has the field's own value."""
    return field_term(entity, entity.field(name), quoted(name)).text == quoted(name)


def check_written(entity: EntityModel) -> None:
    """Check that ksqlDB can write the records of an entity.

    Raises:
        QueryError: If the entity has a header field.
    """
    for field in entity.headers:
        raise QueryError(
            f"{entity.name}.{field.name} is a header, and ksqlDB writes no headers; remove Header from the fields of what a "
            "query makes"
        )


def check_names(entity: EntityModel) -> None:
    """Check that ksqlDB does not reserve a field's name, and that it can tell the fields apart.

    Raises:
        QueryError: If a name is reserved, or two names differ in case only: ksqlDB finds the fields of
            records in any case.
    """
    names: dict[str, str] = {}
    for field in entity.fields:
        check_name(field.name, f"{entity.name}: ")
        other = names.setdefault(field.name.upper(), field.name)
        if other != field.name:
            raise QueryError(
                f"{entity.name}: the names of the fields {other} and {field.name} differ in case only, and ksqlDB finds the "
                "fields of records in any case; rename one of them"
            )


def _check_formats(entity: EntityModel) -> None:
    if entity.kind == "table" and not entity.keys:
        raise QueryError(
            f"{entity.name} is a table without a key, which ksqlDB cannot have; mark its key fields with Key(0), Key(1), .."
        )
    sides = (("key", entity.key_format, entity.keys), ("value", entity.value_format, entity.values))
    for side, format_name, fields in sides:
        if format_name == "KAFKA" and fields:
            _check_bare_value(entity, side, fields)
        for field in fields if side == "value" or len(fields) > 1 else ():
            check_column(entity, Term(field.name, column_type(field.type), field.nullable), side, format_name)


def check_column(entity: EntityModel, column: Term, side: str, format_name: str) -> None:
    """Check that a format can hold a column.

    Args:
        entity: The entity whose records have the column.
        column: The column; the term's text is its name.
        side: `"key"` or `"value"`.
        format_name: The format of that side.

    Raises:
        QueryError: If it cannot.
    """
    if format_name in NAMED_FORMATS and not _SCHEMA_NAME.fullmatch(column.text):
        raise QueryError(
            f"{entity.name}: {side}_format = {format_name!r} allows names of ASCII letters, digits and _ only, unlike "
            f"{column.text}; rename the field or choose JSON"
        )
    check_type(entity, column, side, format_name)


def check_type(entity: EntityModel, value: Term, side: str, format_name: str) -> None:
    """Check that a format can hold values of a type.

    Args:
        entity: The entity whose records have the values.
        value: The value; the term's text is what the error message calls it.
        side: `"key"` or `"value"`.
        format_name: The format of that side.

    Raises:
        QueryError: If it cannot.
    """
    if format_name == "DELIMITED" and value.type.elements:
        raise QueryError(
            f"{entity.name}: {side}_format = 'DELIMITED' has no lists and maps, but {value.text} is {value.type}; "
            "choose AVRO or JSON"
        )
    if format_name == "PROTOBUF" and value.nullable and value.type.name not in NULL_IN_PROTOBUF:
        raise QueryError(
            f"{entity.name}: {side}_format = 'PROTOBUF' has no NULL for {value.type}, which is read back as 0 or empty, but "
            f"{value.text} may be NULL; choose AVRO or JSON, or a field that is not Optional"
        )


def _check_bare_value(entity: EntityModel, side: str, fields: tuple[FieldModel, ...]) -> None:
    names = ", ".join(field.name for field in fields)
    if len(fields) > 1:
        raise QueryError(
            f"{entity.name}: {side}_format = 'KAFKA' holds one column, but there are {len(fields)} ({names}); choose AVRO or JSON"
        )
    if not isinstance(fields[0].type, KAFKA_TYPES):
        raise QueryError(
            f"{entity.name}: {side}_format = 'KAFKA' holds a str, UUID, int or float, but {names} is {fields[0].type}; "
            "choose AVRO or JSON"
        )
