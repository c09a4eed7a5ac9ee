"""Avro schemas of a topic's records, made from its fields: what ksqlDB, Java and other clients of the topic read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from enum import Enum
from typing import Any, Literal

from kandle.errors import SchemaError
from kandle.model.entity import MISSING
from kandle.model.types import (
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.serde.fields import RecordField, scaled
from kandle.time.timeframe import to_instant

Side = Literal["key", "value"]

EPOCH_DAY = date(1970, 1, 1)


class Shape(Enum):
    """How a record of one field is written: as a record, or as its bare value, which ksqlDB expects of keys of one column."""

    RECORD = "record"
    BARE = "bare"


def record_name(topic: str, side: Side) -> str:
    """`bars-1m` and `key` become `bars_1m_key`, a name that Avro takes."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", f"{topic}-{side}")
    return name if not name[0].isdigit() else f"_{name}"


def avro_schema(fields: Sequence[RecordField], topic: str, side: Side, namespace: str | None = None) -> str:
    """The schema of a topic's key or value record as JSON."""
    record: dict[str, Any] = {"type": "record", "name": record_name(topic, side)}
    if namespace is not None:
        record["namespace"] = _checked_namespace(namespace)
    record["fields"] = [_avro_field(each, topic) for each in fields]
    return json.dumps(record, separators=(",", ":"))


def bare_schema(found: RecordField) -> str:
    """The schema of a field that stands for itself, without a record around it."""
    kind = avro_type(found)
    return json.dumps(["null", kind] if found.nullable else kind, separators=(",", ":"))


def _checked_namespace(namespace: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", namespace):
        raise SchemaError(f"{namespace!r} is not an Avro namespace: names of letters, digits and '_', joined by '.'")
    return namespace


def _avro_field(found: RecordField, topic: str) -> dict[str, Any]:
    for name in (found.name, *found.aliases):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise SchemaError(f"topic {topic}, field {found.name}: {name!r} is not an Avro name (ASCII letters, digits and '_')")
    kind = avro_type(found)
    content: dict[str, Any] = {"name": found.name, "type": kind}
    has_default = found.default is not MISSING and found.default is not None
    if found.nullable:
        # The default must be of the first branch.
        content["type"] = [kind, "null"] if has_default else ["null", kind]
        content["default"] = None
    if has_default:
        content["default"] = _avro_default(found, topic)
    if found.aliases:
        content["aliases"] = list(found.aliases)
    return content


def null_branch(found: RecordField) -> int:
    """Which branch of a nullable field's union is null."""
    return 0 if found.default is MISSING or found.default is None else 1


def avro_type(found: RecordField) -> Any:
    """The Avro type of a field's values."""
    kind = found.type
    if isinstance(kind, DecimalType):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if isinstance(kind, TimestampType):
        return {"type": "long", "logicalType": "timestamp-micros" if found.is_fine else "timestamp-millis"}
    return _AVRO[type(kind)]


_AVRO: dict[type[DataType], Any] = {
    BooleanType: "boolean",
    IntegerType: "long",
    FloatType: "double",
    StringType: "string",
    UuidType: "string",
    BytesType: "bytes",
    DateType: {"type": "int", "logicalType": "date"},
    StringMapType: {"type": "map", "values": "string"},
}


def _avro_default(found: RecordField, topic: str) -> Any:
    try:
        return _DEFAULTS.get(type(found.type), _plain_default)(found)
    except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
        raise SchemaError(f"topic {topic}, field {found.name}: the default {found.default!r} is no {found.words}") from error


def _plain_default(found: RecordField) -> Any:
    if isinstance(found.default, float) and not math.isfinite(found.default):
        raise ValueError("JSON has no such number")
    return found.default


def _instant_default(found: RecordField) -> int:
    instant = to_instant(found.default)
    if found.is_fine:
        return instant
    if instant % 1000:
        raise ValueError("microseconds would be lost")
    return instant // 1000


def decimal_bytes(value: int) -> bytes:
    """Two's complement, big endian, as short as it can be: what Java's `BigInteger.toByteArray` gives."""
    return value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)


def _decimal_default(found: RecordField) -> str:
    assert isinstance(found.type, DecimalType)
    value = scaled(found.default, found.type.scale)
    if abs(value) >= 10**found.type.precision:
        raise ValueError("it has too many digits")
    return decimal_bytes(value).decode("latin-1")


_DEFAULTS: dict[type[DataType], Callable[[RecordField], Any]] = {
    DecimalType: _decimal_default,
    TimestampType: _instant_default,
    DateType: lambda found: (found.default - EPOCH_DAY).days,
    UuidType: lambda found: str(found.default),
    BytesType: lambda found: found.default.decode("latin-1"),
}


def canonical(schema: str) -> str:
    """The same text for schemas that differ only in spaces, the order of attributes and documentation."""
    return json.dumps(_undocumented(json.loads(schema)), separators=(",", ":"), sort_keys=True)


def _undocumented(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: each if name == "default" else _undocumented(each) for name, each in content.items() if name != "doc"}
    return [_undocumented(each) for each in content] if isinstance(content, list) else content


def fingerprint(schema: str) -> str:
    """32 hexadecimal digits of the canonical text; logical types, defaults and aliases count."""
    return hashlib.sha256(canonical(schema).encode()).hexdigest()[:32]
