"""The log port: everything that kandle reads or writes goes through it.

A log holds topics; a topic has partitions, and a partition is a sequence of records with ascending offsets.
Consumer groups share the partitions of topics among processes, and keep a position in each. There are two
adapters: `kandle.log.embedded` (a file) and `kandle.log.kafka` (a cluster). An adapter of your own implements
`Log` and `Consumer`; the contract tests in `tests/log` say whether it keeps the promises made here.

Common to all methods:

- Calls block. A log may be used by several threads, a consumer by one.
- Instants and durations are whole microseconds.
- Errors are subclasses of `kandle.errors.LogError`. `UnavailableError` means that the call can be repeated
later; adapters
  raise it from any method while the place of the log cannot be reached.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple, Protocol

from kandle.errors import StateError
from kandle.log.appending import RowErrors
from kandle.log.records import AnyWrite, Batch, EncodedWrite, Records, Write
from kandle.plan.topics import TopicSpec

logger = logging.getLogger("kandle")


class TopicPartition(NamedTuple):
    """One partition of a topic; partitions count from 0."""

    topic: str
    partition: int


class ReadPosition(NamedTuple):
    """Where a reader goes on in a partition: at the record with this offset, or the next one behind it."""

    partition: TopicPartition
    offset: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it exists.

    Attributes:
        spec: The topic as it is stored.
        differences: Settings in which it differs from the spec that was asked for, in words.
    """

    spec: TopicSpec
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The extent of one partition.

    Attributes:
        start: First offset that can be read.
        end: Next offset, one more than that of the last record.
        rows: Number of records; at most `end - start`, since compaction leaves gaps.
        bytes: Size of the records in bytes; 0 where the log does not know.
    """

    start: int
    end: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Fence:
    """A condition of an append: the partition still belongs to a member of the group with this epoch.

    Attributes:
        group: Name of the group.
        partition: A partition that the group shares.
        epoch: The epoch that `Consumer.assignment` gave for it.
    """

    group: str
    partition: TopicPartition
    epoch: int


class Listener(Protocol):
    """Is told which partitions come and go; called in the thread of `Consumer.poll` and `Consumer.close`."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Take partitions over.

        Their positions are those that the group committed last. The listener may call `Consumer.seek`.

        Args:
            partitions: Partitions that the member owns from now on.
        """

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Give partitions up.

        The member still owns them during the call, so the listener can commit a last time.

        Args:
            partitions: Partitions that another member will own.
        """

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions, with everything that was not committed.

        Args:
            partitions: Partitions that another member may own already.
        """


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """How a consumer joins a group.

    Topics with the same number of partitions are assigned alike: the owner of partition p of one topic owns p
    of all. Partitions that are added to a topic while the group reads it are assigned within seconds, and are read
    from their beginning.

    Attributes:
        group: Name of the group.
        topics: Topics to read. `poll` returns records of later topics last.
        member: Name of the process. A process that joins under the same name takes the place of the one
            before.
        reset: Where to begin in a partition for which the group has committed nothing.
        lease: Microseconds without a sign of life after which a member counts as dead.
        stall: Microseconds for which a member may work between two polls and still counts as alive: a thread
            of its own gives the sign of life meanwhile. 0 leaves this to the log: on Kafka it is what
            `max.poll.interval.ms` says, and in the embedded log only polls are signs of life.
        with_bytes: Whether batches also have the bytes of their records, where the log has them.
        max_bytes: About how many bytes of records a poll returns, and a client library reads ahead; 0 leaves this to the log.
            What was written at once may be read at once.
    """

    group: str
    topics: tuple[str, ...]
    member: str
    reset: Literal["earliest", "latest"] = "earliest"
    lease: int = 5_000_000
    stall: int = 0
    with_bytes: bool = False
    max_bytes: int = 0


class Consumer(Protocol):
    """A member of a consumer group, used by one thread."""

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        """The owned partitions with their epochs, which grow with each change of owner."""

    @property
    def statistics(self) -> Mapping[str, int]:
        """Statistics of the client library behind the consumer, by name; empty if it has none."""

    @property
    def removed(self) -> int:
        """How many records were removed by retention before this member could read them; each loss is logged."""

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        """Return the records after the positions, and move the positions behind them.

        Calls the listener if partitions come or go, before it reads.

        Args:
            timeout: Longest wait for the first record, in microseconds.
            max_rows: About the number of records to return of each topic. Logs return fewer if they are large;
                which partitions come first changes from call to call.

        Returns:
            Batches in the order of the group's topics; those of one partition follow each other.

        Raises:
            ReplacedError: Another process has joined the group under this member's name.
        """

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from other offsets.

        Args:
            positions: The next offset to read of each partition.
        """

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Stop reading partitions until `resume`, also if they go and come back meanwhile.

        Args:
            partitions: Partitions to pause.
        """

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Read paused partitions again.

        Args:
            partitions: Partitions to resume.
        """

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the positions that the group has committed.

        Args:
            partitions: Partitions to look up.

        Returns:
            The next offset of each partition; those without a commit are left out.
        """

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[AnyWrite] = ()) -> list[int]:
        """Commit positions and append records, all or nothing.

        Args:
            offsets: The next offset of each partition.
            writes: Records to append, of any topics.

        Returns:
            The offset of the first record of each write.

        Raises:
            FencedError: The member does not own one of the partitions any more; nothing was written.
            SchemaError: Records do not fit the columns of their topic; nothing was written.
        """

    def wake(self) -> None:
        """End a waiting `poll`. May be called by any thread."""

    def close(self) -> None:
        """Leave the group; its partitions are free for the other members at once."""


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """What tells a topic from all others, also from one that is created later under its name.

    Attributes:
        id: A text that no other topic has.
        tombstones: How long tombstones are kept at least, in microseconds: who has not read the topic for longer may have
            missed that a key is gone.
    """

    id: str
    tombstones: int


class TopicTail(Protocol):
    """A reader of all partitions of a topic that goes on with what is appended, without a group; one thread polls it."""

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        """Return the next committed records, and move the positions behind them.

        Records that were removed before they were read are passed over.

        Args:
            timeout: Longest wait for the first record, in microseconds.
            max_rows: About the number of records to return.

        Returns:
            Batches of any partitions, those of one partition in ascending order. A batch whose first offset lies before the
            position says that the topic was created anew.
        """

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        """Return the first and the next offset of each partition without asking a server; any thread may call it.

        Returns:
            The bounds by number of partition. Where a server has the log, they are those that it was asked for at the beginning
            and about once a second since then, with all that this log has appended.
        """

    def close(self) -> None:
        """Release what the reader holds."""


class Log(Protocol):
    """Topics, their records, and consumer groups."""

    @property
    def has_own_clock(self) -> bool:
        """Whether records are stamped by another clock than that of the process that appends them."""

    def ensure(self, spec: TopicSpec) -> TopicState:
        """Create a topic, or compare an existing one with a spec.

        New nullable columns are added to an existing topic. Other settings than columns and keys stay as they
        are.

        Args:
            spec: What the topic should be.

        Returns:
            The topic as it is, and the settings in which it differs.

        Raises:
            SchemaError: Columns or keys of the existing topic differ in a way that cannot be changed.
            UnknownTopicError: There is no such topic, and others have to create it.
        """

    def topic(self, name: str) -> TopicSpec:
        """Return a topic as it is.

        Args:
            name: Name of the topic.

        Returns:
            The stored spec, with the settings that the topic has now.

        Raises:
            UnknownTopicError: There is no such topic; the message names those that exist.
        """

    def topics(self) -> list[TopicSpec]:
        """Return all topics.

        Returns:
            Specs in the order of their names.
        """

    def partition_count(self, topic: str) -> int:
        """Return the number of partitions that a topic has at this moment; somebody may have added some.

        Args:
            topic: Name of the topic.

        Returns:
            The number, asked for anew with each call.
        """

    def partitions(self, topic: str) -> list[PartitionState]:
        """Return the extent of each partition of a topic.

        Args:
            topic: Name of the topic.

        Returns:
            One state for each partition, in the order of their numbers.
        """

    def ends(self, topic: str) -> list[int]:
        """Return the next offset of each partition of a topic, including records that are not committed yet.

        Args:
            topic: Name of the topic.

        Returns:
            One offset for each partition, in the order of their numbers.
        """

    def append(self, writes: Sequence[AnyWrite], fence: Fence | None = None) -> list[int]:
        """Append records, all or nothing.

        When the call returns, the records are stored and other processes see them.

        Args:
            writes: Records by topic and partition. Those that are given as bytes are kept as they are; a log that keeps rows
                makes rows of those that it can read, and the others come back as rejects.
            fence: A condition that must hold when the records are stored.

        Returns:
            The offset of the first record of each write; the next offset of the partition for a write without
            records.

        Raises:
            FencedError: The condition does not hold; nothing was written.
            SchemaError: Records do not fit the columns of their topic; nothing was written.
        """

    def decoded(self, write: EncodedWrite) -> Records:
        """Return records that are given as bytes as rows of their topic; nothing is written.

        Args:
            write: The bytes, as another record of the topic had them.

        Returns:
            The rows.

        Raises:
            DataError: One of the records cannot be read.
        """

    def append_each(self, writes: Sequence[Write]) -> RowErrors:
        """Append records, each for itself: none of them fails because of another one.

        When the call returns, all other records are stored and other processes see them. Records that go to one partition
        together may change places where some of them are refused.

        Args:
            writes: Records by topic and partition.

        Returns:
            By the number of a write, the error of each of its records that was not stored; nothing if all were.
        """

    def first(self, partition: TopicPartition) -> int:
        """Return the first offset of a partition that can be read.

        Args:
            partition: The partition.

        Returns:
            The offset of the first record, or the next offset if there is none.
        """

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        """Return the records of a partition from an offset on.

        Args:
            partition: The partition.
            offset: The first offset to read; smaller than that of the first record begins there.
            max_rows: About the number of records to return.
            span: Instants `[start, end)` of the topic's time column. Batches without any record in it may be
                left out; this only saves work, so the returned batches may hold other records too.

        Returns:
            Batches in ascending order; none if there are no records from the offset on.
        """

    def rows_in(self, topic: str, span: tuple[int, int]) -> int:
        """Return how many records reads of a span would return at most, all partitions of a topic together.

        Args:
            topic: Name of the topic.
            span: Instants `[start, end)` of the topic's time column, as for `read`.

        Returns:
            The number; that of all records where the log cannot tell them apart by their time.
        """

    def tail(self, topic: str, positions: Mapping[int, int]) -> TopicTail:
        """Read all partitions of a topic, and go on with what is appended.

        Args:
            topic: Name of the topic.
            positions: The next offset to read by number of partition; a partition without one is read from its first record.

        Returns:
            The reader, of the partitions that the topic has now.
        """

    def identity(self, topic: str) -> TopicIdentity:
        """Return what tells a topic from any other, also from one of the same name that is created after it.

        Args:
            topic: Name of the topic.

        Returns:
            The identity, asked for anew with each call.
        """

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Delete the records below an offset; some of them may stay for a while.

        Args:
            partition: The partition.
            before: The first offset to keep.
        """

    def wait(self, timeout: int) -> bool:
        """Wait until something is appended anywhere in the log.

        Args:
            timeout: Longest wait in microseconds.

        Returns:
            False if the time is over, True if there may be something new.
        """

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        """Join a group.

        Args:
            spec: The group, the member's name and the topics.
            listener: Is told which partitions come and go.

        Returns:
            The member, which owns partitions after its first polls.
        """

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the positions that a group has committed in a topic.

        Args:
            group: Name of the group.
            topic: Name of the topic.

        Returns:
            The next offset by number of partition; partitions without a commit are left out.
        """

    def set_positions(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        """Move the positions of a group that has no members.

        Args:
            group: Name of the group; it is created if there is none.
            positions: The next offset to read of each partition; others stay as they are.

        Raises:
            StateError: The group has members, which would go on from where they are; nothing was moved.
        """

    def offset_at(self, partition: TopicPartition, instant: int) -> int:
        """Return where the records begin that were appended at an instant or later.

        Args:
            partition: The partition.
            instant: The instant in microseconds.

        Returns:
            The offset of the first such record, or the next offset if there is none.
        """

    def has_members(self, group: str) -> bool:
        """Return whether a group has members that are alive, or were a moment ago.

        Args:
            group: Name of the group.

        Returns:
            Whether somebody may still work in it.
        """

    def groups(self, prefix: str = "") -> list[GroupState]:
        """Return groups with their members and positions, in partitions of topics that the log knows.

        Args:
            prefix: How the names of the groups begin.

        Returns:
            The groups in the order of their names.
        """

    def waiting(self, positions: Collection[ReadPosition]) -> dict[ReadPosition, int]:
        """Return how many records readers would get that stand at these positions, all asked for at the same time.

        Args:
            positions: Where readers go on.

        Returns:
            The number for each of them, without what is no record, such as the marks that transactions leave in a log; where
            many offsets follow, it is their number. Positions in partitions that do not exist are left out.
        """

    def maintain(self) -> Maintenance:
        """Apply retention and compaction, a bounded amount of work at a time.

        Returns:
            What was removed; nothing if there is nothing left to do.
        """

    def connect(self) -> Log:
        """Open another connection to the same log, for a thread that must not wait for the users of this one.

        Returns:
            The connection, which the caller has to close.
        """

    def close(self) -> None:
        """Close files and connections."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group as it is.

    Attributes:
        group: Name of the group.
        owners: The member that owns each partition, or None.
        positions: The committed next offset of each partition.
        has_members: Whether members are alive, or were a moment ago.
    """

    group: str
    owners: Mapping[TopicPartition, str | None] = field(default_factory=dict)
    positions: Mapping[TopicPartition, int] = field(default_factory=dict)
    has_members: bool = False


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What one round of maintenance has removed: a number of records and of bytes."""

    rows: int = 0
    bytes: int = 0


def batches_by_partition(batches: Iterable[Batch]) -> dict[TopicPartition, list[Batch]]:
    """Return the batches of a poll by their partition.

    Args:
        batches: Batches in which those of one partition follow each other, as `Consumer.poll` returns them.

    Returns:
        The batches of each partition, in the given order.
    """
    groups = groupby(batches, key=lambda batch: TopicPartition(batch.topic, batch.partition))
    return {partition: list(group) for partition, group in groups}


def moved_with_members(group: str) -> StateError:
    """Return the error for moving positions of a group that has members.

    Args:
        group: Name of the group.

    Returns:
        The error.
    """
    return StateError(
        f"group {group} has members, which go on from where they are; stop them, wait until their leases are over, and try again"
    )


def report_removed(group: str, partition: TopicPartition, position: int, first: int) -> int:
    """Log that records were removed before a group has read them.

    Args:
        group: Name of the group.
        partition: The partition of the records.
        position: The position of the group.
        first: The first offset that can still be read.

    Returns:
        How many offsets were lost.
    """
    logger.error(
        "records %d to %d of %s, partition %d, are gone before group %s has read them: the retention of the topic removed them",
        *(position, first - 1, partition.topic, partition.partition, group),
    )
    return first - position
