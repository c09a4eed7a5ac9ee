"""Dead letters as objects: read, chosen, replayed exactly once, handed to a handler, dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle.testing
from kandle import AccessError, BarSet, Context, DataError, EventSet, Key, OnError, Precision, TableSet, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.errors import FencedError, StorageError
from kandle.log.embedded.consumer import EmbeddedConsumer
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.headers import raw_header_rows
from kandle.log.letters import Letter, LetterBox, LetterKind, LetterRate, letter_write
from kandle.log.port import TopicPartition
from kandle.log.records import EncodedWrite
from kandle.plan.topics import dead_letter_topic
from kandle.sets.letters import DeadLetter, LetterFilter
from kandle.sets.replaying import finish, replay
from tests.log.building import read_all
from tests.waiting import aside, result_of

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


@kandle.stream("orders", partitions=2)
@dataclass(frozen=True)
class Order:
    venue: Annotated[str, Key(0)]
    number: Annotated[int, Key(1)]
    at: Annotated[datetime, Timestamp()] = NOON
    price: Annotated[Decimal, Precision(18, 4)] = Decimal("1.2500")
    payload: bytes = b"\x00\xff"
    labels: dict[str, str] | None = None


@kandle.table("owners")
@dataclass(frozen=True)
class Owner:
    name: Annotated[str, Key(0)]
    age: int


class Market(Context):
    orders: EventSet[Order]
    owners: TableSet[Owner]


@kandle.stream("totals")
@dataclass(frozen=True)
class Total:
    venue: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    number: int


class Sums(Context):
    orders: EventSet[Order]
    totals: BarSet[Total]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Total).to_query(
            lambda q: (
                q.from_(Order)
                .tumbling(lambda o: o.at, minutes=(1, 5))
                .group_by(lambda o: o.venue)
                .select(lambda o, w: Total(venue=o.venue, start=w.start, number=f.sum(o.number)))
            )
        )


class UnluckyError(Exception):
    """An error of a handler."""


@pytest.fixture
def market() -> Iterator[Market]:
    with kandle.testing.context(Market, start=NOON) as market:
        yield market


def fail(
    market: Market, topic: str, *numbers: int, error: type[Exception] = UnluckyError, rate: LetterRate | None = None
) -> None:
    """Have the records of these offsets, counted through all partitions, become dead letters of a consumer."""
    log = state_of(market).log
    assert isinstance(log, EmbeddedLog)
    box = LetterBox(log, topic, "app-orders", log.clock, rate)
    number = 0
    for partition in range(log.topic(topic).partitions):
        for batch in read_all(log, topic, partition):
            for row in range(len(batch)):
                if number in numbers:
                    box.add(batch, row, error(f"bad {number}"), attempts=3)
                number += 1
        positions = {TopicPartition(topic, partition): log.ends(topic)[partition]}
        log.append(box.writes(positions))
        box.committed(positions)


def add_orders(market: Market, count: int) -> list[Order]:
    """Add orders, and return them in the order of partitions and offsets."""
    for number in range(count):
        market.orders.add(Order("north", number, labels={"a": "ü"}), headers=[("trace", b"\xff"), ("trace", "2"), ("none", None)])
    return market.orders.to_list()


def headers_in(market: Market, topic: str) -> list[Any]:
    """Return the headers of the newest record of each partition."""
    log = state_of(market).log
    return [raw_header_rows(read_all(log, topic, part)[-1].records)[-1] for part in range(log.topic(topic).partitions)]


def test_dead_letters_are_read_as_objects(market: Market) -> None:
    assert (market.orders.dead_letters().to_list(), market.orders.dead_letters().count()) == ([], 0)
    orders = add_orders(market, 4)
    fail(market, "orders", 0, 3)
    letters = market.orders.dead_letters()
    assert [letter.error for letter in letters] == ["bad 0", "bad 3"]
    first, last = letters.to_list()
    assert isinstance(first, kandle.DeadLetter)
    assert (first.topic, first.partition, first.offset, first.kind, first.state) == ("orders", 0, 0, "handler", "open")
    assert (last.partition, last.attempts, last.group, last.written) == (1, 3, "app-orders", NOON)
    assert first.error_class == f"{__name__}.UnluckyError"
    assert first.headers == {"trace": "2"}
    assert first.raw_headers == (("trace", b"\xff"), ("trace", b"2"), ("none", None))
    assert letters.count() == 2
    assert letters.limit(1).to_list() == [last]
    assert orders[0].number in (0, 1, 2, 3)


def test_letters_are_chosen_by_what_they_say(market: Market) -> None:
    orders = add_orders(market, 6)
    fail(market, "orders", 0, 1)
    market.clock.advance("1h")  # type: ignore[attr-defined]
    fail(market, "orders", 4, 5, error=ValueError)
    letters = market.orders.dead_letters()

    def chosen(**choice: Any) -> list[str]:
        return [letter.error for letter in letters.where(**choice)]

    assert chosen() == ["bad 0", "bad 1", "bad 4", "bad 5"]
    assert chosen(error_class="UnluckyError") == chosen(error_class=f"{__name__}.UnluckyError") == ["bad 0", "bad 1"]
    assert chosen(error_class="lucky") == []
    assert chosen(since="2024-03-08T12:30Z") == chosen(error_class="ValueError") == ["bad 4", "bad 5"]
    assert chosen(until="2024-03-08T12:30Z", partition=0) == ["bad 0", "bad 1"]
    assert chosen(key=["north", orders[4].number]) == chosen(key=["north", str(orders[4].number)]) == ["bad 4"]
    assert len(chosen(key="north")) == 4 and chosen(key="south") == []
    assert len(chosen(kind="handler", group="app-orders")) == 4 and chosen(kind=["bar", "event"]) == []
    with pytest.raises(DataError, match="there is no kind 'bad' of dead letters; choose from: unreadable, handler"):
        letters.where(kind="bad")


def test_a_replay_writes_each_record_again_once_with_its_headers_and_origin(market: Market) -> None:
    orders = add_orders(market, 4)
    fail(market, "orders", 0, 3)
    done = market.orders.dead_letters().replay()
    assert (done.done, done.refused) == (2, ())
    assert sorted(order.number for order in market.orders.to_list()) == sorted(
        [*(o.number for o in orders), orders[0].number, orders[3].number]
    )
    assert market.orders.to_list().count(orders[0]) == 2
    assert headers_in(market, "orders")[0] == (
        *(("trace", b"\xff"), ("trace", b"2"), ("none", None)),
        ("kandle-origin", b"orders/0/0"),
        ("kandle-dead-letter", b"orders_dlq/0/0"),
    )
    assert market.orders.dead_letters().replay().done == 0 == market.orders.dead_letters().count()
    assert [letter.state for letter in market.orders.dead_letters().where(include_done=True)] == ["replayed"] * 2
    assert len(market.orders.to_list()) == 6


def test_a_record_that_fails_again_keeps_its_first_origin(market: Market) -> None:
    add_orders(market, 1)
    partition = 0 if state_of(market).log.ends("orders")[0] else 1
    fail(market, "orders", 0)
    market.orders.dead_letters().replay()
    fail(market, "orders", 1)
    market.orders.dead_letters().replay()
    pairs = headers_in_partition(market, partition)
    assert [value for name, value in pairs if name == "kandle-origin"] == [f"orders/{partition}/0".encode()]
    assert [value for name, value in pairs if name == "kandle-dead-letter"] == [f"orders_dlq/{partition}/2".encode()]


def headers_in_partition(market: Market, partition: int) -> Any:
    return raw_header_rows(read_all(state_of(market).log, "orders", partition)[-1].records)[-1]


def test_tombstones_and_rows_of_tables_are_replayed_as_what_they_were(market: Market) -> None:
    market.owners.add(Owner("a", 1))
    market.owners.add(Owner("b", 2))
    market.owners.remove("a")
    fail(market, "owners", 1, 2)
    market.owners.add(Owner("a", 3))
    market.owners.remove("b")
    market.owners.dead_letters().replay()
    assert market.owners.to_list() == [Owner("b", 2)]


def test_a_kill_in_the_middle_and_a_second_replay_make_no_doubles(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    replay 1   commits letters 0 1   commits 2 3 ✗ before    replay 2   commits 2 3   commits 4
    """
    monkeypatch.setattr("kandle.sets.replaying.LETTERS_AT_ONCE", 2)
    orders = add_orders(market, 5)
    fail(market, "orders", *range(5))
    commit = EmbeddedConsumer.commit
    calls = 0

    def killed(consumer: EmbeddedConsumer, *arguments: Any) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StorageError("killed")
        return commit(consumer, *arguments)

    monkeypatch.setattr(EmbeddedConsumer, "commit", killed)
    with pytest.raises(StorageError, match="killed"):
        market.orders.dead_letters().replay()
    assert len(market.orders.to_list()) > 5
    assert 0 < market.orders.dead_letters().count() < 5
    market.orders.dead_letters().replay()
    assert sorted(order.number for order in market.orders.to_list()) == sorted([o.number for o in orders] * 2)


def test_who_was_away_for_too_long_writes_nothing_and_begins_anew(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A   owns p0: reads ──── away ──── commit: fenced   owns p0 again: reads, commits
    B                       owns p0
    """
    orders = add_orders(market, 2)
    fail(market, "orders", 0, 1)
    commit, fenced = EmbeddedConsumer.commit, []

    def late(consumer: EmbeddedConsumer, *arguments: Any) -> list[int]:
        monkeypatch.setattr(EmbeddedConsumer, "commit", commit)
        database = state_of(market).log.database  # type: ignore[attr-defined]
        database.run("DELETE FROM member")
        database.run("UPDATE lease SET owner = NULL, session = NULL, epoch = epoch + 1")
        database.run("UPDATE generation SET number = number + 1")
        with pytest.raises(FencedError) as error:
            commit(consumer, *arguments)
        fenced.append(market.orders.to_list())
        raise error.value

    monkeypatch.setattr(EmbeddedConsumer, "commit", late)
    assert market.orders.dead_letters().replay().done == 2
    assert fenced == [orders]
    assert sorted(order.number for order in market.orders.to_list()) == sorted([order.number for order in orders] * 2)


def test_two_that_replay_at_the_same_time_share_the_letters(tmp_path: Path) -> None:
    with kandle.testing.context(Market, start=NOON, log={"path": tmp_path}) as market:
        orders = add_orders(market, 8)
        fail(market, "orders", *range(8))
        log = state_of(market).log

        def work(member: str) -> int:
            connection = log.connect()
            try:
                return finish(connection, "orders_dlq", member, LetterFilter(), replay(connection)).done
            finally:
                connection.close()

        workers = [aside(partial(work, member)) for member in ("one", "two")]
        assert sum(result_of(worker) for worker in workers) == 8
        assert sorted(order.number for order in market.orders.to_list()) == sorted([order.number for order in orders] * 2)


def test_bars_have_the_letters_of_their_query_and_of_their_readers() -> None:
    with kandle.testing.context(Sums, start=NOON) as market:
        log = state_of(market).log
        market.orders.add(Order("north", 1))
        market.clock.advance("5m")  # type: ignore[attr-defined]
        assert [len(market.totals(timeframe).to_list()) for timeframe in ("1m", "5m")] == [5, 1]
        source = TopicPartition("orders", 0)
        letters = [Letter(LetterKind.BAR, 0, name, timeframe=name) for name in ("1m", "5m")]
        letters.append(Letter(LetterKind.EVENT, 0, "event", payload=b"{}"))
        spec = log.ensure(dead_letter_topic("totals_dlq", 1, None)).spec
        log.append([letter_write(spec, source, letters)])
        box = LetterBox(log, "totals_1m_final", "app", state_of(market).clock)
        box.add(read_all(log, "totals_1m_final")[0], 0, UnluckyError("final"))
        log.append(box.writes({TopicPartition("totals_1m_final", 0): 9}))
        assert [letter.error for letter in market.totals.dead_letters()] == ["1m", "5m", "event"]
        assert sorted(letter.error for letter in market.totals("1m").dead_letters()) == ["1m", "event", "final"]
        assert [letter.error for letter in market.totals("5m").dead_letters()] == ["5m", "event"]
        [refused] = market.totals.dead_letters().where(kind="bar").replay().refused[:1]
        assert refused.reason.startswith("bars are made by their query")
        seen: list[Total] = []
        [refused] = market.totals("1m").dead_letters().where(kind="handler").replay().refused
        assert refused.reason.startswith("its record is a bar, which its query alone writes, and once: hand it to a handler")
        assert len(market.totals("1m").to_list()) == 5
        assert market.totals("1m").dead_letters().where(kind="handler").replay(seen.append).done == 1
        assert seen == market.totals("1m").to_list()[:1]


def test_a_handler_takes_the_objects_and_what_fails_again_stays(market: Market) -> None:
    orders = add_orders(market, 3)
    fail(market, "orders", 0, 1, 2)
    seen: list[Order] = []

    def handler(order: Order) -> None:
        if order == orders[1]:
            raise UnluckyError("still bad")
        seen.append(order)

    done = market.orders.dead_letters().replay(handler)
    assert seen == [orders[0], orders[2]] and done.done == 2
    [refused] = done.refused
    assert refused.reason == f"the handler has failed again: {__name__}.UnluckyError: still bad"
    assert [letter.error for letter in market.orders.dead_letters()] == ["bad 1"]
    assert market.orders.to_list() == orders


def test_dropped_letters_are_gone_and_others_stay(market: Market) -> None:
    add_orders(market, 4)
    fail(market, "orders", 0, 1)
    fail(market, "orders", 2, 3, error=ValueError)
    assert market.orders.dead_letters().where(error_class="UnluckyError").drop().done == 2
    assert [letter.error for letter in market.orders.dead_letters()] == ["bad 2", "bad 3"]
    assert market.orders.dead_letters().drop().done == 2
    assert market.orders.dead_letters().count() == 0
    log = state_of(market).log
    assert [log.first(TopicPartition("orders_dlq", part)) for part in (0, 1)] != [0, 0]


def test_the_sum_of_many_letters_replays_their_records(market: Market) -> None:
    orders = add_orders(market, 6)
    fail(market, "orders", *range(6), rate=LetterRate(1))
    assert {letter.kind for letter in market.orders.dead_letters()} == {"handler", "left out"}
    assert market.orders.dead_letters().count() == 6
    market.orders.dead_letters().replay()
    assert sorted(order.number for order in market.orders.to_list()) == sorted([order.number for order in orders] * 2)


def add_bytes(market: Market, *letters: tuple[bytes | None, bytes | None]) -> None:
    """Have bytes of orders stand in dead letters, as those of a cluster do."""
    log = state_of(market).log
    spec = log.ensure(dead_letter_topic("orders_dlq", 2, None)).spec
    unreadable = [
        Letter(LetterKind.UNREADABLE, number, "torn", key=key, payload=value, headers=[("trace", b"\xff")], is_json=False)
        for number, (key, value) in enumerate(letters)
    ]
    log.append([letter_write(spec, TopicPartition("orders", 1), unreadable)])


def test_letters_of_bytes_are_replayed_once_and_read_again_as_what_they_are(market: Market) -> None:
    key = b'{"venue": "north", "number": 7}'
    add_bytes(market, (b"\xff\x00", b"\x00torn"), (b"\x01", None), (key, b'{"price": "1.5"}'))
    done = market.orders.dead_letters().replay()
    assert (done.done, done.refused) == (3, ())
    assert market.orders.dead_letters().replay().done == 0
    batches = read_all(state_of(market).log, "orders", 1)
    rejects = [reject for batch in batches for reject in batch.rejects]
    assert [(reject.key, reject.value) for reject in rejects] == [(b"\xff\x00", b"\x00torn"), (b"\x01", None)]
    assert rejects[0].headers == (
        ("trace", b"\xff"),
        ("kandle-origin", b"orders/1/0"),
        ("kandle-dead-letter", b"orders_dlq/1/0"),
    )
    assert market.orders.to_list(unreadable="skip") == [Order("north", 7, price=Decimal("1.5"))]
    with pytest.raises(DataError, match="2 records of topic orders cannot be read"):
        market.orders.to_list()
    assert market.orders.on_error(OnError.DEAD_LETTER).for_each(lambda order: None, limit=1) == 1
    again = market.orders.dead_letters().to_list()
    assert [(letter.kind, letter.key, letter.payload) for letter in again] == [
        ("unreadable", reject.key, reject.value) for reject in rejects
    ]


def test_what_is_skipped_is_counted_and_logged_once_a_minute(market: Market, caplog: pytest.LogCaptureFixture) -> None:
    """
    offset      0       1       2       3       4       5
    record      torn    torn    torn    order   torn    order
    """
    log, key = state_of(market).log, b'{"venue": "north", "number": 7}'
    skipping = market.orders.on_error(OnError.SKIP)
    log.append([EncodedWrite("orders", 0, [None, None, None, key], [b"torn", b"torn", b"torn", b"{}"])])
    for _ in range(2):
        assert len(market.orders.to_list(unreadable="skip")) == market.orders.count(unreadable="skip") == 1
    assert skipping.for_each(lambda order: None, limit=1) == 1
    health = market.health()
    assert (health.unreadable, health.skipped) == ({"orders": 12}, {"orders": 3})
    assert health.to_dict()["unreadable"] == {"orders": 12}
    assert caplog.text.count("3 records of topic orders cannot be read") == caplog.text.count("left out") == 1
    assert caplog.text.count("1 messages of orders were skipped") == 1
    market.clock.advance("61s")  # type: ignore[attr-defined]
    log.append([EncodedWrite("orders", 0, [None, key], [b"torn", b"{}"])])
    assert len(market.orders.to_list(unreadable="skip")) == 2
    assert skipping.for_each(lambda order: None, limit=1) == 1
    assert caplog.text.count("4 records of topic orders cannot be read") == 1
    assert caplog.text.count("3 messages of orders were skipped") == 1


def test_a_handler_takes_bytes_that_are_json_and_the_others_say_what_is_wrong(market: Market) -> None:
    add_bytes(market, (b"\xff", b"torn"), (b'{"venue": "north", "number": 7}', b"{}"))
    assert [letter.offset for letter in market.orders.dead_letters().where(key="north")] == [1]
    seen: list[Order] = []
    done = market.orders.dead_letters().replay(seen.append)
    assert (done.done, [order.number for order in seen]) == (1, [7])
    assert "the embedded log reads bytes as JSON" in done.refused[0].reason


def test_letters_of_a_context_that_only_reads_cannot_be_replayed() -> None:
    with kandle.testing.context(Market, start=NOON, access="read_only") as market:
        assert market.orders.dead_letters().to_list() == []
        with pytest.raises(AccessError, match="cannot be replayed or dropped"):
            market.orders.dead_letters().replay()
    with (
        kandle.testing.context(Market, start=NOON, access="write_only") as market,
        pytest.raises(AccessError, match="dead letters cannot be read"),
    ):
        market.orders.dead_letters().count()


def test_the_same_in_an_event_loop() -> None:
    async def replayed() -> tuple[list[DeadLetter], list[Order]]:
        seen: list[Order] = []

        async def handler(order: Order) -> None:
            seen.append(order)

        async with kandle.testing.context(Market, start=NOON) as market:
            await market.orders.add_async(Order("north", 1))
            log = state_of(market).log
            box = LetterBox(log, "orders", "app", state_of(market).clock)
            partition = 0 if log.ends("orders")[0] else 1
            box.add(read_all(log, "orders", partition)[0], 0, ValueError("bad"))
            log.append(box.writes({TopicPartition("orders", partition): 1}))
            letters = [letter async for letter in market.orders.dead_letters()]
            assert (await market.orders.dead_letters().replay_async(handler)).done == 1
            assert await market.orders.dead_letters().count_async() == 0
        return letters, seen

    letters, seen = asyncio.run(replayed())
    assert [letter.error for letter in letters] == ["bad"] and seen == [Order("north", 1)]
