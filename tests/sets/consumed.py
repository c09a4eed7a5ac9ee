"""Declarations, and helpers, of the tests of consuming."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import kandle
from kandle import Context, EventSet, Key, MessageFailure, TableSet, Timestamp

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


@kandle.stream("jobs", partitions=2)
@dataclass(frozen=True)
class Job:
    id: Annotated[str, Key(0)]
    number: int
    time: Annotated[datetime, Timestamp()] = NOON


@kandle.stream("results", partitions=2)
@dataclass(frozen=True)
class Result:
    id: Annotated[str, Key(0)]
    number: int
    time: Annotated[datetime, Timestamp()] = NOON


@kandle.table("sites")
@dataclass(frozen=True)
class Site:
    id: Annotated[str, Key(0)]
    name: str


class Work(Context):
    jobs: EventSet[Job]
    results: EventSet[Result]
    sites: TableSet[Site]

    def on_message_error(self, failure: MessageFailure) -> None:
        FAILURES.append(failure)


FAILURES: list[MessageFailure] = []
"""What the hook of the contexts was told."""

OTHER = "d"
"""The id of jobs in the other partition than those of "a"."""


def jobs(count: int, key: str = "a") -> list[Job]:
    """Return jobs of one partition."""
    return [Job(key, number) for number in range(count)]
