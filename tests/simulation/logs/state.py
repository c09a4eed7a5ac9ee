"""What the logs of one world share: topics, processes, faults, and the place where a scheduler steps in.

A log calls `WorldState.at` before it works, after it has worked, and on the cluster in the middle of a transaction. There the
scheduler can do what happens to real processes:

    raise UnavailableError      the call fails: before it worked, or after it (the answer is lost)
    raise Killed                the process ends there; on the cluster its transaction stays open
    step other processes        the process is slow there, or a zombie: `Process.stop` has the threads stand still that keep its
                                leases and sessions, until `Process.resume`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from kandle.errors import UnavailableError
from kandle.log.port import Maintenance, TopicPartition
from kandle.time.clock import Clock
from tests.simulation.logs.topics import Topics

Stage = Literal["before", "written", "after"]


class Killed(BaseException):
    """Ends a process in the middle of a call; nothing of the process may run after it."""


@dataclass(frozen=True, slots=True)
class Call:
    """Where a process is in a call of its log.

    Attributes:
        process: Name of the process.
        name: What it does, such as `append`, `commit`, `poll` or `read`.
        stage: Before the work, after it, or `written`: records of a transaction are written that is neither committed nor
            aborted, or some of the records of an append.
        partitions: The partitions that it concerns, where they are known.
    """

    process: str
    name: str
    stage: Stage
    partitions: tuple[TopicPartition, ...]


@dataclass(slots=True)
class Faults:
    """What is wrong with a log at the moment; instants are those of the world's clock.

    Attributes:
        full_until: The disk is full until then: nothing can be written.
        down_until: The log cannot be reached until then.
        leaders_away: By partition, until when it has no leader (cluster).
        metadata_held: By process, until when brokers tell it of no partition that was added (cluster).
        lost_answers: By process, how many of its next appends and commits are made without an answer (cluster).
        marker_delay: Longest time after which readers hear of the end of a transaction, in microseconds (cluster).
        fetch_delay: Chance that records of a partition do not come with a poll yet (cluster).
        refused_commits: Chance that a commit is refused while members of the group come and go (cluster).
    """

    full_until: int = 0
    down_until: int = 0
    leaders_away: dict[TopicPartition, int] = field(default_factory=dict)
    metadata_held: dict[str, int] = field(default_factory=dict)
    lost_answers: dict[str, int] = field(default_factory=dict)
    marker_delay: int = 0
    fetch_delay: float = 0.0
    refused_commits: float = 0.0

    def clear(self) -> None:
        """Have nothing be wrong any more."""
        self.full_until = self.down_until = self.marker_delay = 0
        self.fetch_delay = self.refused_commits = 0.0
        for faults in (self.leaders_away, self.metadata_held, self.lost_answers):
            faults.clear()


class Process:
    """A process that uses the log; threads of its own, which keep leases and sessions, run as long as it does."""

    def __init__(self, state: WorldState, name: str, clock: Clock) -> None:
        self.state, self.name, self.clock = state, name, clock
        self.stopped_at: int | None = None
        self.is_killed = False

    def running_until(self, now: int) -> int:
        """Return until when the process has run, which is now unless it is stopped."""
        return now if self.stopped_at is None else self.stopped_at

    def stop(self) -> None:
        """Pause the process, with all of its threads."""
        if self.stopped_at is None:
            self.stopped_at = self.state.clock.steady()

    def resume(self) -> None:
        """Have the process go on."""
        # While it stood still, its sessions have ended.
        self.state.expire()
        self.stopped_at = None

    def kill(self) -> None:
        """End the process as it is: nobody says goodbye."""
        self.stop()
        self.is_killed = True


@dataclass(slots=True)
class Life:
    """When a member of a group has shown itself, or a thread of its process has done so for it.

    Attributes:
        process: The process of the member.
        span: How long after the last sign the member counts as dead.
        stall: How long the thread speaks for a member that does not show itself.
        seen: When the member has shown itself.
        renewed: When it has said so to its group.
    """

    process: Process
    span: int
    stall: int
    seen: int
    renewed: int

    def is_over(self, now: int) -> bool:
        """Return whether the member counts as dead."""
        spoken = min(self.process.running_until(now), self.seen + self.stall) if self.stall else self.renewed
        return now >= max(spoken, self.renewed) + self.span


class WorldState:
    """What all processes of a world share.

    Args:
        random: Decides what is left to chance.
        clock: The clock of the log: that of the machine, or of the brokers.
        topics: The topics.
    """

    def __init__(self, random: Random, clock: Clock, topics: Topics) -> None:
        self.random, self.clock, self.topics = random, clock, topics
        self.faults = Faults()
        self.on_call: Callable[[Call], None] | None = None
        """Is called at each point of a call where a scheduler may step in."""
        self.positions: dict[str, dict[TopicPartition, int]] = {}
        """The committed positions of each group."""
        self._numbers = 0

    def number(self) -> int:
        """Return a number that was never returned before."""
        self._numbers += 1
        return self._numbers

    def expire(self) -> None:
        """Have happen what is due by the clock; logs do so before they work."""

    def clean(self) -> Maintenance:
        """Apply retention and compaction; return what was removed."""
        raise NotImplementedError

    def at(
        self,
        process: Process,
        name: str,
        stage: Stage = "before",
        partitions: Sequence[TopicPartition] = (),
        *,
        is_write: bool = False,
    ) -> None:
        """Let the scheduler step in, and raise what the faults of the moment make of a call."""
        if process.is_killed:
            raise AssertionError(f"process {process.name} was killed, and calls {name}")
        if self.on_call is not None:
            self.on_call(Call(process.name, name, stage, tuple(partitions)))
        if stage != "before":
            return
        self.expire()
        faults, now = self.faults, self.clock.steady()
        if now < faults.down_until:
            raise UnavailableError(f"{name}: the log cannot be reached; try again later")
        if is_write and now < faults.full_until:
            raise UnavailableError(f"{name}: the disk is full; nothing of this write was kept")
        for partition in partitions:
            if self.is_away(partition):
                raise UnavailableError(f"{name}: partition {partition.partition} of {partition.topic} has no leader")

    def is_away(self, partition: TopicPartition) -> bool:
        """Return whether a partition has no leader."""
        leaders = self.faults.leaders_away
        return bool(leaders) and self.clock.steady() < leaders.get(partition, 0)
