"""Avro messages in the wire format of Confluent: a zero byte, four bytes with the number of the writer's schema, the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import polars as pl

from kandle.errors import SchemaError
from kandle.serde.avro_cursor import Block, Cursor
from kandle.serde.avro_readers import Read, reader_of, skip
from kandle.serde.avro_writing import Encoder
from kandle.serde.port import Decoded, Messages, RecordField, has_default, physical_default, physical_schema, rejects_of
from kandle.serde.registry import Registry, subject_of
from kandle.serde.schema import AvroField, AvroType, Shape, Side, avro_schema, bare_schema, parse_schema
from kandle.time.timeframe import IntArray


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


MAGIC = 0
HEADER = 5


class AvroFormat:
    """The key or value records of a topic as Avro, with their schema in a registry under `<topic>-key` or `<topic>-value`.

    The schema is registered when it is first needed for writing; readers need no schema of their own. Plans of writers' schemas
    are kept.
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
        is_bare = shape is Shape.BARE and len(self.fields) == 1
        self.schema = bare_schema(self.fields[0]) if is_bare else avro_schema(self.fields, topic, side, namespace)
        self._registry = registry
        self._encoder = Encoder(self.fields, self.subject)
        self._header: bytes | None = None
        self._decoders: dict[int, Decoder | str] = {}

    def prepare(self) -> None:
        """Register the schema; SchemaError if it is not compatible or the newest one of the subject disagrees with the fields."""
        if self._header is None:
            self.check()
            number = self._registry.register(self.subject, self.schema)
            self._header = bytes([MAGIC]) + number.to_bytes(HEADER - 1, "big")

    def check(self) -> None:
        """SchemaError if the newest schema of the subject disagrees with the fields; names the field and both types."""
        latest = self._registry.latest(self.subject)
        if latest is not None:
            Decoder(self.fields, parse_schema(latest.schema), self.subject)

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row of a physical frame."""
        self.prepare()
        assert self._header is not None
        return self._encoder.write(frame, self._header)

    def decode(self, messages: Messages) -> Decoded:
        """Physical rows of messages of any number of schemas."""
        places = _long_enough(messages)
        chosen = messages if len(places) == len(messages) else [messages[at] for at in places.tolist()]
        block = Block(cast(Sequence[bytes], chosen))
        frame = self._rows(block)
        if len(places) == len(messages) and not block.reasons:
            return Decoded(frame)
        good = np.ones(len(places), np.bool_)
        good[list(block.reasons)] = False
        reasons = {int(places[at]): reason for at, reason in block.reasons.items()}
        reasons |= {at: _why_not(messages[at]) for at in set(range(len(messages))).difference(places.tolist())}
        return Decoded(frame.filter(pl.Series(good)), rejects_of(reasons, self.subject))

    def _rows(self, block: Block) -> pl.DataFrame:
        """A row for each message of a block."""
        numbers = _numbers(block)
        every = Cursor.over(block, HEADER)
        if not len(every):
            return pl.DataFrame(schema=physical_schema(self.fields))
        if (numbers == numbers[0]).all():
            return self._rows_of(int(numbers[0]), every)
        frames, order = [], []
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number)
            frames.append(self._rows_of(number, every.part(chosen)))
            order.append(chosen)
        return pl.concat(frames)[np.argsort(np.concatenate(order))]

    def _rows_of(self, number: int, cursor: Cursor) -> pl.DataFrame:
        decoder = self._decoder(number) if number >= 0 else "it does not begin with the zero byte of the Confluent wire format"
        if isinstance(decoder, Decoder):
            return decoder.read(cursor)
        cursor.block.mark(cursor.rows, decoder)
        return pl.DataFrame(schema=physical_schema(self.fields)).clear(len(cursor))

    def _decoder(self, number: int) -> Decoder | str:
        """The plan for a schema, or why there is none."""
        if number not in self._decoders:
            try:
                schema = self._registry.schema(number)
                if schema is None:
                    # Not kept: it may be registered in a moment.
                    return f"schema {number} is not in the registry"
                self._decoders[number] = Decoder(self.fields, parse_schema(schema), self.subject)
            except SchemaError as error:
                self._decoders[number] = f"schema {number}: {error}"
        return self._decoders[number]


def _long_enough(messages: Messages) -> IntArray:
    """The places of messages that may hold a record."""
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


def _numbers(block: Block) -> IntArray:
    """The schema number of each message; -1 where the first byte is not that of the wire format."""
    words = block.words[block.starts]
    numbers = (words >> np.uint64(8)).astype(np.uint32).byteswap().astype(np.int64)
    return np.where(words & np.uint64(0xFF) == MAGIC, numbers, -1)
