"""Entity sets: the typed members of a context, one for each entity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
from anyio import to_thread

from kandle.errors import AccessError, DataError
from kandle.model.columns import physical_schema
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.model.stored import stored_columns
from kandle.sets.blocking import awaited, blocking
from kandle.sets.entity_set import EntitySet
from kandle.sets.keys import KeyPrefix, physical_key
from kandle.time.timeframe import parse_duration

if TYPE_CHECKING:
    # What reads and writes records is loaded by the first method that does: declaring a context needs none of it.
    from kandle.log.headers import Headers
    from kandle.sets.changes import TableChanges
    from kandle.sets.copies import Check
    from kandle.sets.reading import EventSelection, Instant, Unreadable
    from kandle.sets.writing import PendingRow

T = TypeVar("T")
Result = TypeVar("Result")


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
                them out and counts them in `health()`.

        Returns:
            The events, oldest first in each partition.

        Raises:
            DataError: A part of the key does not fit its field, there are too many, or a record cannot be read.
            AccessError: The context was opened for writing only.
        """
        from kandle.sets.reading import EventSelection, UnreadablePolicy, objects_of, span_of

        policy = UnreadablePolicy(unreadable, self._host.left_out)
        span = None if start is None and end is None else span_of(start, end)
        frame = await self._rows(key_prefix, lambda key: EventSelection(key, span, self.newest, policy))
        columns = stored_columns(frame.select(list(physical_schema(self.entity))))
        return await to_thread.run_sync(objects_of, self.entity, columns, policy)

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
        from kandle.sets.reading import EventSelection, UnreadablePolicy

        policy = UnreadablePolicy(unreadable, self._host.left_out)
        return (await self._rows(key_prefix, lambda key: EventSelection(key, None, self.newest, policy))).height

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
                "skip" leaves such keys out and counts them in `health()`.
            timeout: Longest wait for the copy of the table, such as "5s"; as long as it takes without it.

        Returns:
            The newest row of each key, ordered by key.

        Raises:
            DataError: A part of the key does not fit its field, there are too many, or the newest record of a key cannot be
                read.
            UnavailableError: The copy was not current in time.
            AccessError: The context was opened for writing only.
        """
        from kandle.sets.reading import UnreadablePolicy, objects_of

        policy = UnreadablePolicy(unreadable, self._host.left_out)

        def build(rows: list[list[Any]]) -> list[T]:
            return objects_of(self.entity, list(zip(*rows, strict=True))[PLACE_FIELDS:], policy) if rows else []

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
        from kandle.sets.reading import UnreadablePolicy, report_unreadable

        policy = UnreadablePolicy(unreadable, self._host.left_out)
        prefix = self._prefix(key_prefix)
        patience = None if timeout is None else parse_duration(timeout)

        def read(check: Check) -> Result:
            copy = self._host.table(self.entity)
            with copy.current(patience, check) as check_both:
                report_unreadable(copy.unreadable(prefix), policy)
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
