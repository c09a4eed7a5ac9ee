"""The plan by which messages of one writer's schema are read as rows of a topic."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kandle.errors import SchemaError
from kandle.serde.avro_types import AvroField, AvroType
from kandle.serde.cursor import Cursor
from kandle.serde.fields import RecordField, has_default, physical_default
from kandle.serde.nested import Read, skip
from kandle.serde.readers import reader_of


class Decoder:
    """Reads records of a writer's schema as the fields; SchemaError names subject, field and both types if that cannot be.

    Fields are found by name, by alias, else by name in another case, as ksqlDB writes them. Those that the writer does not have
    take their default.
    """

    def __init__(self, fields: Sequence[RecordField], writer: AvroType, subject: str) -> None:
        self._fields = tuple(fields)
        written = _written(writer, self._fields, subject)
        names = _matches(self._fields, written)
        self._steps = [(each, *_step(each, names.get(each.name), subject)) for each in written]
        matched = {found.name for found in names.values()}
        self._missing = [_default(each, subject) for each in self._fields if each.name not in matched]

    def read(self, cursor: Cursor) -> pl.DataFrame:
        """A row per message; those of messages that are marked mean nothing."""
        columns = {}
        for each, found, read in self._steps:
            cursor.what = f"field {each.name}"
            if found is None or read is None:
                skip(cursor, each.type)
            else:
                columns[found.name] = _present(cursor, found, read(cursor))
        cursor.finish()
        for default in self._missing:
            columns[default.name] = default.new_from_index(0, len(cursor))
        return pl.DataFrame([columns[each.name].alias(each.name) for each in self._fields])


def _written(writer: AvroType, fields: Sequence[RecordField], subject: str) -> tuple[AvroField, ...]:
    """The fields of the writer's record; a bare value stands for the only field."""
    if writer.kind == "record":
        return writer.fields
    if len(fields) == 1:
        return (AvroField(fields[0].name, writer),)
    names = ", ".join(each.name for each in fields)
    raise SchemaError(f"subject {subject}: the schema is {writer}, not a record with the fields {names}")


def _matches(fields: Sequence[RecordField], written: Sequence[AvroField]) -> dict[str, RecordField]:
    """By the name of a written field the field that it is read as."""
    there = [each.name for each in written]
    found: dict[str, RecordField] = {}
    left = []
    for each in fields:
        exact = next((name for name in (each.name, *each.aliases) if name in there and name not in found), None)
        if exact is None:
            left.append(each)
        else:
            found[exact] = each
    for each in left:
        alike = [name for name in there if name not in found and name.casefold() == each.name.casefold()]
        if len(alike) == 1:
            found[alike[0]] = each
    return found


def _step(written: AvroField, found: RecordField | None, subject: str) -> tuple[RecordField | None, Read | None]:
    if found is None:
        return None, None
    read = reader_of(found, written.type)
    if read is None:
        raise SchemaError(
            f"subject {subject}, field {written.name}: it is {written.type} in the schema and {found.words} in the declaration"
            f"{_advice(found, written.type)}"
        )
    return found, read


def _advice(found: RecordField, writer: AvroType) -> str:
    kinds = writer.parts if writer.kind == "union" else (writer,)
    if str(found.type) == "datetime" and any(kind.kind in ("int", "long") and kind.logical is None for kind in kinds):
        return '; say what the number means: DatetimeFormat("epoch_ms"), or epoch_s, epoch_us'
    return ""


def _default(found: RecordField, subject: str) -> pl.Series:
    """A column of one value."""
    if not has_default(found):
        raise SchemaError(
            f"subject {subject}: the schema has no field {found.name}, which is declared as {found.words} without a default"
        )
    return pl.Series(found.name, [physical_default(found)], dtype=found.type.physical)


def _present(cursor: Cursor, found: RecordField, column: pl.Series) -> pl.Series:
    if not found.nullable and column.null_count():
        cursor.require(column.is_not_null().to_numpy(), "there is no value, but the field is not Optional")
    return column
