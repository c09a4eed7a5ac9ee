"""Single Avro values, one after the other, for what is too rare to be read by whole columns: maps, arrays."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from kandle.errors import DataError
from kandle.serde.avro_types import AvroType


class Reader:
    """A position in one message, which ends at `end`; DataError if it does not hold what is asked of it."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self._data = data
        self.position = position
        self._end = end

    def take(self, length: int) -> bytes:
        """The next bytes."""
        if not 0 <= length <= self._end - self.position:
            raise DataError("the message ends in the middle of it, or its length is damaged")
        start = self.position
        self.position += length
        return self._data[start : self.position]

    def number(self) -> int:
        """An int or long."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if value >> 64:
            raise DataError("a number has more than 64 bits")
        return (value >> 1) ^ -(value & 1)

    def value(self, kind: AvroType) -> Any:
        """A value of any type; a record is a dictionary, logical types are not looked at."""
        return _VALUES[kind.kind](self, kind)

    def _choice(self, count: int, of: str) -> int:
        number = self.number()
        if not 0 <= number < count:
            raise DataError(f"there is no {of} of that number")
        return number

    def _boolean(self, kind: AvroType) -> bool:
        byte = self.take(1)[0]
        if byte > 1:
            raise DataError("a boolean is neither 0 nor 1")
        return byte == 1

    def _text(self, kind: AvroType) -> str:
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError:
            raise DataError("it is not text in UTF-8") from None

    def _union(self, kind: AvroType) -> Any:
        return self.value(kind.parts[self._choice(len(kind.parts), "branch of a union")])

    def _items(self, one: Callable[[], Any]) -> list[Any]:
        """Blocks of items, until one is empty; a negative count is followed by the block's size."""
        found: list[Any] = []
        while count := self.number():
            if count < 0:
                count = -count
                self.number()
            # Items of no bytes, which damage could claim by the billion, are not worth reading.
            if count > self._end - self.position:
                raise DataError("the message ends in the middle of it, or its length is damaged")
            found += [one() for _ in range(count)]
        return found

    def _array(self, kind: AvroType) -> list[Any]:
        return self._items(lambda: self.value(kind.parts[0]))

    def _map(self, kind: AvroType) -> list[Any]:
        return self._items(lambda: {"key": self._text(kind), "value": self.value(kind.parts[0])})

    def _record(self, kind: AvroType) -> dict[str, Any]:
        return {each.name: self.value(each.type) for each in kind.fields}

    def _symbol(self, kind: AvroType) -> str:
        return kind.symbols[self._choice(len(kind.symbols), "symbol of an enum")]


_VALUES: dict[str, Callable[[Reader, AvroType], Any]] = {
    "null": lambda reader, kind: None,
    "boolean": Reader._boolean,
    "int": lambda reader, kind: reader.number(),
    "long": lambda reader, kind: reader.number(),
    "float": lambda reader, kind: struct.unpack("<f", reader.take(4))[0],
    "double": lambda reader, kind: struct.unpack("<d", reader.take(8))[0],
    "bytes": lambda reader, kind: reader.take(reader.number()),
    "string": Reader._text,
    "fixed": lambda reader, kind: reader.take(kind.size),
    "enum": Reader._symbol,
    "union": Reader._union,
    "array": Reader._array,
    "map": Reader._map,
    "record": Reader._record,
}
