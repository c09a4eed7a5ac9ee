"""What users write beside their fields (`Annotated[str, Key(0)]`) and above their classes (`@kandle.stream("ticks")`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar, get_args

from kandle.errors import ModelError

T = TypeVar("T")

FormatName = Literal["AVRO", "JSON", "KAFKA", "DELIMITED", "PROTOBUF"]
"""How keys or values are bytes in Kafka, by its name in ksqlDB; docs/serialization.md."""

FORMATS: tuple[str, ...] = get_args(FormatName)

PartitionerName = Literal["murmur2", "other"]
"""How a topic's producers choose partitions by key: as Java's do, or in any other way."""

PARTITIONERS: tuple[str, ...] = get_args(PartitionerName)

EPOCH_FORMATS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1, "epoch_ns": None}
"""Datetime formats of integers since the epoch, each with its microseconds (None: finer than one)."""


@dataclass(frozen=True, slots=True)
class Key:
    """The field is part number `order` of the entity's key, counted from 0."""

    order: int


@dataclass(frozen=True, slots=True)
class Timestamp:
    """The field is the event time of the entity."""


@dataclass(frozen=True, slots=True)
class Precision:
    """A decimal of `precision` digits, `scale` of them behind the point."""

    precision: int
    scale: int


@dataclass(frozen=True, slots=True)
class MaxLength:
    """A text of at most `characters` characters."""

    characters: int


@dataclass(frozen=True, slots=True)
class DatetimeFormat:
    """How a datetime is written in text: a strftime pattern, or epoch_s, epoch_ms, epoch_us, epoch_ns for integers."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Alias:
    """Other names under which the field may be found when data are read."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True, slots=True)
class Header:
    """The field stands in the header of this name beside the record, not in it; a text, or None where there is no such header."""

    name: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """The field is not part of the entity's records; it needs a default."""


@dataclass(frozen=True, slots=True)
class EntityOptions:
    """What a class decorator says of the entity's topic."""

    kind: Literal["stream", "table"]
    topic: str | None
    partitions: int
    replication: int
    retention: str | timedelta | None
    key_format: FormatName = "AVRO"
    value_format: FormatName = "AVRO"
    partitioner: PartitionerName = "murmur2"


OPTIONS_ATTRIBUTE = "__kandle_entity__"


def stream(  # noqa: PLR0913 - all but the topic are by name
    topic: str | None = None,
    *,
    partitions: int = 1,
    replication: int = 1,
    retention: str | timedelta | None = None,
    key_format: FormatName = "AVRO",
    value_format: FormatName = "AVRO",
    partitioner: PartitionerName = "murmur2",
) -> Callable[[type[T]], type[T]]:
    """Make a class the entity of a stream of events; the topic is named after the class unless said otherwise."""
    return _entity(EntityOptions("stream", topic, partitions, replication, retention, key_format, value_format, partitioner))


def table(  # noqa: PLR0913 - all but the topic are by name
    topic: str | None = None,
    *,
    partitions: int = 1,
    replication: int = 1,
    retention: str | timedelta | None = None,
    key_format: FormatName = "AVRO",
    value_format: FormatName = "AVRO",
    partitioner: PartitionerName = "murmur2",
) -> Callable[[type[T]], type[T]]:
    """Make a class the entity of a table, in which the newest row of a key counts."""
    return _entity(EntityOptions("table", topic, partitions, replication, retention, key_format, value_format, partitioner))


def _entity(options: EntityOptions) -> Callable[[type[T]], type[T]]:
    if options.topic is not None and not isinstance(options.topic, str):
        raise ModelError('write @kandle.stream("topic") or @kandle.stream() with parentheses, above the class')
    if options.partitions < 1 or options.replication < 1:
        raise ModelError(
            f"topic {options.topic!r}: partitions ({options.partitions}) and replication ({options.replication}) start at 1"
        )

    for side, name in (("key_format", options.key_format), ("value_format", options.value_format)):
        if name not in FORMATS:
            raise ModelError(f"topic {options.topic!r}: {side} = {name!r}; there are {', '.join(FORMATS)}")
    if options.partitioner not in PARTITIONERS:
        raise ModelError(f"topic {options.topic!r}: partitioner = {options.partitioner!r}; there are {', '.join(PARTITIONERS)}")

    def mark(cls: type[T]) -> type[T]:
        setattr(cls, OPTIONS_ATTRIBUTE, options)
        return cls

    return mark
