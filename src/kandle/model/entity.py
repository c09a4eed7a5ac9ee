"""Metadata of an entity: what its class, annotations and decorator say, checked once and kept."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kandle.errors import ModelError, unknown_name
from kandle.model.markers import (
    EPOCH_FORMATS,
    OPTIONS_ATTRIBUTE,
    Access,
    Alias,
    DatetimeFormat,
    EntityOptions,
    FormatName,
    Header,
    Ignore,
    Key,
    MaxLength,
    Normalizer,
    PartitionerName,
    Precision,
    Timestamp,
    Upgrade,
)
from kandle.model.settings import UNCHANGED, TopicSettings
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


class Default(Enum):
    """Stands for the default of a field that has none."""

    MISSING = "missing"


MISSING = Default.MISSING


@dataclass(frozen=True, slots=True)
class FieldModel:
    """One field of an entity."""

    name: str
    type: DataType
    nullable: bool = False
    key_order: int | None = None
    """Position of the field in the key; None if it is no part of the key."""
    is_timestamp: bool = False
    default: Any = MISSING
    datetime_format: str | None = None
    aliases: tuple[str, ...] = ()
    header: str | None = None
    """The header of the record that holds the field."""
    normalize: Normalizer | None = None
    """Gives all spellings of this part of the key one form."""


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """The version of an entity's key, and how records of the version before it become records of this one.

    Attributes:
        number: The version, counted from 1.
        previous: The entity with the version before it; None for the first.
        upgrade: Makes of an object of `previous` one of the entity.
        downgrade: Makes of an object of the entity one of `previous`, where both versions are written.
        dual_write: Whether both versions are written.
    """

    number: int
    previous: EntityModel | None = None
    upgrade: Upgrade | None = None
    downgrade: Upgrade | None = None
    dual_write: bool = False


@dataclass(frozen=True, slots=True)
class EntityModel:
    """One entity: its class, its topic and its fields in the order of declaration."""

    cls: type
    name: str
    topic: str
    kind: Literal["stream", "table"]
    fields: tuple[FieldModel, ...]
    partitions: int = 1
    replication: int | None = None
    """Copies of each partition; None leaves it to the options and the brokers."""
    retention: int | None = None
    """How long records are kept, in microseconds; None is for ever."""
    key_format: FormatName = "AVRO"
    value_format: FormatName = "AVRO"
    partitioner: PartitionerName = "murmur2"
    cache: bool = False
    """Whether a table is followed from the start of a context on, and not only from the first read."""
    access: Access = "read_write"
    """What sets of the entity may do, whatever its context may."""
    settings: TopicSettings = UNCHANGED
    """Settings of the topic that the configuration gives; partitions, replication and retention are those above."""
    version: KeyVersion | None = None
    """The version of the key; None if the entity does not say one, which counts as 1."""

    @property
    def former(self) -> tuple[EntityModel, ...]:
        """The entities with the key's earlier versions, the oldest first."""
        previous = None if self.version is None else self.version.previous
        return () if previous is None else (*previous.former, previous)

    @property
    def keys(self) -> tuple[FieldModel, ...]:
        """Key parts in their order."""
        ordered = [(field.key_order, field) for field in self.fields if field.key_order is not None]
        return tuple(field for _, field in sorted(ordered, key=lambda pair: pair[0]))

    @property
    def values(self) -> tuple[FieldModel, ...]:
        """Fields of the record's value: neither parts of the key nor headers."""
        return tuple(field for field in self.fields if field.key_order is None and field.header is None)

    @property
    def headers(self) -> tuple[FieldModel, ...]:
        """Fields that are kept in headers of the record."""
        return tuple(field for field in self.fields if field.header is not None)

    @property
    def timestamp(self) -> FieldModel | None:
        """The field with the event time, if one is marked."""
        return next((field for field in self.fields if field.is_timestamp), None)

    def field(self, name: str) -> FieldModel:
        """Return the field of that name; ModelError with the valid names if it does not exist."""
        for field in self.fields:
            if field.name == name:
                return field
        raise ModelError(unknown_name(f"{self.name} has no field {name!r}", name, [field.name for field in self.fields]))


# Names of topics

LONGEST_TOPIC = 249
"""Kafka's limit for the name of a topic, in characters."""


def snake_case(name: str) -> str:
    """Convert the name of a class to snake case: `QuoteBar` becomes `quote_bar`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def checked_topic(topic: str) -> str:
    """Return the topic if Kafka accepts it as a name, else raise ModelError."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", topic) or topic in (".", ".."):
        raise ModelError(f"{topic!r} is not a valid topic name: use ASCII letters, digits, '.', '_' and '-'")
    if len(topic) > LONGEST_TOPIC:
        raise ModelError(f"topic name {topic[:40]!r}... has {len(topic)} characters, but {LONGEST_TOPIC} are allowed")
    return topic


@dataclass(frozen=True, slots=True)
class BarTopics:
    """How the topics of bars are called: `{bars}` stands for the topic of their entity, `{timeframe}` for `5m` and the like."""

    live: str = "{bars}_{timeframe}_live"
    final: str = "{bars}_{timeframe}_final"

    def names(self, topic: str, timeframe: str) -> tuple[str, str]:
        """Return the topics of the live and of the final bars of a timeframe."""
        live, final = (checked_topic(form.format(bars=topic, timeframe=timeframe)) for form in (self.live, self.final))
        return live, final


USUAL_BAR_TOPICS = BarTopics()


# From a class to its metadata


def entity_model(cls: type, decimals: Precision | None = None) -> EntityModel:
    """Return the metadata of a dataclass, attrs class or pydantic model that is a stream or table.

    The result of a class is made once; ModelError names class, field and the way to write it.

    Args:
        cls: The class.
        decimals: The digits of a Decimal field that names none; without them such a field is an error.
    """
    return _entity_model(cls, decimals)


def entity_kind(cls: type) -> Literal["stream", "table"]:
    """Return whether a class is the entity of a stream or of a table; ModelError if it is no entity."""
    return _options(cls).kind


def _options(cls: type) -> EntityOptions:
    options = getattr(cls, "__dict__", {}).get(OPTIONS_ATTRIBUTE)
    if not isinstance(options, EntityOptions):
        name = getattr(cls, "__name__", repr(cls))
        raise ModelError(f'{name} is not an entity: write @kandle.stream("topic") or @kandle.table("topic") above the class')
    return options


@cache
def _entity_model(cls: type, decimals: Precision | None) -> EntityModel:
    options = _options(cls)
    fields = [_field_model(cls, *declaration, decimals) for declaration in _declarations(cls)]
    model = EntityModel(
        cls,
        cls.__name__,
        checked_topic(options.topic if options.topic is not None else snake_case(cls.__name__)),
        options.kind,
        tuple(field for field in fields if field is not None),
        options.partitions,
        options.replication,
        None if options.retention is None else parse_duration(options.retention),
        options.key_format,
        options.value_format,
        options.partitioner,
        options.cache,
    )
    _check_fields(model)
    return model if options.key_version is None else _with_version(model, options, options.key_version, decimals)


def _with_version(model: EntityModel, options: EntityOptions, number: int, decimals: Precision | None) -> EntityModel:
    """Return the entity with the version of its key, and with a topic of its own.

    Two versions cannot share a topic: a key's layout belongs to its topic and to the subject of its schema, the partition of a
    record follows from its key, and programs of the previous version could not read what those of this one write.
    """
    if options.previous is None:
        return replace(model, version=KeyVersion(number))
    previous = entity_model(options.previous, decimals)
    if previous.kind != model.kind:
        raise ModelError(f"{model.name} is a {model.kind}, and its previous version {previous.name} a {previous.kind}")
    before = 1 if previous.version is None else previous.version.number
    if before >= number:
        raise ModelError(
            f"{model.name} has key_version={number}, and its previous version {previous.name} has {before}: "
            f"give {model.name} key_version={before + 1}"
        )
    version = KeyVersion(number, previous, options.upgrade, options.downgrade, options.dual_write)
    taken = {former.topic for former in (*previous.former, previous)}
    topic = checked_topic(f"{model.topic}_v{number}") if model.topic in taken else model.topic
    return replace(model, topic=topic, version=version)


def _declarations(cls: type) -> list[tuple[str, Any, Any]]:
    """Return name, resolved annotation and default of every field of the class."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ModelError(f"{cls.__name__}: an annotation cannot be resolved: {error}") from error
    except ModelError as error:
        raise ModelError(f"{cls.__name__}: {error}") from error
    if dataclasses.is_dataclass(cls):
        return [(field.name, hints[field.name], _dataclass_default(field)) for field in dataclasses.fields(cls)]
    if hasattr(cls, "__attrs_attrs__"):
        nothing = __import__("attrs").NOTHING
        attributes = [(attribute.name, attribute.default) for attribute in cls.__attrs_attrs__]
        return [(name, hints[name], MISSING if default is nothing else default) for name, default in attributes]
    if hasattr(cls, "model_fields"):
        infos = cls.model_fields.items()
        return [(name, hints[name], MISSING if info.is_required() else info.default) for name, info in infos]
    raise ModelError(f"{cls.__name__} is neither a dataclass, nor an attrs class, nor a pydantic model; add @dataclass")


def _dataclass_default(field: dataclasses.Field[Any]) -> Any:
    """Return the default, the function that makes one, or MISSING."""
    for default in (field.default, field.default_factory):
        if default is not dataclasses.MISSING:
            return default
    return MISSING


Markers = dict[type, Any]
"""The markers of a field by their classes."""


def _field_model(cls: type, name: str, hint: Any, default: Any, decimals: Precision | None) -> FieldModel | None:
    """Return the metadata of a field, or None if it is ignored."""
    label = f"{cls.__name__}.{name}"
    hint, outer_markers = _unwrap_annotated(hint)
    inner, nullable, inner_markers = _unwrap_optional(hint)
    markers = _markers(label, (*inner_markers, *outer_markers))
    if Ignore in markers:
        if default is MISSING:
            raise ModelError(f"{label} is marked Ignore, so it needs a default to build the object with")
        return None
    kind = _data_type(label, inner, markers, decimals)
    _check_markers(label, kind, nullable, markers)
    return FieldModel(
        name,
        kind,
        nullable,
        key_order=markers[Key].order if Key in markers else None,
        is_timestamp=Timestamp in markers,
        default=default,
        datetime_format=markers[DatetimeFormat].pattern if DatetimeFormat in markers else None,
        aliases=markers[Alias].names if Alias in markers else (),
        header=markers[Header].name if Header in markers else None,
        normalize=markers[Key].normalize if Key in markers else None,
    )


def _unwrap_annotated(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the annotated type and what is annotated to it."""
    if get_origin(hint) is Annotated:
        inner, *markers = get_args(hint)
        return inner, tuple(markers)
    return hint, ()


def _unwrap_optional(hint: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """Return the type without None, whether None was in it, and the markers inside of the union."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False, ()
    others = [member for member in get_args(hint) if member is not type(None)]
    if len(others) != 1 or len(others) == len(get_args(hint)):
        return hint, False, ()
    inner, markers = _unwrap_annotated(others[0])
    return inner, True, markers


EXAMPLES: dict[Any, str] = {
    Key: "Key(0)",
    Precision: "Precision(18, 6)",
    MaxLength: "MaxLength(12)",
    DatetimeFormat: 'DatetimeFormat("epoch_ms")',
    Alias: 'Alias("other_name")',
    Header: 'Header("name")',
}
"""Markers that need arguments, and how they are written."""


def _markers(label: str, annotations: Sequence[Any]) -> Markers:
    """Return the markers among the annotations; those without arguments may be written without parentheses."""
    markers: Markers = {}
    for annotation in annotations:
        if annotation in (Timestamp, Ignore):
            markers[annotation] = annotation()
        elif isinstance(annotation, type) and annotation in EXAMPLES:
            raise ModelError(f"{label}: {annotation.__name__} needs an argument; write {EXAMPLES[annotation]}")
        elif not isinstance(annotation, type):
            markers[type(annotation)] = annotation
    return markers


HINTS: dict[Any, DataType] = {**PYTHON_TYPES, dict[str, str]: STRING_MAP}
"""The data type of each type hint of a field, apart from Decimal, which needs its digits."""


def _data_type(label: str, hint: Any, markers: Markers, decimals: Precision | None) -> DataType:
    if hint is Decimal:
        digits: Precision | None = markers.get(Precision, decimals)
        if digits is None:
            raise ModelError(
                f"{label} is a Decimal without precision: write Annotated[Decimal, Precision(18, 6)], or set the options "
                "fields.decimal_precision and fields.decimal_scale"
            )
        try:
            return DecimalType(digits.precision, digits.scale)
        except ModelError as error:
            raise ModelError(f"{label}: {error}") from error
    if hint is str and MaxLength in markers:
        return StringType(markers[MaxLength].characters)
    if hint not in HINTS:
        valid = "str, int, float, bool, Decimal, datetime, date, UUID, bytes, dict[str, str], each also `| None`"
        shown = hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else hint
        raise ModelError(f"{label} has type {shown}, which kandle does not know; use {valid}, or mark it Ignore()")
    return HINTS[hint]


_MARKED_TYPES: tuple[tuple[type, type[DataType], str], ...] = (
    (Precision, DecimalType, "Decimal"),
    (MaxLength, StringType, "str"),
    (DatetimeFormat, TimestampType, "datetime"),
    (Timestamp, TimestampType, "datetime"),
    (Header, StringType, "str"),
)
"""Markers that are for fields of one type only, and that type."""


def _check_markers(label: str, kind: DataType, nullable: bool, markers: Markers) -> None:
    """Raise ModelError for a marker that does not go with its field."""
    for marker, wanted, name in _MARKED_TYPES:
        if marker in markers and not isinstance(kind, wanted):
            raise ModelError(f"{label}: {marker.__name__} is for fields of type {name}, not {kind}")
    if nullable and (Key in markers or Timestamp in markers):
        marker_name = "Key" if Key in markers else "Timestamp"
        raise ModelError(f"{label}: a field marked {marker_name} cannot be Optional; write {kind} without None")
    if Key in markers and isinstance(kind, FloatType | StringMapType):
        raise ModelError(f"{label}: a {kind} cannot be a part of a key, since keys must compare equal byte by byte")
    if Key in markers and markers[Key].normalize is not None and not isinstance(kind, StringType):
        raise ModelError(f"{label}: normalize is for key parts of type str, not {kind}; leave it out")
    if Header in markers and Key in markers:
        raise ModelError(f"{label}: a field cannot be both a part of the key and a header; leave out Key or Header")
    if Header in markers and not nullable:
        raise ModelError(
            f'{label}: a record may come without the header; write Annotated[str | None, Header("{markers[Header].name}")]'
        )
    pattern = markers[DatetimeFormat].pattern if DatetimeFormat in markers else "%"
    if "%" not in pattern and pattern not in EPOCH_FORMATS:
        raise ModelError(
            f"{label}: {pattern!r} is not a datetime format; write a strftime pattern or one of {', '.join(EPOCH_FORMATS)}"
        )


def _check_fields(model: EntityModel) -> None:
    """Raise ModelError for fields that do not go together."""
    if not model.fields:
        raise ModelError(f"{model.name} has no fields; annotate at least one")
    orders = [field.key_order for field in model.keys]
    if orders != list(range(len(orders))):
        raise ModelError(
            f"{model.name}: key parts are numbered {', '.join(map(str, orders))}; "
            f"number them {', '.join(map(str, range(len(orders))))}, each number once"
        )
    stamps = [field.name for field in model.fields if field.is_timestamp]
    if len(stamps) > 1:
        raise ModelError(f"{model.name} has {len(stamps)} fields marked Timestamp ({', '.join(stamps)}); mark one")
    _check_unique(f"{model.name}: header", [field.header for field in model.headers if field.header is not None])
    _check_unique(f"{model.name}: name or alias", [name for field in model.fields for name in (field.name, *field.aliases)])


def _check_unique(label: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        shown = ", ".join(map(repr, repeated))
        raise ModelError(f"{label} {shown} stands for more than one field; give each field a name of its own")
