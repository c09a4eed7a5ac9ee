"""Reads Avro messages one at a time.

Columns of many messages (`avro_cursor`) cost about 300 microseconds however few messages there are, a message that is read alone
about 5. So a batch of a few is read here. What is read here is exactly what would be read there: a message with anything wrong
is an error here, upon which its whole batch is read as columns, which say what is wrong with it.

fastavro is as fast for one record, but takes damage for values (an int of more than 32 bits, a boolean that is 2), and Kafka's
users would need one more package for these few microseconds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from kandle.errors import DataError
from kandle.model.markers import EPOCH_FORMATS
from kandle.model.types import (
    DAY_BOUNDS,
    INSTANT_BOUNDS,
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
from kandle.serde.port import RecordField
from kandle.serde.schema import AvroType

MISSING_BYTES = "the message ends in the middle of it, or its length is damaged"
WIDE_NUMBER = "a number has more than 64 bits"
LAST_SHIFT = 63
INT_BOUND = 2**31
UUID_TEXT = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class MessageReader:
    """A position in one message, from which values are read one after the other.

    Args:
        data: Bytes that hold the message.
        position: Where reading starts.
        end: Where the message ends.
    """

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self._data = data
        self.position = position
        self._end = end

    def take(self, length: int) -> bytes:
        """Return the next bytes.

        Raises:
            DataError: The message does not have that many.
        """
        start = self.position
        if not 0 <= length <= self._end - start:
            raise DataError(MISSING_BYTES)
        self.position = start + length
        return self._data[start : self.position]

    def number(self) -> int:
        """Return an int or long.

        Raises:
            DataError: The message ends in the middle of it, or it has more than 64 bits.
        """
        value = shift = 0
        for position in range(self.position, self._end):
            byte = self._data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                self.position = position + 1
                return (value >> 1) ^ -(value & 1)
            if shift == LAST_SHIFT:
                break
            shift += 7
        else:
            raise DataError(MISSING_BYTES)
        raise DataError(WIDE_NUMBER)

    def finish(self) -> None:
        """Raise DataError if there is more in the message."""
        if self.position != self._end:
            raise DataError("there are bytes behind its last field")

    def value(self, kind: AvroType) -> Any:
        """Return a value of any type; a record is a dictionary, logical types are not looked at.

        Raises:
            DataError: The message does not hold such a value.
        """
        return _VALUES[kind.kind](self, kind)

    def choice(self, count: int, of: str) -> int:
        """Return a number below `count`."""
        number = self.number()
        if not 0 <= number < count:
            raise DataError(f"there is no {of} of that number")
        return number

    def boolean(self, kind: AvroType) -> bool:
        """Return true or false."""
        byte = self.take(1)[0]
        if byte > 1:
            raise DataError("a boolean is neither 0 nor 1")
        return byte == 1

    def text(self, kind: AvroType) -> str:
        """Return text in UTF-8."""
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError:
            raise DataError("it is not text in UTF-8") from None

    def _union(self, kind: AvroType) -> Any:
        return self.value(kind.parts[self.choice(len(kind.parts), "branch of a union")])

    def _items(self, one: Callable[[], Any]) -> list[Any]:
        """Return the items of blocks, until one is empty; a negative count is followed by the block's size."""
        items: list[Any] = []
        while count := self.number():
            if count < 0:
                count = -count
                self.number()
            # Items of no bytes, which damage could claim by the billion, are not worth reading.
            if count > self._end - self.position:
                raise DataError(MISSING_BYTES)
            items += [one() for _ in range(count)]
        return items

    def _array(self, kind: AvroType) -> list[Any]:
        return self._items(lambda: self.value(kind.parts[0]))

    def _map(self, kind: AvroType) -> list[Any]:
        return self._items(lambda: {"key": self.text(kind), "value": self.value(kind.parts[0])})

    def _record(self, kind: AvroType) -> dict[str, Any]:
        return {field.name: self.value(field.type) for field in kind.fields}

    def symbol(self, kind: AvroType) -> str:
        """Return the symbol of an enum."""
        return kind.symbols[self.choice(len(kind.symbols), "symbol of an enum")]


_VALUES: dict[str, Callable[[MessageReader, AvroType], Any]] = {
    "null": lambda reader, kind: None,
    "boolean": MessageReader.boolean,
    "int": lambda reader, kind: reader.number(),
    "long": lambda reader, kind: reader.number(),
    "float": lambda reader, kind: struct.unpack("<f", reader.take(4))[0],
    "double": lambda reader, kind: struct.unpack("<d", reader.take(8))[0],
    "bytes": lambda reader, kind: reader.take(reader.number()),
    "string": MessageReader.text,
    "fixed": lambda reader, kind: reader.take(kind.size),
    "enum": MessageReader.symbol,
    "union": MessageReader._union,
    "array": MessageReader._array,
    "map": MessageReader._map,
    "record": MessageReader._record,
}


def unique_entries(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of a map with each key once: the last one counts.

    Raises:
        DataError: A key or value is null.
    """
    if any(part is None for entry in entries for part in entry.values()):
        raise DataError("a key or value of a map is null")
    last = {entry["key"]: entry["value"] for entry in entries}
    return [{"key": key, "value": value} for key, value in last.items()]


ReadValue = Callable[[MessageReader], Any]
"""Reads a physical value; DataError if the message holds none."""


def value_reader(field: RecordField, writer: AvroType) -> ReadValue:
    """Return how one value of a writer's type is read as the field's.

    Args:
        field: The field that the value belongs to.
        writer: A type that can be read as the field's, or that is a branch of such a union.

    Returns:
        A function that reads the physical value; of a date or an instant its number.
    """
    if writer.kind == "union":
        return _union(field, writer.parts)
    if writer.kind == "null":
        return lambda reader: None
    return _READERS[type(field.type)](field, writer)


def required(field: RecordField, read: ReadValue) -> ReadValue:
    """Return a reader that refuses null where the field is not nullable."""
    if field.nullable:
        return read

    def read_present(reader: MessageReader) -> Any:
        value = read(reader)
        if value is None:
            raise DataError("there is no value, but the field is not Optional")
        return value

    return read_present


def _union(field: RecordField, parts: Sequence[AvroType]) -> ReadValue:
    readers = [value_reader(field, part) for part in parts]
    count = len(parts)

    def read(reader: MessageReader) -> Any:
        return readers[reader.choice(count, "branch of a union")](reader)

    return read


def _misfit(reader: MessageReader) -> Any:
    raise DataError("the value is of a type that the field is not read from")


def _plain(field: RecordField, writer: AvroType) -> ReadValue:
    read = _VALUES[writer.kind]
    return lambda reader: read(reader, writer)


def _boolean(field: RecordField, writer: AvroType) -> ReadValue:
    return _plain(field, writer) if writer.kind == "boolean" else _misfit


def _integer(field: RecordField, writer: AvroType) -> ReadValue:
    if writer.logical is not None or writer.kind not in ("int", "long"):
        return _misfit
    return _whole(writer)


def _whole(writer: AvroType) -> ReadValue:
    if writer.kind == "long":
        return MessageReader.number

    def read(reader: MessageReader) -> int:
        return _within(reader.number(), -INT_BOUND, INT_BOUND - 1)

    return read


def _within(number: int, first: int, last: int) -> int:
    if not first <= number <= last:
        raise DataError(f"a number is not within {first} and {last}")
    return number


def _float(field: RecordField, writer: AvroType) -> ReadValue:
    if writer.logical is not None or writer.kind not in ("double", "float", "int", "long"):
        return _misfit
    if writer.kind in ("double", "float"):
        return _plain(field, writer)
    whole = _whole(writer)
    return lambda reader: float(whole(reader))


def _decimal(field: RecordField, writer: AvroType) -> ReadValue:
    kind = field.type
    assert isinstance(kind, DecimalType)
    if writer.logical != "decimal" or (writer.precision, writer.scale) != (kind.precision, kind.scale):
        return _misfit
    take, (first, last) = _VALUES[writer.kind], kind.bounds

    def read(reader: MessageReader) -> int:
        data = take(reader, writer)
        if not data:
            raise DataError("a decimal has no bytes")
        return _within(int.from_bytes(data, "big", signed=True), first, last)

    return read


def _string(field: RecordField, writer: AvroType) -> ReadValue:
    if writer.kind == "enum":
        return _plain(field, writer)
    if writer.kind not in ("string", "bytes") or writer.logical == "decimal":
        return _misfit
    longest = field.type.max_length if isinstance(field.type, StringType) else None

    def read(reader: MessageReader) -> str:
        text = reader.text(writer)
        if longest is not None and len(text) > longest:
            raise DataError(f"it has more than {longest} characters")
        return text

    return read


def _uuid(field: RecordField, writer: AvroType) -> ReadValue:
    if writer.kind != "string":
        return _misfit

    def read(reader: MessageReader) -> str:
        text = reader.text(writer).lower()
        if UUID_TEXT.fullmatch(text) is None:
            raise DataError("it is not a UUID")
        return text

    return read


def _bytes(field: RecordField, writer: AvroType) -> ReadValue:
    if writer.kind not in ("bytes", "string", "fixed") or writer.logical == "decimal":
        return _misfit
    if writer.kind == "fixed":
        return _plain(field, writer)
    return lambda reader: reader.take(reader.number())


def _date(field: RecordField, writer: AvroType) -> ReadValue:
    if writer.logical != "date":
        return _misfit
    return lambda reader: _within(reader.number(), *DAY_BOUNDS)


TIMESTAMP_UNITS = {"timestamp-millis": 1_000, "timestamp-micros": 1}
"""Microseconds of one unit of a logical type of Avro."""
NANOS = "timestamp-nanos"


def timestamp_unit(field: RecordField, writer: AvroType) -> int | None:
    """Return the microseconds of one unit of an instant; None for nanoseconds and for what is no instant."""
    if writer.kind in ("int", "long") and writer.logical is None:
        # Only the entity can know what a plain number means.
        return EPOCH_FORMATS.get(field.datetime_format or "")
    return TIMESTAMP_UNITS.get(writer.logical or "")


def _timestamp(field: RecordField, writer: AvroType) -> ReadValue:
    unit = timestamp_unit(field, writer)
    if writer.logical == NANOS:

        def read_nanos(reader: MessageReader) -> int:
            microseconds, rest = divmod(reader.number(), 1_000)
            if rest:
                raise DataError("it is finer than a microsecond")
            return microseconds

        return read_nanos
    if unit is None:
        return _misfit
    return lambda reader: _within(reader.number() * unit, *INSTANT_BOUNDS)


def is_string_map(writer: AvroType) -> bool:
    """Return whether a type is a map of texts, or a list of entries, as Kafka Connect writes maps whose keys may be missing."""
    if writer.kind == "map":
        return _is_text(writer.parts[0])
    entries = writer.parts[0].fields if writer.kind == "array" else ()
    return [entry.name for entry in entries] == ["key", "value"] and all(_is_text(entry.type) for entry in entries)


def _is_text(kind: AvroType) -> bool:
    if kind.kind == "union":
        return {part.kind for part in kind.parts} == {"null", "string"}
    return kind.kind == "string"


def _string_map(field: RecordField, writer: AvroType) -> ReadValue:
    if not is_string_map(writer):
        return _misfit
    return lambda reader: unique_entries(reader.value(writer))


_READERS: dict[type[DataType], Callable[[RecordField, AvroType], ReadValue]] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    FloatType: _float,
    DecimalType: _decimal,
    StringType: _string,
    UuidType: _uuid,
    BytesType: _bytes,
    DateType: _date,
    TimestampType: _timestamp,
    StringMapType: _string_map,
}
