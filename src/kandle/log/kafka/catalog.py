"""What kandle knows of topics beyond what the brokers know: their columns, and how their records are encoded.

Two internal topics keep it for all processes. `_kandle_topics` is compacted and holds the spec of each topic
(`TopicCatalog`). `_kandle_schemas` holds the schemas of the embedded registry (`SchemaJournal`); it is
created only where no schema registry is configured.
"""

from __future__ import annotations

import base64
import difflib
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from kandle.errors import AccessError, DataError, LogError, UnavailableError, UnknownTopicError, UnwritableError
from kandle.log.headers import column_of_pairs, header_lists
from kandle.log.kafka.admin import ClusterAdmin, spec_settings
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.producer import Appender, oversized
from kandle.log.kafka.reading import NO_HEADERS, PartitionReader, RecordCodec
from kandle.log.port import TopicPartition
from kandle.log.records import AnyWrite, EncodedWrite, Records, Write
from kandle.log.schema import check_records, decode_spec, encode_spec, with_columns, with_declared, with_headers
from kandle.model.entity import EntityModel
from kandle.plan.topics import TopicSpec, entity_topic
from kandle.serde.codec import Formats, topic_codec
from kandle.serde.port import Decoded, Messages
from kandle.serde.registry import JournalEntry, Registry
from kandle.time.timeframe import SECOND

CATALOG_TOPIC = "_kandle_topics"
SCHEMA_TOPIC = "_kandle_schemas"
REFRESH_INTERVAL = SECOND
OUTAGE_INTERVAL = 10 * SECOND
"""The same after a refresh that has failed."""

COUNT_INTERVAL = 5 * SECOND
"""How often the partitions of a topic that is in use are counted."""

SETTINGS_INTERVAL = 30 * SECOND
"""How long it is believed how brokers keep the records of a topic, which others may change."""

ROWS_PER_READ = 10_000

MAX_RECORD_BYTES = 1_000_000
"""Largest record that brokers and the client library take with their default settings."""

MAX_SUGGESTIONS = 10
"""Topics that the error for an unknown topic names; clusters have thousands."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """How the records of a topic are declared; the defaults are those of kandle's own topics."""

    formats: Formats = field(default_factory=Formats)
    entity: EntityModel | None = None


Declarations = Callable[[str], Declaration]
"""Returns the declaration of a topic by its name."""


class TopicCatalog:
    """The specs of topics by name, as all processes know them. May be used by several threads.

    A topic that others have made, and that no process of kandle has stored, is what it is declared to be here.
    """

    def __init__(
        self, clients: Clients, admin: ClusterAdmin, reader: PartitionReader, appender: Appender, declarations: Declarations
    ) -> None:
        self._clients = clients
        self._clock = clients.clock
        self._admin, self._reader, self._appender = admin, reader, appender
        self._declarations = declarations
        self._specs: dict[str, TopicSpec] = {}
        self._assumed: dict[str, TopicSpec] = {}
        """Topics of others, as they are declared here."""
        self._completed: dict[str, tuple[TopicSpec, TopicSpec]] = {}
        """Topics as they are stored, and as readers declare them."""
        self._position = 0
        self._refresh_at = 0
        self._counted: dict[str, int] = {}
        self._configured: dict[str, tuple[int, dict[str, Any]]] = {}
        """When the brokers were asked for the settings of each topic, and what they are."""
        self._lock = threading.RLock()

    def find(self, name: str) -> TopicSpec | None:
        """Return the spec of a topic as processes have stored it, or None if none has."""
        with self._lock:
            try:
                if name not in self._specs:
                    self._refresh()
                elif self._clock.steady() >= self._refresh_at:
                    self._refresh(SECOND)
            except UnavailableError:
                # What is known will do until the brokers are back, and they are not waited for again and again.
                if name not in self._specs:
                    raise
                self._refresh_at = self._clock.steady() + OUTAGE_INTERVAL
            if name in self._specs and self._clock.steady() - self._counted.get(name, -COUNT_INTERVAL) >= COUNT_INTERVAL:
                with suppress(UnavailableError):
                    self._count(name)
            return self._specs.get(name)

    def current(self, name: str) -> TopicSpec:
        """Return the spec of a topic with the partitions that it has at this moment."""
        with self._lock:
            self.get(name)
            self._count(name)
            return self._specs.get(name) or self._assumed[name]

    def configured(self, specs: Sequence[TopicSpec]) -> list[TopicSpec]:
        """Return specs with retention and cleanup as the brokers have them, whoever has set them.

        A user who may not see these settings gets them as they are stored, or else declared. So does everybody while the brokers
        are away, who are not waited for again and again; the others of the process do not wait for this meanwhile.
        """
        now = self._clock.steady()
        never = (now - SETTINGS_INTERVAL, dict[str, Any]())
        known = {spec.name: self._configured.get(spec.name, never) for spec in specs}
        due = [name for name, (asked_at, _) in known.items() if now - asked_at >= SETTINGS_INTERVAL]
        known |= {name: (now, known[name][1]) for name in due}
        with suppress(UnavailableError):
            configs = self._admin.configs(due)
            known |= {name: (now, spec_settings(configs[name]) if name in configs else {}) for name in due}
        self._configured |= known
        return [replace(spec, **known[spec.name][1]) for spec in specs]

    def _count(self, name: str) -> None:
        """Ask for the number of partitions, since others may have added some."""
        size = self._admin.topic_size(name)
        self._counted[name] = self._clock.steady()
        specs = self._specs if name in self._specs else self._assumed
        if size is not None and size[0] != specs[name].partitions:
            specs[name] = replace(specs[name], partitions=size[0])

    def get(self, name: str) -> TopicSpec:
        """Return the spec of a topic; UnknownTopicError, which names similar topics, if there is none."""
        entity = self._declarations(name).entity
        try:
            spec = self.find(name)
        except AccessError:
            # This user may read the topic, but not the catalogue.
            if entity is None:
                raise
            spec = None
        if spec is None and entity is not None:
            spec = self._as_declared(name, entity)
        if spec is None:
            raise self.unknown_topic(name)
        return spec if entity is None else self._with_declared(spec, entity)

    def _with_declared(self, spec: TopicSpec, entity: EntityModel) -> TopicSpec:
        """Return the spec with the nullable columns that only the declaration has; the same object for the same spec."""
        with self._lock:
            known = self._completed.get(spec.name)
            if known is None or known[0] is not spec:
                known = self._completed[spec.name] = (spec, with_declared(spec, entity_topic(entity, spec.name)))
            return known[1]

    def _as_declared(self, name: str, entity: EntityModel) -> TopicSpec | None:
        """Return the spec of a topic of others as it is declared here, with its partitions; None if there is no such topic."""
        with self._lock:
            if name not in self._assumed:
                size = self._admin.topic_size(name)
                if size is None:
                    return None
                partitions, replication = size
                self._assumed[name] = replace(entity_topic(entity, name), partitions=partitions, replication=replication)
            return self._assumed[name]

    def unknown_topic(self, name: str) -> UnknownTopicError:
        """Return the error for a topic that does not exist, or that another program has created."""
        existing = self._admin.partition_counts()
        if name in existing:
            return UnknownTopicError(
                f"topic {name!r} exists, but kandle does not know its columns; declare an entity with this topic, and open a "
                "context that has it"
            )
        names = [topic for topic in sorted(existing) if not topic.startswith("_")]
        similar = difflib.get_close_matches(name, names, MAX_SUGGESTIONS, cutoff=0.5)
        listed = [*similar, *(topic for topic in names if topic not in similar)][:MAX_SUGGESTIONS]
        more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
        return UnknownTopicError(f"there is no topic {name!r}; there are {', '.join(listed) or 'none'}{more}")

    def all(self) -> dict[str, TopicSpec]:
        """Return all specs by name."""
        with self._lock:
            self._refresh()
            return dict(self._specs)

    def _refresh(self, patience: int | None = None) -> None:
        """Read what other processes have written."""
        partition = TopicPartition(CATALOG_TOPIC, 0)
        self._refresh_at = self._clock.steady() + REFRESH_INTERVAL
        try:
            end = self._admin.bounds([partition], patience)[partition][1]
        except UnknownTopicError:
            return
        while batches := self._reader.read(_SpecDecoder(self._specs), partition, self._position, end, ROWS_PER_READ):
            self._position = batches[-1].next_offset

    def put(self, spec: TopicSpec) -> None:
        """Write the spec of a topic; the first call creates the catalogue's topic."""
        with self._lock:
            if self._admin.topic_size(CATALOG_TOPIC) is None:
                settings = self._clients.settings
                self._admin.create(
                    TopicSpec(CATALOG_TOPIC, (), replication=settings.replication, compacted=True, is_created=settings.creates)
                )
            text, columns = encode_spec(spec)
            value = json.dumps({"spec": text, "columns": base64.b64encode(columns).decode()})
            self._appender.append([EncodedWrite(CATALOG_TOPIC, 0, [spec.name.encode()], [value.encode()])], None)
            self._specs[spec.name] = spec


class _SpecDecoder:
    """Reads records of the catalogue's topic into specs."""

    headers = NO_HEADERS

    def __init__(self, specs: dict[str, TopicSpec]) -> None:
        self._specs = specs

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Keep the latest spec of each topic; the returned rows are not used."""
        for key, value in zip(keys, values, strict=True):
            name = (key or b"").decode()
            if value is None:
                self._specs.pop(name, None)
            else:
                content = json.loads(value)
                self._specs[name] = decode_spec(content["spec"], base64.b64decode(content["columns"]))
        return Decoded(pl.DataFrame({"name": [(key or b"").decode() for key in keys]}))


class SchemaJournal:
    """The journal of the embedded registry: a topic of one partition whose records are kept for ever."""

    def __init__(self, clients: Clients, admin: ClusterAdmin, reader: PartitionReader, appender: Appender) -> None:
        self._clients = clients
        self._admin, self._reader, self._appender = admin, reader, appender
        self._exists = False
        self._written = 0

    def append(self, subject: str, text: str) -> None:
        """Append a record; the first call creates the topic."""
        if self._admin.topic_size(SCHEMA_TOPIC) is None:
            settings = self._clients.settings
            self._admin.create(TopicSpec(SCHEMA_TOPIC, (), replication=settings.replication, is_created=settings.creates))
        before = self._admin.bounds([_SCHEMAS])[_SCHEMAS][1]
        [offset] = self._appender.append([EncodedWrite(SCHEMA_TOPIC, 0, [subject.encode()], [text.encode()])], None)
        # The library does not know the offset of a record that it had to send twice.
        self._written = max(self._written, before + 1, offset + 1)
        self._exists = True

    def load(self, offset: int) -> Sequence[JournalEntry]:
        """Return all records from an offset on, those of this process among them.

        After an outage, the end that brokers give may be short of what they have confirmed already.
        """
        try:
            end = max(self._admin.bounds([_SCHEMAS])[_SCHEMAS][1], self._written)
        except UnknownTopicError as error:
            if self._exists:
                # Brokers that are just starting do not know their topics yet.
                raise UnavailableError(f"topic {SCHEMA_TOPIC} existed, and does not now; was it deleted?") from error
            return []
        self._exists = True
        entries: list[JournalEntry] = []
        while batches := self._reader.read(_TEXTS, _SCHEMAS, offset, end, ROWS_PER_READ):
            for batch in batches:
                rows = batch.records.frame.iter_rows()
                entries += [JournalEntry(at, *row) for at, row in zip(batch.offsets.tolist(), rows, strict=True)]
            offset = batches[-1].next_offset
        return entries


class _TextDecoder:
    """Reads records whose key and value are text."""

    headers = NO_HEADERS

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        rows = {"key": [(key or b"").decode() for key in keys], "value": [(value or b"").decode() for value in values]}
        return Decoded(pl.DataFrame(rows, schema={"key": pl.String, "value": pl.String}))


_TEXTS = _TextDecoder()
_SCHEMAS = TopicPartition(SCHEMA_TOPIC, 0)


class TopicCodecs:
    """Encodes and decodes records of topics by their specs, declarations and registered schemas."""

    def __init__(
        self, catalog: TopicCatalog, registry: Registry, declarations: Declarations, max_record_bytes: Callable[[str], int]
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._declarations = declarations
        self._max_record_bytes = max_record_bytes
        self._codecs: dict[str, tuple[TopicSpec, RecordCodec]] = {}

    def create(self, spec: TopicSpec) -> RecordCodec:
        """Return a codec for a topic that may not exist yet; SchemaError if its columns cannot be encoded."""
        declared = self._declarations(spec.name)
        return topic_codec(spec.name, spec.columns, spec.keys, self._registry, declared.formats, declared.entity)

    def codec(self, topic: str) -> RecordCodec:
        """Return the codec of a topic."""
        spec = self._catalog.get(topic)
        if topic not in self._codecs or self._codecs[topic][0] is not spec:
            self._codecs[topic] = (spec, self.create(spec))
        return self._codecs[topic][1]

    def encode(self, writes: Sequence[AnyWrite]) -> list[EncodedWrite]:
        """Return writes as bytes.

        Raises:
            LogError: A partition does not exist, or records do not fit the columns of their topic.
            UnwritableError: Values do not fit their columns, or records are too large.
        """
        encoded: list[EncodedWrite] = []
        unwritable: dict[int, dict[int, str]] = {}
        for number, write in enumerate(writes):
            self._check_partition(write)
            try:
                ready = _ready(write) if isinstance(write, EncodedWrite) else self._encode(write)
                refused = oversized(ready, self._max_record_bytes(write.topic))
            except DataError as error:
                assert isinstance(write, Write)
                refused = self._refused(write, str(error))
            else:
                encoded.append(ready)
            if refused:
                unwritable[number] = refused
        if unwritable:
            raise UnwritableError(next(reason for rows in unwritable.values() for reason in rows.values()), unwritable)
        return encoded

    def _refused(self, write: Write, reason: str) -> dict[int, str]:
        """Return the reason by row for a write that has failed: its halves are tried, and theirs again."""
        count = len(write)
        if count <= 1:
            return {0: reason}
        rows: dict[int, str] = {}
        for begin, length in ((0, count // 2), (count // 2, count - count // 2)):
            part = replace(write, records=write.records.slice(begin, length))
            try:
                refused = oversized(self._encode(part), self._max_record_bytes(write.topic))
            except DataError as error:
                refused = self._refused(part, str(error))
            rows |= {begin + row: text for row, text in refused.items()}
        return rows

    def _check_partition(self, write: AnyWrite) -> None:
        spec = self._catalog.get(write.topic)
        if not 0 <= write.partition < spec.partitions:
            raise LogError(f"topic {spec.name} has partitions 0 to {spec.partitions - 1}, not {write.partition}")

    def _encode(self, write: Write) -> EncodedWrite:
        check_records(self._catalog.get(write.topic), write.records)
        codec = self.codec(write.topic)
        records = with_headers(write.records, codec.headers)
        keys, values = codec.encode(records.frame, records.tombstones)
        headers = None if records.headers is None else header_lists(records.headers)
        return EncodedWrite(write.topic, write.partition, keys, values, headers)

    def decode(self, write: EncodedWrite) -> Records:
        """Return records that are given as bytes as rows; DataError if one of them cannot be read."""
        codec = self.codec(write.topic)
        decoded = codec.decode(write.keys, write.values)
        if decoded.rejects:
            raise DataError(decoded.rejects[0].reason)
        headers = None if write.headers is None else column_of_pairs(write.headers)
        return with_columns(Records(decoded.frame, headers, decoded.tombstones), codec.headers)


def _ready(write: EncodedWrite) -> EncodedWrite:
    """Return a write with lists of headers, as the client library wants them."""
    if write.headers is None:
        return write
    return replace(write, headers=[None if pairs is None else list(pairs) for pairs in write.headers])
