"""Entities as declared streams and tables: the columns that ksqlDB reads of a topic, and what each means."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kandle.errors import QueryError
from kandle.ksql.statements import ColumnDefinition, Create
from kandle.ksql.terms import Term
from kandle.ksql.times import has_offset, java_pattern
from kandle.ksql.types import BIGINT, BYTES, TIMESTAMP, VARCHAR, KsqlType, check_name, column_type, quoted, text
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.markers import EPOCH_FORMATS
from kandle.model.types import FloatType, IntegerType, StringType, TimestampType, UuidType
from kandle.time.timeframe import MILLISECOND

TEXT_FORMATS = ("JSON", "DELIMITED")
"""Formats in which a datetime of a pattern is text, and one of an epoch format its plain number."""

KAFKA_TYPES = (StringType, UuidType, IntegerType, FloatType)

NAMED_FORMATS = ("AVRO", "PROTOBUF")
"""Formats whose schemas have the names of columns; a key of one column is a bare value there."""

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHER_SIGNS = re.compile(r"[^A-Za-z0-9_]")
_BEGINS_WITH_LETTER = re.compile(r"_*[A-Za-z]")

NULL_IN_PROTOBUF = ("DECIMAL", "DATE", "TIMESTAMP")
"""Types whose NULL stays NULL in PROTOBUF; with others it comes back as 0, an empty text or an empty map."""


def name_of(topic: str) -> str:
    """The stream's or table's name for a topic, made of letters, digits and _, with a letter before the first digit.

    ksqlDB's names have no dots, and it calls the Avro schema of a key of several columns after the stream or table.
    """
    name = _OTHER_SIGNS.sub("_", topic)
    return name if _BEGINS_WITH_LETTER.match(name) else f"t_{name}"


def declared(entity: EntityModel) -> Create:
    """The statement that declares the topic of an entity."""
    _check_formats(entity)
    check_names(entity)
    role = "KEY" if entity.kind == "stream" else "PRIMARY KEY"
    keys = [ColumnDefinition(found.name, stored_type(entity, found), role) for found in entity.keys]
    values = [ColumnDefinition(found.name, stored_type(entity, found)) for found in entity.values]
    headers = [ColumnDefinition(found.name, BYTES, f"HEADER({text(found.header or '')})") for found in entity.headers]
    properties = topic_properties(entity) | formats(entity) | _time(entity)
    columns = (*keys, *values, *headers)
    comment = f"{entity.name}: topic {entity.topic}{_local_time(properties)}"
    return Create(entity.kind, name_of(entity.topic), columns, properties, comment=comment)


def topic_properties(entity: EntityModel) -> dict[str, str | int]:
    """How the topic is made where it is not there."""
    found: dict[str, str | int] = {"KAFKA_TOPIC": entity.topic, "PARTITIONS": entity.partitions}
    if entity.replication > 1:
        found["REPLICAS"] = entity.replication
    if entity.retention is not None and entity.kind == "stream":
        found["RETENTION_MS"] = entity.retention // MILLISECOND
    return found


def formats(entity: EntityModel) -> dict[str, str | int]:
    """The formats of its records; without key columns there is none of keys."""
    key: dict[str, str | int] = {"KEY_FORMAT": entity.key_format} if entity.keys else {}
    return key | {"VALUE_FORMAT": entity.value_format}


def _time(entity: EntityModel) -> dict[str, str | int]:
    stamp = entity.timestamp
    if stamp is None or not is_event_time(entity, stamp):
        return {}
    found: dict[str, str | int] = {"TIMESTAMP": quoted(stamp.name)}
    if stored_type(entity, stamp) == VARCHAR:
        found["TIMESTAMP_FORMAT"] = java_pattern(stamp.datetime_format or "")
    return found


def _local_time(properties: Mapping[str, str | int]) -> str:
    """What must be known of times as text: by themselves they are not of UTC."""
    pattern = properties.get("TIMESTAMP_FORMAT")
    if pattern is None or has_offset(str(pattern)):
        return ""
    return ", whose times ksqlDB takes for local ones of its computer: that must have the time zone UTC"


def is_event_time(entity: EntityModel, found: FieldModel) -> bool:
    """Whether ksqlDB takes the field as the time of the records."""
    return found.is_timestamp and stored_type(entity, found) in (TIMESTAMP, VARCHAR)


def _format_of(entity: EntityModel, found: FieldModel) -> str:
    return entity.value_format if found.key_order is None else entity.key_format


def _is_text(entity: EntityModel, found: FieldModel) -> bool:
    return _format_of(entity, found) in TEXT_FORMATS


def _is_pattern(pattern: str | None) -> bool:
    return pattern is not None and "%" in pattern


def _to_milliseconds(entity: EntityModel, found: FieldModel) -> str | None:
    """What turns the number that stands for an instant into milliseconds; None where ksqlDB reads the instant itself."""
    pattern = found.datetime_format
    if pattern not in EPOCH_FORMATS or pattern == "epoch_ms":
        return None
    if _is_text(entity, found):
        return {"epoch_s": " * 1000", "epoch_us": " / 1000", "epoch_ns": " / 1000000"}[pattern]
    # In Avro kandle writes timestamp-micros for what is finer than milliseconds, else timestamp-millis.
    return None if pattern == "epoch_s" else " / 1000"


def stored_type(entity: EntityModel, found: FieldModel) -> KsqlType:
    """The type of the column as it stands in the topic."""
    if found.header is not None:
        return BYTES
    if isinstance(found.type, TimestampType):
        if _to_milliseconds(entity, found) is not None:
            return BIGINT
        if _is_pattern(found.datetime_format) and _is_text(entity, found):
            return VARCHAR
    return column_type(found.type)


def meaning(entity: EntityModel, found: FieldModel, column: str) -> Term:
    """The value of a field whose column is referred to by this text."""
    if found.header is not None:
        return Term(f"FROM_BYTES({column}, 'utf8')", VARCHAR, nullable=True)
    stored = stored_type(entity, found)
    if not isinstance(found.type, TimestampType) or stored == TIMESTAMP:
        return Term(column, stored, found.nullable)
    if stored == VARCHAR:
        value = f"PARSE_TIMESTAMP({column}, {text(java_pattern(found.datetime_format or ''))})"
    else:
        value = f"FROM_UNIXTIME({column}{_to_milliseconds(entity, found)})"
    return Term(f"CASE WHEN {column} IS NOT NULL THEN {value} END" if found.nullable else value, TIMESTAMP, found.nullable)


def check_written(entity: EntityModel) -> None:
    """QueryError for an entity whose records ksqlDB cannot write."""
    for found in entity.headers:
        raise QueryError(f"{entity.name}.{found.name} is a header, and ksqlDB writes none; leave Header out in what queries make")


def check_names(entity: EntityModel) -> None:
    """QueryError for names that ksqlDB has itself, or does not tell apart: it finds fields of records by names in any case."""
    found: dict[str, str] = {}
    for each in entity.fields:
        check_name(each.name, f"{entity.name}: ")
        if found.setdefault(each.name.upper(), each.name) != each.name:
            raise QueryError(
                f"{entity.name}: the fields {found[each.name.upper()]} and {each.name} differ in the case of letters only, "
                "which ksqlDB does not tell apart in records; rename one"
            )


def _check_formats(entity: EntityModel) -> None:
    if entity.kind == "table" and not entity.keys:
        raise QueryError(
            f"{entity.name} is a table without a key, which ksqlDB cannot have; mark its key fields Key(0), Key(1) .."
        )
    for side, name, found in (("key", entity.key_format, entity.keys), ("value", entity.value_format, entity.values)):
        if name == "KAFKA" and found:
            _check_kafka(entity, side, found)
        for each in found if side == "value" or len(found) > 1 else ():
            check_column(entity, Term(each.name, column_type(each.type), each.nullable), side, name)


def check_column(entity: EntityModel, column: Term, side: str, name: str) -> None:
    """QueryError for a column that the format of keys or values cannot hold; the term's text is its name."""
    if name in NAMED_FORMATS and not _PLAIN_NAME.fullmatch(column.text):
        raise QueryError(
            f"{entity.name}: {side}_format = {name!r} has names of ASCII letters, digits and _ only, unlike {column.text}; "
            "rename the field or choose JSON"
        )
    if name == "DELIMITED" and column.type.elements:
        raise QueryError(
            f"{entity.name}: {side}_format = 'DELIMITED' has no lists and maps, but {column.text} is {column.type}; "
            "choose AVRO or JSON"
        )
    if name == "PROTOBUF" and column.nullable and column.type.name not in NULL_IN_PROTOBUF:
        raise QueryError(
            f"{entity.name}: {side}_format = 'PROTOBUF' has no NULL for {column.type}, which comes back as 0 or empty, but "
            f"{column.text} may be NULL; choose AVRO or JSON, or a field that is not Optional"
        )


def _check_kafka(entity: EntityModel, side: str, found: tuple[FieldModel, ...]) -> None:
    names = ", ".join(each.name for each in found)
    if len(found) > 1:
        raise QueryError(
            f"{entity.name}: {side}_format = 'KAFKA' holds one column, but there are {len(found)} ({names}); choose AVRO or JSON"
        )
    if not isinstance(found[0].type, KAFKA_TYPES):
        raise QueryError(
            f"{entity.name}: {side}_format = 'KAFKA' holds a str, UUID, int or float, but {names} is {found[0].type}; "
            "choose AVRO or JSON"
        )
