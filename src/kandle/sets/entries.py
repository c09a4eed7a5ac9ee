"""Entries between a consumer and a handler: how many are read ahead, what their commits append, and the flow of a partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kandle.log.port import TopicPartition
from kandle.log.records import Batch, RejectedRecord, Write
from kandle.log.versions import Adapt
from kandle.sets.beginning import Beginning

ROWS_AT_ONCE = 200
"""Rows that become objects at once."""


Note = Callable[[], None]
"""Puts what the commit of an entry appends into an outbox, in the thread that commits."""


class Outbox(Protocol):
    """Records that are appended by the commits of entries; used by the thread that commits."""

    def writes(self, positions: Mapping[TopicPartition, int]) -> list[Write]:
        """Return the records of entries before these positions."""

    def without(self, writes: Sequence[Write], refused: Mapping[int, Mapping[int, str]]) -> list[Write]:
        """Return writes in the place of those of which the log refuses records.

        Raises:
            DataError: There is nothing in their place.
        """

    def committed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Forget the records before these positions: they are written."""

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget the records of partitions that belong to another member."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a partition, as it is handed out.

    Attributes:
        partition: The partition.
        epoch: The epoch in which its partition is owned.
        offset: The offset of the record.
        content: What was made of the record, or the record that cannot be read.
        attempt: The number of the attempt to handle it; the first is 1.
    """

    partition: TopicPartition
    epoch: int
    offset: int
    content: Any
    attempt: int = 1

    @property
    def is_unreadable(self) -> bool:
        """Whether the record cannot be read."""
        return isinstance(self.content, RejectedRecord)


Unpack = Callable[[Batch], Sequence[tuple[int, Any]]]
"""Returns the offset and the content of each record of a batch."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read ahead, and when what is done is committed.

    Attributes:
        batch_rows: The number of records that a poll reads at most.
        rows: The number of records that are read ahead.
        bytes: The number of their bytes in memory.
        interval: How long commits may wait for more, in microseconds; 0 hands out nothing of a partition before its last entry
            is committed.
    """

    batch_rows: int
    rows: int
    bytes: int
    interval: int = 0


@dataclass(frozen=True, slots=True)
class EntrySource:
    """What a prefetcher makes of a topic.

    Attributes:
        unpack: Makes the contents of entries.
        on_end: Is called by the thread at its end, with the error that has ended it.
        beginning: Where partitions begin when they are owned for the first time; None for the position of the group.
        outboxes: Hold what the commits of entries append.
        is_manual: Whether positions are committed by hand only, and so not where partitions begin.
        adapters: Returns the topics to read, in the place of the one of the group, with what makes their records those of the
            entity; None reads that one as it is.
    """

    unpack: Unpack
    on_end: Callable[[BaseException | None], None]
    beginning: Beginning | None = None
    outboxes: Sequence[Outbox] = ()
    is_manual: bool = False
    adapters: Callable[[], Mapping[str, Adapt | None]] | None = None


@dataclass(slots=True)
class PartitionFlow:
    """The entries of one partition between its consumer and the handler."""

    epoch: int
    is_paused: bool = False
    batches: deque[tuple[Batch, int]] = field(default_factory=deque)
    """Batches with their sizes in bytes."""
    rows: int = 0
    bytes: int = 0
    ready: deque[Entry] = field(default_factory=deque)
    taken: Entry | None = None
    done: int | None = None
    notes: list[Note] = field(default_factory=list)
    is_committing: bool = False
    is_leaving: bool = False
    rests_until: int | None = None

    @property
    def has_entries(self) -> bool:
        return bool(self.ready or self.batches)

    def add(self, batch: Batch) -> None:
        """Add what was read."""
        rows = len(batch) + len(batch.rejects)
        if rows:
            size = batch.memory + sum(len(reject.value or b"") for reject in batch.rejects)
            self.batches.append((batch, size))
            self.rows += rows
            self.bytes += size

    def next_rows(self) -> Batch:
        """Remove the next rows, few at a time: rows of a batch stay columns until they are needed."""
        batch, size = self.batches.popleft()
        if len(batch) > ROWS_AT_ONCE:
            rest = batch.slice(ROWS_AT_ONCE)
            part = size * len(rest) // len(batch)
            self.batches.appendleft((rest, part))
            batch, size = batch.slice(0, ROWS_AT_ONCE), size - part
        self.rows -= len(batch) + len(batch.rejects)
        self.bytes -= size
        return batch
