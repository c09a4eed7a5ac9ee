"""The codec of a topic: the formats of its keys and values by their names in ksqlDB, and rows as pairs of keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from kandle.errors import OptionsError
from kandle.model.entity import EntityModel
from kandle.serde.avro import AvroFormat
from kandle.serde.json import JsonFormat
from kandle.serde.port import (
    DEFAULT_INSTANTS,
    BoolArray,
    ColumnLike,
    Decoded,
    Format,
    InstantRule,
    Messages,
    RecordField,
    Reject,
    column_fields,
    kept_positions,
    rejects_of,
)
from kandle.serde.primitives import KafkaFormat, WindowedFormat
from kandle.serde.registry import Registry, subject_of
from kandle.serde.schema import Shape, Side, avro_schema, bare_schema
from kandle.time.arrays import IntArray


class TopicCodec:
    """Keys and values of a topic whose frames have certain columns.

    A value that is None is a tombstone where there is a key, and cannot be read where there is none.

    Args:
        columns: The names of the columns, in the order of the frames that are read.
        key: The format of the keys; None where records have no key.
        value: The format of the values.
        headers: By column the header of the record in which it stands: such a column is in neither, and NULL when it is read.
    """

    def __init__(
        self, columns: Sequence[str], key: Format | None, value: Format, headers: Mapping[str, str] | None = None
    ) -> None:
        self._columns = list(columns)
        self._key, self._value = key, value
        self.headers: Mapping[str, str] = {} if headers is None else headers

    def encode(self, frame: pl.DataFrame, tombstones: pl.Series | None = None) -> tuple[list[bytes | None], list[bytes | None]]:
        """Return keys and values of physical rows.

        Args:
            frame: The rows.
            tombstones: Which rows have no value; the value columns of such rows need not be in the frame.

        Raises:
            DataError: A value cannot be written; names topic, field and value.
        """
        keys: list[bytes | None] = [None] * frame.height if self._key is None else self._key.encode(frame)
        if tombstones is None or not tombstones.any():
            return keys, self._value.encode(frame)
        if tombstones.all():
            return keys, [None] * frame.height
        alive = iter(self._value.encode(frame.filter(~tombstones)))
        return keys, [None if gone else next(alive) for gone in tombstones]

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Return rows with all columns; a message whose key or value cannot be read is a reject."""
        gone = np.array([value is None for value in values], np.bool_)
        parts = []
        if self._key is not None:
            parts.append(self._key.decode(keys))
        if self._key is None or not gone.any():
            parts.append(self._value.decode(values))
            gone = np.zeros(len(values), np.bool_)
        else:
            parts.append(self._alive(values, gone))
        rejects = [reject for part in parts for reject in part.rejects]
        kept = kept_positions(len(values), rejects)
        columns = {column.name: column for part in parts for column in _rows(part, len(values), kept)}
        for name in self.headers:
            columns[name] = pl.Series(name, [None], dtype=pl.String).new_from_index(0, len(kept))
        merged = _merged(rejects)
        reject_keys = () if self._key is None else tuple(_key_values(parts[0], len(keys), merged))
        frame = pl.DataFrame([columns[name] for name in self._columns])
        return Decoded(frame, merged, _marks(gone[kept]), reject_keys)

    def _alive(self, values: Messages, gone: BoolArray) -> Decoded:
        """Return what the values say that are there, NULL for tombstones."""
        positions = np.flatnonzero(~gone)
        part = self._value.decode([values[position] for position in positions.tolist()])
        good = positions[kept_positions(len(positions), part.rejects)]
        rejects = tuple(Reject(int(positions[reject.at]), reject.reason) for reject in part.rejects)
        rows = np.full(len(values), -1)
        rows[good] = np.arange(len(good))
        rows = np.delete(rows, [reject.at for reject in rejects])
        return Decoded(_gathered(part.frame, rows), rejects)


def _key_values(keys: Decoded, count: int, rejects: Sequence[Reject]) -> Iterator[tuple[Any, ...] | None]:
    """Yield the key of each rejected message as values of the key columns; None where the key cannot be read itself."""
    readable = kept_positions(count, keys.rejects) if rejects else np.empty(0, np.int64)
    for reject in rejects:
        row = int(np.searchsorted(readable, reject.at))
        yield keys.frame.row(row) if row < len(readable) and readable[row] == reject.at else None


def _rows(part: Decoded, count: int, kept: IntArray) -> list[pl.Series]:
    """Return the columns of the part, with its rows of the messages that are kept."""
    own = kept_positions(count, part.rejects)
    frame = part.frame if len(own) == len(kept) else part.frame[np.searchsorted(own, kept)]
    return frame.get_columns()


def _gathered(frame: pl.DataFrame, rows: IntArray) -> pl.DataFrame:
    """Return rows by number; NULL where it is negative."""
    if frame.is_empty():
        return frame.clear(len(rows))
    numbers = pl.Series(rows)
    return frame.select(pl.all().gather(numbers.set(numbers < 0, None)))


def _marks(gone: BoolArray) -> pl.Series | None:
    return pl.Series("tombstones", gone) if gone.any() else None


def _merged(rejects: Sequence[Reject]) -> tuple[Reject, ...]:
    """Return one reject for each message, with all reasons."""
    reasons: dict[int, str] = {}
    for position, reason in rejects:
        reasons[position] = f"{reasons[position]}; {reason}" if position in reasons else reason
    return rejects_of(reasons)


@dataclass(frozen=True, slots=True)
class Formats:
    """How the records of a topic are written.

    Args:
        key: KEY_FORMAT: AVRO, JSON or KAFKA.
        value: VALUE_FORMAT: AVRO, JSON or KAFKA.
        namespace: The namespace of Avro's record names.
        key_shape: BARE writes keys of one column without a record around them, which is what ksqlDB reads; both are read.
        windowed: Whether the last column of the key is the start of a window, as in ksqlDB's tables.
        instants: How instants are written whose fields do not say it.
    """

    key: str = "AVRO"
    value: str = "AVRO"
    namespace: str | None = None
    key_shape: Shape = Shape.BARE
    windowed: bool = False
    instants: InstantRule = DEFAULT_INSTANTS

    def __post_init__(self) -> None:
        for option, name in (("key_format", self.key), ("value_format", self.value)):
            if name not in _FORMATS:
                raise OptionsError(f"{option} = {name!r}: there are {', '.join(_FORMATS)}")


@dataclass(frozen=True, slots=True)
class _FormatRequest:
    """What a format is made for."""

    topic: str
    side: Side
    fields: tuple[RecordField, ...]
    formats: Formats
    registry: Registry | None

    @property
    def shape(self) -> Shape:
        return self.formats.key_shape if self.side == "key" else Shape.RECORD


def _avro(request: _FormatRequest) -> Format:
    if request.registry is None:
        raise OptionsError(
            f"topic {request.topic}: {request.side}_format = 'AVRO' needs a schema registry; give its url, "
            "use the embedded one, or choose JSON"
        )
    return AvroFormat(
        request.topic,
        request.side,
        request.fields,
        request.registry,
        namespace=request.formats.namespace,
        shape=request.shape,
    )


_FORMATS: dict[str, Callable[[_FormatRequest], Format]] = {
    "AVRO": _avro,
    "JSON": lambda request: JsonFormat(request.topic, request.side, request.fields, shape=request.shape),
    "KAFKA": lambda request: KafkaFormat(request.topic, request.side, request.fields),
}


def topic_codec(
    topic: str,
    columns: Sequence[ColumnLike],
    keys: Sequence[str],
    registry: Registry | None = None,
    formats: Formats | None = None,
    entity: EntityModel | None = None,
) -> TopicCodec:
    """Return the codec of a topic.

    Args:
        topic: The topic.
        columns: Its columns.
        keys: The names of the columns of its key, in their order.
        registry: Where Avro schemas are kept.
        formats: How keys and values are written; Avro if left out.
        entity: The entity of the topic, which adds what columns do not say: defaults, aliases, formats of datetimes.

    Raises:
        OptionsError: A format needs a registry and there is none.
        SchemaError: A column has no form in its format.
    """
    chosen = Formats() if formats is None else formats
    parts = _parts(columns, keys, entity, chosen.instants)
    key = _key(_FormatRequest(topic, "key", parts.key, chosen, registry)) if keys else None
    value = _FORMATS[chosen.value](_FormatRequest(topic, "value", parts.value, chosen, registry))
    return TopicCodec([column.name for column in columns], key, value, parts.headers)


class _Parts(NamedTuple):
    """Which of a topic's columns stand in the key, in the value and in headers."""

    key: tuple[RecordField, ...]
    value: tuple[RecordField, ...]
    headers: dict[str, str]


def _parts(columns: Sequence[ColumnLike], keys: Sequence[str], entity: EntityModel | None, instants: InstantRule) -> _Parts:
    fields = {field.name: field for field in column_fields(columns, entity, instants)}
    headers = {column.name: column.header for column in columns if column.header is not None}
    value = tuple(field for name, field in fields.items() if name not in keys and name not in headers)
    return _Parts(tuple(fields[name] for name in keys), value, headers)


def _key(request: _FormatRequest) -> Format:
    if not request.formats.windowed:
        return _FORMATS[request.formats.key](request)
    *group, start = request.fields
    return WindowedFormat(request.topic, _FORMATS[request.formats.key](replace(request, fields=tuple(group))), start)


def topic_schemas(
    topic: str, columns: Sequence[ColumnLike], keys: Sequence[str], formats: Formats, entity: EntityModel | None = None
) -> dict[str, str]:
    """Return the schemas with which a topic's keys and values are written, by their subjects, as far as they are Avro."""
    parts = _parts(columns, keys, entity, formats.instants)
    schemas: dict[str, str] = {}
    if formats.key == "AVRO" and keys:
        is_bare = formats.key_shape is Shape.BARE and len(parts.key) == 1
        schemas[subject_of(topic, "key")] = (
            bare_schema(parts.key[0]) if is_bare else avro_schema(parts.key, topic, "key", formats.namespace)
        )
    if formats.value == "AVRO":
        schemas[subject_of(topic, "value")] = avro_schema(parts.value, topic, "value", formats.namespace)
    return schemas
