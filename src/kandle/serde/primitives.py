"""Formats without a schema and without structure: one value as its bytes (KAFKA), and the start of a window behind a key."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from kandle.errors import SchemaError
from kandle.model.types import INSTANT_BOUNDS, BytesType, DataType, FloatType, IntegerType, StringType, TimestampType
from kandle.serde.port import (
    Decoded,
    Format,
    Messages,
    RecordField,
    Reject,
    checked_column,
    kept_positions,
    physical_schema,
    rejects_of,
)
from kandle.serde.registry import subject_of
from kandle.serde.schema import Side
from kandle.time.arrays import IntArray

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
"""The types that Kafka's own serializers have."""


class KafkaFormat:
    """Records of one field that are its bare value.

    Args:
        topic: The topic, for messages.
        side: Whether the records are its keys or its values.
        fields: The one field.

    Raises:
        SchemaError: There are more fields, or the field is of a type that the format does not have.
    """

    def __init__(self, topic: str, side: Side, fields: Sequence[RecordField]) -> None:
        self.fields = tuple(fields)
        self._subject = subject_of(topic, side)
        if len(self.fields) != 1:
            names = ", ".join(field.name for field in self.fields) or "no columns"
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
        """Return a message for each row of a physical frame."""
        write = self._primitive.write
        return [write(value) for value in checked_column(self._field, frame, self._subject).to_list()]

    def decode(self, messages: Messages) -> Decoded:
        """Return the physical rows of the messages, and those that cannot be read as rejects."""
        read, values, reasons = self._primitive.read, [], {}
        for position, message in enumerate(messages):
            try:
                if message is None:
                    raise ValueError("there is no value (null)")
                values.append(read(message))
            except ValueError as error:
                reasons[position] = f"{self._subject}, field {self._field.name}: {error}"
        frame = pl.DataFrame({self._field.name: values}, schema=physical_schema(self.fields))
        return Decoded(frame, rejects_of(reasons))


WINDOW_BYTES = 8
MILLISECOND = 1_000
FIRST_START, LAST_START = -(-INSTANT_BOUNDS[0] // MILLISECOND), INSTANT_BOUNDS[1] // MILLISECOND


class WindowedFormat:
    """Key records whose last field is the start of a window, as ksqlDB writes them: 8 bytes behind a key of another format.

    Args:
        topic: The topic, for messages.
        inner: The format of the key without the window.
        start: The field that holds the start.

    Raises:
        SchemaError: The field is no datetime.
    """

    def __init__(self, topic: str, inner: Format, start: RecordField) -> None:
        if not isinstance(start.type, TimestampType):
            raise SchemaError(
                f"topic {topic}: the last part of a windowed key is the window's start, not {start.name}: {start.type}"
            )
        self._subject = subject_of(topic, "key")
        self._inner = inner
        self._start = start
        self.fields = (*inner.fields, start)

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """Return a message for each row of a physical frame."""
        starts = frame[self._start.name].to_physical().to_numpy() // MILLISECOND
        windows = starts.astype(">i8").tobytes()
        keys = self._inner.encode(frame)
        return [(key or b"") + windows[row * WINDOW_BYTES : (row + 1) * WINDOW_BYTES] for row, key in enumerate(keys)]

    def decode(self, messages: Messages) -> Decoded:
        """Return the physical rows of messages; one that is too short for a window is a reject."""
        positions = [row for row, message in enumerate(messages) if message is not None and len(message) >= WINDOW_BYTES]
        chosen = [message for position in positions if (message := messages[position]) is not None]
        starts = np.frombuffer(b"".join(message[-WINDOW_BYTES:] for message in chosen), ">i8").astype(np.int64)
        inner = self._inner.decode([message[:-WINDOW_BYTES] for message in chosen])
        rejects = {positions[reject.at]: reject.reason for reject in inner.rejects} | self._wrong(messages, positions, starts)
        inside = kept_positions(len(positions), inner.rejects)
        kept = [row for row, number in enumerate(inside.tolist()) if positions[number] not in rejects]
        start = pl.Series(self._start.name, starts[inside[kept]] * MILLISECOND).cast(self._start.type.physical)
        frame = inner.frame[kept].with_columns(start)
        return Decoded(frame, tuple(Reject(position, rejects[position]) for position in sorted(rejects)))

    def _wrong(self, messages: Messages, positions: Sequence[int], starts: IntArray) -> dict[int, str]:
        """Return why messages have no window."""
        short = set(range(len(messages))).difference(positions)
        wrong = {
            position: f"{self._subject}: {len(messages[position] or b'')} bytes are too few for the start of a window"
            for position in short
        }
        for number in np.flatnonzero((starts < FIRST_START) | (starts > LAST_START)).tolist():
            wrong[positions[number]] = f"{self._subject}: the key ends in {starts[number]}, which is not the start of a window"
        return wrong
