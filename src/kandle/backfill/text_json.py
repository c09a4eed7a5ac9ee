"""NDJSON: one object a line, numbers with all the digits that are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from kandle.backfill.chunks import ByteFile, record_chunks
from kandle.errors import InputError
from kandle.model.columns import source_columns
from kandle.model.entity import EntityModel, FieldModel

PLAIN = {str, type(None)}
WORDS = {True: "true", False: "false"}


def ndjson_frames(path: Path, entity: EntityModel) -> Iterator[tuple[pl.DataFrame, int]]:
    """Frames of the fields that the entity needs, as text, each with the bytes of the file read so far."""
    source = str(path)
    with ByteFile(path) as file:
        table = JsonLines(source, entity)
        for chunk in record_chunks(file, source, has_quotes=False):
            yield table.parse(chunk), file.position
        if not file.position:
            raise InputError(f"{source}: the file is empty; an NDJSON file has one object a line")


class JsonLines:
    """The fields of one NDJSON file and the lines of it that have been parsed."""

    def __init__(self, source: str, entity: EntityModel) -> None:
        self._source = source
        self._entity = entity
        self._lines = 0
        self._columns: dict[str, str] = {}
        self._decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse_constant)

    def parse(self, body: bytes) -> pl.DataFrame:
        """Whole lines as a frame of text; InputError names the first line that is malformed."""
        objects: list[dict[str, Any]] = []
        numbers: list[int] = []
        for number, line in enumerate(body.split(b"\n"), self._lines + 1):
            if stripped := line.strip():
                objects.append(self._object(stripped, number))
                numbers.append(number)
        self._lines += body.count(b"\n")
        columns = [self._column(found, objects, numbers) for found in self._entity.fields] if objects else []
        return pl.DataFrame(columns) if columns else pl.DataFrame(schema=self._empty())

    def _empty(self) -> dict[str, pl.DataType]:
        return {found.name: pl.String() for found in self._entity.fields}

    def _object(self, line: bytes, number: int) -> dict[str, Any]:
        place = f"{self._source}, line {number}"
        try:
            value = self._decoder.decode(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: not UTF-8 text (byte {line[error.start]:#04x})") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not JSON: {error}") from error
        if not isinstance(value, dict):
            raise InputError(f"{place}: every line must be a JSON object, but this is {_kind(value)}")
        return value

    def _column(self, found: FieldModel, objects: Sequence[dict[str, Any]], numbers: Sequence[int]) -> pl.Series:
        name = self._name(found, objects)
        values = [each.get(name) for each in objects]
        if not PLAIN.issuperset(map(type, values)):
            values = [self._plain(name, *pair) for pair in zip(values, numbers, strict=True)]
        return pl.Series(found.name, values, dtype=pl.String)

    def _name(self, found: FieldModel, objects: Sequence[dict[str, Any]]) -> str:
        """The name or alias that holds the field; a field that may be missing need not be in any object."""
        for name in (found.name, *found.aliases):
            if any(name in each for each in objects):
                self._columns[found.name] = name
                return name
        if found.name not in self._columns and not found.nullable:
            there = list(dict.fromkeys(name for each in objects for name in each))
            optional = [each.name for each in self._entity.fields if each.nullable]
            source_columns(self._entity, [*there, *optional], self._source)
        return self._columns.get(found.name, found.name)

    def _plain(self, name: str, value: Any, number: int) -> str | None:
        if isinstance(value, bool):
            return WORDS[value]
        if isinstance(value, dict | list):
            place = f"{self._source}, line {number}"
            raise InputError(f"{place}: field {name!r} is {_kind(value)}; values must be text, numbers, true, false or null")
        return value  # type: ignore[no-any-return]


def _kind(value: object) -> str:
    return {dict: "an object", list: "an array", str: "a single value", bool: "a single value"}.get(type(value), "null")


def _refuse_constant(name: str) -> str:
    raise ValueError(f"{name} is no JSON number")
