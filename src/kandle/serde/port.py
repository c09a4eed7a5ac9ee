"""What every format does: columns of records to messages, and messages to columns, with those beside them that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from kandle.errors import SchemaError
from kandle.model.entity import MISSING, Default, EntityModel, FieldModel
from kandle.model.parsing import scaled
from kandle.model.types import SIMPLE_TYPES, TIMESTAMP, UUID, DataType, DecimalType
from kandle.time.timeframe import IntArray

FINE = ("epoch_us", "epoch_ns")
"""Datetime formats that ask for microseconds; kandle has nothing finer."""


class ColumnLike(Protocol):
    """A column of a topic."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def physical(self) -> pl.DataType: ...
    @property
    def nullable(self) -> bool: ...
    @property
    def header(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class RecordField:
    """One field of a key or value record.

    `default` is a Python value, used where a writer's schema has no such field. `datetime_format` is that of the entity: one of
    the epoch formats says what plain integers of foreign records mean, and `epoch_us` and `epoch_ns` keep microseconds.
    """

    name: str
    type: DataType
    nullable: bool = False
    default: Any = MISSING
    aliases: tuple[str, ...] = ()
    datetime_format: str | None = None

    @property
    def words(self) -> str:
        """The type for messages: `Decimal(18, 6) | None`."""
        return f"{self.type} | None" if self.nullable else str(self.type)

    @property
    def is_fine(self) -> bool:
        """Whether instants are kept to the microsecond, not to the millisecond."""
        return self.datetime_format in FINE


def entity_field(found: FieldModel) -> RecordField:
    """The field of an entity; defaults that are made anew for each object are none for a schema, except empty maps."""
    default = {} if found.default is dict else found.default
    kept = found.default is MISSING or default is None or isinstance(default, found.type.row.python)
    return RecordField(found.name, found.type, found.nullable, default if kept else MISSING, found.aliases, found.datetime_format)


def column_fields(columns: Iterable[ColumnLike], entity: EntityModel | None = None) -> tuple[RecordField, ...]:
    """The fields of a topic's columns; what the entity knows beyond them (defaults, aliases, formats) is taken from it.

    Columns that are not of an entity keep their instants to the microsecond.
    """
    known = {} if entity is None else {found.name: found for found in entity.fields}
    return tuple(_column_field(column, known.get(column.name)) for column in columns)


def _column_field(column: ColumnLike, found: FieldModel | None) -> RecordField:
    kind = _data_type(column)
    if found is not None and found.type.physical == column.physical and str(found.type) == column.kind:
        return entity_field(found)
    fine = "epoch_us" if kind == TIMESTAMP and column.kind != str(TIMESTAMP) else None
    return RecordField(column.name, kind, column.nullable, datetime_format=fine)


# A UUID is a column of text, too; only the words of its column say so.
_BY_PHYSICAL: dict[pl.DataType, DataType] = {kind.physical: kind for kind in SIMPLE_TYPES if kind != UUID}
_DECIMAL = re.compile(r"Decimal\((\d+), (\d+)\)")


def _data_type(column: ColumnLike) -> DataType:
    if found := _DECIMAL.fullmatch(column.kind):
        return DecimalType(int(found[1]), int(found[2]))
    if column.kind == str(UUID):
        return UUID
    if column.physical in _BY_PHYSICAL:
        return _BY_PHYSICAL[column.physical]
    raise SchemaError(f"column {column.name}: {column.kind} ({column.physical}) has no form in Avro, JSON or KAFKA")


LONGEST_SHOWN = 60


def physical_default(found: RecordField) -> Any:
    """The default as a value of physical frames."""
    value = None if found.default is MISSING else found.default
    if value is None:
        return None
    if isinstance(found.type, DecimalType):
        return scaled(value, found.type.scale)
    return found.type.to_physical(value)


def has_default(found: RecordField) -> bool:
    """Whether records without the field can be read."""
    return found.nullable or not isinstance(found.default, Default)


Messages = Sequence[bytes | None]
BoolArray = npt.NDArray[np.bool_]


class Reject(NamedTuple):
    """A message that cannot be read: its place among the messages, and why."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Physical rows of the messages that could be read, in their order; `rejects` are the others.

    `tombstones` says for each row whether its value is None (then its value columns are NULL); None where no row is one.
    """

    frame: pl.DataFrame
    rejects: tuple[Reject, ...] = ()
    tombstones: pl.Series | None = None


class Format(Protocol):
    """The key or the value records of one topic as bytes."""

    @property
    def fields(self) -> tuple[RecordField, ...]:
        """The columns that it writes and reads, in their order."""

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row of a physical frame; DataError names topic, field and value that does not fit."""

    def decode(self, messages: Messages) -> Decoded:
        """Physical rows of messages; UnavailableError if the schema registry is needed and cannot be reached."""


def physical_schema(fields: Sequence[RecordField]) -> dict[str, pl.DataType]:
    """Columns of the fields' physical frames."""
    return {each.name: each.type.physical for each in fields}


def rejects_of(reasons: Mapping[int, str], subject: str = "") -> tuple[Reject, ...]:
    """Rejects in the order of the messages; each reason names the subject."""
    prefix = f"{subject}: " if subject else ""
    return tuple(Reject(at, f"{prefix}{reasons[at]}") for at in sorted(reasons))


def kept_places(count: int, rejects: Sequence[Reject]) -> IntArray:
    """The places of the messages that are not among the rejects."""
    kept = np.ones(count, np.bool_)
    kept[[each.at for each in rejects]] = False
    return np.flatnonzero(kept)


def shown(value: object) -> str:
    """A value for messages, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
