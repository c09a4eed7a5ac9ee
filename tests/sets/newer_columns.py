"""A topic of a former version of an entity, read by a process that may only read, and that declares one column more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import kandle
from kandle import Context, EventSet, Key, TableSet, Timestamp

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def check_that_newer_columns_are_null(suffix: str, options: dict[str, Any]) -> None:
    """Write with the former classes, then read events and rows with the newer ones in every way."""

    @kandle.stream(f"visits{suffix}")
    @dataclass(frozen=True)
    class Visit:
        name: Annotated[str, Key(0)]
        time: Annotated[datetime, Timestamp()]

    @kandle.table(f"guests{suffix}")
    @dataclass(frozen=True)
    class Guest:
        name: Annotated[str, Key(0)]
        age: int

    @kandle.stream(f"visits{suffix}")
    @dataclass(frozen=True)
    class NotedVisit:
        name: Annotated[str, Key(0)]
        time: Annotated[datetime, Timestamp()]
        note: str | None = None

    @kandle.table(f"guests{suffix}")
    @dataclass(frozen=True)
    class NotedGuest:
        name: Annotated[str, Key(0)]
        age: int
        note: str | None = None

    former: Any = type("Former", (Context,), {"__annotations__": {"visits": EventSet[Visit], "guests": TableSet[Guest]}})
    newer: Any = type("Newer", (Context,), {"__annotations__": {"visits": EventSet[NotedVisit], "guests": TableSet[NotedGuest]}})
    with former.open(**options) as house:
        house.visits.add(Visit("ann", NOON))
        house.guests.add(Guest("ann", 40))
    with newer.open(access="read_only", **options) as house:
        assert house.visits.to_list() == [NotedVisit("ann", NOON)]
        assert list(house.visits.limit(1)) == [NotedVisit("ann", NOON)]
        assert house.guests.to_list() == [NotedGuest("ann", 40)]
        assert house.guests.get("ann") == NotedGuest("ann", 40)
