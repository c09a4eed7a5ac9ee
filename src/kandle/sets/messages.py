"""Consuming a topic: messages one by one, in a consumer group, with automatic or manual commits."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
import polars as pl
from anyio import CancelScope, Lock, to_thread

from kandle.errors import DataError, StateError
from kandle.log.headers import HeaderPairs, header_texts, raw_header_rows
from kandle.log.port import Consumer, GroupSpec, TopicPartition
from kandle.log.records import Batch, RejectedRecord
from kandle.model.columns import to_logical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import ContextHost
from kandle.time.timeframe import MILLISECOND, MINUTE, from_instant

T = TypeVar("T")

STALL = 5 * MINUTE
"""Microseconds for which a program may handle messages before its partitions go to other members, on any log."""

PATIENCE = 200 * MILLISECOND
"""Microseconds that one poll for records may take, and so how long a cancellation may."""


@dataclass(frozen=True, slots=True)
class Message(Generic[T]):
    """One record of a topic.

    Attributes:
        value: The object of the entity; None for a tombstone.
        key: The parts of the record's key.
        headers: The headers of the record that are text, by name; of several with one name the last.
        topic: The name of the topic.
        partition: The number of the partition.
        offset: The offset in the partition.
        timestamp: When the record was appended.
        is_tombstone: Whether the record removes the row of its key.
        raw_headers: All headers as they are: pairs of a name and bytes, or None.
    """

    value: T | None
    key: tuple[Any, ...]
    headers: dict[str, str]
    topic: str
    partition: int
    offset: int
    timestamp: datetime
    is_tombstone: bool = False
    raw_headers: HeaderPairs = ()
    _stream: MessageStream[T] | None = field(default=None, repr=False, compare=False)

    @property
    def _host(self) -> ContextHost:
        return self._manual_stream.host

    @property
    def _label(self) -> str:
        return "message"

    @property
    def _manual_stream(self) -> MessageStream[T]:
        if self._stream is None or not self._stream.is_manual:
            raise StateError(
                "this message is committed by itself once the next one is taken; "
                "to commit messages yourself, take them from `manual_commit()`"
            )
        return self._stream

    @awaited
    async def commit_async(self) -> None:
        """Commit the position behind this message, so that its group continues there after a restart.

        All messages before it in its partition count as done too.

        Raises:
            StateError: The message is not from `manual_commit()`, or its messages are closed already.
        """
        await self._manual_stream.commit_position(TopicPartition(self.topic, self.partition), self.offset + 1)

    commit = blocking(commit_async)


class MessageStream(Generic[T]):
    """Messages of a topic from the position of the consumer group on: for `async for`, and for `for` where nothing is awaited.

    With automatic commits a message is committed when the next one is taken, or when the loop is left.
    """

    def __init__(self, host: ContextHost, entity: EntityModel, topic: str, *, is_manual: bool = False) -> None:
        self.host = self._host = host
        self.is_manual = is_manual
        self._mapping = mapping(entity)
        self._entity = entity
        self._topic = topic
        self._consumer: Consumer | None = None
        self._ready: deque[Message[T]] = deque()
        self._delivered: dict[TopicPartition, int] = {}
        self._rejected: dict[TopicPartition, RejectedRecord] = {}
        self._is_closed = False
        self._is_entered = False
        """Whether `with` closes the stream, so that the end of a loop does not."""
        self._finishing = Lock()

    @property
    def _label(self) -> str:
        return f"{self._host.set_label(self._entity.cls)}.messages()"

    def __aiter__(self) -> AsyncIterator[Message[T]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Message[T]]:
        try:
            while True:
                while not self._ready:
                    await self._fill_async()
                yield self._take()
        finally:
            if not self._is_entered:
                with CancelScope(shield=True):
                    await self._close_if_open()

    def __iter__(self) -> Iterator[Message[T]]:
        self._check_blocking("for")
        return self._iterate_blocking()

    def _iterate_blocking(self) -> Iterator[Message[T]]:
        try:
            while True:
                while not self._ready:
                    self._fill()
                yield self._take()
        finally:
            if not self._is_entered:
                self._close_blocking()

    def _check_blocking(self, word: str) -> None:
        self._host.loop.check_blocking(f"{word}", f"async {word}")

    def _take(self) -> Message[T]:
        message = self._ready.popleft()
        if not self.is_manual:
            self._delivered[TopicPartition(message.topic, message.partition)] = message.offset + 1
        return message

    @awaited
    async def _fill_async(self) -> None:
        """Commit what was delivered and get the next records."""
        self._host.settle()
        self._refuse_rejected()
        if self._consumer is None:
            self._host.closers.add(self._finish)
            reader = self._host.reader(self._topic)
            spec = GroupSpec(reader.group, (self._topic,), reader.member, reader.reset, stall=STALL)
            self._consumer = await to_thread.run_sync(self._host.log.consumer, spec)
            self._rows = reader.batch_rows
        await self._commit_delivered()
        batches = await to_thread.run_sync(self._consumer.poll, PATIENCE, self._rows)
        for batch in batches:
            self._ready.extend(self._messages(self._readable(batch)))

    _fill = blocking(_fill_async)

    def _readable(self, batch: Batch) -> Batch:
        """Return the records before the first one of the partition that cannot be read."""
        partition = TopicPartition(batch.topic, batch.partition)
        if batch.rejects:
            self._rejected.setdefault(partition, batch.rejects[0])
        if partition not in self._rejected:
            return batch
        return batch.slice(0, int(np.searchsorted(batch.offsets, self._rejected[partition].offset)))

    def _refuse_rejected(self) -> None:
        """Raise DataError for a record that cannot be read, once all before it are delivered; none behind it is."""
        for partition, reject in self._rejected.items():
            raise DataError(
                f"topic {partition.topic}, partition {partition.partition}, offset {reject.offset}: the record cannot be read: "
                f"{reject.reason}; nothing behind it is delivered. Correct its schema or format, or move the group past it"
            )

    def _messages(self, batch: Batch) -> list[Message[T]]:
        records = batch.records
        names = [field.name for field in self._entity.fields]
        tombstones = records.tombstones.to_list() if records.tombstones is not None else [False] * len(batch)
        frame = records.frame.select(names)
        alive = frame if records.tombstones is None else frame.filter(~records.tombstones)
        values = iter(self._mapping.from_frame(alive))
        keys = self._keys(frame)
        rows = zip(raw_header_rows(records), keys, batch.offsets.tolist(), batch.timestamps.tolist(), tombstones, strict=True)
        return [
            Message(
                None if is_tombstone else next(values),
                key,
                header_texts(headers),
                batch.topic,
                batch.partition,
                offset,
                from_instant(time),
                is_tombstone,
                headers,
                self,
            )
            for headers, key, offset, time, is_tombstone in rows
        ]

    def _keys(self, frame: pl.DataFrame) -> list[tuple[Any, ...]]:
        """Return the key parts of each row as values of their Python types, also of tombstones."""
        fields = self._entity.keys
        if not fields:
            return [()] * frame.height
        rows = to_logical(self._entity, frame).select([field.name for field in fields]).rows()
        convert = [field.type.to_python for field in fields]
        return [tuple(to_python(part) for to_python, part in zip(convert, row, strict=True)) for row in rows]

    async def _commit_delivered(self) -> None:
        if self._delivered and self._consumer is not None:
            offsets, self._delivered = self._delivered, {}
            owned = self._consumer.assignment
            offsets = {partition: offset for partition, offset in offsets.items() if partition in owned}
            await to_thread.run_sync(self._consumer.commit, offsets)

    async def commit_position(self, partition: TopicPartition, following: int) -> None:
        """Commit a position.

        Args:
            partition: The partition.
            following: The offset of the first record that is not done.

        Raises:
            StateError: The stream is closed.
        """
        if self._consumer is None or self._is_closed:
            raise StateError("the messages are closed already; commit them inside of `with ...manual_commit() as messages:`")
        await to_thread.run_sync(self._consumer.commit, {partition: following})

    async def _finish(self) -> None:
        # The end of a loop and the end of its context may both get here at the same time; the later one waits.
        async with self._finishing:
            if self._is_closed:
                return
            self._is_closed = True
            self._host.closers.discard(self._finish)
            await self._commit_delivered()
            if self._consumer is not None:
                await to_thread.run_sync(self._consumer.close)

    @awaited
    async def _close_async(self) -> None:
        await self._finish()

    _close = blocking(_close_async)

    async def _close_if_open(self) -> None:
        # A loop that was left unfinished when its context was closed has nothing to close any more.
        if self._host.is_open:
            await self._close_async()

    def _close_blocking(self) -> None:
        if self._host.is_open:
            self._close()

    async def __aenter__(self) -> Self:
        self._is_entered = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with CancelScope(shield=True):
            await self._close_if_open()

    def __enter__(self) -> Self:
        self._check_blocking("with")
        self._is_entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close_blocking()
