"""How the records of each topic are bytes: formats of their entities, schemas in a registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from kandle.errors import UnavailableError, UnknownTopicError
from kandle.log.kafka.admin import Admin
from kandle.log.kafka.reading import NO_HEADERS, Codec, Reader
from kandle.log.kafka.writing import Appender, Encoded
from kandle.log.port import TopicPartition
from kandle.model.entity import EntityModel
from kandle.plan.topics import TopicSpec
from kandle.serde.formats import Formats, topic_codec
from kandle.serde.port import Decoded, Messages
from kandle.serde.registry import Registry
from kandle.serde.registry_embedded import Entry

SCHEMAS = "_kandle_schemas"
ROWS_AT_ONCE = 10_000

MakeCodec = Callable[[TopicSpec], Codec]


@dataclass(frozen=True, slots=True)
class Declared:
    """What is known of a topic beyond its columns; topics that are kandle's own have neither."""

    formats: Formats = field(default_factory=Formats)
    entity: EntityModel | None = None


Declarations = Callable[[str], Declared]
"""What is known of a topic, by its name."""


def codecs_of(declarations: Declarations, registry: Registry) -> MakeCodec:
    """Makes the codec of any topic."""

    def codec(spec: TopicSpec) -> Codec:
        declared = declarations(spec.name)
        return topic_codec(spec.name, spec.columns, spec.keys, registry, declared.formats, declared.entity)

    return codec


class SchemaJournal:
    """Where the embedded registry keeps its schemas: a topic of one partition that is kept for ever."""

    def __init__(self, admin: Admin, reader: Reader, appender: Appender, replication: int) -> None:
        self._admin, self._reader, self._appender = admin, reader, appender
        self._replication = replication
        self._is_there = False

    def append(self, subject: str, text: str) -> None:
        """Keep a record; the topic is made with the first."""
        if self._admin.state(SCHEMAS) is None:
            self._admin.create(TopicSpec(SCHEMAS, (), replication=self._replication))
        self._appender.append([Encoded(SCHEMAS, 0, [subject.encode()], [text.encode()])], None)
        self._is_there = True

    def load(self, offset: int) -> Sequence[Entry]:
        """All records from an offset on."""
        place = TopicPartition(SCHEMAS, 0)
        try:
            end = self._admin.bounds([place])[place][1]
        except UnknownTopicError as error:
            if self._is_there:
                # Brokers that are just starting do not know their topics yet.
                raise UnavailableError(f"topic {SCHEMAS} was there, and is not now; was it deleted?") from error
            return []
        self._is_there = True
        found: list[Entry] = []
        while batches := self._reader.read(_TEXTS, place, offset, end, ROWS_AT_ONCE):
            for batch in batches:
                rows = batch.records.frame.iter_rows()
                found += [Entry(at, *row) for at, row in zip(batch.offsets.tolist(), rows, strict=True)]
            offset = batches[-1].next_offset
        return found


class _Texts:
    """Records whose key and value are text."""

    headers = NO_HEADERS

    def encode(
        self, frame: pl.DataFrame, tombstones: pl.Series | None = None
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        return [key.encode() for key in frame["key"]], [value.encode() for value in frame["value"]]

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        rows = {"key": [(key or b"").decode() for key in keys], "value": [(value or b"").decode() for value in values]}
        return Decoded(pl.DataFrame(rows, schema={"key": pl.String, "value": pl.String}))


_TEXTS = _Texts()
