"""The formats of keys and values by their names in ksqlDB, and the codec of a topic made of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from kandle.errors import OptionsError, SchemaError
from kandle.model.entity import EntityModel
from kandle.model.types import BytesType, DataType, FloatType, IntegerType, StringType, TimestampType
from kandle.serde.avro import AvroFormat
from kandle.serde.avro_writing import checked_column
from kandle.serde.json import JsonFormat
from kandle.serde.port import (
    BoolArray,
    ColumnLike,
    Decoded,
    Format,
    Messages,
    RecordField,
    Reject,
    column_fields,
    kept_places,
    physical_schema,
    rejects_of,
)
from kandle.serde.registry import Registry, subject_of
from kandle.serde.schema import Shape, Side, avro_schema, bare_schema
from kandle.time.timeframe import IntArray


class TopicCodec:
    """Keys and values of a topic whose frames have these columns; `key` is None where records have no key.

    A value that is None is a tombstone where there is a key, and cannot be read where there is none. `headers` names the headers
    in which columns stand: they are in neither, and NULL when they are read.
    """

    def __init__(
        self, columns: Sequence[str], key: Format | None, value: Format, headers: Mapping[str, str] | None = None
    ) -> None:
        self._columns = list(columns)
        self._key, self._value = key, value
        self.headers: Mapping[str, str] = {} if headers is None else headers

    def encode(self, frame: pl.DataFrame, tombstones: pl.Series | None = None) -> tuple[list[bytes | None], list[bytes | None]]:
        """Keys and values of physical rows; the value columns of tombstones are not looked at and need not be there."""
        keys: list[bytes | None] = [None] * frame.height if self._key is None else self._key.encode(frame)
        if tombstones is None or not tombstones.any():
            return keys, self._value.encode(frame)
        if tombstones.all():
            return keys, [None] * frame.height
        alive = iter(self._value.encode(frame.filter(~tombstones)))
        return keys, [None if gone else next(alive) for gone in tombstones]

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Rows with all columns; a message whose key or value cannot be read is a reject."""
        gone = np.array([value is None for value in values], np.bool_)
        parts = []
        if self._key is not None:
            parts.append(self._key.decode(keys))
        if self._key is None or not gone.any():
            parts.append(self._value.decode(values))
            gone = np.zeros(len(values), np.bool_)
        else:
            parts.append(self._alive(values, gone))
        rejects = [each for part in parts for each in part.rejects]
        kept = kept_places(len(values), rejects)
        frames = [_rows(part, len(values), kept) for part in parts]
        # A frame without columns has no rows either.
        frame = pl.concat([each for each in frames if each.width], how="horizontal")
        if self.headers:
            frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in self.headers)
        return Decoded(frame.select(self._columns), _merged(rejects), _marks(gone[kept]))

    def _alive(self, values: Messages, gone: BoolArray) -> Decoded:
        """What the values that are there say, NULL for tombstones."""
        places = np.flatnonzero(~gone)
        found = self._value.decode([values[place] for place in places.tolist()])
        good = places[kept_places(len(places), found.rejects)]
        rejects = tuple(Reject(int(places[each.at]), each.reason) for each in found.rejects)
        rows = np.full(len(values), -1)
        rows[good] = np.arange(len(good))
        rows = np.delete(rows, [each.at for each in rejects])
        return Decoded(_gathered(found.frame, rows), rejects)


def _rows(part: Decoded, count: int, kept: IntArray) -> pl.DataFrame:
    """The part's rows of the messages that are kept."""
    own = kept_places(count, part.rejects)
    return part.frame if len(own) == len(kept) else part.frame[np.searchsorted(own, kept)]


def _gathered(frame: pl.DataFrame, rows: IntArray) -> pl.DataFrame:
    """Rows by number; NULL where it is negative."""
    if frame.is_empty():
        return frame.clear(len(rows))
    numbers = pl.Series(rows)
    return frame.select(pl.all().gather(numbers.set(numbers < 0, None)))


def _marks(gone: BoolArray) -> pl.Series | None:
    return pl.Series("tombstones", gone) if gone.any() else None


def _merged(rejects: Sequence[Reject]) -> tuple[Reject, ...]:
    """One reject for each message, with all reasons."""
    reasons: dict[int, str] = {}
    for at, reason in rejects:
        reasons[at] = f"{reasons[at]}; {reason}" if at in reasons else reason
    return rejects_of(reasons)


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


WINDOW_BYTES = 8
MILLISECOND = 1_000
FIRST_START, END_OF_STARTS = -62_135_596_800_000, 253_402_300_800_000
"""Milliseconds of the years 1 to 9999."""


class WindowedFormat:
    """Key records whose last field is the start of a window, after those of another format."""

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
        """A message per row of a physical frame."""
        starts = frame[self._start.name].to_physical().to_numpy() // MILLISECOND
        windows = starts.astype(">i8").tobytes()
        keys = self._inner.encode(frame)
        return [(key or b"") + windows[at * WINDOW_BYTES : (at + 1) * WINDOW_BYTES] for at, key in enumerate(keys)]

    def decode(self, messages: Messages) -> Decoded:
        """Physical rows of messages; one that is too short for a window is a reject."""
        places = [at for at, message in enumerate(messages) if message is not None and len(message) >= WINDOW_BYTES]
        chosen = [message for at in places if (message := messages[at]) is not None]
        starts = np.frombuffer(b"".join(message[-WINDOW_BYTES:] for message in chosen), ">i8").astype(np.int64)
        found = self._inner.decode([message[:-WINDOW_BYTES] for message in chosen])
        rejects = {places[each.at]: each.reason for each in found.rejects} | self._wrong(messages, places, starts)
        inside = kept_places(len(places), found.rejects)
        kept = [number for number, at in enumerate(inside.tolist()) if places[at] not in rejects]
        start = pl.Series(self._start.name, starts[inside[kept]] * MILLISECOND).cast(self._start.type.physical)
        return Decoded(found.frame[kept].with_columns(start), tuple(Reject(at, rejects[at]) for at in sorted(rejects)))

    def _wrong(self, messages: Messages, places: Sequence[int], starts: np.ndarray) -> dict[int, str]:
        """Why messages have no window."""
        short = set(range(len(messages))).difference(places)
        found = {at: f"{self._subject}: {len(messages[at] or b'')} bytes are too few for the start of a window" for at in short}
        for number in np.flatnonzero((starts < FIRST_START) | (starts >= END_OF_STARTS)).tolist():
            found[places[number]] = f"{self._subject}: the key ends in {starts[number]}, which is not the start of a window"
        return found


@dataclass(frozen=True, slots=True)
class Formats:
    """How the records of a topic are written: KEY_FORMAT and VALUE_FORMAT, each AVRO, JSON or KAFKA.

    `namespace` is that of Avro's record names. `key_shape` BARE writes keys of one column without a record around them, which is
    what ksqlDB reads; both are read. The last column of a `windowed` key is the start of a window, as in ksqlDB's tables.
    """

    key: str = "AVRO"
    value: str = "AVRO"
    namespace: str | None = None
    key_shape: Shape = Shape.BARE
    windowed: bool = False

    def __post_init__(self) -> None:
        for option, name in (("key_format", self.key), ("value_format", self.value)):
            if name not in _FORMATS:
                raise OptionsError(f"{option} = {name!r}: there are {', '.join(_FORMATS)}")


@dataclass(frozen=True, slots=True)
class _Wanted:
    topic: str
    side: Side
    fields: tuple[RecordField, ...]
    formats: Formats
    registry: Registry | None

    @property
    def shape(self) -> Shape:
        return self.formats.key_shape if self.side == "key" else Shape.RECORD


def _avro(wanted: _Wanted) -> Format:
    if wanted.registry is None:
        raise OptionsError(
            f"topic {wanted.topic}: {wanted.side}_format = 'AVRO' needs a schema registry; give its url, "
            "use the embedded one, or choose JSON"
        )
    return AvroFormat(
        wanted.topic,
        wanted.side,
        wanted.fields,
        wanted.registry,
        namespace=wanted.formats.namespace,
        shape=wanted.shape,
    )


_FORMATS: dict[str, Callable[[_Wanted], Format]] = {
    "AVRO": _avro,
    "JSON": lambda wanted: JsonFormat(wanted.topic, wanted.side, wanted.fields, shape=wanted.shape),
    "KAFKA": lambda wanted: KafkaFormat(wanted.topic, wanted.side, wanted.fields),
}


def topic_codec(
    topic: str,
    columns: Sequence[ColumnLike],
    keys: Sequence[str],
    registry: Registry | None = None,
    formats: Formats | None = None,
    entity: EntityModel | None = None,
) -> TopicCodec:
    """The codec of a topic with these columns, of which `keys` are those of its key in their order.

    The entity adds what its columns do not say: defaults, aliases, formats of datetimes.
    """
    chosen = Formats() if formats is None else formats
    fields = {each.name: each for each in column_fields(columns, entity)}
    headers = {column.name: column.header for column in columns if column.header is not None}
    key_fields = tuple(fields[name] for name in keys)
    value_fields = tuple(each for name, each in fields.items() if name not in keys and name not in headers)
    key = _key(_Wanted(topic, "key", key_fields, chosen, registry)) if keys else None
    value = _FORMATS[chosen.value](_Wanted(topic, "value", value_fields, chosen, registry))
    return TopicCodec(list(fields), key, value, headers)


def _key(wanted: _Wanted) -> Format:
    if not wanted.formats.windowed:
        return _FORMATS[wanted.formats.key](wanted)
    *group, start = wanted.fields
    return WindowedFormat(wanted.topic, _FORMATS[wanted.formats.key](replace(wanted, fields=tuple(group))), start)


def topic_schemas(
    topic: str, columns: Sequence[ColumnLike], keys: Sequence[str], formats: Formats, entity: EntityModel | None = None
) -> dict[str, str]:
    """The schemas with which a topic's keys and values are written, as far as they are Avro."""
    fields = {each.name: each for each in column_fields(columns, entity)}
    found: dict[str, str] = {}
    if formats.key == "AVRO" and keys:
        parts = [fields[name] for name in (keys[:-1] if formats.windowed else keys)]
        is_bare = formats.key_shape is Shape.BARE and len(parts) == 1
        found[subject_of(topic, "key")] = (
            bare_schema(parts[0]) if is_bare else avro_schema(parts, topic, "key", formats.namespace)
        )
    if formats.value == "AVRO":
        headers = {column.name for column in columns if column.header is not None}
        values = [each for name, each in fields.items() if name not in keys and name not in headers]
        found[subject_of(topic, "value")] = avro_schema(values, topic, "value", formats.namespace)
    return found
