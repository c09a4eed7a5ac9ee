"""Aggregate functions: what each keeps, how a row changes it and what comes out. Rows come in the order of processing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.ksqldb.simulator.errors import UnreadError
from tests.ksqldb.simulator.types import BITS, DOUBLE, Type
from tests.ksqldb.simulator.values import EXACT, wrapped


@dataclass(frozen=True, slots=True)
class Fold:
    """`step(state, values)` gives the next state; rows whose first value is NULL are left out if `skip_null`."""

    start: Callable[[], Any]
    step: Callable[[Any, Sequence[Any]], Any]
    finish: Callable[[Any], Any] = lambda state: state
    skip_null: bool = True


class Accumulator:
    """A fold at work on one group."""

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self.state = fold.start()

    def add(self, values: Sequence[Any]) -> None:
        if not (self.fold.skip_null and values and values[0] is None):
            self.state = self.fold.step(self.state, values)

    @property
    def value(self) -> Any:
        return self.fold.finish(self.state)


def _nothing() -> None:
    return None


def _zero(kind: Type) -> Any:
    return 0.0 if kind == DOUBLE else 0 if kind.name in BITS else Decimal(0).scaleb(-kind.scale)


def _added(total: Any, value: Any, kind: Type) -> Any:
    """Whole numbers run over, and a decimal that no longer fits stops the query."""
    if kind == DOUBLE:
        return total + value
    if kind.name in BITS:
        return wrapped(total + value, BITS[kind.name])
    new_total = EXACT.add(total, value)
    if abs(new_total) >= Decimal(10) ** (kind.precision - kind.scale):
        raise OverflowError(f"Numeric field overflow: SUM does not fit into {kind}; the query starts again and again")
    return new_total


def _sum(kind: Type) -> Fold:
    """Of nothing it is 0."""
    return Fold(lambda: _zero(kind), lambda total, values: _added(total, values[0], kind))


def _count(kind: Type | None) -> Fold:
    return Fold(lambda: 0, lambda count, values: count + 1)


def _chosen(better: Callable[[Any, Any], bool]) -> Callable[[Type], Fold]:
    """MIN and MAX: the first of equals stays."""
    return lambda kind: Fold(_nothing, lambda best, values: values[0] if best is None or better(values[0], best) else best)


def _average(kind: Type) -> Fold:
    """The sum is one of its type, and runs over as it does."""
    return Fold(
        lambda: (_zero(kind), 0),
        lambda state, values: (_added(state[0], values[0], kind), state[1] + 1),
        lambda state: float(state[0]) / state[1] if state[1] else 0.0,
    )


def _deviation(finish: Callable[[float], float]) -> Callable[[Type], Fold]:
    """Something of the variance, kept as (sum, count, squares) by the method of Youngs and Cramer; of less than two it is 0."""

    def fold(kind: Type) -> Fold:
        def step(state: tuple[Any, int, float], values: Sequence[Any]) -> tuple[Any, int, float]:
            total, count, squares = state[0], state[1] + 1, state[2]
            delta = float(values[0] * count - (total + values[0]))
            added = delta * delta / (count * (count - 1)) if count > 1 else 0.0
            return _added(total, values[0], kind), count, squares + added

        return Fold(lambda: (_zero(kind), 0, 0.0), step, lambda state: finish(state[2] / (state[1] - 1)) if state[1] > 1 else 0.0)

    return fold


def _gathered(finish: Callable[[list[Any]], Any], skip_null: bool = True) -> Callable[..., Fold]:
    """All first values in order, with something made of them."""
    return lambda kind, *options: Fold(list, lambda items, values: [*items, values[0]], finish, skip_null)


def _distinct(items: list[Any]) -> list[Any]:
    return [item for position, item in enumerate(items) if item not in items[:position]]


def _by_offset(newest: bool) -> Callable[..., Fold]:
    """EARLIEST and LATEST_BY_OFFSET: (x), (x, n), (x, ignore nulls), (x, n, ignore nulls)."""

    def fold(kind: Type, *options: Any) -> Fold:
        count = next((option for option in options if not isinstance(option, bool)), None)
        skip_null = next((option for option in options if isinstance(option, bool)), True)
        length = count or 1

        def step(items: list[Any], values: Sequence[Any]) -> list[Any]:
            return [*items, values[0]][-length:] if newest else [*items, values[0]][:length]

        return Fold(list, step, lambda items: items if count else items[0] if items else None, skip_null)

    return fold


def _top(kind: Type, *options: Any) -> Fold:
    """TOPK: by the first value, the first of equals before the others; with more values structs of all."""
    length = options[-1]

    def step(rows: list[Sequence[Any]], values: Sequence[Any]) -> list[Sequence[Any]]:
        return sorted([*rows, values], key=lambda row: row[0], reverse=True)[:length]

    def finish(rows: list[Sequence[Any]]) -> list[Any]:
        names = ["sort_col", *(f"col{position}" for position in range(len(rows[0]) - 2))] if rows else []
        return [dict(zip(names, row, strict=False)) if len(names) > 1 else row[0] for row in rows]

    return Fold(list, step, finish)


def _top_distinct(kind: Type, length: int) -> Fold:
    return Fold(list, lambda items, values: sorted({*items, values[0]}, reverse=True)[:length])


def _histogram(kind: Type) -> Fold:
    return Fold(dict, lambda counts, values: counts | {values[0]: counts.get(values[0], 0) + 1})


def _correlation(kind: Type) -> Fold:
    """Of the pairs without NULL."""

    def finish(pairs: list[Sequence[Any]]) -> float:
        columns = list(zip(*pairs, strict=True))
        if len(pairs) < 2 or any(len(set(column)) == 1 for column in columns):
            return math.nan
        return statistics.correlation(*columns)

    return Fold(list, lambda pairs, values: pairs if None in values else [*pairs, values], finish)


def _only(items: list[Any]) -> Any:
    """ATTR: the value if all are the same."""
    return items[0] if items and all(item == items[0] for item in items) else None


FOLDS: dict[str, Callable[..., Fold]] = {
    "ATTR": _gathered(_only, skip_null=False),
    "AVG": _average,
    "COLLECT_LIST": _gathered(list, skip_null=False),
    "COLLECT_SET": _gathered(_distinct, skip_null=False),
    "CORRELATION": _correlation,
    "COUNT": _count,
    "COUNT_DISTINCT": _gathered(lambda items: len(_distinct(items))),  # the server estimates, within 1 %
    "EARLIEST_BY_OFFSET": _by_offset(newest=False),
    "HISTOGRAM": _histogram,
    "LATEST_BY_OFFSET": _by_offset(newest=True),
    "MAX": _chosen(lambda value, best: value > best),
    "MIN": _chosen(lambda value, best: value < best),
    "STDDEV_SAMP": _deviation(lambda variance: variance),  # it is the variance
    "STDDEV_SAMPLE": _deviation(math.sqrt),
    "SUM": _sum,
    "TOPK": _top,
    "TOPKDISTINCT": _top_distinct,
}

STREAM_ONLY = frozenset(("MIN", "MAX", "EARLIEST_BY_OFFSET", "LATEST_BY_OFFSET", "TOPK", "TOPKDISTINCT", "COLLECT_SET"))
"""These cannot take a row back, which a table as source would ask for."""


def starter(name: str, kind: Type | None, options: Sequence[Any]) -> Callable[[], Accumulator]:
    """A function that begins the aggregate for a group; options are the literal arguments."""
    if name not in FOLDS:
        raise UnreadError(f"the values of {name} are not known to this reading")
    fold = FOLDS[name](kind, *options)
    return lambda: Accumulator(fold)
