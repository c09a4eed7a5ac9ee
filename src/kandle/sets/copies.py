"""Copies of topics that sets read in place of the log: opened with the first read, and closed with the context.

A read waits until the copy has all that stood in the topic when it was asked:

    topic        ....... 100 ........ 104
    follower     ... 98 ... 100 ......... 104
    read              asks: end 100 | waits | answers from the copy
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from anyio import from_thread, to_thread

from kandle.errors import StateError, UnavailableError
from kandle.log.merging import MergedTopics
from kandle.log.port import Log
from kandle.model.columns import physical_schema
from kandle.model.entity import EntityModel
from kandle.model.versions import form_text
from kandle.plan.plan import BarPlan
from kandle.sets.keys import bar_key_fields
from kandle.store.follower import FollowedTopics, Follower, TopicView, UnreadableRecord
from kandle.store.port import Store
from kandle.store.rows import TableRows
from kandle.store.runs import SortedRuns
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import duration_text

T = TypeVar("T")
V = TypeVar("V", bound=TopicView)
Result = TypeVar("Result")

ROWS_AT_ONCE = 1_000
"""After so many rows a read looks whether it was cancelled."""

MANY_ROWS = 50_000
"""Where the log finds fewer finals in a span, they are read from it: that takes milliseconds, and needs no copy."""

OpenStore = Callable[[str, bool], Store | None]
"""Opens the store of the copy of a topic; where one may be large, and can only be kept in memory, it returns None."""


Check = Callable[[], None]
"""Raises an error to end a read that was cancelled; called now and then."""


async def in_thread(read: Callable[[Check], Result]) -> Result:
    """Read in a thread, which ends soon after the call is cancelled.

    Args:
        read: Reads; it is given what it has to call now and then.
    """
    is_left = threading.Event()

    def check() -> None:
        from_thread.check_cancelled()
        # The event loop cancels a task by itself without a word to its thread.
        if is_left.is_set():
            raise StateError("the read was cancelled")

    try:
        return await to_thread.run_sync(read, check)
    except BaseException:
        is_left.set()
        raise


@dataclass(frozen=True, slots=True)
class Copy(Generic[V]):
    """A topic that is followed, and the view that is kept of it."""

    follower: Follower
    view: V

    @contextmanager
    def current(self, timeout: int | None, check: Check) -> Iterator[Check]:
        """Wait until the copy has all that stands in the topic now, and keep it open for the block.

        Args:
            timeout: Longest wait in microseconds; None waits as long as it takes.
            check: Is called now and then.

        Yields:
            What the block has to call now and then.

        Raises:
            UnavailableError: The copy was not current in time.
        """
        steady = SystemClock()
        deadline = None if timeout is None else steady.steady() + timeout
        ends: dict[int, int] | None = None
        while True:
            if ends is None and (bounds := self.follower.bounds()) is not None:
                ends = {number: end for number, (_, end) in bounds.items()}
            if ends is not None and self.follower.has(ends):
                break
            self.follower.wait(ends)
            check()
            if deadline is not None and timeout is not None and steady.steady() > deadline:
                raise UnavailableError(
                    f"the copy of topic {self.follower.topic} was not current within {duration_text(timeout)}; "
                    "give it more time (timeout=), or read it at the start of the program, so that it is followed from then on"
                )

        def check_both() -> None:
            self.follower.check_open()
            check()

        with self.follower.reading():
            yield check_both

    def rows(self, prefix: bytes, check: Check) -> list[list[Any]]:
        """Return the rows of the keys with a prefix; those whose record was removed by retention are left out."""
        assert isinstance(self.view, TableRows)
        first = {number: start for number, (start, _) in (self.follower.bounds() or {}).items()}
        rows: list[list[Any]] = []
        for count, row in enumerate(self.view.rows(prefix)):
            if count % ROWS_AT_ONCE == 0:
                check()
            if row[2] >= first.get(row[1], 0):
                rows.append(row)
        return rows

    def unreadable(self, prefix: bytes) -> list[UnreadableRecord]:
        """Return the records that cannot be read, and that are or may be of a key with the prefix."""
        records = list(self.view.unreadable.values())
        if not records:
            return []
        first = {number: start for number, (start, _) in (self.follower.bounds() or {}).items()}
        return [
            record
            for record in records
            if (record.key is None or record.key.startswith(prefix)) and record.offset >= first.get(record.partition, 0)
        ]


class Copies:
    """The copies of one open context.

    Args:
        log: The log of the context.
        clock: Its clock.
        open_store: Opens the store of a copy.
    """

    def __init__(self, log: Log, clock: Clock, open_store: OpenStore) -> None:
        self._log, self._clock, self._open_store = log, clock, open_store
        self._copies: dict[str, Copy[Any]] = {}
        self._lock = threading.Lock()

    def table(self, entity: EntityModel) -> Copy[TableRows]:
        """Return the copy of a table, which is followed from the first call on."""
        source = MergedTopics(self._log, entity) if _is_merged(entity) else self._log
        copy = self._copy(entity.topic, lambda store: _table_rows(entity, store), source)
        assert copy is not None
        return copy

    def _copy(
        self, topic: str, view_of: Callable[[Store], V], source: FollowedTopics, *, is_large: bool = False
    ) -> Copy[V] | None:
        with self._lock:
            known = self._copies.get(topic)
            if known is not None and not known.follower.has_failed:
                return known
            if known is not None:
                # Whoever waited for it was told; who asks now tries again.
                known.follower.close()
            self._log.topic(topic)
            store = self._open_store(topic, is_large)
            if store is None:
                return None
            view = view_of(store)
            copy = Copy(Follower(source, topic, store, view, self._clock), view)
            self._copies[topic] = copy
            return copy

    def bars(self, entity: EntityModel, bar: BarPlan, span: tuple[int, int]) -> Copy[SortedRuns] | None:
        """Return the copy of the finals of a timeframe, which is followed from the first call on.

        Args:
            entity: The entity of the bars.
            bar: The timeframe.
            span: The bounds of the bars' starts.

        Returns:
            The copy; None where the finals are few enough to be read from the log, or where there is no place for a copy.
        """
        topic = bar.final_topic
        if topic not in self._copies and self._log.rows_in(topic, span) < MANY_ROWS:
            return None
        return self._copy(topic, lambda store: _final_runs(entity, topic, self._log, store), self._log, is_large=True)

    def close(self) -> None:
        """End all followers, and close their stores."""
        with self._lock:
            copies, self._copies = list(self._copies.values()), {}
        for copy in copies:
            copy.follower.stop()
        for copy in copies:
            copy.follower.close()


def _table_rows(entity: EntityModel, store: Store) -> TableRows:
    keys = [field.name for field in entity.keys]
    is_hashed = None if _is_merged(entity) else entity.partitioner == "murmur2"
    formats = _formats(entity) + (form_text(entity) if _is_merged(entity) else "")
    return TableRows(store, entity.topic, physical_schema(entity), keys, is_hashed=is_hashed, formats=formats)


def _is_merged(entity: EntityModel) -> bool:
    """Return whether records of a key may be in several topics or partitions, and are not as they are read."""
    return bool(entity.former) or any(field.normalize is not None for field in entity.keys)


def _final_runs(entity: EntityModel, topic: str, log: Log, store: Store) -> SortedRuns:
    parts = [field.name for field in bar_key_fields(entity)]
    return SortedRuns(store, topic, physical_schema(entity), log.topic(topic).keys, parts, _formats(entity))


def _formats(entity: EntityModel) -> str:
    """Return what the meaning of records depends on beside their columns."""
    formats = (entity.key_format, entity.value_format)
    return str([*formats, *((field.aliases, field.datetime_format, field.header) for field in entity.fields)])
