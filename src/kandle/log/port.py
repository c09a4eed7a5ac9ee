"""The log port: everything that kandle writes or reads goes through it. Its adapters are `embedded` and `kafka`.

All calls block; errors are subclasses of `LogError`. A log object may be used by several threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple, Protocol

from kandle.log.records import Batch, Write
from kandle.plan.topics import TopicSpec


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: its spec as stored, and what differs from the one that was asked for, in words."""

    spec: TopicSpec
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Offsets `[start, end)` that can be read, and what they take up."""

    start: int
    end: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Fence:
    """A claim that must still hold when an append is made: this epoch owns the partition in the group."""

    group: str
    partition: TopicPartition
    epoch: int


class Listener(Protocol):
    """Hears of partitions that come and go; called by `Consumer.poll` and `Consumer.close`, in their thread."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """These are owned from now on; positions stand at what the group committed last."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These are about to go to another member; they are still owned, so this is the time for a last commit."""

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """These belong to another member already: whatever was not committed must be forgotten."""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """How a consumer joins a group.

    `member` names the process; the same name again takes the place of the one before. Topics of the same number of
    partitions are assigned alike: who owns partition p of one owns it of all. `reset` says where a group begins that has
    committed nothing.
    """

    group: str
    topics: tuple[str, ...]
    member: str
    reset: Literal["earliest", "latest"] = "earliest"
    lease: int = 5_000_000
    """Microseconds after which a member that was not heard of is taken for dead."""


class Consumer(Protocol):
    """A member of a consumer group. Its calls are made by one thread."""

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        """Owned partitions with their epochs, which grow with each change of owner."""

    @property
    def statistics(self) -> Mapping[str, int]:
        """Figures of the client library behind it, by name; nothing where there is none."""

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        """Records after the positions, which move on; waits up to `timeout` microseconds for the first.

        About `max_rows` per partition; batches of a partition follow each other. Calls the listener when partitions come or
        go, before it reads. ReplacedError if another process has joined under this member's name.
        """

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these offsets."""

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Do not read these, until `resume`."""

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Read these again."""

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's next offsets; partitions without a commit are left out."""

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[Write] = ()) -> list[int]:
        """Next offsets and records, all or nothing, and the offset of each write's first record.

        FencedError if one of the offsets' partitions is no longer owned.
        """

    def wake(self) -> None:
        """End a waiting `poll`; may be called by any thread."""

    def close(self) -> None:
        """Leave the group at once; the partitions are free for the others."""


class Log(Protocol):
    """Topics, their records and consumer groups."""

    def ensure(self, spec: TopicSpec) -> TopicState:
        """Create the topic if it is missing.

        New nullable columns are added to one that is there; any other difference in columns or keys is a SchemaError that
        names it. Other settings stay as they are and are reported.
        """

    def topic(self, name: str) -> TopicSpec:
        """A topic as it is; UnknownTopicError names those that there are."""

    def topics(self) -> list[TopicSpec]:
        """All topics, by name."""

    def partitions(self, topic: str) -> list[PartitionState]:
        """Where each partition of a topic begins and ends."""

    def ends(self, topic: str) -> list[int]:
        """The next offset of each partition of a topic."""

    def append(self, writes: Sequence[Write], fence: Fence | None = None) -> list[int]:
        """Append all or nothing, and give the offset of each write's first record; FencedError if the claim does not hold.

        When it returns, the records are kept and other processes see them.
        """

    def first(self, partition: TopicPartition) -> int:
        """The least offset that can still be read; the next offset of an empty partition."""

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        """Records from an offset on, about `max_rows`; with `span` those batches that may hold instants of `[start, end)`."""

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Forget the records below an offset (whole batches may stay)."""

    def wait(self, timeout: int) -> bool:
        """Wait until something is appended anywhere in the log, or `timeout` microseconds are over (then False)."""

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        """Join a group."""

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's next offset by partition."""

    def groups(self, prefix: str = "") -> list[GroupState]:
        """Groups with such names, their members and positions."""

    def maintain(self) -> Maintenance:
        """Apply retention and compaction, a bounded amount of work at a time."""

    def connect(self) -> Log:
        """Another connection to the same log, for another thread that must not wait for this one."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group: owner (or None) and next offset of each partition."""

    group: str
    owners: Mapping[TopicPartition, str | None] = field(default_factory=dict)
    positions: Mapping[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What one round of maintenance removed."""

    rows: int = 0
    bytes: int = 0


def latest(batches: Iterable[Batch]) -> int | None:
    """The next offset after all batches of one partition."""
    ends = [batch.next_offset for batch in batches if len(batch)]
    return max(ends) if ends else None


def batches_by_partition(batches: Iterable[Batch]) -> dict[TopicPartition, list[Batch]]:
    """Return the batches of a poll by their partition.

    Args:
        batches: Batches in which those of one partition follow each other, as `Consumer.poll` returns them.

    Returns:
        The batches of each partition, in the given order.
    """
    groups = groupby(batches, key=lambda batch: TopicPartition(batch.topic, batch.partition))
    return {partition: list(group) for partition, group in groups}
