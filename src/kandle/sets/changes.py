"""Changes of a table as they come: for `async for`, and for `for` where nothing is awaited."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from anyio import to_thread

from kandle.model.columns import physical_schema
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.model.stored import python_values
from kandle.sets.blocking import awaited, blocking
from kandle.sets.copies import Check, in_thread
from kandle.sets.host import ContextHost
from kandle.store.follower import WAIT_SLICE, Changes, Follower
from kandle.store.ordering import stored_parts
from kandle.store.rows import ROW, ROWS, decode

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableChange(Generic[T]):
    """A change of a table.

    Attributes:
        key: The parts of the key.
        row: The new row of the key; None if it was removed.
    """

    key: tuple[Any, ...]
    row: T | None


class TableChanges(Generic[T]):
    """The changes of a table from the first one that is taken on.

    Of several changes of a key that come before the next one is taken the newest counts, so that a slow reader does not fall
    behind.
    """

    def __init__(self, host: ContextHost, entity: EntityModel, prefix: bytes) -> None:
        self._host = host
        self._entity = entity
        self._follower: Follower | None = None
        self._prefix = ROWS + prefix
        self._ready: deque[TableChange[T]] = deque()
        self._pending: dict[bytes, bytes | None] = {}
        self._arrived = threading.Condition()

    @property
    def _label(self) -> str:
        return f"{self._host.set_label(self._entity.cls)}.changes()"

    def __aiter__(self) -> AsyncIterator[TableChange[T]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[TableChange[T]]:
        try:
            while True:
                while not self._ready:
                    await self._fill_async()
                yield self._ready.popleft()
        finally:
            self._stop()

    def __iter__(self) -> Iterator[TableChange[T]]:
        self._host.loop.check_blocking("for", "async for")
        return self._iterate_blocking()

    def _iterate_blocking(self) -> Iterator[TableChange[T]]:
        try:
            while True:
                while not self._ready:
                    self._fill()
                yield self._ready.popleft()
        finally:
            self._stop()

    @awaited
    async def _fill_async(self) -> None:
        """Wait for changes, at first for the copy to be current."""
        if self._follower is None:
            await in_thread(self._listen)
        await to_thread.run_sync(self._take)

    _fill = blocking(_fill_async)

    def _listen(self, check: Check) -> None:
        copy = self._host.table(self._entity)
        with copy.current(None, check):
            copy.follower.listeners.append(self._note)
            self._follower = copy.follower

    def _stop(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.listeners.remove(self._note)

    def _note(self, changes: Changes) -> None:
        """Take what was written; called in the thread of the follower."""
        fresh: dict[bytes, bytes | None] = dict.fromkeys(changes.deletes)
        fresh.update(changes.puts)
        with self._arrived:
            for key, value in fresh.items():
                if key.startswith(self._prefix):
                    self._pending.pop(key, None)
                    self._pending[key] = value
            self._arrived.notify_all()

    def _take(self) -> None:
        follower = self._follower
        assert follower is not None
        # Raises the error with which the follower has ended.
        follower.bounds()
        follower.check_open()
        with self._arrived:
            if not self._pending:
                self._arrived.wait(WAIT_SLICE)
            pending, self._pending = self._pending, {}
        self._ready.extend(self._change(key, value) for key, value in pending.items())

    def _change(self, key: bytes, value: bytes | None) -> TableChange[T]:
        schema = physical_schema(self._entity)
        fields = self._entity.keys
        stored = stored_parts(key[len(ROWS) :], [schema[field.name] for field in fields])
        parts = tuple(python_values(field.type, [part])[0] for field, part in zip(fields, stored, strict=True))
        row = None if value is None else decode(value)
        if row is None or row[0] != ROW:
            return TableChange(parts, None)
        objects: list[T] = mapping(self._entity).objects([[part] for part in row[4:]])
        return TableChange(parts, objects[0])
