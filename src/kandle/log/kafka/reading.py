"""Messages as batches, and reads of partitions from any offset on."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import polars as pl
from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as Place

from kandle.errors import UnavailableError
from kandle.log.kafka.failures import Told, configured, meaning, translated
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import TopicPartition
from kandle.log.records import HEADERS, Batch, Records, RejectedRecord
from kandle.log.schema import with_columns
from kandle.serde.port import Decoded, Messages
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle.kafka")

SLICE = 20 * MILLISECOND
"""How long one wait for messages takes, and so how long a wake-up may."""

MOST_ROWS = 100_000

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Decoder(Protocol):
    """Reads the bytes of one topic's records; `headers` names the headers in which columns stand."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Rows, and what cannot be read."""


class Codec(Decoder, Protocol):
    """Records of one topic as bytes and back."""

    def encode(
        self, frame: pl.DataFrame, tombstones: pl.Series | None = None
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Keys and values; DataError for a value that does not fit."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from many new messages: it would look at them all over and over, and none is in a cycle."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def batch_of(codec: Decoder, place: TopicPartition, messages: Sequence[Any], now: int, end: int | None = None) -> Batch:
    """Messages of one partition as a batch; those that cannot be decoded are its rejects.

    Timestamps that a producer has set are not believed where they lie in the future.
    """
    keys, values = [message.key() for message in messages], [message.value() for message in messages]
    decoded = codec.decode(keys, values)
    rejects: tuple[RejectedRecord, ...] = ()
    if decoded.rejects:
        rejects = tuple(RejectedRecord(messages[at].offset(), keys[at], values[at], reason) for at, reason in decoded.rejects)
        bad = {at for at, _ in decoded.rejects}
        end = end if end is not None else messages[-1].offset() + 1
        messages = [message for at, message in enumerate(messages) if at not in bad]
    # Lists are quicker than generators here.
    offsets = np.array([message.offset() for message in messages], np.int64)
    timestamps = np.array([message.timestamp()[1] for message in messages], np.int64) * MILLISECOND
    timestamps = np.where(timestamps < 0, now, np.minimum(timestamps, now))
    headers = _headers([message.headers() for message in messages])
    records = with_columns(Records(decoded.frame, headers, decoded.tombstones), codec.headers)
    return Batch(place.topic, place.partition, offsets, timestamps, records, end, rejects)


def _headers(every: Sequence[list[tuple[str, bytes | None]] | None]) -> pl.Series | None:
    if not any(every):
        return None
    rows = [[{"name": name, "value": (value or b"").decode(errors="replace")} for name, value in row or ()] for row in every]
    return pl.Series("headers", rows, dtype=HEADERS)


def acquaint(client: Any, topic: str, known: set[str], timeout: int) -> None:
    """Have a client learn where the partitions of a topic are before it is used: left alone, it looks once a second only."""
    if topic not in known:
        client.list_topics(topic, timeout=timeout / SECOND)
        known.add(topic)


class Reader:
    """Reads committed records of one partition after the other; reading on where the last read ended is quick."""

    def __init__(self, settings: KafkaSettings, name: str, clock: Clock, told: Told) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._place: TopicPartition | None = None
        self._position = -1
        self._known: set[str] = set()
        with configured(settings.bootstrap):
            self._client = Client({**settings.reader(name), "error_cb": told}, logger=logger)

    def read(self, codec: Decoder, place: TopicPartition, offset: int, end: int, max_rows: int) -> list[Batch]:
        """About `max_rows` records from an offset on; none only if there are none below `end`.

        `end` is where the partition ends, open transactions included. What is in one is waited for: it is the state of a process
        that ended a moment ago, or the transaction is about to be given up.
        """
        if offset >= end:
            return []
        with self._lock, translated(f"read of {place.topic}, partition {place.partition}"):
            if (place, offset) != (self._place, self._position):
                acquaint(self._client, place.topic, self._known, self._settings.request)
                self._client.assign([Place(*place, offset)])
                self._place, self._position = place, offset
            with uncollected():
                messages = self._awaited(end, max_rows)
                batches = [batch_of(codec, place, messages, self._clock.now(), self._position)] if messages else []
            if self._position >= end:
                # A reader that has nothing to do does not ask the brokers for more all the time.
                self._client.unassign()
                self._place = None
        return batches

    def _awaited(self, end: int, max_rows: int) -> list[Any]:
        found: list[Any] = []
        deadline = self._clock.steady() + self._settings.patience
        while self._position < end and len(found) < max_rows:
            fetched = self._client.consume(min(max_rows - len(found), MOST_ROWS), 0 if found else SLICE / SECOND)
            fresh = [message for message in fetched if self._taken(message)]
            found += fresh
            if found and not fresh:
                break
            if not fetched and self._clock.steady() > deadline:
                self._place = None
                raise UnavailableError(
                    f"nothing was read for {self._settings.patience // SECOND} s, though there "
                    f"are records up to {end}; a transaction of another process may be open, or the brokers cannot be reached"
                )
        return found

    def _taken(self, message: Any) -> bool:
        """Whether it is a record; moves the position on."""
        error = message.error()
        if error is None:
            self._position = message.offset() + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._position = max(self._position, message.offset())
            return False
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            # The library looks for the group of its name, which a reader never joins.
            return False
        raise meaning(error, f"read of topic {message.topic()}, partition {message.partition()}")

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._client.close()
