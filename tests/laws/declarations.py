"""Contexts of the property tests: the same bars over entities with other key columns, and with and without a schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import kandle
from kandle import Context, EventSet, Gaps, Key, Precision, TableSet, Timestamp
from kandle import functions as f
from kandle.query.stages import Query

Amount = Annotated[Decimal | None, Precision(12, 3)]
KeyColumns = dict[str, type]

RESULTS = ("first", "highest", "lowest", "last", "total", "events")


def entities(columns: KeyColumns, *, value_first: bool = False) -> tuple[type, type, type]:
    """Event, schedule row and bar entities with these key columns, before or after the other fields."""
    keys: list[tuple[str, Any]] = [(name, Annotated[kind, Key(number)]) for number, (name, kind) in enumerate(columns.items())]
    values: list[tuple[str, Any]] = [("moment", Annotated[datetime, Timestamp()]), ("amount", Amount), ("quantity", int)]
    event = dataclasses.make_dataclass("Event", values + keys if value_first else keys + values)
    session_fields = [*keys, ("day", Annotated[date, Key(len(columns))]), ("opens", datetime), ("closes", datetime)]
    session = dataclasses.make_dataclass("Session", session_fields)
    results: list[tuple[str, Any]] = [(name, Amount) for name in RESULTS[:4]]
    results += [("total", int), ("events", int)]
    start = [("begins", Annotated[datetime, Timestamp(), Key(len(columns))])]
    bar = dataclasses.make_dataclass("Bar", results + start + keys if value_first else keys + start + results)
    return kandle.stream("events")(event), kandle.table("sessions")(session), kandle.stream("bars")(bar)


@dataclass(frozen=True)
class Declared:
    """A context and its parts."""

    context: type[Context]
    event: type
    session: type
    bar: type
    columns: tuple[str, ...]


def declared(
    columns: KeyColumns,
    tumbling: dict[str, Any],
    *,
    scheduled: bool = False,
    gaps: Gaps = Gaps.CARRY,
    value_first: bool = False,
) -> Declared:
    """A context whose bars hold first, highest, lowest and last amount, total quantity and number of events."""
    event, session, bar = entities(columns, value_first=value_first)
    names = tuple(columns)

    def query(q: Query) -> Any:
        source: Any = q.from_(event)
        if scheduled:
            source = source.based_on(session, open=lambda s: s.opens, close=lambda s: s.closes, day=lambda s: s.day)
        windowed = source.tumbling(lambda t: t.moment, gaps=gaps, **tumbling)
        return windowed.group_by(lambda t: tuple(getattr(t, name) for name in names)).select(_bar_of(bar, names))

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(bar).to_query(query)

    annotations = {"events": EventSet[event], "sessions": TableSet[session], "bars": EventSet[bar]}  # type: ignore[valid-type]
    body = {"__annotations__": annotations, "on_model_creating": on_model_creating}
    return Declared(type("Generated", (Context,), body), event, session, bar, names)


def _bar_of(bar: type, names: Sequence[str]) -> Callable[[Any, Any], Any]:
    return lambda t, w: bar(
        begins=w.start,
        first=f.first(t.amount),
        highest=f.max(t.amount),
        lowest=f.min(t.amount),
        last=f.last(t.amount),
        total=f.sum(t.quantity),
        events=f.count(),
        **{name: getattr(t, name) for name in names},
    )
