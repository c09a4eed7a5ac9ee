"""Two versions of a key: whoever reads the new class gets the records of both, and each of them once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle.testing
from kandle import Context, DataError, EventSet, Key, ModelError, OnError, Options, TableSet, Timestamp
from kandle.log.port import Log

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


@kandle.stream("orders", partitions=2)
@dataclass(frozen=True)
class OrderV1:
    symbol: Annotated[str, Key(0)]
    number: int
    at: Annotated[datetime, Timestamp()] = NOON


def upgrade_order(old: OrderV1) -> Order:
    if old.symbol == "bad":
        raise ValueError("no venue has it")
    return Order("north", old.symbol, old.number)


@kandle.stream("orders", partitions=3, key_version=2, previous=OrderV1, upgrade=upgrade_order, dual_write=True)
@dataclass(frozen=True)
class Order:
    venue: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    number: int
    at: Annotated[datetime, Timestamp()] = NOON


@kandle.stream(
    "orders", key_version=3, previous=Order, upgrade=lambda old: OrderV3(old.venue, old.symbol, old.number % 2 == 0, old.number)
)
@dataclass(frozen=True)
class OrderV3:
    venue: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    even: Annotated[bool, Key(2)]
    number: int
    at: Annotated[datetime, Timestamp()] = NOON


@kandle.table("rows")
@dataclass(frozen=True)
class RowV1:
    name: Annotated[str, Key(0)]
    value: int


@kandle.table("rows", key_version=2, previous=RowV1, upgrade=lambda old: Row("x", old.name, old.value), dual_write=True)
@dataclass(frozen=True)
class Row:
    group: Annotated[str, Key(0)]
    name: Annotated[str, Key(1)]
    value: int


class Before(Context):
    orders: EventSet[OrderV1]
    rows: TableSet[RowV1]


class After(Context):
    orders: EventSet[Order]
    rows: TableSet[Row]


class Later(Context):
    orders: EventSet[OrderV3]


class Both(Context):
    """A context that has sets of both versions, so that one test can play both programs."""

    old_orders: EventSet[OrderV1]
    orders: EventSet[Order]
    old_rows: TableSet[RowV1]
    rows: TableSet[Row]


@pytest.fixture
def market() -> Iterator[Any]:
    with kandle.testing.context(Both, start=NOON) as market:
        yield market


def opened(cls: type[Context], folder: Path) -> Any:
    return kandle.testing.context(cls, start=NOON, log={"path": folder})


def test_lists_have_the_records_of_both_versions_as_objects_of_the_new_class(tmp_path: Path) -> None:
    with opened(Before, tmp_path) as before:
        before.orders.add_many([OrderV1("A", 1), OrderV1("B", 2)])
    with opened(After, tmp_path) as after:
        after.orders.add(Order("south", "A", 3))
        assert sorted(after.orders.to_list(), key=lambda order: order.number) == [
            Order("north", "A", 1),
            Order("north", "B", 2),
            Order("south", "A", 3),
        ]
        assert after.orders.to_list("south") == [Order("south", "A", 3)]
        assert after.orders.to_list(["north", "B"]) == [Order("north", "B", 2)]


def test_a_line_of_versions_is_upgraded_step_by_step(tmp_path: Path) -> None:
    with opened(Before, tmp_path) as before:
        before.orders.add(OrderV1("A", 1))
    with opened(After, tmp_path) as after:
        after.orders.add(Order("south", "A", 2))
    with opened(Later, tmp_path) as later:
        later.orders.add(OrderV3("west", "A", True, 4))
        expected = [OrderV3("north", "A", False, 1), OrderV3("south", "A", True, 2), OrderV3("west", "A", True, 4)]
        assert sorted(later.orders.to_list(), key=lambda order: order.number) == expected


def test_records_say_of_which_version_they_are(market: Any) -> None:
    market.orders.add(Order("south", "A", 3), headers={"trace": "t"})
    market.orders.add_many([Order("south", "A", 4)])
    messages = []
    for message in market.orders.messages():
        messages.append(message)
        if len(messages) == 2:
            break
    assert [message.headers for message in messages] == [{"trace": "t", "key-version": "2"}, {"key-version": "2"}]


def test_loops_have_the_records_of_both_versions_each_once(market: Any) -> None:
    market.old_orders.add_many([OrderV1("A", 1), OrderV1("B", 2)])
    market.orders.add_many([Order("south", "A", 3), Order("south", "B", 4)])
    market.old_orders.add(OrderV1("C", 5))
    seen: list[Order] = []
    assert market.orders.for_each(seen.append, limit=5) == 5
    assert {order.number for order in seen} == {1, 2, 3, 4, 5}
    assert all(type(order) is Order for order in seen)


def test_programs_of_the_old_version_see_what_is_written_in_both(market: Any) -> None:
    market.orders.add(Order("south", "A", 3))
    market.rows.add(Row("x", "a", 1))
    market.rows.add(Row("x", "b", 2))
    market.rows.remove(["x", "a"])
    assert market.old_orders.to_list() == [OrderV1("A", 3)]
    assert market.old_rows.to_list() == [RowV1("b", 2)]
    assert market.health().dual_write_mismatch == 0


def test_the_newest_row_of_a_key_counts_whichever_version_it_is_of(market: Any) -> None:
    market.old_rows.add_many([RowV1("a", 1), RowV1("b", 1), RowV1("c", 1)])
    market.clock.advance("1s")
    market.rows.add(Row("x", "a", 2))
    market.clock.advance("1s")
    market.old_rows.add(RowV1("b", 3))
    market.old_rows.remove("c")
    assert market.rows.to_list() == [Row("x", "a", 2), Row("x", "b", 3)]
    market.clock.advance("1s")
    market.old_rows.remove("a")
    assert market.rows.to_list() == [Row("x", "b", 3)]


def test_programs_of_the_old_version_remove_rows_that_only_new_ones_have_written(market: Any) -> None:
    market.rows.add(Row("y", "a", 1))
    market.clock.advance("1s")
    assert market.old_rows.to_list() == [RowV1("a", 1)]
    market.old_rows.add(RowV1("a", 2))
    market.clock.advance("1s")
    market.old_rows.remove("a")
    # An upgrade knows nothing of the group y: for programs of the old version the row was x, a.
    assert market.rows.to_list() == [Row("y", "a", 1)]
    market.rows.add(Row("x", "b", 1))
    market.clock.advance("1s")
    market.old_rows.remove("b")
    assert market.rows.to_list() == [Row("y", "a", 1)]


def test_a_record_that_cannot_be_upgraded_is_one_that_cannot_be_read(market: Any) -> None:
    market.old_orders.add_many([OrderV1("A", 1), OrderV1("bad", 2), OrderV1("A", 3)])
    with pytest.raises(DataError, match=r"upgrade of OrderV1\(symbol='bad'.*fails: ValueError: no venue has it"):
        market.orders.to_list()
    assert [order.number for order in market.orders.to_list(unreadable="skip")] == [1, 3]


def test_dead_letters_hold_what_stands_in_the_old_topic_and_are_replayed_there(market: Any) -> None:
    market.old_orders.add_many([OrderV1("A", 1), OrderV1("bad", 2)])
    market.orders.add(Order("south", "B", 3))

    def handle(order: Order) -> None:
        if order.number == 1:
            raise ValueError("not today")

    assert market.orders.on_error(OnError.DEAD_LETTER).for_each(handle, timeout="1s") == 1
    letters = market.orders.dead_letters()
    assert sorted((letter.topic, letter.key) for letter in letters.to_list()) == [
        ("orders", b'{"symbol": "A"}'),
        ("orders", b'{"symbol": "bad"}'),
    ]
    assert letters.replay().done == 2
    assert sorted(order.number for order in market.old_orders.to_list()) == [1, 1, 2, 2, 3]


class Failing:
    """A log in which appends to one topic fail."""

    def __init__(self, log: Log, topic: str) -> None:
        self._log, self._topic = log, topic

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, writes: Any, fence: Any = None) -> Any:
        if any(write.topic == self._topic for write in writes):
            raise kandle.LogError(f"no {self._topic} today")
        return self._log.append(writes, fence)


@pytest.mark.parametrize("topic", ["orders", "orders_v2"])
def test_one_side_that_fails_does_not_stop_the_other(market: Any, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    opened = market._host.opened
    opened.log = Failing(opened.log, topic)
    market.orders.add(Order("north", "A", 3))
    market.orders.add_many([Order("north", "B", 4)])
    assert market.health().dual_write_mismatch == 2
    assert market.health().to_dict()["dual_write_mismatch"] == 2
    assert f"dual_write_mismatch: 1 records are not in topic {topic}: no {topic} today" in caplog.text
    # Whoever reads the new class misses nothing.
    assert sorted(order.number for order in market.orders.to_list()) == [3, 4]


def test_what_can_be_written_nowhere_is_an_error(market: Any) -> None:
    opened = market._host.opened
    opened.log = Failing(Failing(opened.log, "orders"), "orders_v2")
    with pytest.raises(kandle.LogError, match="no orders"):
        market.orders.add(Order("north", "A", 3))


def test_an_entity_that_says_no_version_has_no_header(market: Any) -> None:
    market.old_orders.add(OrderV1("A", 1))
    for message in market.old_orders.messages():
        assert message.headers == {}
        break


def test_the_configuration_has_settings_for_the_topics_of_both_versions() -> None:
    options = Options(topics={"orders": {"partitions": 5}, "orders_v2": {"partitions": 7}})
    entity = After(options).orders.entity
    assert (entity.former[0].partitions, entity.partitions) == (5, 7)


def test_both_versions_cannot_be_given_one_topic() -> None:
    class Same(Context):
        orders: EventSet[Order]

        def on_model_creating(self, model: kandle.ModelBuilder) -> None:
            model.entity(Order).topic("orders")

    with pytest.raises(ModelError, match="Order and OrderV1, a previous version of its key, have the same topic 'orders'"):
        Same.model()


def test_dead_letters_of_a_former_version_are_replayed_into_its_topic_or_handed_over_as_new_objects(tmp_path: Path) -> None:
    with opened(Before, tmp_path) as before:
        before.orders.add_many([OrderV1("A", 1), OrderV1("B", 2)])
    with opened(After, tmp_path) as after:

        def fail(order: Order) -> None:
            raise LookupError(order.symbol)

        assert after.orders.on_error(OnError.DEAD_LETTER).for_each(fail, limit=2) == 0
        letters = after.orders.dead_letters()
        assert sorted((letter.topic, letter.error) for letter in letters) == [("orders", "A"), ("orders", "B")]
        seen: list[Order] = []
        assert letters.where(key="A").replay(seen.append).done == 1
        assert seen == [Order("north", "A", 1)]
        assert letters.replay().done == 1
        assert sorted(order.number for order in after.orders.to_list()) == [1, 2, 2]
