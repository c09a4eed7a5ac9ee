"""Metadata of an entity: what its class, annotations and decorator say, checked once and kept."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kandle.errors import ModelError, unknown_name
from kandle.model.markers import (
    EPOCH_FORMATS,
    OPTIONS_ATTRIBUTE,
    Alias,
    DatetimeFormat,
    EntityOptions,
    FormatName,
    Header,
    Ignore,
    Key,
    MaxLength,
    PartitionerName,
    Precision,
    Timestamp,
)
from kandle.model.types import (
    PYTHON_TYPES,
    STRING_MAP,
    DataType,
    DecimalType,
    FloatType,
    StringMapType,
    StringType,
    TimestampType,
)
from kandle.time.timeframe import parse_duration

LONGEST_TOPIC = 249
"""Kafka's limit."""


def snake_case(name: str) -> str:
    """`QuoteBar` becomes `quote_bar`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def checked_topic(topic: str) -> str:
    """The topic, if Kafka takes it as a name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", topic) or topic in (".", ".."):
        raise ModelError(f"{topic!r} is not a topic name: use letters, digits, '.', '_' and '-'")
    if len(topic) > LONGEST_TOPIC:
        raise ModelError(f"topic name {topic[:40]!r}... has {len(topic)} characters, {LONGEST_TOPIC} are allowed")
    return topic


def bar_topic(topic: str, timeframe: str, role: str) -> str:
    """`bars`, `5m` and `final` become `bars_5m_final`."""
    return checked_topic(f"{topic}_{timeframe}_{role}")


class Default(Enum):
    """Stands for the default of a field that has none."""

    MISSING = "missing"


MISSING = Default.MISSING

HINTS: dict[Any, DataType] = {**PYTHON_TYPES, dict[str, str]: STRING_MAP}
"""The data type of each type hint of a field, apart from Decimal, which needs its digits."""


@dataclass(frozen=True, slots=True)
class FieldModel:
    """One field of an entity."""

    name: str
    type: DataType
    nullable: bool = False
    key_order: int | None = None
    is_timestamp: bool = False
    default: Any = MISSING
    datetime_format: str | None = None
    aliases: tuple[str, ...] = ()
    header: str | None = None
    """The header of the record that holds the field."""


@dataclass(frozen=True, slots=True)
class EntityModel:
    """One entity: its class, its topic and its fields in the order of declaration."""

    cls: type
    name: str
    topic: str
    kind: Literal["stream", "table"]
    fields: tuple[FieldModel, ...]
    partitions: int = 1
    replication: int = 1
    retention: int | None = None
    """How long records are kept, in microseconds; None is for ever."""
    key_format: FormatName = "AVRO"
    value_format: FormatName = "AVRO"
    partitioner: PartitionerName = "murmur2"

    @property
    def keys(self) -> tuple[FieldModel, ...]:
        """Key parts in their order."""
        keyed = [(found.key_order, found) for found in self.fields if found.key_order is not None]
        return tuple(found for _, found in sorted(keyed, key=lambda pair: pair[0]))

    @property
    def values(self) -> tuple[FieldModel, ...]:
        """Fields of the record's value: neither parts of the key nor headers."""
        return tuple(found for found in self.fields if found.key_order is None and found.header is None)

    @property
    def headers(self) -> tuple[FieldModel, ...]:
        """Fields that stand in headers."""
        return tuple(found for found in self.fields if found.header is not None)

    @property
    def timestamp(self) -> FieldModel | None:
        """The field of the event time."""
        return next((found for found in self.fields if found.is_timestamp), None)

    def field(self, name: str) -> FieldModel:
        """The field of that name; ModelError with the valid names."""
        for found in self.fields:
            if found.name == name:
                return found
        raise ModelError(unknown_name(f"{self.name} has no field {name!r}", name, [found.name for found in self.fields]))


def entity_model(cls: type) -> EntityModel:
    """The metadata of a dataclass, attrs class or pydantic model that is decorated as a stream or table; made once."""
    return _entity_model(cls)


@cache
def _entity_model(cls: type) -> EntityModel:
    options = getattr(cls, "__dict__", {}).get(OPTIONS_ATTRIBUTE)
    if not isinstance(options, EntityOptions):
        name = getattr(cls, "__name__", repr(cls))
        raise ModelError(f'{name} is not an entity: write @kandle.stream("topic") or @kandle.table("topic") above the class')
    declared = _declared(cls)
    fields = tuple(found for name, hint, default in declared if (found := _field(cls, name, hint, default)) is not None)
    topic = checked_topic(options.topic if options.topic is not None else snake_case(cls.__name__))
    retention = None if options.retention is None else parse_duration(options.retention)
    model = EntityModel(
        cls,
        cls.__name__,
        topic,
        options.kind,
        fields,
        options.partitions,
        options.replication,
        retention,
        options.key_format,
        options.value_format,
        options.partitioner,
    )
    _check(model)
    return model


def _declared(cls: type) -> list[tuple[str, Any, Any]]:
    """Name, resolved annotation and default of every field of the class."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ModelError(f"{cls.__name__}: an annotation cannot be resolved: {error}") from error
    if dataclasses.is_dataclass(cls):
        return [(found.name, hints[found.name], _dataclass_default(found)) for found in dataclasses.fields(cls)]
    if hasattr(cls, "__attrs_attrs__"):
        nothing = __import__("attrs").NOTHING
        attributes = cls.__attrs_attrs__
        return [(each.name, hints[each.name], MISSING if each.default is nothing else each.default) for each in attributes]
    if hasattr(cls, "model_fields"):
        return [(name, hints[name], MISSING if each.is_required() else each.default) for name, each in cls.model_fields.items()]
    raise ModelError(f"{cls.__name__} is neither a dataclass, nor an attrs class, nor a pydantic model; add @dataclass")


def _dataclass_default(found: dataclasses.Field[Any]) -> Any:
    """The default, or the function that makes one."""
    for default in (found.default, found.default_factory):
        if default is not dataclasses.MISSING:
            return default
    return MISSING


def _field(cls: type, name: str, hint: Any, default: Any) -> FieldModel | None:
    hint, markers = _unwrapped(hint)
    where = f"{cls.__name__}.{name}"
    if any(marker is Ignore or isinstance(marker, Ignore) for marker in markers):
        if default is MISSING:
            raise ModelError(f"{where} is ignored, so it needs a default to build the object with")
        return None
    inner, nullable, inner_markers = _optional(hint)
    found = {type(marker): marker for marker in (*inner_markers, *markers) if not isinstance(marker, type)}
    kind = _type(where, inner, found)
    key = found.get(Key)
    pattern = found.get(DatetimeFormat)
    _check_markers(where, kind, nullable, found)
    return FieldModel(
        name,
        kind,
        nullable,
        key_order=None if key is None else key.order,
        is_timestamp=Timestamp in found or Timestamp in markers,
        default=default,
        datetime_format=None if pattern is None else pattern.pattern,
        aliases=found[Alias].names if Alias in found else (),
        header=found[Header].name if Header in found else None,
    )


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        inner, *markers = get_args(hint)
        return inner, tuple(markers)
    return hint, ()


def _optional(hint: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """The type without None, whether None was in it, and markers inside of the union."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False, ()
    others = [each for each in get_args(hint) if each is not type(None)]
    if len(others) != 1 or len(others) == len(get_args(hint)):
        return hint, False, ()
    inner, markers = _unwrapped(others[0])
    return inner, True, markers


def _type(where: str, hint: Any, markers: dict[type, Any]) -> DataType:
    if hint is Decimal:
        if Precision not in markers:
            raise ModelError(f"{where} is a Decimal without precision: write Annotated[Decimal, Precision(18, 6)]")
        try:
            return DecimalType(markers[Precision].precision, markers[Precision].scale)
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from error
    if hint is str and MaxLength in markers:
        return StringType(markers[MaxLength].characters)
    if hint not in HINTS:
        valid = "str, int, float, bool, Decimal, datetime, date, UUID, bytes, dict[str, str], each also `| None`"
        shown = hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else hint
        raise ModelError(f"{where} has type {shown}, which kandle does not know; use {valid}, or mark it Ignore()")
    return HINTS[hint]


def _check_markers(where: str, kind: DataType, nullable: bool, markers: dict[type, Any]) -> None:
    """Markers that do not go with the type of their field."""
    misplaced = [
        (Precision, DecimalType, "Decimal"),
        (MaxLength, StringType, "str"),
        (DatetimeFormat, TimestampType, "datetime"),
        (Timestamp, TimestampType, "datetime"),
        (Header, StringType, "str"),
    ]
    for marker, wanted, name in misplaced:
        if marker in markers and not isinstance(kind, wanted):
            raise ModelError(f"{where}: {marker.__name__} goes with {name}, not with {kind}")
    if nullable and (Key in markers or Timestamp in markers):
        marker_name = "Key" if Key in markers else "Timestamp"
        raise ModelError(f"{where}: a field marked {marker_name} cannot be Optional")
    if Key in markers and isinstance(kind, FloatType | StringMapType):
        raise ModelError(f"{where}: {kind} cannot be a part of a key, since equal keys must be equal to the last bit")
    if Header in markers and (Key in markers or not nullable):
        raise ModelError(f"{where}: a record may come without the header; write Annotated[str | None, Header(...)], and no Key")
    pattern = markers.get(DatetimeFormat)
    if pattern is not None and "%" not in pattern.pattern and pattern.pattern not in EPOCH_FORMATS:
        raise ModelError(
            f"{where}: {pattern.pattern!r} is no datetime format; write a strftime pattern or {', '.join(EPOCH_FORMATS)}"
        )


def _check(model: EntityModel) -> None:
    if not model.fields:
        raise ModelError(f"{model.name} has no fields")
    orders = [found.key_order for found in model.keys]
    if orders != list(range(len(orders))):
        raise ModelError(f"{model.name}: key parts are numbered {orders}; number them 0, 1, 2 .. without holes or doubles")
    stamps = [found.name for found in model.fields if found.is_timestamp]
    if len(stamps) > 1:
        raise ModelError(f"{model.name} has {len(stamps)} fields marked Timestamp ({', '.join(stamps)}); mark one")
    headers = [found.header for found in model.headers]
    if len(set(headers)) < len(headers):
        raise ModelError(f"{model.name}: headers {', '.join(map(repr, headers))} are not all different; one field for each")
    names = [name for found in model.fields for name in (found.name, *found.aliases)]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ModelError(f"{model.name}: {', '.join(doubles)} names more than one field or alias")
