"""Markers of fields (`Annotated[str, Key(0)]`) and decorators of entity classes (`@kandle.stream("ticks")`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar, get_args

from kandle.errors import ModelError

T = TypeVar("T")

FormatName = Literal["AVRO", "JSON", "KAFKA", "DELIMITED", "PROTOBUF"]
"""Format of the bytes of keys or values in Kafka, by its name in ksqlDB; see docs/serialization.md."""

FORMATS: tuple[str, ...] = get_args(FormatName)

PartitionerName = Literal["murmur2", "other"]
"""How the producers of a topic choose partitions by key: as those of Java do by default, or in another way."""

PARTITIONERS: tuple[str, ...] = get_args(PartitionerName)

Access = Literal["read_write", "read_only", "write_only"]
"""What may be done with the records of an entity."""

EPOCH_FORMATS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1, "epoch_ns": None}
"""Datetime formats of integers since the epoch, each with its unit in microseconds (None: finer than one)."""


@dataclass(frozen=True, slots=True)
class Key:
    """Marks a field as a part of the entity's key.

    Keys decide the partition of a record, and the newest record of a key is the current row of a table.

    Args:
        order: Position of the part in the key, counted from 0.

    Raises:
        ModelError: If `order` is negative.

    Example:
        `symbol: Annotated[str, Key(0)]`
    """

    order: int

    def __post_init__(self) -> None:
        _check_count("Key", self.order, least=0, example=0)


@dataclass(frozen=True, slots=True)
class Timestamp:
    """Marks the field that holds the event time of the entity, a datetime that is not Optional.

    Example:
        `time: Annotated[datetime, Timestamp()]`
    """


@dataclass(frozen=True, slots=True)
class Precision:
    """Gives a Decimal field its number of digits; every Decimal field needs one.

    Args:
        precision: Number of digits in all, from 1 to 38.
        scale: Number of digits behind the point, at most `precision`.

    Example:
        `price: Annotated[Decimal, Precision(18, 6)]`
    """

    precision: int
    scale: int


@dataclass(frozen=True, slots=True)
class MaxLength:
    """Limits the length of a str field; a longer text is an error.

    Args:
        characters: Largest number of characters, 1 or more.

    Raises:
        ModelError: If `characters` is less than 1.

    Example:
        `symbol: Annotated[str, MaxLength(12)]`
    """

    characters: int

    def __post_init__(self) -> None:
        _check_count("MaxLength", self.characters, least=1, example=12)


@dataclass(frozen=True, slots=True)
class DatetimeFormat:
    """Says how a datetime field is written in files, where it is not ISO 8601.

    Args:
        pattern: A strftime pattern for texts, or `epoch_s`, `epoch_ms`, `epoch_us` or `epoch_ns` for integers
            since the epoch.

    Example:
        `time: Annotated[datetime, DatetimeFormat("epoch_ms")]`
    """

    pattern: str


@dataclass(frozen=True, slots=True)
class Alias:
    """Gives a field other names under which files may hold it.

    Args:
        names: Names of columns that are read as this field.

    Example:
        `price: Annotated[Decimal, Precision(18, 6), Alias("px", "last_price")]`
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True, slots=True)
class Header:
    """Marks a field that is kept in a header of the record instead of its value.

    The field is a `str | None`, since a record may come without the header.

    Args:
        name: Name of the header.

    Example:
        `trace: Annotated[str | None, Header("trace-id")] = None`
    """

    name: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """Marks a field that is not part of the entity's records; it needs a default.

    Example:
        `cache: Annotated[dict, Ignore()] = field(default_factory=dict)`
    """


def _check_count(marker: str, value: object, *, least: int, example: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ModelError(f"{marker}({value!r}): give an int of {least} or more, for example {marker}({example})")


@dataclass(frozen=True, slots=True)
class EntityOptions:
    """Settings of an entity's topic, as its class decorator gives them."""

    kind: Literal["stream", "table"]
    topic: str | None
    partitions: int
    replication: int | None
    retention: str | timedelta | None
    key_format: FormatName = "AVRO"
    value_format: FormatName = "AVRO"
    partitioner: PartitionerName = "murmur2"
    cache: bool = False

    def __post_init__(self) -> None:
        if self.topic is not None and not isinstance(self.topic, str):
            raise ModelError(f'write @kandle.{self.kind}("topic") or @kandle.{self.kind}() with parentheses, above the class')
        topic = f"topic {self.topic!r}"
        for name, count in (("partitions", self.partitions), ("replication", self.replication)):
            if count is not None and count < 1:
                raise ModelError(f"{topic}: {name} = {count}; give 1 or more")
        for name, choice, choices in (
            ("key_format", self.key_format, FORMATS),
            ("value_format", self.value_format, FORMATS),
            ("partitioner", self.partitioner, PARTITIONERS),
        ):
            if choice not in choices:
                raise ModelError(f"{topic}: {name} = {choice!r}; choose one of {', '.join(choices)}")


OPTIONS_ATTRIBUTE = "__kandle_entity__"
"""Attribute of a decorated class that holds its `EntityOptions`."""


def stream(  # noqa: PLR0913 - all but the topic are by name
    topic: str | None = None,
    *,
    partitions: int = 1,
    replication: int | None = None,
    retention: str | timedelta | None = None,
    key_format: FormatName = "AVRO",
    value_format: FormatName = "AVRO",
    partitioner: PartitionerName = "murmur2",
) -> Callable[[type[T]], type[T]]:
    """Declare a class as the entity of a stream: a topic in which every record is an event.

    The class is a dataclass, an attrs class or a pydantic model.

    Args:
        topic: Name of the topic; the name of the class in snake case if it is left out.
        partitions: Number of partitions of the topic when it is created.
        replication: Number of brokers that keep a copy of each partition when the topic is created; if it is left
            out, the option `kafka.replication` or the default of the brokers.
        retention: How long records are kept, such as "7d" or a timedelta; for ever if it is left out.
        key_format: Format of the keys.
        value_format: Format of the values.
        partitioner: How the producers of the topic choose partitions: `murmur2` as the default of Java, or
            `other`.

    Returns:
        A class decorator that returns the class itself.

    Raises:
        ModelError: If a setting is not valid.

    Example:
        `@kandle.stream("ticks", partitions=4, retention="7d")`
    """
    return _decorator(EntityOptions("stream", topic, partitions, replication, retention, key_format, value_format, partitioner))


def table(  # noqa: PLR0913 - all but the topic are by name
    topic: str | None = None,
    *,
    partitions: int = 1,
    replication: int | None = None,
    retention: str | timedelta | None = None,
    key_format: FormatName = "AVRO",
    value_format: FormatName = "AVRO",
    partitioner: PartitionerName = "murmur2",
    cache: bool = False,
) -> Callable[[type[T]], type[T]]:
    """Declare a class as the entity of a table: a topic in which the newest record of a key is its row.

    The class is a dataclass, an attrs class or a pydantic model.

    Args:
        topic: Name of the topic; the name of the class in snake case if it is left out.
        partitions: Number of partitions of the topic when it is created.
        replication: Number of brokers that keep a copy of each partition when the topic is created; if it is left
            out, the option `kafka.replication` or the default of the brokers.
        retention: How long records are kept, such as "7d" or a timedelta; for ever if it is left out.
        key_format: Format of the keys.
        value_format: Format of the values.
        partitioner: How the producers of the topic choose partitions: `murmur2` as the default of Java, or
            `other`.
        cache: Whether an open context keeps a copy of the table from its start on, and not only from the first read.

    Returns:
        A class decorator that returns the class itself.

    Raises:
        ModelError: If a setting is not valid.

    Example:
        `@kandle.table("instruments")`
    """
    formats = (key_format, value_format, partitioner)
    return _decorator(EntityOptions("table", topic, partitions, replication, retention, *formats, cache=cache))


def _decorator(options: EntityOptions) -> Callable[[type[T]], type[T]]:
    def mark(cls: type[T]) -> type[T]:
        setattr(cls, OPTIONS_ATTRIBUTE, options)
        return cls

    return mark
