"""Sets of tables and streams: reading and removing by the first parts of a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import pytest

import kandle.testing
from kandle import Context, DataError, EventSet, Key, TableSet, Timestamp

DAY, NEXT = date(2024, 3, 8), date(2024, 3, 9)
NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


@kandle.table("sessions")
@dataclass(frozen=True)
class Session:
    venue: Annotated[str, Key(0)]
    day: Annotated[date, Key(1)]
    note: str = ""


@kandle.stream("orders", partitions=2)
@dataclass(frozen=True)
class Order:
    number: Annotated[int, Key(0)]
    at: Annotated[datetime, Timestamp()]


@kandle.table("owners", partitions=3)
@dataclass(frozen=True)
class Owner:
    number: Annotated[int, Key(0)]


class Market(Context):
    sessions: TableSet[Session]
    owners: TableSet[Owner]
    orders: EventSet[Order]


@pytest.fixture
def market() -> Iterator[Market]:
    with kandle.testing.context(Market, start=NOON) as market:
        market.sessions.add_many([Session(venue, day) for venue in ("north", "south") for day in (DAY, NEXT)])
        market.orders.add_many([Order(number, NOON) for number in (1, 2, 1)])
        yield market


def test_the_rows_of_a_table_are_read_by_the_first_parts_of_their_key(market: Market) -> None:
    sessions = market.sessions
    assert len(sessions.to_list()) == 4
    assert sessions.to_list("north") == sessions.to_list(["north"]) == [Session("north", DAY), Session("north", NEXT)]
    assert sessions.to_list(["south", "2024-03-09"]) == sessions.to_list(["south", NEXT]) == [Session("south", NEXT)]
    assert sessions.to_list("n") == []


def test_a_limit_keeps_the_rows_of_a_table_that_were_written_last(market: Market) -> None:
    """
    north DAY  north NEXT  south DAY  south NEXT | north DAY again, a minute later
    """
    market.clock.advance("1m")  # type: ignore[attr-defined]
    market.sessions.add(Session("north", DAY, "again"))
    assert market.sessions.limit(1).to_list() == [Session("north", DAY, "again")]
    assert market.sessions.limit(2).to_list() == [Session("north", DAY, "again"), Session("south", NEXT)]
    assert market.sessions.limit(1).to_list("south") == [Session("south", NEXT)]
    assert len(market.sessions.limit(9).to_list()) == 4
    market.sessions.remove(["north", DAY])
    assert market.sessions.limit(1).to_list() == [Session("south", NEXT)]


def test_the_rows_that_were_written_last_are_so_in_all_partitions(market: Market) -> None:
    numbers = [5, 1, 4, 2, 3, 0]
    for number in numbers:
        market.owners.add(Owner(number))
        market.clock.advance("1m")  # type: ignore[attr-defined]
    for count in range(1, 7):
        assert [owner.number for owner in market.owners.limit(count).to_list()] == sorted(numbers[-count:])


def test_the_events_of_a_stream_are_read_by_their_key(market: Market) -> None:
    assert market.orders.to_list(1) == market.orders.to_list("1") == market.orders.to_list([1]) == [Order(1, NOON)] * 2
    assert market.orders.limit(1).to_list([2]) == [Order(2, NOON)]


@pytest.mark.parametrize("key", [["north", DAY], ["north", "2024-03-08"], Session("north", DAY, "another note")])
def test_a_row_is_removed_by_its_whole_key_or_by_itself(market: Market, key: Any) -> None:
    market.sessions.remove(key)
    assert market.sessions.to_list("north") == [Session("north", NEXT)]


WRONG: list[tuple[Any, str]] = [
    ("north", "to remove a Session give all parts of its key: venue, day"),
    (["north", "Friday"], r"key part Session\.day = 'Friday' is not a date such as 2024-03-08"),
    (["north", DAY, "x"], "the key parts of Session are venue, day, but 3 were given"),
]


@pytest.mark.parametrize(("key", "message"), WRONG)
def test_a_key_that_removes_no_single_row_is_refused(market: Market, key: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        market.sessions.remove(key)
    assert len(market.sessions.to_list()) == 4
