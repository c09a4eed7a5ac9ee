"""What the topics of a cluster hold: their specs, kept in a compacted topic of their own, so that every process knows them."""

from __future__ import annotations

import base64
import json
import threading

import polars as pl

from kandle.errors import UnavailableError, UnknownTopicError
from kandle.log.kafka.admin import Admin
from kandle.log.kafka.reading import NO_HEADERS, Reader
from kandle.log.kafka.writing import Appender, Encoded
from kandle.log.port import TopicPartition
from kandle.log.schema import decode_spec, encode_spec
from kandle.plan.topics import TopicSpec
from kandle.serde.port import Decoded, Messages
from kandle.time.clock import Clock
from kandle.time.timeframe import SECOND

CATALOG = "_kandle_topics"
LOOKED_AT_EVERY = SECOND
ROWS_AT_ONCE = 10_000


class Catalog:
    """Specs of topics by name; `read_only` never creates the topic that keeps them."""

    def __init__(self, admin: Admin, reader: Reader, appender: Appender, clock: Clock, replication: int = 1) -> None:
        self._admin, self._reader, self._appender, self._clock = admin, reader, appender, clock
        self._replication = replication
        self._specs: dict[str, TopicSpec] = {}
        self._position = 0
        self._looked_at: int | None = None
        self._lock = threading.RLock()

    def get(self, name: str) -> TopicSpec | None:
        """What is known of a topic; looks for news if nothing is."""
        with self._lock:
            try:
                if name not in self._specs or self._is_old():
                    self.refresh()
            except UnavailableError:
                # What is known will do until the brokers are back.
                if name not in self._specs:
                    raise
            return self._specs.get(name)

    def all(self) -> dict[str, TopicSpec]:
        """Everything that is known."""
        with self._lock:
            self.refresh()
            return dict(self._specs)

    def _is_old(self) -> bool:
        return self._looked_at is None or not 0 <= self._clock.steady() - self._looked_at < LOOKED_AT_EVERY

    def refresh(self) -> None:
        """Take in what other processes have put."""
        place = TopicPartition(CATALOG, 0)
        self._looked_at = self._clock.steady()
        try:
            end = self._admin.bounds([place])[place][1]
        except UnknownTopicError:
            return
        while batches := self._reader.read(Lines(self._specs), place, self._position, end, ROWS_AT_ONCE):
            self._position = batches[-1].next_offset

    def put(self, spec: TopicSpec) -> None:
        """Have everybody know this."""
        with self._lock:
            if self._admin.state(CATALOG) is None:
                self._admin.create(TopicSpec(CATALOG, (), replication=self._replication, compacted=True))
            text, empty = encode_spec(spec)
            value = json.dumps({"spec": text, "columns": base64.b64encode(empty).decode()})
            self._appender.append([Encoded(CATALOG, 0, [spec.name.encode()], [value.encode()])], None)
            self._specs[spec.name] = spec


class Lines:
    """Reads the catalog's records into specs as they come."""

    headers = NO_HEADERS

    def __init__(self, specs: dict[str, TopicSpec]) -> None:
        self._specs = specs

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Keep the newest spec of each topic; the batch itself is not looked at."""
        for key, value in zip(keys, values, strict=True):
            name = (key or b"").decode()
            if value is None:
                self._specs.pop(name, None)
            else:
                content = json.loads(value)
                self._specs[name] = decode_spec(content["spec"], base64.b64decode(content["columns"]))
        return Decoded(pl.DataFrame({"name": [(key or b"").decode() for key in keys]}))
