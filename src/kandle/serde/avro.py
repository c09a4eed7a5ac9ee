"""Avro messages in the wire format of Confluent: a zero byte, four bytes with the number of the writer's schema, the record.

Avro is decoded here and not by a library: `polars.read_avro` trusts the lengths in its input and panics on damaged bytes, and
fastavro makes a dictionary of each record, which takes ten times as long. Records of one schema are read column by column
(`avro_readers`), a few records one by one (`avro_single`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import polars as pl

from kandle.errors import DataError, SchemaError
from kandle.serde.avro_cursor import ColumnCursor, MessageBlock
from kandle.serde.avro_readers import ReadColumn, column_reader, skip
from kandle.serde.avro_single import MessageReader, ReadValue, required, value_reader
from kandle.serde.avro_writing import AvroEncoder
from kandle.serde.port import (
    FEW,
    Decoded,
    InstantUnit,
    Messages,
    RecordField,
    has_default,
    physical_default,
    physical_schema,
    rejects_of,
)
from kandle.serde.registry import Registry, subject_of
from kandle.serde.schema import AvroField, AvroType, Shape, Side, avro_schema, bare_schema, parse_schema
from kandle.time.arrays import IntArray

MAGIC = 0
HEADER = 5
"""Bytes in front of a record: the zero byte and the number of its schema."""


class SchemaReader:
    """Reads records of one writer's schema as the fields.

    Fields are found by name, by alias, else by name in another case, as ksqlDB writes them. Those that the writer does not have
    take their default.

    Args:
        fields: The columns to read.
        writer: The schema with which the records were written.
        subject: The subject of the records, for messages.

    Raises:
        SchemaError: Records of the schema cannot be read as the fields; names subject, field and both types.
    """

    def __init__(self, fields: Sequence[RecordField], writer: AvroType, subject: str) -> None:
        self._fields = tuple(fields)
        written_fields = _written_fields(writer, self._fields, subject)
        matches = _matches(self._fields, written_fields)
        self._steps = [(written, *_step(written, matches.get(written.name), subject)) for written in written_fields]
        matched = {field.name for field in matches.values()}
        self._missing = [_default(field, subject) for field in self._fields if field.name not in matched]
        numbers = {field.name: number for number, field in enumerate(self._fields)}
        self._single_steps: list[tuple[int | None, ReadValue | AvroType]] = [
            (None, written.type) if field is None else (numbers[field.name], required(field, value_reader(field, written.type)))
            for written, field, _ in self._steps
        ]
        self._defaults = [None if field.name in matched else physical_default(field) for field in self._fields]

    def read(self, cursor: ColumnCursor) -> pl.DataFrame:
        """Return a row for each message; those of messages that are marked mean nothing."""
        columns = {}
        for written, field, read in self._steps:
            cursor.label = f"field {written.name}"
            if field is None or read is None:
                skip(cursor, written.type)
            else:
                columns[field.name] = _present(cursor, field, read(cursor))
        cursor.finish()
        for default in self._missing:
            columns[default.name] = default.new_from_index(0, len(cursor))
        return pl.DataFrame([columns[field.name].alias(field.name) for field in self._fields])

    def read_row(self, message: bytes) -> list[Any]:
        """Return the physical values of one message; those of dates and instants as numbers.

        Raises:
            DataError: There is something wrong with the message.
        """
        reader = MessageReader(message, HEADER, len(message))
        row = self._defaults.copy()
        for number, read in self._single_steps:
            if number is None:
                reader.value(cast(AvroType, read))
            else:
                row[number] = cast(ReadValue, read)(reader)
        reader.finish()
        return row


def _written_fields(writer: AvroType, fields: Sequence[RecordField], subject: str) -> tuple[AvroField, ...]:
    """Return the fields of the writer's record; a bare value stands for the only field."""
    if writer.kind == "record":
        return writer.fields
    if len(fields) == 1:
        return (AvroField(fields[0].name, writer),)
    names = ", ".join(field.name for field in fields)
    raise SchemaError(f"subject {subject}: the schema is {writer}, not a record with the fields {names}")


def _matches(fields: Sequence[RecordField], written: Sequence[AvroField]) -> dict[str, RecordField]:
    """Return by the name of a written field the field that it is read as."""
    written_names = [field.name for field in written]
    matches: dict[str, RecordField] = {}
    left = []
    for field in fields:
        exact = next((name for name in (field.name, *field.aliases) if name in written_names and name not in matches), None)
        if exact is None:
            left.append(field)
        else:
            matches[exact] = field
    for field in left:
        alike = [name for name in written_names if name not in matches and name.casefold() == field.name.casefold()]
        if len(alike) == 1:
            matches[alike[0]] = field
    return matches


def _step(written: AvroField, field: RecordField | None, subject: str) -> tuple[RecordField | None, ReadColumn | None]:
    if field is None:
        return None, None
    read = column_reader(field, written.type)
    if read is None:
        raise SchemaError(
            f"subject {subject}, field {written.name}: it is {written.type} in the schema and {field.words} in the declaration"
            f"{_advice(field, written.type)}"
        )
    return field, read


def _unit(writer: AvroType) -> InstantUnit | None:
    """Return the unit in which a type has instants; None if it has none, or another one."""
    logical = {kind.logical for kind in (writer.parts if writer.kind == "union" else (writer,))}
    units = [unit for unit in _UNITS if f"timestamp-{unit}" in logical]
    return units[0] if len(units) == 1 else None


_UNITS: tuple[InstantUnit, ...] = ("micros", "millis")


def _advice(field: RecordField, writer: AvroType) -> str:
    kinds = writer.parts if writer.kind == "union" else (writer,)
    if str(field.type) == "datetime" and any(kind.kind in ("int", "long") and kind.logical is None for kind in kinds):
        return '; say what the number means: DatetimeFormat("epoch_ms"), or epoch_s, epoch_us'
    return ""


def _default(field: RecordField, subject: str) -> pl.Series:
    """Return a column of one value."""
    if not has_default(field):
        raise SchemaError(
            f"subject {subject}: the schema has no field {field.name}, which is declared as {field.words} without a default"
        )
    return pl.Series(field.name, [physical_default(field)], dtype=field.type.physical)


def _present(cursor: ColumnCursor, field: RecordField, column: pl.Series) -> pl.Series:
    if not field.nullable and column.null_count():
        cursor.require(column.is_not_null().to_numpy(), "there is no value, but the field is not Optional")
    return column


class AvroFormat:
    """The key or value records of a topic as Avro, with their schema in a registry under `<topic>-key` or `<topic>-value`.

    The schema is registered when it is first needed for writing; readers need no schema of their own. The readers of writers'
    schemas are kept.

    Args:
        topic: The topic.
        side: Whether the records are its keys or its values.
        fields: The columns, in the order in which they are written.
        registry: Where schemas are kept.
        namespace: The namespace of the record's name.
        shape: Whether a record of one field is written as a record or as the value alone.
    """

    def __init__(
        self,
        topic: str,
        side: Side,
        fields: Sequence[RecordField],
        registry: Registry,
        *,
        namespace: str | None = None,
        shape: Shape = Shape.RECORD,
    ) -> None:
        self.fields = tuple(fields)
        self.subject = subject_of(topic, side)
        self._names = topic, side, namespace, shape
        self._registry = registry
        self._set_written(self.fields)
        self._header: bytes | None = None
        self._readers: dict[int, SchemaReader | str] = {}
        self._physical = physical_schema(self.fields)

    def prepare(self) -> None:
        """Register the schema.

        Raises:
            SchemaError: It is not compatible, or the newest one of the subject disagrees with the fields.
        """
        if self._header is None:
            latest = self._latest()
            if latest is not None:
                self._set_written(self._with_units_of(latest))
            number = self._registry.register(self.subject, self.schema)
            self._header = bytes([MAGIC]) + number.to_bytes(HEADER - 1, "big")

    def check(self) -> None:
        """Raise SchemaError if the newest schema of the subject disagrees with the fields; names the field and both types."""
        self._latest()

    def _latest(self) -> AvroType | None:
        """Return the newest schema of the subject; SchemaError if it disagrees with the fields."""
        latest = self._registry.latest(self.subject)
        if latest is None:
            return None
        writer = parse_schema(latest.schema)
        SchemaReader(self.fields, writer, self.subject)
        return writer

    def _set_written(self, fields: tuple[RecordField, ...]) -> None:
        """Set how records are written from now on."""
        topic, side, namespace, shape = self._names
        is_bare = shape is Shape.BARE and len(fields) == 1
        self.schema = bare_schema(fields[0]) if is_bare else avro_schema(fields, topic, side, namespace)
        self._encoder = AvroEncoder(fields, self.subject)

    def _with_units_of(self, writer: AvroType) -> tuple[RecordField, ...]:
        """Return the fields with the units that instants have in the topic already: it has one unit for ever.

        Older readers of the topic may take all numbers for the same unit, and equal keys must be the same bytes.
        """
        written_fields = _written_fields(writer, self.fields, self.subject)
        written_types = {written.name: written.type for written in written_fields}
        units = {field.name: _unit(written_types[name]) for name, field in _matches(self.fields, written_fields).items()}
        fields = []
        for field in self.fields:
            unit = units.get(field.name) if field.has_open_unit else None
            if unit is not None and unit != field.unit and field.has_fixed_unit:
                raise SchemaError(
                    f"subject {self.subject}, field {field.name}: its instants are timestamp-{unit} in the topic, and "
                    f"fields.instants or the engine asks for {field.unit}; use another topic, or leave fields.instants out"
                )
            fields.append(field if unit is None else replace(field, unit=unit))
        return tuple(fields)

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """Return a message for each row of a physical frame.

        Raises:
            DataError: A value cannot be written; names subject, field and value.
        """
        self.prepare()
        assert self._header is not None
        return self._encoder.write(frame, self._header)

    def decode(self, messages: Messages) -> Decoded:
        """Return the physical rows of messages of any number of schemas, and those that cannot be read as rejects."""
        if len(messages) <= FEW:
            rows = self._rows(messages)
            if rows is not None:
                return Decoded(pl.DataFrame(rows, schema=self._physical, orient="row"))
        return self._decode_columns(messages)

    def _rows(self, messages: Messages) -> list[list[Any]] | None:
        """Return rows that were read one by one; None if there is something wrong with a message."""
        rows = []
        for message in messages:
            if message is None or len(message) < HEADER or message[0] != MAGIC:
                return None
            reader = self._reader(int.from_bytes(message[1:HEADER], "big"))
            if isinstance(reader, str):
                return None
            try:
                rows.append(reader.read_row(message))
            except DataError:
                return None
        return rows

    def _decode_columns(self, messages: Messages) -> Decoded:
        """Return what many messages hold."""
        positions = _long_enough(messages)
        chosen = messages if len(positions) == len(messages) else [messages[position] for position in positions.tolist()]
        block = MessageBlock(cast(Sequence[bytes], chosen))
        frame = self._block_rows(block)
        if len(positions) == len(messages) and not block.reasons:
            return Decoded(frame)
        good = np.ones(len(positions), np.bool_)
        good[list(block.reasons)] = False
        reasons = {int(positions[row]): reason for row, reason in block.reasons.items()}
        short = set(range(len(messages))).difference(positions.tolist())
        reasons |= {position: _why_not(messages[position]) for position in short}
        return Decoded(frame.filter(pl.Series(good)), rejects_of(reasons, self.subject))

    def _block_rows(self, block: MessageBlock) -> pl.DataFrame:
        """Return a row for each message of a block."""
        numbers = _schema_numbers(block)
        cursor = ColumnCursor.over(block, HEADER)
        if not len(cursor):
            return pl.DataFrame(schema=self._physical)
        if (numbers == numbers[0]).all():
            return self._schema_rows(int(numbers[0]), cursor)
        frames, order = [], []
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number)
            frames.append(self._schema_rows(number, cursor.part(chosen)))
            order.append(chosen)
        return pl.concat(frames)[np.argsort(np.concatenate(order))]

    def _schema_rows(self, number: int, cursor: ColumnCursor) -> pl.DataFrame:
        reader = self._reader(number) if number >= 0 else "it does not begin with the zero byte of the Confluent wire format"
        if isinstance(reader, SchemaReader):
            return reader.read(cursor)
        cursor.block.mark(cursor.rows, reader)
        return pl.DataFrame(schema=self._physical).clear(len(cursor))

    def _reader(self, number: int) -> SchemaReader | str:
        """Return the reader of a schema, or why there is none."""
        if number not in self._readers:
            try:
                schema = self._registry.schema(number)
                if schema is None:
                    # Not kept: it may be registered in a moment.
                    return f"schema {number} is not in the registry"
                self._readers[number] = SchemaReader(self.fields, parse_schema(schema), self.subject)
            except SchemaError as error:
                self._readers[number] = f"schema {number}: {error}"
        return self._readers[number]


def _long_enough(messages: Messages) -> IntArray:
    """Return the positions of messages that may hold a record."""
    try:
        lengths = np.fromiter(map(len, cast(Sequence[bytes], messages)), np.int64, len(messages))
    except TypeError:
        # Some are None.
        lengths = np.fromiter((len(message or b"") for message in messages), np.int64, len(messages))
    return np.flatnonzero(lengths >= HEADER)


def _why_not(message: bytes | None) -> str:
    if message is None:
        return "there is no record (null)"
    return f"{len(message)} bytes are no record: the header alone has {HEADER}"


def _schema_numbers(block: MessageBlock) -> IntArray:
    """Return the schema number of each message; -1 where the first byte is not that of the wire format."""
    words = block.words[block.starts]
    numbers = (words >> np.uint64(8)).astype(np.uint32).byteswap().astype(np.int64)
    return np.where(words & np.uint64(0xFF) == MAGIC, numbers, -1)
