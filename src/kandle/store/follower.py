"""A copy of a topic in a store that is kept current by a thread, and restored from the store at the next start.

The positions up to which the topic was read are written in the same batch as what was read, so that a process may end anywhere:

    topic      0 ........ 100 ........ 200 ........ 260
    store      rows up to 100, position 100 | rows up to 200, position 200 | KILL
    restart    begins at 200

The store is trusted only if it is of this very topic, of the same columns, and not too old: tombstones are deleted after a while,
so who has missed them would keep rows that are gone. Else it is cleared, and the topic is read from its first record.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from kandle.errors import StateError, UnavailableError
from kandle.log.port import TopicIdentity, TopicPartition, TopicTail
from kandle.log.records import Batch, RejectedRecord
from kandle.plan.topics import TopicSpec
from kandle.store.ordering import ordered_key
from kandle.store.port import Store
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND

logger = logging.getLogger("kandle")

FORMAT = 1
STATE = b"state"
"""The key of what is known of the copy itself; keys of views begin with other letters."""

POLL_ROWS = 50_000
POLL_TIMEOUT = 50 * MILLISECOND
"""Longest wait of the thread, and so how long `close` may take."""

CHECK_INTERVAL = 5 * SECOND
"""How often the thread looks whether partitions were added and whether the topic is still the same."""

NOTE_INTERVAL = MINUTE
"""How often the store is told that the copy is current, where nothing else is written."""

FORGET_INTERVAL = 10 * MINUTE
"""How often what retention has removed from the topic is looked for in the copy."""

OUTAGE_PATIENCE = 30 * SECOND
"""How long a reader waits for a copy that cannot be read on, since the log cannot be reached."""

WAIT_SLICE = 0.1
"""Seconds of one wait for the copy, and so how long a cancellation may take."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written to a store: values by key, and keys to delete."""

    puts: Mapping[bytes, bytes]
    deletes: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A record of a topic that cannot be read; `key` are the bytes of its key in order, None if it cannot be read either."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes | None = None


def unreadable_records(
    batch: Batch, keys: Sequence[str], schema: Mapping[str, pl.DataType], parts: Sequence[str]
) -> list[UnreadableRecord]:
    """Return the records of a batch that cannot be read.

    Args:
        batch: The batch.
        keys: The columns of the topic's key.
        schema: The types of the columns.
        parts: The same columns, in the order in which the parts of a key are asked for.
    """
    types = [schema[name] for name in parts]

    def key_of(record: RejectedRecord) -> bytes | None:
        if record.key_values is None:
            return None
        values = dict(zip(keys, record.key_values, strict=True))
        return ordered_key([values[name] for name in parts], types)

    return [
        UnreadableRecord(batch.topic, batch.partition, record.offset, record.reason, key_of(record)) for record in batch.rejects
    ]


class TopicView(Protocol):
    """What is kept of the records of a topic; only the thread of its follower changes it."""

    @property
    def fingerprint(self) -> str:
        """What the kept form depends on; a store with another one is cleared."""

    @property
    def unreadable(self) -> Mapping[bytes, UnreadableRecord]:
        """Records that could not be read, by their key in the store."""

    def load(self) -> None:
        """Take what the store has."""

    def take(self, batches: Sequence[Batch], partitions: int) -> None:
        """Take records, those of a partition in the order of their offsets."""

    def changes(self, *, is_current: bool) -> Changes | None:
        """Return what is to be written; None to wait for more, which is allowed while the copy is not current."""

    def written(self) -> None:
        """Note that the last changes are in the store."""

    def forget(self, first: Mapping[int, int]) -> None:
        """Have the next changes delete what the topic does not have any more.

        Args:
            first: The first offset of each partition.
        """


class FollowedTopics(Protocol):
    """What a follower needs of a log."""

    def identity(self, topic: str) -> TopicIdentity:
        """Return what tells a topic from any other."""

    def tail(self, topic: str, positions: Mapping[int, int]) -> TopicTail:
        """Read all partitions of a topic, and go on with what is appended."""

    def topic(self, name: str) -> TopicSpec:
        """Return a topic as it is."""

    def partition_count(self, topic: str) -> int:
        """Return the number of partitions that a topic has at this moment."""

    def ends(self, topic: str) -> Sequence[int] | Mapping[int, int]:
        """Return the next offset of each partition, by its number."""

    def read(self, partition: TopicPartition, offset: int, max_rows: int) -> list[Batch]:
        """Return the records of a partition from an offset on."""


Listener = Callable[[Changes], None]


class _NewTopicError(Exception):
    """The copy cannot go on with this topic."""


class Follower:
    """Keeps a view of a topic current.

    Args:
        log: The log that has the topic.
        topic: Name of the topic.
        store: Keeps the view; it is closed with the follower.
        view: What is kept of the records.
        clock: The clock of the log.
    """

    def __init__(self, log: FollowedTopics, topic: str, store: Store, view: TopicView, clock: Clock) -> None:
        self.topic = topic
        self.view = view
        self.store = store
        self.listeners: list[Listener] = []
        """Are called with what was written, in the thread of the follower."""
        self._log, self._clock, self._steady = log, clock, SystemClock()
        self._tail: TopicTail | None = None
        self._identity: TopicIdentity | None = None
        self._positions: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._last: dict[int, tuple[int, int]] = {}
        self._seen = 0
        self._first: dict[int, int] = {}
        self._checked = self._noted = self._forgot = 0
        self._outage: tuple[int, UnavailableError] | None = None
        self._problem: BaseException | None = None
        self._changed = threading.Condition()
        self._readers = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kandle-follower-{topic}", daemon=True)
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether the thread has ended with an error, which each reader is told."""
        return self._problem is not None

    def bounds(self) -> Mapping[int, tuple[int, int]] | None:
        """Return the first and the next offset of each partition, as far as they are known without asking a server.

        Returns:
            The bounds; None while the follower has not begun to read.

        Raises:
            KandleError: The follower cannot go on.
        """
        if self._problem is not None:
            raise self._problem
        tail = self._tail
        return None if tail is None else tail.bounds()

    def has(self, ends: Mapping[int, int]) -> bool:
        """Return whether the copy has all records before these offsets.

        Args:
            ends: An offset for each partition. Of a topic that was created anew meanwhile its present end counts.
        """
        bounds = self.bounds()
        if bounds is None:
            return False
        positions = self._positions
        return all(positions.get(number, 0) >= min(end, bounds.get(number, (0, end))[1]) for number, end in ends.items())

    def wait(self, ends: Mapping[int, int] | None) -> None:
        """Wait a moment for the copy to have all records before these offsets, or to begin to read at all.

        Raises:
            UnavailableError: The log has not been reached for a long time.
            StateError: The context is being closed.
        """
        with self._changed:
            if not (self.bounds() is not None if ends is None else self.has(ends)):
                self._changed.wait(WAIT_SLICE)
        self.check_open()
        outage = self._outage
        if outage is not None and self._steady.steady() - outage[0] > OUTAGE_PATIENCE:
            raise outage[1]

    def check_open(self) -> None:
        """Raise StateError if the follower is being closed."""
        if self._closing.is_set():
            raise StateError(f"the context was closed while topic {self.topic} was read")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the store open for the block."""
        with self._changed:
            self.check_open()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Have the thread end, and reads that are not done fail."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, and close the store once nobody reads it any more."""
        self.stop()
        self._thread.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._readers)
        self.store.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow()
            except UnavailableError as error:
                self._note_outage(error)
                self._closing.wait(1)
            except _NewTopicError as reason:
                logger.info("the copy of topic %s is built anew: %s", self.topic, reason)
                with suppress(UnavailableError):
                    self._forget()
            except BaseException as error:
                self._problem = error
            finally:
                self._close_tail()
            with self._changed:
                self._changed.notify_all()
            if self._problem is not None:
                return

    def _note_outage(self, error: UnavailableError) -> None:
        if self._outage is None:
            logger.warning("the copy of topic %s is not read on: %s", self.topic, error)
            self._outage = (self._steady.steady(), error)

    def _close_tail(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            with suppress(UnavailableError):
                tail.close()

    def _follow(self) -> None:
        """Read on until the follower is closed, or partitions were added."""
        if self._identity is None:
            self._restore()
        tail = self._log.tail(self.topic, self._positions)
        bounds = tail.bounds()
        self._read = {number: max(self._positions.get(number, 0), first) for number, (first, _) in bounds.items()}
        self._check_ends(bounds)
        self._tail = tail
        self._checked = self._steady.steady()
        count = len(bounds)
        while not self._closing.is_set():
            batches = tail.poll(POLL_TIMEOUT, POLL_ROWS)
            self._check_absence()
            for batch in batches:
                self._place(batch)
            self.view.take(batches, count)
            self._outage = None
            bounds = tail.bounds()
            self._check_ends(bounds)
            self._forget_removed(bounds)
            self._write(is_current=all(self._read.get(number, 0) >= end for number, (_, end) in bounds.items()))
            if len(bounds) > count or self._is_changed(count):
                return

    def _forget_removed(self, bounds: Mapping[int, tuple[int, int]]) -> None:
        """Delete now and then what retention has removed from the topic; reads do not show it before either."""
        now = self._steady.steady()
        first = {number: start for number, (start, _) in bounds.items() if start}
        if not first or first == self._first or (self._first and now - self._forgot < FORGET_INTERVAL):
            return
        self._first, self._forgot = first, now
        spec = self._log.topic(self.topic)
        if spec.retention is not None or spec.retention_bytes is not None:
            self.view.forget(first)

    def _place(self, batch: Batch) -> None:
        """Note up to where a partition was read."""
        before = self._read.get(batch.partition, 0)
        if (len(batch) and batch.offsets[0] < before) or batch.next_offset < before:
            raise _NewTopicError("it was created anew")
        self._read[batch.partition] = batch.next_offset
        if len(batch):
            self._last[batch.partition] = (int(batch.offsets[-1]), int(batch.timestamps[-1]))

    def _write(self, *, is_current: bool) -> None:
        changes = self.view.changes(is_current=is_current)
        if changes is None:
            return
        is_due = is_current and self._steady.steady() - self._noted > NOTE_INTERVAL
        if changes.puts or changes.deletes or self._read != self._positions or is_due:
            self.store.write({**changes.puts, STATE: self._state()}, changes.deletes)
            self._noted = self._steady.steady()
        self.view.written()
        with self._changed:
            # Who listens from now on has seen these changes in the store.
            listeners = list(self.listeners)
            self._positions = dict(self._read)
            self._changed.notify_all()
        if changes.puts or changes.deletes:
            for listener in listeners:
                listener(changes)

    def _is_changed(self, count: int) -> bool:
        """Look now and then whether partitions were added; raise _NewTopicError if the topic is another one."""
        if self._steady.steady() - self._checked < CHECK_INTERVAL:
            return False
        self._checked = self._steady.steady()
        with suppress(UnavailableError):
            identity = self._log.identity(self.topic)
            if self._identity is not None and identity.id != self._identity.id:
                raise _NewTopicError("it was created anew")
            return self._log.partition_count(self.topic) > count
        return False

    def _check_ends(self, bounds: Mapping[int, tuple[int, int]]) -> None:
        for number, (_, end) in bounds.items():
            if end < self._read.get(number, 0):
                raise _NewTopicError("it was created anew, or has lost records")

    def _check_absence(self) -> None:
        """Raise _NewTopicError if the process has slept for so long that tombstones may be gone."""
        assert self._identity is not None
        now, before, self._seen = self._clock.now(), self._seen, self._clock.now()
        if now - before > max(self._identity.tombstones // 2, MINUTE):
            raise _NewTopicError("it was not read for so long that tombstones may be gone")

    def _restore(self) -> None:
        """Take what the store has, if it is a copy of this topic."""
        identity = self._log.identity(self.topic)
        reason = self._distrust(identity)
        if reason is not None:
            if reason:
                logger.info("the copy of topic %s is built anew: %s", self.topic, reason)
            self._forget()
        self.view.load()
        if self.view.unreadable:
            # Another declaration or schema may read them now.
            self._forget()
            self.view.load()
        self._identity, self._seen = identity, self._clock.now()

    def _distrust(self, identity: TopicIdentity) -> str | None:
        """Return why the store is no copy of the topic as it is; empty if the store is new, None if it is one."""
        content = self.store.get(STATE)
        if content is None:
            return ""
        state: dict[str, Any] = json.loads(content)
        if (state["format"], state["view"]) != (FORMAT, self.view.fingerprint):
            return "its columns have changed"
        if state["topic"] != identity.id:
            return "it was created anew"
        if self._clock.now() - state["seen"] > identity.tombstones // 2:
            return "it was not read for so long that tombstones may be gone"
        self._positions = {int(number): offset for number, offset in state["positions"].items()}
        self._last = {int(number): (offset, time) for number, (offset, time) in state["last"].items()}
        if not all(self._is_there(number, *record) for number, record in self._last.items()):
            return "it has other records than it had"
        return None

    def _is_there(self, number: int, offset: int, time: int) -> bool:
        """Return whether the last record of a partition is still the same; one that compaction has removed counts as such."""
        partition = TopicPartition(self.topic, number)
        if self._log.ends(self.topic)[number] <= offset:
            return False
        batches = self._log.read(partition, offset, 1)
        if not batches or not len(batches[0]) or batches[0].offsets[0] != offset:
            return True
        return int(batches[0].timestamps[0]) == time

    def _forget(self) -> None:
        """Clear the store."""
        self._identity = None
        self._positions, self._last = {}, {}
        self.store.write({}, [STATE])
        self.store.clear()
        self.view.load()
        self._identity = self._log.identity(self.topic)
        self._seen = self._clock.now()

    def _state(self) -> bytes:
        assert self._identity is not None
        state = {
            "format": FORMAT,
            "view": self.view.fingerprint,
            "topic": self._identity.id,
            "seen": self._seen,
            "positions": self._read,
            "last": self._last,
        }
        return json.dumps(state).encode()
