"""Entities in two versions of their key, of a copy that is killed and of one that is not, for the soak of `kandle rekey`."""

# Annotations of these classes are looked up where they are declared, so they must not be texts.
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import kandle
from kandle import Context, EventSet, Key, Precision, TableSet, Timestamp

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
OLD_PARTITIONS, NEW_PARTITIONS = 3, 4


def declared(name: str) -> Any:
    """Return a context with both versions of a stream and of a table, whose topics begin with a name."""

    @kandle.stream(f"{name}_orders", partitions=OLD_PARTITIONS)
    @dataclass(frozen=True)
    class OrderV1:
        symbol: Annotated[str, Key(0)]
        number: int
        price: Annotated[Decimal, Precision(18, 4)]
        note: str | None
        at: Annotated[datetime, Timestamp()]

    @kandle.stream(
        f"{name}_orders",
        partitions=NEW_PARTITIONS,
        key_version=2,
        previous=OrderV1,
        upgrade=lambda old: Order(f"venue{old.number % 5}", old.symbol, old.number, old.price, old.note, old.at),
    )
    @dataclass(frozen=True)
    class Order:
        venue: Annotated[str, Key(0)]
        symbol: Annotated[str, Key(1)]
        number: int
        price: Annotated[Decimal, Precision(18, 4)]
        note: str | None
        at: Annotated[datetime, Timestamp()]

    @kandle.table(f"{name}_stocks", partitions=OLD_PARTITIONS)
    @dataclass(frozen=True)
    class StockV1:
        symbol: Annotated[str, Key(0)]
        number: int

    @kandle.table(
        f"{name}_stocks",
        partitions=NEW_PARTITIONS,
        key_version=2,
        previous=StockV1,
        upgrade=lambda old: Stock(old.symbol[-1], old.symbol, old.number),
    )
    @dataclass(frozen=True)
    class Stock:
        group: Annotated[str, Key(0)]
        symbol: Annotated[str, Key(1)]
        number: int

    sets = {
        "old_orders": EventSet[OrderV1], "orders": EventSet[Order], "old_stocks": TableSet[StockV1], "stocks": TableSet[Stock]
    }  # fmt: skip
    context: Any = type(f"{name.title()}Market", (Context,), {"__annotations__": sets})
    context.OrderV1, context.Order, context.StockV1, context.Stock = OrderV1, Order, StockV1, Stock
    return context


Whole = declared("whole")
Killed = declared("killed")


def order(context: Any, number: int) -> Any:
    """Return one order of the former version."""
    note = None if number % 3 else f"note {number}"
    return context.OrderV1(f"s{number % 200}", number, Decimal(number) / 4, note, NOON + timedelta(milliseconds=number))
