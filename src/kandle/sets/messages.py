"""Consuming a topic: messages one by one, in a consumer group, with automatic or manual commits."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from anyio import CancelScope, to_thread

from kandle.errors import DataError
from kandle.log.port import Consumer, GroupSpec, TopicPartition
from kandle.log.records import Batch, RejectedRecord, header_rows
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.sets.host import Host, check_blocking, portable
from kandle.time.timeframe import MILLISECOND, from_instant

T = TypeVar("T")

PATIENCE = 200 * MILLISECOND
"""How long one look for records may take, and so how long a cancellation may."""


@dataclass(frozen=True, slots=True)
class Message(Generic[T]):
    """One record: `value` is the entity object, None for a tombstone; `timestamp` is when it was appended."""

    value: T | None
    key: tuple[Any, ...]
    headers: dict[str, str]
    topic: str
    partition: int
    offset: int
    timestamp: datetime
    is_tombstone: bool = False
    _commit: Callable[[TopicPartition, int], Awaitable[None]] | None = field(default=None, repr=False, compare=False)

    def commit(self) -> Any:
        """Have the group go on behind this message (and all before it of its partition) after a restart."""
        assert self._commit is not None
        return self._commit(TopicPartition(self.topic, self.partition), self.offset + 1)


class MessageStream(Generic[T]):
    """Messages of a topic from the group's position on; `async for` and, in a blocking context, `for`.

    With automatic commits a message is committed when the next one is asked for after it, or when the loop is left.
    """

    def __init__(self, host: Host, entity: EntityModel, topic: str, *, is_manual: bool = False) -> None:
        self._host = host
        self._mapping = mapping(entity)
        self._entity = entity
        self._topic = topic
        self._is_manual = is_manual
        self._consumer: Consumer | None = None
        self._ready: deque[Message[T]] = deque()
        self._delivered: dict[TopicPartition, int] = {}
        self._rejected: dict[TopicPartition, RejectedRecord] = {}
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[Message[T]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Message[T]]:
        try:
            while True:
                yield await self._following()
        finally:
            with CancelScope(shield=True):
                await self._finish()

    def __iter__(self) -> Iterator[Message[T]]:
        check_blocking(self._host)
        return self._iterate_blocking()

    def _iterate_blocking(self) -> Iterator[Message[T]]:
        try:
            while True:
                yield self._next()  # type: ignore[misc]
        finally:
            # A loop that was left open when its context was closed has nothing to close any more.
            if self._host.portal is not None:
                self._close()  # type: ignore[unused-coroutine]

    @portable
    async def _next(self) -> Message[T]:
        return await self._following()

    @portable
    async def _close(self) -> None:
        await self._finish()

    async def _following(self) -> Message[T]:
        while not self._ready:
            await self._fill()
        message = self._ready.popleft()
        if not self._is_manual:
            self._delivered[TopicPartition(message.topic, message.partition)] = message.offset + 1
        return message

    async def _fill(self) -> None:
        """Commit what was delivered and get the next records."""
        self._host.settle()
        self._refuse_rejected()
        if self._consumer is None:
            reader = self._host.reader(self._topic)
            spec = GroupSpec(reader.group, (self._topic,), reader.member, reader.reset)
            self._consumer = await to_thread.run_sync(self._host.log.consumer, spec)
            self._rows = reader.batch_rows
        await self._commit_delivered()
        batches = await to_thread.run_sync(self._consumer.poll, PATIENCE, self._rows)
        for batch in batches:
            self._ready.extend(self._messages(self._readable(batch)))

    def _readable(self, batch: Batch) -> Batch:
        """What stands before the first record of its partition that cannot be read."""
        place = TopicPartition(batch.topic, batch.partition)
        if batch.rejects:
            self._rejected.setdefault(place, batch.rejects[0])
        if place not in self._rejected:
            return batch
        return batch.slice(0, int(np.searchsorted(batch.offsets, self._rejected[place].offset)))

    def _refuse_rejected(self) -> None:
        """DataError for a record that cannot be read, once all before it are delivered; none behind it is."""
        for place, reject in self._rejected.items():
            raise DataError(
                f"topic {place.topic}, partition {place.partition}, offset {reject.offset}: the record cannot be read: "
                f"{reject.reason}; nothing behind it is delivered. Correct its schema or format, or move the group past it"
            )

    def _messages(self, batch: Batch) -> list[Message[T]]:
        """The records of a batch as messages."""
        records = batch.records
        names = [found.name for found in self._entity.fields]
        gone = records.tombstones.to_list() if records.tombstones is not None else [False] * len(batch)
        frame = records.frame.select(names)
        alive = frame if records.tombstones is None else frame.filter(~records.tombstones)
        values = iter(self._mapping.from_frame(alive))
        keys = frame.select([found.name for found in self._entity.keys]).rows() if self._entity.keys else [()] * len(batch)
        commit = self.commit_position if self._is_manual else None
        rows = zip(header_rows(records), keys, batch.offsets.tolist(), batch.timestamps.tolist(), gone, strict=True)
        return [
            Message(
                None if is_gone else next(values),
                key,
                headers,
                batch.topic,
                batch.partition,
                offset,
                from_instant(time),
                is_gone,
                commit,
            )
            for headers, key, offset, time, is_gone in rows
        ]

    async def _commit_delivered(self) -> None:
        if self._delivered and self._consumer is not None:
            offsets, self._delivered = self._delivered, {}
            owned = self._consumer.assignment
            offsets = {partition: offset for partition, offset in offsets.items() if partition in owned}
            await to_thread.run_sync(self._consumer.commit, offsets)

    @portable
    async def commit_position(self, partition: TopicPartition, following: int) -> None:
        """Commit a position."""
        assert self._consumer is not None
        await to_thread.run_sync(self._consumer.commit, {partition: following})

    async def _finish(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._commit_delivered()
        if self._consumer is not None:
            await to_thread.run_sync(self._consumer.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with CancelScope(shield=True):
            await self._finish()

    def __enter__(self) -> Self:
        check_blocking(self._host)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()  # type: ignore[unused-coroutine]
