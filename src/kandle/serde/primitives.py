"""Single values as Kafka's own serializers write them: text, 8 byte integers and doubles, big endian."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kandle.errors import SchemaError
from kandle.model.types import BytesType, DataType, FloatType, IntegerType, StringType
from kandle.serde.encoding import checked_column
from kandle.serde.fields import RecordField
from kandle.serde.port import Decoded, Messages, physical_schema, rejects_of
from kandle.serde.registry import subject_of
from kandle.serde.schema import Side

INT_BYTES, LONG_BYTES, DOUBLE_BYTES = 4, 8, 8


@dataclass(frozen=True, slots=True)
class Primitive:
    """How values of one type are written and read; `read` raises ValueError."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


def _integer(message: bytes) -> int:
    # What others write as INTEGER has 4 bytes.
    if len(message) not in (INT_BYTES, LONG_BYTES):
        raise ValueError(f"{len(message)} bytes are no integer of {INT_BYTES} or {LONG_BYTES}")
    return int.from_bytes(message, "big", signed=True)


def _double(message: bytes) -> float:
    if len(message) != DOUBLE_BYTES:
        raise ValueError(f"{len(message)} bytes are no double of {DOUBLE_BYTES}")
    return float(struct.unpack(">d", message)[0])


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None


PRIMITIVES: dict[type[DataType], Primitive] = {
    StringType: Primitive(str.encode, _text),
    IntegerType: Primitive(lambda value: value.to_bytes(LONG_BYTES, "big", signed=True), _integer),
    FloatType: Primitive(lambda value: struct.pack(">d", value), _double),
    BytesType: Primitive(bytes, bytes),
}


class KafkaFormat:
    """Records of one field that are its bare value; SchemaError for any other record."""

    def __init__(self, topic: str, side: Side, fields: Sequence[RecordField]) -> None:
        self.fields = tuple(fields)
        self._subject = subject_of(topic, side)
        if len(self.fields) != 1:
            names = ", ".join(each.name for each in self.fields) or "no columns"
            raise SchemaError(f"{self._subject}: KAFKA is a format of one column, not of {names}; use AVRO or JSON")
        self._field = self.fields[0]
        primitive = PRIMITIVES.get(type(self._field.type))
        if primitive is None or self._field.nullable:
            raise SchemaError(
                f"{self._subject}: KAFKA has no {self._field.words} ({self._field.name}); it has str, int, float and bytes, "
                "not Optional; use AVRO or JSON"
            )
        self._primitive = primitive

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row."""
        write = self._primitive.write
        return [write(value) for value in checked_column(self._field, frame, self._subject).to_list()]

    def decode(self, messages: Messages) -> Decoded:
        """A row per message."""
        read, values, reasons = self._primitive.read, [], {}
        for at, message in enumerate(messages):
            try:
                if message is None:
                    raise ValueError("there is no value (null)")
                values.append(read(message))
            except ValueError as error:
                reasons[at] = f"{self._subject}, field {self._field.name}: {error}"
        frame = pl.DataFrame({self._field.name: values}, schema=physical_schema(self.fields))
        return Decoded(frame, rejects_of(reasons))
