"""Two versions of a key on a cluster: the codecs of both topics, loops over both, writing both, and the copy."""

# Annotations of these classes are looked up where they are declared, so they must not be texts.
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import kandle
from kandle import Context, EventSet, Key, TableSet, Timestamp
from kandle.context.context import state_of
from kandle.sets.rekeying import rekey
from kandle.sets.topic_pairs import entity_pair
from tests.kafka.summing import settings

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def application() -> Any:
    """Return a context with sets of both versions of a stream and of a table; no other test has its topics."""
    name = f"t{uuid4().hex[:8]}"

    @kandle.stream(f"{name}_orders", partitions=2)
    @dataclass(frozen=True)
    class OrderV1:
        symbol: Annotated[str, Key(0, normalize=str.upper)]
        number: int
        at: Annotated[datetime, Timestamp()] = NOON

    @kandle.stream(
        f"{name}_orders",
        partitions=3,
        key_version=2,
        previous=OrderV1,
        upgrade=lambda old: Order("north", old.symbol, old.number),
        dual_write=True,
    )
    @dataclass(frozen=True)
    class Order:
        venue: Annotated[str, Key(0)]
        symbol: Annotated[str, Key(1)]
        number: int
        at: Annotated[datetime, Timestamp()] = NOON

    @kandle.table(f"{name}_rows")
    @dataclass(frozen=True)
    class RowV1:
        name: Annotated[str, Key(0)]
        value: int

    @kandle.table(f"{name}_rows", key_version=2, previous=RowV1, upgrade=lambda old: Row("x", old.name, old.value))
    @dataclass(frozen=True)
    class Row:
        group: Annotated[str, Key(0)]
        name: Annotated[str, Key(1)]
        value: int

    sets = {"old_orders": EventSet[OrderV1], "orders": EventSet[Order], "old_rows": TableSet[RowV1], "rows": TableSet[Row]}
    cls: Any = type(f"App{name}", (Context,), {"__annotations__": sets})
    cls.OrderV1, cls.Order, cls.RowV1, cls.Row = OrderV1, Order, RowV1, Row
    return cls


def test_both_versions_are_read_and_written_and_copied(bootstrap: str) -> None:
    app = application()
    with app.open(**settings(bootstrap)) as market:
        market.old_orders.add_many([app.OrderV1("a", 1), app.OrderV1("b", 2)])
        market.orders.add(app.Order("south", "A", 3))
        assert sorted(order.number for order in market.old_orders.to_list("A")) == [1, 3]
        expected = [app.Order("north", "A", 1), app.Order("north", "B", 2), app.Order("south", "A", 3)]

        def listed() -> list[Any]:
            return sorted(market.orders.to_list(), key=lambda order: order.number)

        assert listed() == expected
        seen: list[Any] = []
        market.orders.for_each(seen.append, limit=3)
        assert sorted(seen, key=lambda order: order.number) == expected
        market.old_rows.add_many([app.RowV1("a", 1), app.RowV1("b", 1)])
        market.rows.add(app.Row("x", "c", 1))
        log, entities = state_of(market).log, market._model.entities
        for cls, count in ((app.Order, 2), (app.Row, 2)):
            result = rekey(log, entity_pair(entities[cls]))
            assert result.is_whole and (result.copied, result.new.records) == (count, count)
            assert rekey(log, entity_pair(entities[cls])).copied == 0
        market.old_rows.remove("b")
        assert rekey(log, entity_pair(entities[app.Row])).copied == 1
        assert listed() == expected
        assert market.rows.to_list() == [app.Row("x", "a", 1), app.Row("x", "c", 1)]
