"""The formats of keys and values by their names in ksqlDB, and the codec of a topic made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kandle.errors import OptionsError
from kandle.model.entity import EntityModel
from kandle.serde.avro import AvroFormat
from kandle.serde.codec import TopicCodec
from kandle.serde.fields import ColumnLike, RecordField, column_fields
from kandle.serde.json_records import JsonFormat
from kandle.serde.port import Format
from kandle.serde.primitives import KafkaFormat
from kandle.serde.registry import Registry
from kandle.serde.schema import Shape, Side
from kandle.serde.windowed import WindowedFormat


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
