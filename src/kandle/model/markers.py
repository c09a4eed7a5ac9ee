"""Markers of fields (`Annotated[str, Key(0)]`) and decorators of entity classes (`@kandle.stream("ticks")`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, get_args

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

Normalizer = Callable[[str], str]
"""Gives all spellings of a part of a key one form."""

EPOCH_FORMATS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1, "epoch_ns": None}
"""Datetime formats of integers since the epoch, each with its unit in microseconds (None: finer than one)."""


@dataclass(frozen=True, slots=True)
class Key:
    """Marks a field as a part of the entity's key.

    Keys decide the partition of a record, and the newest record of a key is the current row of a table.

    Args:
        order: Position of the part in the key, counted from 0.
        normalize: Gives all spellings of a text one form, such as `str.upper`. It is used for what is written and for what
            is read, for the keys of queries and schedules, and for the keys that reads and the configuration name.
            Normalizing a normalized text must not change it.

    Raises:
        ModelError: If `order` is negative, or `normalize` is not a function.

    Example:
        `symbol: Annotated[str, Key(0, normalize=str.upper)]`
    """

    order: int
    normalize: Normalizer | None = None

    def __post_init__(self) -> None:
        _check_count("Key", self.order, least=0, example=0)
        if self.normalize is not None and not callable(self.normalize):
            raise ModelError(
                f"Key({self.order}, normalize={self.normalize!r}): give a function of a text, such as normalize=str.upper"
            )


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


Upgrade = Callable[[Any], Any]
"""Makes of an object of one class the same of another."""


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
    key_version: int | None = None
    previous: type | None = None
    upgrade: Upgrade | None = None
    downgrade: Upgrade | None = None
    dual_write: bool = False

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
        self._check_version(topic)

    def _check_version(self, topic: str) -> None:
        """Raise ModelError for parts of a key version that do not go together."""
        number = self.key_version
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise ModelError(f"{topic}: key_version = {number!r}; give 1, 2, 3 ..")
        if number is not None and number > 1 and self.previous is None:
            raise ModelError(
                f"{topic}: key_version = {number} without a version before it; add previous=..., the class with the former key, "
                "and upgrade=..., a function from its objects to those of this class"
            )
        if self.previous is None:
            given = {"upgrade": self.upgrade, "downgrade": self.downgrade, "dual_write": self.dual_write}
            name = next((name for name, value in given.items() if value), None)
            if name is not None:
                raise ModelError(f"{topic}: {name} = ... without previous=...; say which class has the former key")
            return
        if not isinstance(self.previous, type):
            raise ModelError(f"{topic}: previous = {self.previous!r} is no class; give the class with the former key itself")
        if number is None or number < 2:
            raise ModelError(f"{topic}: previous = {_name(self.previous)} needs key_version=2 or more, and {number} is given")
        if self.upgrade is None:
            raise ModelError(
                f"{topic}: previous = {_name(self.previous)} needs upgrade=..., a function from its objects to those of this "
                "class"
            )
        for name, function in (("upgrade", self.upgrade), ("downgrade", self.downgrade)):
            if function is not None:
                _check_function(f"{topic}: {name}", function)


def _check_function(label: str, function: object) -> None:
    """Raise ModelError for what is no function, cannot be called with one object, or would have to be awaited."""
    if not callable(function):
        raise ModelError(f"{label} = {function!r} is no function; write a lambda or the name of a function of one object")
    if inspect.iscoroutinefunction(function):
        raise ModelError(f"{label} = {_name(function)} would have to be awaited; write it without async")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise ModelError(f"{label} = {_name(function)} cannot be called with one object: {error}") from None
    except ValueError:
        # Some functions that are not written in Python do not say what they take.
        return


def _name(cls: object) -> str:
    return getattr(cls, "__name__", repr(cls))


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
    key_version: int | None = None,
    previous: type | None = None,
    upgrade: Upgrade | None = None,
    downgrade: Upgrade | None = None,
    dual_write: bool = False,
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
        key_version: Version of the key, which records carry in the header `key-version`. From 2 on with `previous` and
            `upgrade`; the topic is then another one than that of the previous version, see below.
        previous: The class with the previous key, an entity of the same kind with a lower version. Whoever reads this entity
            reads its records as well. If it has the same topic, that of this class is `<topic>_v<key_version>`.
        upgrade: A function from an object of `previous` to the same object of this class.
        downgrade: The function back, for `dual_write`; where all fields of `previous` are fields here, it can be left out.
        dual_write: Whether what is added here is written in the previous version as well, for programs that read it.

    Returns:
        A class decorator that returns the class itself.

    Raises:
        ModelError: If a setting is not valid.

    Example:
        `@kandle.stream("ticks", partitions=4, retention="7d")`
    """
    settings = (topic, partitions, replication, retention, key_format, value_format, partitioner)
    return _decorator(EntityOptions("stream", *settings, False, key_version, previous, upgrade, downgrade, dual_write))


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
    key_version: int | None = None,
    previous: type | None = None,
    upgrade: Upgrade | None = None,
    downgrade: Upgrade | None = None,
    dual_write: bool = False,
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
        key_version: Version of the key, which records carry in the header `key-version`. From 2 on with `previous` and
            `upgrade`; the topic is then another one than that of the previous version, see below.
        previous: The class with the previous key, an entity of the same kind with a lower version. Whoever reads this entity
            reads its records as well. If it has the same topic, that of this class is `<topic>_v<key_version>`.
        upgrade: A function from an object of `previous` to the same object of this class.
        downgrade: The function back, for `dual_write`; where all fields of `previous` are fields here, it can be left out.
        dual_write: Whether what is added here is written in the previous version as well, for programs that read it.

    Returns:
        A class decorator that returns the class itself.

    Raises:
        ModelError: If a setting is not valid.

    Example:
        `@kandle.table("instruments")`
    """
    settings = (topic, partitions, replication, retention, key_format, value_format, partitioner)
    version = (key_version, previous, upgrade, downgrade, dual_write)
    return _decorator(EntityOptions("table", *settings, cache, *version))


def _decorator(options: EntityOptions) -> Callable[[type[T]], type[T]]:
    def mark(cls: type[T]) -> type[T]:
        setattr(cls, OPTIONS_ATTRIBUTE, options)
        return cls

    return mark
