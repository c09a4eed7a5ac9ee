"""Sets of tables and streams: reading and removing by the first parts of a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import anyio
import polars as pl
import pytest

import kandle.testing
from kandle import Context, DataError, EventSet, Key, TableSet, Timestamp
from kandle.context.context import state_of
from kandle.errors import StorageError, UnavailableError
from kandle.log.port import TopicPartition
from kandle.log.records import Records, Write
from kandle.sets.changes import TableChange
from kandle.store.follower import Follower
from kandle.store.rows import TableRows
from tests.waiting import aside, wait_until

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


@kandle.table("listings", cache=True)
@dataclass(frozen=True)
class Listing:
    symbol: Annotated[str, Key(0)]


class Listings(Context):
    listings: TableSet[Listing]


@kandle.table("amounts")
@dataclass(frozen=True)
class Amount:
    """A class that does not take all values that its topic may have."""

    owner: Annotated[str, Key(0)]
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("a debt is no amount")


class Bank(Context):
    amounts: TableSet[Amount]


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


def test_a_row_is_got_by_its_whole_key_and_rows_are_counted(market: Market) -> None:
    assert market.sessions.get(["north", "2024-03-08"]) == Session("north", DAY)
    assert market.sessions.get(["west", DAY]) is None
    assert (market.sessions.count(), market.sessions.count("north"), market.sessions.count("n")) == (4, 2, 0)
    assert market.sessions.limit(3).count() == 3
    assert (market.orders.count(), market.orders.count(1), market.orders.limit(2).count()) == (3, 2, 2)
    with pytest.raises(DataError, match="to get a Session give all parts of its key: venue, day"):
        market.sessions.get("north")
    with pytest.raises(DataError, match="the key parts of Session are venue, day, but 3 were given"):
        market.sessions.count(["north", DAY, "x"])


def test_a_part_that_holds_what_separates_parts_is_a_part_like_any_other(market: Market) -> None:
    """Tell the rows of "a" from those of "a NUL b"."""
    names = ["a", "a\0", "a\0b", "a\1", "ab", "\0", ""]
    market.sessions.add_many([Session(name, DAY) for name in names])
    for name in names:
        assert market.sessions.to_list(name) == [Session(name, DAY)]
    written = [row.venue for row in market.sessions.to_list()]
    assert [name for name in written if name in names] == sorted(names)


def test_changes_of_a_table_come_as_they_are_written(market: Market) -> None:
    first = Session("north", DAY, "changed")
    changes = iter(market.sessions.changes("north"))
    waiting = aside(lambda: next(changes))
    # What was written before the iteration began is no change, so it is written until it has begun.
    wait_until(waiting.done, "a change", check=lambda: market.sessions.add(first))
    assert waiting.result() == TableChange(("north", DAY), first)
    market.sessions.add(Session("south", DAY, "not asked for"))
    market.sessions.remove(["north", NEXT])
    after = next(change for change in changes if change.key[1] == NEXT)
    assert after == TableChange(("north", NEXT), None)
    changes.close()  # type: ignore[attr-defined]


def test_a_table_that_is_not_current_in_time_says_so(monkeypatch: pytest.MonkeyPatch, market: Market) -> None:
    market.sessions.to_list()
    monkeypatch.setattr(Follower, "has", lambda self, ends: False)
    with pytest.raises(UnavailableError, match="the copy of topic sessions was not current within 1ms"):
        market.sessions.to_list(timeout="1ms")


def test_a_wait_for_a_table_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with kandle.testing.context(Market, start=NOON) as market:
            with anyio.move_on_after(0.05) as scope:
                await market.sessions.to_list_async()
            assert scope.cancelled_caught

    monkeypatch.setattr(Follower, "has", lambda self, ends: False)
    anyio.run(story)


def test_a_table_in_a_folder_is_followed_from_where_its_copy_ends(tmp_path: Path) -> None:
    with Market.open(log={"path": tmp_path}) as market:
        market.sessions.add_many([Session("north", DAY), Session("south", DAY)])
        assert market.sessions.count() == 2
    with Market.open(log={"path": tmp_path}) as market:
        market.sessions.add(Session("west", DAY))
        assert [row.venue for row in market.sessions.to_list()] == ["north", "south", "west"]
    assert (tmp_path / "copies" / "market" / "sessions" / "0").is_dir()


def test_two_processes_have_copies_of_their_own_and_the_next_one_finds_one_of_them(tmp_path: Path) -> None:
    with Market.open(log={"path": tmp_path}) as first, Market.open(log={"path": tmp_path}) as second:
        first.sessions.add(Session("north", DAY))
        assert second.sessions.to_list() == first.sessions.to_list() == [Session("north", DAY)]
    with Market.open(log={"path": tmp_path}) as third:
        assert third.sessions.count() == 1
    assert sorted(path.name for path in (tmp_path / "copies" / "market" / "sessions").iterdir()) == ["0", "1"]


def test_a_table_with_a_cache_is_followed_before_anybody_reads(tmp_path: Path) -> None:
    with Listings.open(log={"path": tmp_path}):
        wait_until((tmp_path / "copies" / "listings" / "listings" / "0").is_dir, "the copy")


@pytest.mark.parametrize("store", ["memory", "auto"])
def test_a_table_is_kept_in_memory_where_it_is_told_to_or_its_folder_cannot_be_made(
    tmp_path: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    caplog.set_level("INFO", "kandle")
    with Market.open(log={"path": tmp_path / "log"}, copies={"store": store, "path": tmp_path / "file"}) as market:
        market.sessions.add(Session("north", DAY))
        assert market.sessions.count() == 1
    assert ("is kept in memory" in caplog.text) == (store == "auto")


def test_the_failure_of_a_copy_is_told_and_the_next_read_tries_again(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TableRows, *given: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(TableRows, "take", fail)
        with pytest.raises(StorageError, match="the disk is full"):
            market.owners.to_list()
    assert market.owners.to_list() == []


def test_rows_whose_records_are_gone_are_not_shown(market: Market) -> None:
    assert market.sessions.count() == 4
    log = state_of(market).log
    log.append([Write("sessions", 0, Records(pl.DataFrame({"venue": ["west"], "day": [DAY], "note": [""]})))])
    log.truncate(TopicPartition("sessions", 0), 4)
    assert market.sessions.to_list() == [Session("west", DAY)]
    assert market.sessions.get(["north", DAY]) is None


def test_a_row_of_which_no_object_can_be_made_is_named_or_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with kandle.testing.context(Bank, start=NOON) as bank:
        frame = pl.DataFrame({"owner": ["a", "b", "c"], "value": [1, -2, 3]})
        state_of(bank).log.append([Write("amounts", 0, Records(frame))])
        message = "of 1 row of topic amounts no Amount can be made; the first, of owner='b': a debt is no amount"
        with pytest.raises(DataError, match=message):
            bank.amounts.to_list()
        assert bank.amounts.to_list(unreadable="skip") == [Amount("a", 1), Amount("c", 3)]
        assert message in caplog.text
        assert bank.amounts.get("a") == Amount("a", 1)
        assert bank.amounts.count() == 3
