"""Entity sets: the typed members of a context, one per entity or per entity and timeframe."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

import polars as pl
from anyio import to_thread

from kandle.errors import AccessError, DataError, ModelError, StateError
from kandle.log.records import Records
from kandle.model.columns import physical_schema, to_physical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.plan.plan import BarPlan
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import Access, ContextHost
from kandle.sets.messages import MessageStream
from kandle.sets.reading import event_rows, table_rows
from kandle.sets.writing import ROWS_AT_ONCE, PendingRow, writes_of
from kandle.time.timeframe import Timeframe

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EntitySet(Generic[T]):
    """The records of an entity in a context; `timeframe` is set for bars of one timeframe, `newest` limits what is read."""

    _host: ContextHost
    entity: EntityModel
    timeframe: Timeframe | None = None
    access: Access = "read_write"
    is_live: bool = False
    newest: int | None = None

    def __repr__(self) -> str:
        of = "" if self.timeframe is None else f", {self.timeframe}"
        return f"{type(self).__name__}({self.entity.name}{of}{', live' if self.is_live else ''})"

    @property
    def _label(self) -> str:
        return self._host.set_label(self.entity.cls)

    @property
    def can_read(self) -> bool:
        return self.access != "write_only"

    @property
    def can_write(self) -> bool:
        return self.access != "read_only"

    @property
    def live(self) -> Self:
        """The live bars: the current value of each open bucket, whenever it changes; the last one is the final."""
        self._bar("live bars")
        return replace(self, is_live=True)

    def limit(self, count: int) -> Self:
        """The set with only its newest `count` records."""
        if count < 1:
            raise DataError(f"limit({count}): give 1 or more")
        return replace(self, newest=count)

    @property
    def topic(self) -> str:
        """The topic that is read."""
        if self._host.plan_of(self.entity.cls) is None:
            return self.entity.topic
        bar = self._bar("records")
        return bar.live_topic if self.is_live else bar.final_topic

    def _bar(self, what: str) -> BarPlan:
        plan = self._host.plan_of(self.entity.cls)
        if plan is None:
            raise ModelError(f"{self.entity.name} has no query with a window, so it has no {what} by timeframe")
        names = [bar.name for bar in plan.emitted]
        found = next((bar for bar in plan.emitted if self.timeframe is not None and bar.timeframe == self.timeframe), None)
        if found is None:
            raise ModelError(
                f"{self.entity.name} has {what} of {', '.join(names)}; say which: .set({self.entity.name}, {names[0]!r})"
            )
        return found

    def _check_write(self) -> None:
        if not self.can_write:
            raise AccessError(f"{self.entity.name} cannot be written: the context was opened with access={self.access!r}")
        if self._host.plan_of(self.entity.cls) is not None:
            raise AccessError(f"{self.entity.name} is made by its query; add to the entity that the query reads")

    def _check_read(self) -> None:
        if not self.can_read:
            raise AccessError(f"{self.entity.name} cannot be read: the context was opened with access={self.access!r}")

    @awaited
    async def add_async(self, obj: T, *, headers: Mapping[str, str] | None = None) -> None:
        """Append one object; returns when it is kept. Objects that are added at the same time share a commit."""
        self._check_write()
        row = PendingRow(self.entity, mapping(self.entity).row(obj), headers)
        await self._host.write(self.entity.topic, row)

    add = blocking(add_async)

    @awaited
    async def add_many_async(self, objects: Iterable[T] | pl.DataFrame | pl.LazyFrame) -> int:
        """Append objects, or the rows of a Polars frame with the entity's columns; gives their number.

        Batches of some ten thousand rows are committed one after the other, so an error leaves those before it.
        """
        self._check_write()
        count = 0
        for frame in _frames(self.entity, objects):
            await to_thread.run_sync(self._append, frame)
            count += frame.height
        return count

    add_many = blocking(add_many_async)

    def _append(self, frame: pl.DataFrame) -> None:
        log = self._host.log
        log.append(writes_of(log, self.entity.topic, Records(frame)))

    def messages(self) -> MessageStream[T]:
        """Values with their headers, partition, offset and time, from the group's position on."""
        self._check_read()
        return MessageStream(self._host, self.entity, self.topic)

    def manual_commit(self) -> MessageStream[T]:
        """Messages that are committed by `await message.commit()` only; use it as a context manager."""
        self._check_read()
        return MessageStream(self._host, self.entity, self.topic, is_manual=True)

    @awaited
    async def for_each_async(self, handler: Callable[[T], Awaitable[None] | None], *, limit: int | None = None) -> int:
        """Call a function or a coroutine function with every value, one after the other.

        A value is committed when the handler has returned and the next one is taken, or when the call ends.

        Args:
            handler: What is called with each value; tombstones are left out.
            limit: The number of values after which the call returns; None for no end but cancellation.

        Returns:
            The number of values handled.
        """
        count = 0
        async with self.messages() as stream:
            async for message in stream:
                if message.value is None:
                    continue
                result = handler(message.value)
                if inspect.isawaitable(result):
                    await result
                count += 1
                if limit is not None and count >= limit:
                    break
        return count

    def for_each(self, handler: Callable[[T], None], *, limit: int | None = None) -> int:
        """Call a function with every value, one after the other, in this thread.

        The blocking form of `for_each_async`: the function may call blocking methods of sets.

        Args:
            handler: What is called with each value; tombstones are left out.
            limit: The number of values after which the call returns; None for no end but Ctrl-C.

        Returns:
            The number of values handled.

        Raises:
            StateError: The handler is a coroutine function, or an event loop runs in this thread.
        """
        if inspect.iscoroutinefunction(handler):
            raise StateError(f"the handler is a coroutine function; write `await {self._label}.for_each_async(...)`")
        self._host.loop.check_blocking(f"{self._label}.for_each(...)", f"await {self._label}.for_each_async(...)")
        count = 0
        with self.messages() as stream:
            for message in stream:
                if message.value is None:
                    continue
                handler(message.value)
                count += 1
                if limit is not None and count >= limit:
                    break
        return count

    async def __aiter__(self) -> AsyncIterator[T]:
        async with self.messages() as stream:
            async for message in stream:
                if message.value is not None:
                    yield message.value

    def __iter__(self) -> Iterator[T]:
        self._host.loop.check_blocking("for", "async for")
        return self._iterate()

    def _iterate(self) -> Iterator[T]:
        with self.messages() as stream:
            for message in stream:
                if message.value is not None:
                    yield message.value


class EventSet(EntitySet[T]):
    """The events of a stream."""

    __slots__ = ()

    @awaited
    async def to_list_async(self, key: Sequence[Any] = ()) -> list[T]:
        """The events of a key (its first parts suffice) that the log keeps, oldest first in each partition."""
        self._check_read()
        if self._host.plan_of(self.entity.cls) is not None:
            raise ModelError(f"read bars of {self.entity.name} with context.time_bucket({self.entity.name}, timeframe)")
        self._host.settle()
        frame = await to_thread.run_sync(event_rows, self._host.log, self.entity, _parts(key), self.newest)
        return mapping(self.entity).from_frame(frame)

    to_list = blocking(to_list_async)


class TableSet(EntitySet[T]):
    """The rows of a table, the newest of each key."""

    __slots__ = ()

    @awaited
    async def to_list_async(self, key: Sequence[Any] = ()) -> list[T]:
        """The rows whose key begins with these parts, in the order of the key; none is left out."""
        self._check_read()
        frame = await to_thread.run_sync(table_rows, self._host.log, self.entity, _parts(key))
        return mapping(self.entity).from_frame(frame)

    to_list = blocking(to_list_async)

    @awaited
    async def remove_async(self, key: Sequence[Any] | T) -> None:
        """Take the row of a key (its parts, or the row itself) away: a tombstone follows in the log."""
        self._check_write()
        row = PendingRow(self.entity, self._tombstone(key), is_tombstone=True)
        await self._host.write(self.entity.topic, row)

    remove = blocking(remove_async)

    def _tombstone(self, key: Any) -> tuple[Any, ...]:
        whole = mapping(self.entity)
        parts = whole.key(key) if isinstance(key, self.entity.cls) else tuple(_parts(key))
        if len(parts) != len(self.entity.keys):
            names = ", ".join(found.name for found in self.entity.keys)
            raise DataError(f"to remove a {self.entity.name} give all parts of its key: {names}")
        values = whole.key_row(parts)
        return tuple(values.get(name) for name in physical_schema(self.entity))


def _parts(key: Any) -> Sequence[Any]:
    """A key as its parts; a single text is one part, not its letters."""
    return (key,) if isinstance(key, str | bytes) or not isinstance(key, Sequence) else key


def _frames(entity: EntityModel, objects: Any) -> Iterator[pl.DataFrame]:
    """Physical frames of objects or of a frame, so many rows at a time."""
    if isinstance(objects, pl.LazyFrame):
        objects = objects.collect()
    if isinstance(objects, pl.DataFrame):
        first_row = 1
        for part in objects.iter_slices(ROWS_AT_ONCE):
            # Also where the types are the columns' own: an integer may be a decimal of the user, and each value is looked at.
            yield to_physical(entity, part, first_row=first_row, source="frame")
            first_row += part.height
        return
    if not isinstance(objects, Iterable):
        raise DataError(f"add_many takes objects of {entity.name} or a Polars frame, not a {type(objects).__name__}")
    rows: list[tuple[Any, ...]] = []
    whole = mapping(entity)
    for number, obj in enumerate(objects):
        rows.append(whole.row(obj, number))
        if len(rows) == ROWS_AT_ONCE:
            yield whole.frame_of(rows)
            rows = []
    if rows:
        yield whole.frame_of(rows)


SETS: dict[str, Any] = {"stream": EventSet, "table": TableSet}
"""Which set goes with which kind of entity."""
