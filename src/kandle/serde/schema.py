"""Avro schemas: those of a topic's records, made from its fields, and those of other programs, as types that can be read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from kandle.errors import SchemaError
from kandle.model.entity import MISSING
from kandle.model.parsing import scaled
from kandle.model.types import EPOCH_ORDINAL, BytesType, DataType, DateType, DecimalType, TimestampType, UuidType
from kandle.serde.port import RecordField
from kandle.time.timeframe import to_instant

Side = Literal["key", "value"]


class Shape(Enum):
    """How a record of one field is written: as a record, or as its bare value, which ksqlDB expects of keys of one column."""

    RECORD = "record"
    BARE = "bare"


def record_name(topic: str, side: Side) -> str:
    """Return the name of a topic's records, which Avro takes: `bars-1m` and `key` become `bars_1m_key`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", f"{topic}-{side}")
    return name if not name[0].isdigit() else f"_{name}"


def avro_schema(fields: Sequence[RecordField], topic: str, side: Side, namespace: str | None = None) -> str:
    """Return the schema of a topic's key or value record.

    Args:
        fields: The fields of the record.
        topic: The topic.
        side: Whether the record is a key or a value.
        namespace: The namespace of the record's name.

    Returns:
        The schema as JSON.

    Raises:
        SchemaError: A name or a default cannot stand in a schema of Avro; names topic and field.
    """
    record: dict[str, Any] = {"type": "record", "name": record_name(topic, side)}
    if namespace is not None:
        record["namespace"] = _checked_namespace(namespace)
    record["fields"] = [_avro_field(field, topic) for field in fields]
    return json.dumps(record, separators=(",", ":"))


def bare_schema(field: RecordField) -> str:
    """Return the schema of a field that stands for itself, without a record around it, as JSON."""
    kind = avro_type(field)
    return json.dumps(["null", kind] if field.nullable else kind, separators=(",", ":"))


def _checked_namespace(namespace: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", namespace):
        raise SchemaError(f"{namespace!r} is not an Avro namespace: names of letters, digits and '_', joined by '.'")
    return namespace


def _avro_field(field: RecordField, topic: str) -> dict[str, Any]:
    for name in (field.name, *field.aliases):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise SchemaError(f"topic {topic}, field {field.name}: {name!r} is not an Avro name (ASCII letters, digits and '_')")
    kind = avro_type(field)
    content: dict[str, Any] = {"name": field.name, "type": kind}
    has_default = field.default is not MISSING and field.default is not None
    if field.nullable:
        # The default must be of the first branch.
        content["type"] = [kind, "null"] if has_default else ["null", kind]
        content["default"] = None
    if has_default:
        content["default"] = _avro_default(field, topic)
    if field.aliases:
        content["aliases"] = list(field.aliases)
    return content


def null_branch(field: RecordField) -> int:
    """Return the number of the branch that is null in a nullable field's union."""
    return 0 if field.default is MISSING or field.default is None else 1


def avro_type(field: RecordField) -> Any:
    """Return the Avro type of a field's values, as JSON content."""
    kind = field.type
    return kind.avro_micros if isinstance(kind, TimestampType) and field.is_fine else kind.avro


def _avro_default(field: RecordField, topic: str) -> Any:
    try:
        return _DEFAULTS.get(type(field.type), _plain_default)(field)
    except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
        raise SchemaError(f"topic {topic}, field {field.name}: the default {field.default!r} is no {field.words}") from error


def _plain_default(field: RecordField) -> Any:
    if isinstance(field.default, float) and not math.isfinite(field.default):
        raise ValueError("JSON has no such number")
    return field.default


def _instant_default(field: RecordField) -> int:
    instant = to_instant(field.default)
    if field.is_fine:
        return instant
    if instant % 1000 and not field.is_cut:
        raise ValueError("microseconds would be lost")
    return instant // 1000


def decimal_bytes(value: int) -> bytes:
    """Return two's complement, big endian, as short as it can be: what Java's `BigInteger.toByteArray` gives."""
    return value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)


def _decimal_default(field: RecordField) -> str:
    assert isinstance(field.type, DecimalType)
    value = scaled(field.default, field.type.scale)
    least, greatest = field.type.bounds
    if not least <= value <= greatest:
        raise ValueError("it has too many digits")
    return decimal_bytes(value).decode("latin-1")


_DEFAULTS: dict[type[DataType], Callable[[RecordField], Any]] = {
    DecimalType: _decimal_default,
    TimestampType: _instant_default,
    DateType: lambda field: field.default.toordinal() - EPOCH_ORDINAL,
    UuidType: lambda field: str(field.default),
    BytesType: lambda field: field.default.decode("latin-1"),
}


def canonical(schema: str) -> str:
    """Return the same text for schemas that differ only in spaces, the order of attributes and documentation."""
    return json.dumps(_undocumented(json.loads(schema)), separators=(",", ":"), sort_keys=True)


def _undocumented(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: value if name == "default" else _undocumented(value) for name, value in content.items() if name != "doc"}
    return [_undocumented(value) for value in content] if isinstance(content, list) else content


def fingerprint(schema: str) -> str:
    """Return 32 hexadecimal digits that tell schemas apart; logical types, defaults and aliases count."""
    return hashlib.sha256(canonical(schema).encode()).hexdigest()[:32]


PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
NAMED = ("record", "error", "enum", "fixed")


@dataclass(frozen=True, slots=True)
class AvroType:
    """One type of Avro.

    Args:
        kind: Its word in schemas, such as `long` or `union`; the other arguments are for kinds that have them.
        logical: The logical type.
        precision: Digits of a decimal.
        scale: Digits of a decimal behind the point.
        name: The name of a record, enum or fixed, with its namespace.
        aliases: Other names of it.
        size: Bytes of a fixed.
        symbols: Symbols of an enum.
        symbol_default: The symbol that stands for unknown ones.
        parts: The branches of a union, the items of an array or the values of a map.
        fields: The fields of a record.
    """

    kind: str
    logical: str | None = None
    precision: int = 0
    scale: int = 0
    name: str = ""
    aliases: tuple[str, ...] = ()
    size: int = 0
    symbols: tuple[str, ...] = ()
    symbol_default: str | None = None
    parts: tuple[AvroType, ...] = ()
    fields: tuple[AvroField, ...] = ()

    def __str__(self) -> str:
        if self.logical == "decimal":
            return f"{self.kind}/decimal({self.precision}, {self.scale})"
        if self.kind == "union":
            return f"union of {', '.join(map(str, self.parts))}"
        if self.kind in ("array", "map"):
            return f"{self.kind} of {self.parts[0]}"
        if self.kind in NAMED:
            return f"{self.kind} {self.name}"
        return f"{self.kind}/{self.logical}" if self.logical else self.kind


@dataclass(frozen=True, slots=True)
class AvroField:
    """A field of a record."""

    name: str
    type: AvroType
    aliases: tuple[str, ...] = ()
    has_default: bool = False


def parse_schema(text: str) -> AvroType:
    """Return the type that a schema describes.

    Args:
        text: The schema as JSON.

    Raises:
        SchemaError: It is not an Avro schema, or one of a type that contains itself.
    """
    try:
        return _Parser().type(json.loads(text), "")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise SchemaError(f"not an Avro schema: {error} ({text[:100]})") from error


class _Parser:
    def __init__(self) -> None:
        self._named: dict[str, AvroType | None] = {}

    def type(self, content: Any, namespace: str) -> AvroType:
        if isinstance(content, str):
            return AvroType(content) if content in PRIMITIVES else self._reference(content, namespace)
        if isinstance(content, list):
            return AvroType("union", parts=tuple(self.type(value, namespace) for value in content))
        kind = content["type"]
        if kind in NAMED:
            return self._define(kind, content, namespace)
        if kind in ("array", "map"):
            return AvroType(kind, parts=(self.type(content["items" if kind == "array" else "values"], namespace),))
        if not isinstance(kind, str) or kind not in PRIMITIVES:
            return self.type(kind, namespace)
        return _logical(AvroType(kind), content)

    def _reference(self, name: str, namespace: str) -> AvroType:
        full = _full(name, namespace)
        full = full if full in self._named else name
        if full not in self._named:
            raise ValueError(f"there is no type {name!r}")
        field = self._named[full]
        if field is None:
            raise ValueError(f"{name!r} contains itself, which kandle does not read")
        return field

    def _define(self, kind: str, content: dict[str, Any], namespace: str) -> AvroType:
        name = _full(content["name"], content.get("namespace", namespace))
        inner = name.rpartition(".")[0]
        self._named[name] = None
        aliases = tuple(_full(alias, inner) for alias in content.get("aliases", ()))
        if kind == "enum":
            field = AvroType("enum", name=name, symbols=tuple(content["symbols"]), symbol_default=content.get("default"))
        elif kind == "fixed":
            field = _logical(AvroType("fixed", name=name, size=int(content["size"])), content)
        else:
            fields = tuple(self._field(value, inner) for value in content["fields"])
            field = AvroType("record", name=name, aliases=aliases, fields=fields)
        self._named[name] = field
        return field

    def _field(self, content: dict[str, Any], namespace: str) -> AvroField:
        kind = self.type(content["type"], namespace)
        return AvroField(content["name"], kind, tuple(content.get("aliases", ())), "default" in content)


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


_LOGICAL = {
    "decimal": ("bytes", "fixed"),
    "uuid": ("string", "fixed"),
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    "timestamp-millis": ("long",),
    "timestamp-micros": ("long",),
    "timestamp-nanos": ("long",),
    "local-timestamp-millis": ("long",),
    "local-timestamp-micros": ("long",),
    "local-timestamp-nanos": ("long",),
}


def _logical(plain: AvroType, content: dict[str, Any]) -> AvroType:
    """Return a type with its logical type; one that is unknown or does not go with the type is ignored, as Avro says."""
    logical = content.get("logicalType")
    if logical not in _LOGICAL or plain.kind not in _LOGICAL[logical]:
        return plain
    precision, scale = content.get("precision", 0), content.get("scale", 0)
    if logical == "decimal" and not (isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision > 0):
        return plain
    return AvroType(plain.kind, logical, precision, scale, plain.name, plain.aliases, plain.size)
