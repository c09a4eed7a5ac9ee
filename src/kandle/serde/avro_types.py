"""Avro schemas as trees: what a writer's schema says, with its names resolved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kandle.errors import SchemaError

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
NAMED = ("record", "error", "enum", "fixed")


@dataclass(frozen=True, slots=True)
class AvroType:
    """One type: `kind` is its Avro word. Other attributes are there where the kind has them.

    `parts` are the branches of a union, the items of an array or the values of a map.
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
    """The type that a schema's JSON describes; SchemaError says what is wrong with it."""
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
            return AvroType("union", parts=tuple(self.type(each, namespace) for each in content))
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
        found = self._named[full]
        if found is None:
            raise ValueError(f"{name!r} contains itself, which kandle does not read")
        return found

    def _define(self, kind: str, content: dict[str, Any], namespace: str) -> AvroType:
        name = _full(content["name"], content.get("namespace", namespace))
        inner = name.rpartition(".")[0]
        self._named[name] = None
        aliases = tuple(_full(alias, inner) for alias in content.get("aliases", ()))
        if kind == "enum":
            found = AvroType("enum", name=name, symbols=tuple(content["symbols"]), symbol_default=content.get("default"))
        elif kind == "fixed":
            found = _logical(AvroType("fixed", name=name, size=int(content["size"])), content)
        else:
            fields = tuple(self._field(each, inner) for each in content["fields"])
            found = AvroType("record", name=name, aliases=aliases, fields=fields)
        self._named[name] = found
        return found

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
    """With its logical type; one that is unknown or does not go with the type is ignored, as Avro says."""
    logical = content.get("logicalType")
    if logical not in _LOGICAL or plain.kind not in _LOGICAL[logical]:
        return plain
    precision, scale = content.get("precision", 0), content.get("scale", 0)
    if logical == "decimal" and not (isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision > 0):
        return plain
    return AvroType(plain.kind, logical, precision, scale, plain.name, plain.aliases, plain.size)
