"""Versions of keys as they are declared: what a declaration must say, and the topic of each version."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

import kandle
from kandle import DataError, Key, ModelError
from kandle.model.entity import entity_model
from kandle.model.versions import check_version, downgraded, upgraded


@kandle.stream("orders")
@dataclass(frozen=True)
class OrderV1:
    symbol: Annotated[str, Key(0)]
    size: int


def order(topic: str = "orders", **settings: Any) -> type:
    upgrade: dict[str, Any] = {
        "key_version": 2,
        "previous": OrderV1,
        "upgrade": lambda old: Order("north", old.symbol, old.size),
    }

    @kandle.stream(topic, **(upgrade | settings))
    @dataclass(frozen=True)
    class Order:
        venue: Annotated[str, Key(0)]
        symbol: Annotated[str, Key(1)]
        size: int

    return Order


async def awaited(old: Any) -> Any:
    return old


def problem(make: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as error:
        check_version(entity_model(make()))
    return str(error.value)


def test_each_version_has_a_topic_of_its_own() -> None:
    assert entity_model(order()).topic == "orders_v2"
    assert entity_model(order("orders_by_venue")).topic == "orders_by_venue"
    assert [former.topic for former in entity_model(order()).former] == ["orders"]


def test_versions_form_a_line() -> None:
    second = order()

    @kandle.stream("orders", key_version=3, previous=second, upgrade=lambda old: Third(old.venue, old.symbol, "x"))
    @dataclass(frozen=True)
    class Third:
        venue: Annotated[str, Key(0)]
        symbol: Annotated[str, Key(1)]
        book: Annotated[str, Key(2)]

    third = entity_model(Third)
    assert [version.topic for version in (*third.former, third)] == ["orders", "orders_v2", "orders_v3"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"previous": None, "upgrade": None}, "key_version = 2 without a version before it; add previous=..."),
        ({"previous": None}, "upgrade = ... without previous=..."),
        ({"upgrade": None}, "previous = OrderV1 needs upgrade=..."),
        ({"key_version": None}, "previous = OrderV1 needs key_version=2 or more"),
        ({"key_version": 1}, "previous = OrderV1 needs key_version=2 or more"),
        ({"key_version": 0}, "key_version = 0; give 1, 2, 3 .."),
        ({"upgrade": "up"}, "upgrade = 'up' is no function"),
        ({"upgrade": lambda: None}, "upgrade = <lambda> cannot be called with one object: too many positional arguments"),
        ({"downgrade": awaited}, "downgrade = awaited would have to be awaited; write it without async"),
        ({"previous": "OrderV1"}, "previous = 'OrderV1' is no class; give the class with the former key itself"),
        ({"upgrade": lambda old: old}, "Order: upgrade makes a OrderV1 of a OrderV1; it must return a Order"),
        ({"downgrade": lambda new: new}, "Order: downgrade makes a Order of a Order; it must return a OrderV1"),
    ],
)
def test_what_a_declaration_lacks_is_named(settings: dict[str, Any], words: str) -> None:
    # What `previous=None` alone leaves out is named first.
    given = {"key_version": None} | settings if words.startswith("upgrade = ...") else settings
    assert words in problem(lambda: order(**given))


def test_the_previous_version_must_be_lower_and_of_the_same_kind() -> None:
    second = order()

    def again() -> type:
        @kandle.stream("others", key_version=2, previous=second, upgrade=lambda old: old)
        @dataclass(frozen=True)
        class Other:
            symbol: Annotated[str, Key(0)]

        return Other

    def table() -> type:
        @kandle.table("others", key_version=3, previous=second, upgrade=lambda old: old)
        @dataclass(frozen=True)
        class Other:
            symbol: Annotated[str, Key(0)]

        return Other

    assert "Other has key_version=2, and its previous version Order has 2: give Other key_version=3" in problem(again)
    assert "Other is a table, and its previous version Order a stream" in problem(table)


def test_writing_both_versions_needs_a_way_back() -> None:
    entity = entity_model(order(dual_write=True))
    check_version(entity)
    assert downgraded(entity, entity.cls("south", "A", 3)) == OrderV1("A", 3)

    @kandle.stream("orders", key_version=2, previous=OrderV1, upgrade=lambda old: Renamed(old.symbol, old.size), dual_write=True)
    @dataclass(frozen=True)
    class Renamed:
        code: Annotated[str, Key(0)]
        size: int

    assert "Renamed has no field symbol of type str; add downgrade=..." in problem(lambda: Renamed)


def test_a_function_that_fails_for_an_object_is_named_with_it() -> None:
    entity = entity_model(order(upgrade=lambda old: {}[old.symbol]))
    check_version(entity)
    with pytest.raises(DataError, match=r"upgrade of OrderV1\(symbol='A', size=1\) to Order fails: KeyError: 'A'"):
        upgraded(entity, OrderV1("A", 1))
