"""Functions of arrays and maps, lambdas among their arguments, and those that choose among values."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from tests.ksqldb.simulator.errors import RowFailedError
from tests.ksqldb.simulator.values import text_of


def _distinct(items: list[Any]) -> list[Any]:
    return [item for position, item in enumerate(items) if item not in items[:position]]


def _sorted(items: list[Any], direction: str = "ASC") -> list[Any] | None:
    """In order, NULL at the end."""
    if direction.upper() not in ("ASC", "ASCENDING", "DESC", "DESCENDING"):
        return None
    known = sorted((item for item in items if item is not None), reverse=direction.upper().startswith("DESC"))
    return known + [None] * (len(items) - len(known))


def _filtered(items: Any, test: Callable[..., bool]) -> Any:
    if isinstance(items, dict):
        return {key: value for key, value in items.items() if _true(test(key, value))}
    return [item for item in items if _true(test(item))]


def _true(value: bool | None) -> bool:
    if value is None:
        raise RowFailedError("NULL in a condition")
    return value


def _transformed(items: Any, change: Callable[..., Any], values: Callable[..., Any] | None = None) -> Any:
    if values is not None:
        return {change(*entry): values(*entry) for entry in items.items()}
    return [change(item) for item in items]


def _reduced(items: Any, start: Any, merge: Callable[..., Any]) -> Any:
    """The start alone if there is no array or it is empty."""
    if start is None or items is None:
        return start
    if isinstance(items, dict):
        return reduce(lambda state, entry: merge(state, *entry), items.items(), start)
    return reduce(merge, items, start)


def _series(start: int, end: int, step: int | None = None) -> list[int]:
    step = step if step is not None else 1 if end >= start else -1
    if step == 0 or (end - start) * step < 0:
        raise RowFailedError("GENERATE_SERIES: the step leads away from the end, or nowhere")
    return list(range(start, end + (1 if step > 0 else -1), step))


def _extreme(choose: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    """The greatest or least of those that are not NULL."""

    def run(*values: Any) -> Any:
        known = [value for value in values if value is not None]
        return choose(known) if known else None

    return run


def _coalesced(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _joined(items: list[Any], separator: str = ",") -> str:
    return separator.join("null" if item is None else text_of(item) for item in items)


def _entries(entries: dict[str, Any], ordered: bool) -> list[dict[str, Any]]:
    pairs = sorted(entries.items()) if ordered else list(entries.items())
    return [{"K": key, "V": value} for key, value in pairs]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ARRAY_CONCAT": lambda left, right: left + right,
    "ARRAY_DISTINCT": _distinct,
    "ARRAY_EXCEPT": lambda left, right: [item for item in _distinct(left) if item not in right],
    "ARRAY_INTERSECT": lambda left, right: [item for item in _distinct(left) if item in right],
    "ARRAY_JOIN": _joined,
    "ARRAY_LENGTH": len,
    "ARRAY_MAX": lambda items: _extreme(max)(*items),
    "ARRAY_MIN": lambda items: _extreme(min)(*items),
    "ARRAY_SORT": _sorted,
    "ARRAY_UNION": lambda left, right: _distinct(left + right),
    "AS_MAP": lambda keys, values: dict(zip(keys, values, strict=False)),
    "ENTRIES": _entries,
    "FILTER": _filtered,
    "GENERATE_SERIES": _series,
    "MAP_KEYS": list,
    "MAP_UNION": lambda left, right: left | right,
    "MAP_VALUES": lambda entries: list(entries.values()),
    "SLICE": lambda items, first, last: items[max(first, 1) - 1 : max(last, 0)],
    "TRANSFORM": _transformed,
}
NULL_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ARRAY_CONTAINS": lambda items, wanted: items is not None and wanted in items,
    "ARRAY_REMOVE": lambda items, unwanted: None if items is None else [item for item in items if item != unwanted],
    "AS_VALUE": lambda value: value,
    "COALESCE": _coalesced,
    "GREATEST": _extreme(max),
    "IFNULL": _coalesced,
    "LEAST": _extreme(min),
    "NULLIF": lambda value, other: None if value == other else value,
    "REDUCE": _reduced,
}
