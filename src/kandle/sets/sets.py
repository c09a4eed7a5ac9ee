"""Entity sets: the typed members of a context, one for each entity."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import polars as pl
from anyio import to_thread

from kandle.errors import AccessError, DataError, ModelError, StateError
from kandle.model.columns import physical_schema
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.model.markers import Access
from kandle.sets.blocking import awaited, blocking, check_asyncio
from kandle.sets.host import ContextHost
from kandle.sets.keys import KeyPrefix, physical_key
from kandle.sets.policies import STOPPING, CircuitBreaker, ErrorPolicy, OnError, Retries
from kandle.time.timeframe import parse_duration, parse_instant, to_instant

if TYPE_CHECKING:
    # What reads and writes records is loaded by the first method that does: declaring a context needs none of it.
    from kandle.log.headers import Headers
    from kandle.sets.changes import TableChanges
    from kandle.sets.copies import Check
    from kandle.sets.dead_letters import DeadLetterSet
    from kandle.sets.entries import Outbox
    from kandle.sets.messages import MessageStream, Reading
    from kandle.sets.places import Beginning
    from kandle.sets.reading import EventSelection, Instant, Unreadable
    from kandle.sets.writing import PendingRow

T = TypeVar("T")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, repr=False)
class EntitySet(Generic[T]):
    """The records of an entity in a context, for reading; the base of all sets."""

    _host: ContextHost
    entity: EntityModel
    access: Access = "read_write"
    newest: int | None = None
    """How many of the newest records `to_list` returns, and how many messages a loop has; None for all."""
    policy: ErrorPolicy = STOPPING
    """What happens to messages that fail."""
    beginning: Beginning | None = None
    """Where loops begin; None for the position of the consumer group."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.entity.name})"

    @property
    def _label(self) -> str:
        return self._host.set_label(self.entity.cls)

    @property
    def can_read(self) -> bool:
        """Whether context and entity may be read."""
        return self.access != "write_only"

    @property
    def can_write(self) -> bool:
        """Whether context and entity may be written."""
        return self.access != "read_only"

    @property
    def topic(self) -> str:
        """The topic that iterating reads."""
        self._check_timeframe()
        return self.entity.topic

    def limit(self, count: int) -> Self:
        """Return the set with only its newest records for `to_list`: of a table, the rows that were written last.

        A loop over it, or `for_each`, ends after so many messages.

        Args:
            count: The number of records that `to_list` returns at most, and of messages.

        Raises:
            DataError: The number is below 1.
        """
        if count < 1:
            raise DataError(f"limit({count}): give 1 or more")
        return replace(self, newest=count)

    def _check_read(self) -> None:
        if not self.can_read:
            raise AccessError(f"{self.entity.name} cannot be read: {self._access_reason('write_only')}")

    def _access_reason(self, mode: Access) -> str:
        """Return who allows no more than a mode: the entity, or the context."""
        if self.entity.access == mode:
            return f"its access is {mode!r} (entities.{self.entity.name}.access, or access() in on_model_creating)"
        return f"the context was opened with access={self.access!r}"

    def _check_timeframe(self) -> None:
        """Raise ModelError for a set of bars without a timeframe."""
        plan = self._host.plan_of(self.entity.cls)
        if plan is not None:
            names = [bar.name for bar in plan.emitted]
            label = self._host.bars_label(self.entity.cls, names[0])
            raise ModelError(f"{self.entity.name} has bars of {', '.join(names)}; say which: {label}")

    def on_error(self, action: OnError) -> Self:
        """Return the set with another policy for messages that fail, also for records that cannot be read.

        Args:
            action: What becomes of a message once its retries are used up.

        Example:
            market.ticks.on_error(OnError.DEAD_LETTER).with_retry(3, backoff="200ms").for_each(handle)
        """
        return replace(self, policy=replace(self.policy, action=OnError(action)))

    def with_retry(
        self,
        times: int,
        *,
        backoff: str | timedelta = "200ms",
        max: str | timedelta = "30s",
        jitter: bool = True,
    ) -> Self:
        """Return the set with retries: a message that fails is tried again before any other of its partition.

        Args:
            times: The number of attempts after the first one.
            backoff: The wait before the second attempt; it doubles with each one.
            max: The longest wait.
            jitter: Whether the waits vary by chance, between half of their length and all of it.

        Raises:
            DataError: The number is below 0, or the longest wait is shorter than the first.
        """
        retries = Retries(times, parse_duration(backoff), parse_duration(max), jitter)
        return replace(self, policy=replace(self.policy, retries=retries))

    def with_circuit_breaker(self, failures: int, *, within: str | timedelta = "1m", rest: str | timedelta = "30s") -> Self:
        """Return the set with a circuit breaker: a partition whose messages fail too often rests before the next attempt.

        Args:
            failures: The number of failed attempts that opens it.
            within: The time in which they come.
            rest: How long the partition rests before one attempt is made, after which it goes on or rests again.

        Raises:
            DataError: The number is below 1.
        """
        breaker = CircuitBreaker(failures, parse_duration(within), parse_duration(rest))
        return replace(self, policy=replace(self.policy, breaker=breaker))

    def since(self, instant: Instant) -> Self:
        """Return the set with loops that begin at an instant, and not at the position of the consumer group.

        Each partition begins at its first event of that time or later (without a timestamp in the entity: at its first record
        that was appended then), and goes on with all that follow. Positions are committed as always.

        Args:
            instant: An aware datetime or an ISO 8601 text.

        Raises:
            TimeframeError: The text is no instant, or the datetime is not aware.
        """
        from kandle.sets.places import Beginning

        since = parse_instant(instant) if isinstance(instant, str) else to_instant(instant)
        time = None if self.entity.timestamp is None else self.entity.timestamp.name
        return replace(self, beginning=Beginning(since=since, time=time))

    def from_offsets(self, offsets: Mapping[int, int]) -> Self:
        """Return the set with loops that begin at these offsets, and not at the position of the consumer group.

        Args:
            offsets: The first offset by the number of a partition; other partitions begin at the position of the group.

        Raises:
            DataError: An offset is negative.
        """
        from kandle.sets.places import Beginning

        if any(offset < 0 for offset in offsets.values()):
            raise DataError(f"from_offsets({dict(offsets)}): give offsets of 0 or more")
        return replace(self, beginning=Beginning(dict(offsets)))

    def _reading(self, timeout: str | timedelta | None = None, limit: int | None = None) -> Reading:
        from kandle.sets.messages import Reading

        self._check_read()
        if limit is not None and limit < 1:
            raise DataError(f"limit={limit}: give 1 or more")
        limits = [count for count in (self.newest, limit) if count is not None]
        duration = None if timeout is None else parse_duration(timeout)
        return Reading(self.topic, self.policy, self.beginning, min(limits, default=None), duration)

    def _transactional_reading(self, timeout: str | timedelta | None, interval: int, outbox: Outbox) -> Reading:
        return replace(self._reading(timeout), interval=interval, outboxes=(outbox,))

    def messages(self, *, timeout: str | timedelta | None = None) -> MessageStream[T]:
        """Return the records with their headers, partition, offset and time, from the position of the consumer group on.

        Args:
            timeout: How long a loop waits for the next message before it ends; None for no end.

        Returns:
            Messages for `for` or `async for`. Each is done, and committed, when the next one is asked for, or when the loop is
            left by `break`; a message in whose turn an exception ends the loop is the next one when consuming begins again.
        """
        from kandle.sets.messages import MessageStream

        return MessageStream(self._host, self.entity, self._reading(timeout))

    def manual_commit(self, *, timeout: str | timedelta | None = None) -> MessageStream[T]:
        """Return the records as `messages` does, committed by `message.commit()` only; to be opened by `with`.

        Args:
            timeout: How long a loop waits for the next message before it ends; None for no end.

        Returns:
            The messages.

        Example:
            with market.ticks.manual_commit() as messages:
                for message in messages:
                    handle(message.value)
                    message.commit()
        """
        from kandle.sets.messages import MessageStream

        return MessageStream(self._host, self.entity, self._reading(timeout), is_manual=True)

    def dead_letters(self) -> DeadLetterSet[T]:
        """Return the dead letters of this set: of its records that could not be read or handled.

        Those of bars are also the bars of this timeframe that do not fit, and the events that no bar could be made of.

        Returns:
            The letters, to be read, replayed or dropped.

        Example:
            market.ticks.dead_letters().where(error_class="ValueError").replay()
        """
        from kandle.plan.topics import dead_letter_name
        from kandle.sets.dead_letters import DeadLetterSet

        topics = (dead_letter_name(self.entity.topic),)
        return DeadLetterSet(self._host, self.entity, self.access, topics, self.entity.topic, f"{self._label}.dead_letters()")

    @awaited
    async def for_each_async(
        self,
        handler: Callable[[T], Awaitable[None] | None],
        *,
        limit: int | None = None,
        timeout: str | timedelta | None = None,
    ) -> int:
        """Call a function or a coroutine function with every value, one after the other.

        A value is committed when the handler has returned. What happens when it raises says the policy of the set (`on_error`,
        `with_retry`); by default the error ends the call, and the value is the next one when consuming begins again.

        Args:
            handler: What is called with each value; tombstones are left out.
            limit: The number of values after which the call returns; None for no end but cancellation.
            timeout: How long to wait for the next value before the call returns; None for no end.

        Returns:
            The number of values handled without an error.

        Raises:
            Exception: What the handler has raised, where the policy is to stop.
        """
        from kandle.sets.loops import MessageLoop
        from kandle.sets.messages import MessageStream, alive

        count = 0
        stream: MessageStream[T] = MessageStream(self._host, self.entity, self._reading(timeout, limit))
        async with stream:
            async for message in MessageLoop(stream, alive):
                try:
                    result = handler(message.value)  # type: ignore[arg-type]
                    if inspect.isawaitable(result):
                        await result
                except Exception as error:
                    message.reject(error)
                else:
                    stream.finish(message)
                    count += 1
        return count

    def for_each(self, handler: Callable[[T], None], *, limit: int | None = None, timeout: str | timedelta | None = None) -> int:
        """Call a function with every value, one after the other, in this thread.

        The blocking form of `for_each_async`: the function may call blocking methods of sets.

        Args:
            handler: What is called with each value; tombstones are left out.
            limit: The number of values after which the call returns; None for no end but Ctrl-C.
            timeout: How long to wait for the next value before the call returns; None for no end.

        Returns:
            The number of values handled without an error.

        Raises:
            StateError: The handler is a coroutine function, or an event loop runs in this thread.
            Exception: What the handler has raised, where the policy is to stop.
        """
        from kandle.sets.loops import MessageLoop
        from kandle.sets.messages import MessageStream, alive

        if inspect.iscoroutinefunction(handler):
            raise StateError(f"the handler is a coroutine function; write `await {self._label}.for_each_async(...)`")
        self._host.loop.check_blocking(f"{self._label}.for_each(...)", f"await {self._label}.for_each_async(...)")
        count = 0
        stream: MessageStream[T] = MessageStream(self._host, self.entity, self._reading(timeout, limit))
        with stream:
            for message in MessageLoop(stream, alive):
                try:
                    handler(message.value)  # type: ignore[arg-type]
                except Exception as error:
                    message.reject(error)
                else:
                    stream.finish(message)
                    count += 1
        return count

    def __aiter__(self) -> AsyncIterator[T]:
        check_asyncio(f"async for ... in {self._label}", f"iterate in a thread: `for ... in {self._label}`")
        return self.messages().values()

    def __iter__(self) -> Iterator[T]:
        self._host.loop.check_blocking("for", "async for")
        return self.messages().values()


class WritableSet(EntitySet[T]):
    """The records of an entity that are written by hand."""

    __slots__ = ()

    def _check_write(self) -> None:
        if not self.can_write:
            raise AccessError(f"{self.entity.name} cannot be written: {self._access_reason('read_only')}")
        if self._host.plan_of(self.entity.cls) is not None:
            raise AccessError(made_by_query(self.entity))

    @awaited
    async def add_async(self, obj: T, *, headers: Headers | None = None) -> None:
        """Append one object, and return when it is stored. Objects that are added at the same time share a commit.

        Args:
            obj: An object of the entity's class.
            headers: Headers of the record: texts, bytes or None by name, or pairs where a name comes more than once.

        Raises:
            DataError: A value does not fit its field, or a header is neither text nor bytes nor None.
            AccessError: The context was opened for reading only, or a query makes the entity.
        """
        await self._write(*self._pending(obj, headers))

    add = blocking(add_async)

    def _pending(self, obj: T, headers: Headers | None) -> tuple[str, PendingRow]:
        """Return an object as a record to be written, with the name of its topic."""
        from kandle.log.headers import header_pairs
        from kandle.sets.writing import PendingRow

        self._check_write()
        return self.entity.topic, PendingRow(self.entity, mapping(self.entity).row(obj), header_pairs(headers))

    async def _write(self, topic: str, row: PendingRow) -> None:
        """Append a record, in the topic of the previous version of its key as well if the entity says so."""
        if self.entity.version is None or not self.entity.version.dual_write:
            await self._host.write(topic, row)
            return
        from kandle.sets.dual_writing import append_records
        from kandle.sets.writing import records_of

        records = records_of([row])
        self._host.count_mismatch(await to_thread.run_sync(append_records, self._host.log, self.entity, records))

    @awaited
    async def add_many_async(self, objects: Iterable[T] | pl.DataFrame | pl.LazyFrame) -> int:
        """Append many objects, and return when they are stored.

        They are committed in batches of 50,000 one after the other, so an error leaves the batches before it.

        Args:
            objects: Objects of the entity's class, or a Polars frame with a column for each field.

        Returns:
            The number of objects.

        Raises:
            DataError: A value does not fit its field; the message names its row.
            AccessError: The context was opened for reading only, or a query makes the entity.
        """
        from kandle.sets.dual_writing import append_frame
        from kandle.sets.writing import frames_of

        self._check_write()
        count = 0
        for frame in frames_of(self.entity, objects):
            self._host.count_mismatch(await to_thread.run_sync(append_frame, self._host.log, self.entity, frame))
            count += frame.height
        return count

    add_many = blocking(add_many_async)


class EventSet(WritableSet[T]):
    """The events of a stream."""

    __slots__ = ()

    @awaited
    async def to_list_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        unreadable: Unreadable = "refuse",
    ) -> list[T]:
        """Return the events that the log stores.

        Args:
            key_prefix: The first parts of the events' keys, as values or as text; all keys without it.
            start: The time of the first events, as an aware datetime or an ISO 8601 text; None for the oldest.
            end: The bound of the events' times, not included; None for no bound.
            unreadable: What to do about records that cannot be read: "refuse" raises an error that names them, "skip" leaves
                them out and logs a warning.

        Returns:
            The events, oldest first in each partition.

        Raises:
            DataError: A part of the key does not fit its field, there are too many, or a record cannot be read.
            AccessError: The context was opened for writing only.
        """
        from kandle.sets.reading import EventSelection, span_of

        span = None if start is None and end is None else span_of(start, end)
        frame = await self._rows(key_prefix, lambda key: EventSelection(key, span, self.newest, unreadable))
        return await to_thread.run_sync(mapping(self.entity).from_frame, frame)

    to_list = blocking(to_list_async)

    @awaited
    async def count_async(self, key_prefix: KeyPrefix = (), *, unreadable: Unreadable = "refuse") -> int:
        """Return the number of events that the log stores, which are not made into objects.

        Args:
            key_prefix: The first parts of the events' keys, as for `to_list`.
            unreadable: What to do about records that cannot be read, as for `to_list`.

        Returns:
            The number of events, at most that of `limit`.

        Raises:
            DataError: As for `to_list`.
            AccessError: The context was opened for writing only.
        """
        from kandle.sets.reading import EventSelection

        return (await self._rows(key_prefix, lambda key: EventSelection(key, None, self.newest, unreadable))).height

    count = blocking(count_async)

    async def _rows(self, key_prefix: KeyPrefix, select: Callable[[Mapping[str, Any]], EventSelection]) -> pl.DataFrame:
        from kandle.sets.reading import event_rows

        self._check_read()
        self._check_timeframe()
        key = physical_key(self.entity, self.entity.keys, key_prefix)
        self._host.settle()
        return await to_thread.run_sync(event_rows, self._host.log, self.entity, select(key))


class TableSet(WritableSet[T]):
    """The rows of a table, the newest of each key.

    Rows are read from a copy of the table on this machine, which is followed from the first read on.
    """

    __slots__ = ()

    @awaited
    async def to_list_async(
        self, key_prefix: KeyPrefix = (), *, unreadable: Unreadable = "refuse", timeout: str | timedelta | None = None
    ) -> list[T]:
        """Return the rows of the table, with all that stood in its topic when this was called.

        Args:
            key_prefix: The first parts of the rows' keys, as values or as text; all rows without it.
            unreadable: What to do about keys whose newest record cannot be read: "refuse" raises an error that names them,
                "skip" leaves such keys out and logs a warning.
            timeout: Longest wait for the copy of the table, such as "5s"; as long as it takes without it.

        Returns:
            The newest row of each key, ordered by key.

        Raises:
            DataError: A part of the key does not fit its field, there are too many, or the newest record of a key cannot be
                read.
            UnavailableError: The copy was not current in time.
            AccessError: The context was opened for writing only.
        """

        def build(rows: list[list[Any]]) -> list[T]:
            return mapping(self.entity).objects(list(zip(*rows, strict=True))[PLACE_FIELDS:]) if rows else []

        return await self._read(key_prefix, unreadable, timeout, build)

    to_list = blocking(to_list_async)

    @awaited
    async def get_async(self, key: KeyPrefix, *, timeout: str | timedelta | None = None) -> T | None:
        """Return the row of a key.

        Args:
            key: All parts of the key, as values or as text.
            timeout: Longest wait for the copy of the table, as for `to_list`.

        Returns:
            The row; None if the key has none.

        Raises:
            DataError: A part of the key is missing or does not fit its field, or the newest record of the key cannot be read.
            UnavailableError: The copy was not current in time.
            AccessError: The context was opened for writing only.
        """
        self._check_whole(key, "get")
        objects: list[T] = await TableSet.to_list_async(self, key, timeout=timeout)
        return objects[0] if objects else None

    get = blocking(get_async)

    @awaited
    async def count_async(
        self, key_prefix: KeyPrefix = (), *, unreadable: Unreadable = "refuse", timeout: str | timedelta | None = None
    ) -> int:
        """Return the number of rows of the table, which are not made into objects.

        Args:
            key_prefix: The first parts of the rows' keys, as for `to_list`.
            unreadable: What to do about keys whose newest record cannot be read, as for `to_list`.
            timeout: Longest wait for the copy of the table, as for `to_list`.

        Returns:
            The number of keys that have a row, at most that of `limit`.

        Raises:
            DataError: As for `to_list`.
            UnavailableError: The copy was not current in time.
            AccessError: The context was opened for writing only.
        """
        return await self._read(key_prefix, unreadable, timeout, len)

    count = blocking(count_async)

    def changes(self, key_prefix: KeyPrefix = ()) -> TableChanges[T]:
        """Return the changes of the table from now on, for `for` and `async for`.

        Of several changes of a key that come before the next one is taken, the newest counts.

        Args:
            key_prefix: The first parts of the keys whose changes are wanted; all keys without it.

        Returns:
            Each change with `key`, the parts of the key, and `row`, which is None once the row is removed.

        Raises:
            DataError: A part of the key does not fit its field, or there are too many.
            AccessError: The context was opened for writing only.
        """
        from kandle.sets.changes import TableChanges

        return TableChanges(self._host, self.entity, self._prefix(key_prefix))

    async def _read(
        self,
        key_prefix: KeyPrefix,
        unreadable: Unreadable,
        timeout: str | timedelta | None,
        build: Callable[[list[list[Any]]], Result],
    ) -> Result:
        """Read the newest rows of the keys with these first parts from the copy of the table, and build something of them."""
        from kandle.sets.copies import in_thread
        from kandle.sets.reading import report_unreadable

        prefix = self._prefix(key_prefix)
        patience = None if timeout is None else parse_duration(timeout)

        def read(check: Check) -> Result:
            copy = self._host.table(self.entity)
            with copy.current(patience, check) as check_both:
                report_unreadable(copy.unreadable(prefix), unreadable)
                return build(self._newest_rows(copy.rows(prefix, check_both)))

        return await in_thread(read)

    def _prefix(self, key_prefix: KeyPrefix) -> bytes:
        """Return the bytes of a key's first parts, after a check of what reads need."""
        from kandle.store.ordering import ordered_prefix

        self._check_read()
        self._check_timeframe()
        if not self.entity.keys:
            raise DataError(f"{self.entity.name} is a table without a key, so no record is the newest of its key")
        return ordered_prefix(physical_key(self.entity, self.entity.keys, key_prefix), physical_schema(self.entity))

    def _newest_rows(self, rows: list[list[Any]]) -> list[list[Any]]:
        """Return the rows that were written last, as many as `limit` says, in the order in which they are given."""
        if self.newest is None or len(rows) <= self.newest:
            return rows
        # By the time of the append, then by the offset.
        newest = sorted(range(len(rows)), key=lambda at: (rows[at][3], rows[at][2]))[-self.newest :]
        return [rows[at] for at in sorted(newest)]

    @awaited
    async def remove_async(self, key: KeyPrefix | T) -> None:
        """Remove a row, and return when its tombstone is stored.

        Args:
            key: All parts of the key, as values or as text, or the row itself.

        Raises:
            DataError: A part of the key is missing or does not fit its field.
            AccessError: The context was opened for reading only.
        """
        from kandle.sets.writing import PendingRow

        self._check_write()
        await self._write(self.entity.topic, PendingRow(self.entity, self._tombstone(key), is_tombstone=True))

    remove = blocking(remove_async)

    def _tombstone(self, key: Any) -> tuple[Any, ...]:
        entity = self.entity
        parts = mapping(entity).key(key) if isinstance(key, entity.cls) else key
        self._check_whole(parts, "remove")
        values = physical_key(entity, entity.keys, parts)
        return tuple(values.get(name) for name in physical_schema(entity))

    def _check_whole(self, key: KeyPrefix, word: str) -> None:
        """Raise DataError if parts of a key are missing."""
        if len(physical_key(self.entity, self.entity.keys, key)) != len(self.entity.keys):
            names = ", ".join(field.name for field in self.entity.keys)
            raise DataError(f"to {word} a {self.entity.name} give all parts of its key: {names}")


PLACE_FIELDS = 4
"""A row of a copy begins with its kind, partition, offset and time."""


def made_by_query(entity: EntityModel) -> str:
    """Return the error message for writing what a query makes.

    Args:
        entity: The entity that a query makes.

    Returns:
        The text of the message.
    """
    return f"{entity.name} is made by its query; add to the entity that the query reads"
