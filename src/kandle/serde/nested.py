"""Fields that are read message by message, since their values are nested, and fields that nobody asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from kandle.errors import DataError
from kandle.serde.avro_types import AvroType
from kandle.serde.cursor import Cursor
from kandle.serde.fields import RecordField
from kandle.serde.values import Reader

Read = Callable[[Cursor], pl.Series]
"""Reads a column; NULL where there is no value or where the message is marked."""


def string_map(found: RecordField, writer: AvroType) -> Read | None:
    """How maps of text are read; None if they are something else."""
    is_map = writer.kind == "map" and _is_text(writer.parts[0])
    # How Kafka Connect and ksqlDB write maps whose keys may be missing.
    entries = writer.parts[0].fields if writer.kind == "array" else ()
    is_list = [each.name for each in entries] == ["key", "value"] and all(_is_text(each.type) for each in entries)
    if not (is_map or is_list):
        return None
    kind = found.type.physical
    return lambda cursor: pl.Series([_entries(each) for each in single_values(cursor, writer, _check_map)], dtype=kind)


def _is_text(kind: AvroType) -> bool:
    if kind.kind == "union":
        return {part.kind for part in kind.parts} == {"null", "string"}
    return kind.kind == "string"


def _check_map(entries: list[dict[str, Any]]) -> None:
    if any(part is None for entry in entries for part in entry.values()):
        raise DataError("a key or value of a map is null")


def _entries(entries: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Each key once: the last counts."""
    if entries is None:
        return None
    last = {entry["key"]: entry["value"] for entry in entries}
    return [{"key": key, "value": value} for key, value in last.items()]


def single_values(cursor: Cursor, writer: AvroType, check: Callable[[Any], None] | None = None) -> list[Any]:
    """Values of any type, one message after the other; None where a message is marked."""
    found: list[Any] = []
    positions = cursor.positions.copy()
    block = cursor.block
    for at, (row, start, end) in enumerate(zip(cursor.rows.tolist(), positions.tolist(), cursor.ends.tolist(), strict=True)):
        reader = Reader(block.bytes, start, end)
        try:
            value = reader.value(writer)
            if check is not None:
                check(value)
        except DataError as error:
            block.reasons.setdefault(row, f"{cursor.what}: {error}")
            reader.position, value = end, None
        positions[at] = reader.position
        found.append(value)
    cursor.positions = positions
    return found


def skip(cursor: Cursor, writer: AvroType) -> None:
    """Go over a field that nobody asks for."""
    if writer.kind in ("int", "long", "enum"):
        cursor.varints()
    elif writer.kind in ("string", "bytes"):
        cursor.spans()
    elif writer.kind in _SIZES or writer.kind == "fixed":
        cursor.fixed(_SIZES.get(writer.kind, writer.size))
    elif writer.kind == "union":
        _skip_union(cursor, writer)
    elif writer.kind == "record":
        for each in writer.fields:
            skip(cursor, each.type)
    elif writer.kind != "null":
        single_values(cursor, writer)


_SIZES = {"boolean": 1, "float": 4, "double": 8}


def _skip_union(cursor: Cursor, writer: AvroType) -> None:
    picks = cursor.choices(len(writer.parts), "branch of a union")
    for number in np.unique(picks).tolist():
        chosen = np.flatnonzero(picks == number)
        part = cursor.part(chosen)
        skip(part, writer.parts[number])
        cursor.join(part, chosen)
