"""The declarations of queries in the log: who makes the same bars must have declared them alike.

The topic of declarations has one partition, so its order is the order in which processes have declared what they make. For each
topic of bars the first row of generation 1 counts. A replacement is a row of the next generation; it counts if it is the first
of its number and comes after the one before:

    offset    0            1                  2                    3                      4
    row       bars, 1: A   bars, 1: B         bars, 2: C           bars, 2: D             bars, 4: E
              counts       B was slower than  counts: C replaces   D was slower than C    nothing: there is no 3
                           A: refused         A, whose processes
                                              end with an error

A process reads and writes the topic before it joins the group of its query, so that one that is refused takes no partition. It
looks again whenever it is assigned partitions, and now and then while it runs: one that was paused during a replacement ends.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from kandle.errors import StateError
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.plan.declaration import FIXED, LABELS, QueryDeclaration
from kandle.plan.plan import Plan
from kandle.plan.query_topics import query_group
from kandle.plan.topics import DECLARATIONS, INSTANT, declarations_topic
from kandle.time.timeframe import MILLISECOND, to_instant

logger = logging.getLogger("kandle")

ROWS_AT_ONCE = 1_000


WAY_ON_KSQLDB = (
    "its bars are made of all events that the source still holds, beside the former ones, whose table is dropped on ksqlDB once "
    "nobody reads them (`kandle script --drop` of the former declaration prints how)"
)
"""What a changed declaration needs where ksqlDB aggregates, in words."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A declaration that counts, or has counted.

    Attributes:
        number: Its number among the declarations of the query, from 1.
        declaration: What was declared.
        member: The process that has declared it first.
        begin: The instant from which on a later generation reads events, in microseconds; None is where the former stood.
        former: The declaration that it has replaced; None for the first one.
    """

    number: int
    declaration: QueryDeclaration
    member: str
    begin: int | None = None
    former: QueryDeclaration | None = None


class QueryGenerations:
    """The generations of one query, read from the log; used by one thread.

    Args:
        log: The log.
        plan: The plan of the query.
        declared: The query as this process declares it.
    """

    def __init__(self, log: Log, plan: Plan, declared: QueryDeclaration) -> None:
        self._log = log
        self._plan = plan
        self._own = declared
        self._name, self._bars = plan.query.target.name, plan.query.target.topic
        self._position = 0
        self.known: list[Generation] = []
        """All that counted up to the last look at the log, oldest first."""

    def newest(self) -> Generation | None:
        """Return the generation that counts now; None before the first."""
        partition = TopicPartition(DECLARATIONS, 0)
        while batches := self._log.read(partition, self._position, ROWS_AT_ONCE):
            for batch in batches:
                for row in batch.records.frame.filter(pl.col("bars") == self._bars).iter_rows(named=True):
                    self._take(row)
            self._position = batches[-1].next_offset
        return self.known[-1] if self.known else None

    def _take(self, row: Mapping[str, Any]) -> None:
        if row["generation"] == len(self.known) + 1:
            begin = None if row["begin"] is None else to_instant(row["begin"])
            parsed = QueryDeclaration.parse(row["declaration"])
            former = self.known[-1].declaration if self.known else None
            self.known.append(Generation(row["generation"], parsed, row["member"], begin, former))

    def _append(self, generation: Generation) -> Generation:
        """Write a generation, and return the one that counts now: another process may have been faster."""
        frame = pl.DataFrame(
            {
                "bars": [self._bars],
                "generation": [generation.number],
                "fingerprint": [generation.declaration.fingerprint],
                "declaration": [generation.declaration.text],
                "member": [generation.member],
                "begin": pl.Series([generation.begin], dtype=pl.Int64).cast(INSTANT),
            }
        )
        self._log.append([Write(DECLARATIONS, 0, Records(frame))])
        newest = self.newest()
        assert newest is not None
        return newest

    def check_admission(self, member: str, *, replaces: bool = False) -> Generation | None:
        """Check, without writing anything, that this process may make the bars.

        Args:
            member: The name of this process.
            replaces: Whether its declaration is to replace another one.

        Returns:
            The generation that counts, which is as declared here unless it is to be replaced; None if there is none yet.

        Raises:
            StateError: The bars are declared otherwise, and it is not to be replaced, or cannot be.
        """
        newest = self.newest()
        if newest is None or not newest.declaration.changed(self._own):
            return newest
        if not replaces:
            raise self._refusal(newest, member)
        if self._own.is_aggregated_elsewhere:
            raise StateError(
                f"the declaration of {self._name} cannot be replaced where ksqlDB aggregates, since ksqlDB cannot change a "
                f"table of windows ({self.differences(newest)}): give {self._name} another topic; {WAY_ON_KSQLDB}"
            )
        fixed = [LABELS[name] for name in newest.declaration.changed(self._own) if name in FIXED]
        if fixed:
            raise StateError(
                f"the declaration of {self._name} cannot be replaced, since it differs in {', '.join(fixed)} "
                f"({self.differences(newest)}): give {self._name} another topic"
            )
        group = query_group(self._plan)
        if self._log.has_members(group):
            raise StateError(
                f"the declaration of {self._name} cannot be replaced while processes run the former one (group {group}): stop "
                "them first; one that was killed counts until its lease has ended"
            )
        return newest

    def join(self, member: str) -> Generation:
        """Return the generation that counts, once it is known to be as declared here; the first process declares it.

        Args:
            member: The name of this process.

        Raises:
            StateError: The bars are declared otherwise.
        """
        newest = self.check_admission(member) or self._append(Generation(1, self._own, member))
        if newest.declaration.changed(self._own):
            raise self._refusal(newest, member)
        return newest

    def replace(self, member: str, begin: int | None) -> Generation:
        """Have the declaration of this process count from now on, unless it does already.

        Args:
            member: The name of this process.
            begin: The instant from which on events are read, in microseconds; None is where the former declaration stood.

        Raises:
            StateError: Processes of the query run, or the declarations differ in what cannot be replaced.
        """
        former = self.check_admission(member, replaces=True)
        if former is None or not former.declaration.changed(self._own):
            return self.join(member)
        whole = None if begin is None else begin // MILLISECOND * MILLISECOND
        newest = self._append(Generation(former.number + 1, self._own, member, whole))
        if newest.declaration.changed(self._own):
            raise self._refusal(newest, member)
        logger.warning(
            "%s: generation %d replaces that of %s: %s",
            *(query_group(self._plan), newest.number, former.member, self.differences(former)),
        )
        return newest

    def check(self, own: Generation) -> None:
        """Check that a generation still counts.

        Raises:
            StateError: It was replaced.
        """
        newest = self.newest()
        if newest is not None and newest.number > own.number:
            raise StateError(
                f"the declaration of {self._name} that this process runs (generation {own.number}) was replaced by that of "
                f"{newest.member} (generation {newest.number}): {self.differences(newest)}; start it again with that "
                f"declaration, or give {self._name} another topic"
            )

    def differences(self, other: Generation) -> str:
        """Return in words how a generation differs from the declaration of this process; an empty text if it does not.

        Args:
            other: The generation.
        """
        return "; ".join(other.declaration.differences(self._own, "there", "here"))

    def _refusal(self, newest: Generation, member: str) -> StateError:
        replacement = (
            f", or stop the processes of the other declaration and replace it: kandle run --replace {self._bars}, with "
            "--from latest or --from INSTANT if not from where it stood"
        )
        return StateError(
            f"the bars of {self._name} in topic {self._bars} are declared otherwise by {newest.member} (there, generation "
            f"{newest.number}) than by {member} (here): {self.differences(newest)}. Declare them alike, or give "
            f"{self._name} another topic{f'; {WAY_ON_KSQLDB}' if self._own.is_aggregated_elsewhere else replacement}"
        )


def ensure_declarations(log: Log, replication: int | None, *, creates: bool = True) -> None:
    """Create the topic of declarations if it is missing; an existing one is used as it is."""
    if DECLARATIONS not in {spec.name for spec in log.topics()}:
        log.ensure(replace(declarations_topic(replication), is_created=creates))


def bar_topics(log: Log) -> set[str]:
    """Return the topics of live and final bars that queries make, by all declarations in the log.

    Args:
        log: The log.
    """
    if DECLARATIONS not in {spec.name for spec in log.topics()}:
        return set()
    names: set[str] = set()
    position = 0
    while batches := log.read(TopicPartition(DECLARATIONS, 0), position, ROWS_AT_ONCE):
        for batch in batches:
            for bars, text in batch.records.frame.select("bars", "declaration").iter_rows():
                names |= QueryDeclaration.parse(text).bar_topics(bars)
        position = batches[-1].next_offset
    return names


def check_declarations(
    log: Log,
    declared: Sequence[tuple[Plan, QueryDeclaration]],
    member: str,
    replaces: Collection[str],
    *,
    creates: bool = True,
) -> None:
    """Check, before anything of the queries is created, that this process may make their bars.

    Args:
        log: The log.
        declared: The queries, each with its declaration in this process.
        member: The name of this process.
        replaces: Topics of bars whose declaration is to replace another one.
        creates: Whether the topic of declarations is created if it is missing.

    Raises:
        StateError: Bars are declared otherwise.
        UnknownTopicError: The topic is missing, and others have to create it.
    """
    replications = [plan.query.target.replication for plan, _ in declared if plan.query.target.replication is not None]
    ensure_declarations(log, max(replications, default=None), creates=creates)
    for plan, content in declared:
        QueryGenerations(log, plan, content).check_admission(member, replaces=plan.query.target.topic in replaces)
