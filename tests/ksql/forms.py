"""Every function and aggregate of the query language in KSQL: the tables of docs/ksql-functions.md.

`python -m tests.ksql.forms` prints them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kandle import Precision
from kandle import functions as f
from kandle.errors import QueryError
from kandle.ksql.aggregates import query_scope
from kandle.ksql.expressions import term
from kandle.ksql.partials import ROW_OFFSET
from kandle.ksql.terms import TermScope
from kandle.query.nodes import Aggregate, AnyNode, Call, Case, Cast, describe
from kandle.query.query import Projection
from tests.ksql.bars import BASE
from tests.ksql.rows import ROW, node

Forms = list[tuple[str, tuple[Any, ...]]]
INSTANT = datetime(2026, 3, 8, 6, 30, tzinfo=UTC)

OPERATORS: Forms = [
    ("+", (ROW.i + 1, ROW.n + ROW.i)),
    ("-", (ROW.n - ROW.i, -ROW.n)),
    ("*", (ROW.n * ROW.i,)),
    ("/", (ROW.n / ROW.i, ROW.n / 3, ROW.i / 2, ROW.d / ROW.e)),
    ("//", (ROW.i // 60, ROW.i // ROW.j, ROW.d // 2.0)),
    ("%", (ROW.i % 60, ROW.i % ROW.j, ROW.d % 2.0)),
    ("==, !=", (ROW.s == "a", ROW.u != "a", ROW.b == ROW.c, ROW.w == b"\xff")),
    ("<, <=, >, >=", (ROW.n > 0, ROW.m > 0, ROW.j + 1 < ROW.i, ROW.n <= ROW.m, ROW.time >= INSTANT)),
    ("&, \\|", ((ROW.n > 0) & ROW.b, (ROW.m > 0) | ROW.c)),
]

CONDITIONS: Forms = [
    ("is_null", (f.is_null(ROW.u), f.is_null(ROW.j + 1))),
    ("is_not_null", (f.is_not_null(ROW.u),)),
    ("coalesce", (f.coalesce(ROW.j, 0), f.coalesce(ROW.m, ROW.n))),
    ("null_if", (f.null_if(ROW.i, 0),)),
    ("not_", (f.not_(ROW.n > 0), f.not_(ROW.b), f.not_(ROW.m > 0))),
    ("is_in", (f.is_in(ROW.s, ["a", "b"]), f.is_in(ROW.time, [INSTANT]))),
    ("between", (f.between(ROW.n, 1, 2), f.between(ROW.time, INSTANT, ROW.time))),
    ("case, if_", (f.case((ROW.i > 9, "large"), (ROW.i > 5, "some"), otherwise="few"), f.if_(ROW.b, ROW.n, None))),
    ("greatest, least", (f.greatest(ROW.i, 0), f.least(ROW.n, ROW.m))),
]

TEXTS: Forms = [
    ("upper, lower, trim", (f.upper(ROW.s), f.lower(ROW.s), f.trim(ROW.s))),
    ("length", (f.length(ROW.s),)),
    ("substring", (f.substring(ROW.s, 2, 3), f.substring(ROW.s, ROW.i))),
    ("concat", (f.concat(ROW.s, "|", ROW.k), ROW.s + ROW.u)),
    ("replace", (f.replace(ROW.s, "a", "b"),)),
    ("starts_with", (f.starts_with(ROW.s, "TEST"), f.starts_with(ROW.s, "100%"), f.starts_with(ROW.s, ROW.k))),
    ("ends_with", (f.ends_with(ROW.s, "TEST"), f.ends_with(ROW.s, ROW.k))),
    ("contains", (f.contains(ROW.s, "TEST"), f.contains(ROW.s, ROW.k))),
    ("index_of", (f.index_of(ROW.s, "a"), f.index_of(ROW.u, "a"))),
    ("left_pad, right_pad", (f.left_pad(ROW.s, 8, "0"), f.right_pad(ROW.s, 8))),
]

NUMBERS: Forms = [
    ("abs", (f.abs(ROW.n),)),
    ("round", (f.round(ROW.n, 2), f.round(ROW.d, 2))),
    ("floor, ceil", (f.floor(ROW.n), f.ceil(ROW.d))),
    ("sign", (f.sign(ROW.n),)),
    ("sqrt", (f.sqrt(ROW.d),)),
    ("exp", (f.exp(ROW.d),)),
    ("ln, log10", (f.ln(ROW.d), f.log10(ROW.d))),
    ("power", (f.power(ROW.d, 2),)),
]

TIMES: Forms = [
    ("year, month, day", (f.year(ROW.time), f.month(ROW.time), f.day(ROW.time))),
    ("hour, minute, second", (f.hour(ROW.time, "America/New_York"), f.minute(ROW.time), f.second(ROW.time))),
    ("day_of_week", (f.day_of_week(ROW.time),)),
    ("to_date", (f.to_date(ROW.time), f.to_date(ROW.time, "Europe/Berlin"))),
    ("epoch_millis", (f.epoch_millis(ROW.time),)),
    ("from_epoch_millis", (f.from_epoch_millis(ROW.i),)),
    ("milliseconds_between", (f.milliseconds_between(ROW.time, ROW.t),)),
    ("add_milliseconds", (f.add_milliseconds(ROW.time, 500),)),
    ("format_timestamp", (f.format_timestamp(ROW.time, "%Y-%m-%dT%H:%M:%S.%3f"), f.format_timestamp(ROW.time, "%d %B"))),
]

CASTS: Forms = [
    ("cast(x, str)", (f.cast(ROW.n, str), f.cast(ROW.b, str), f.cast(ROW.d, str))),
    ("cast(x, int)", (f.cast(ROW.s, int),)),
    ("cast(x, float)", (f.cast(ROW.n, float),)),
    ("cast(x, Precision(p, s))", (f.cast(ROW.i, Precision(20, 4)), f.cast(ROW.d, Precision(18, 6)))),
]

AGGREGATES: Forms = [
    ("first", (f.first(ROW.n), f.first(ROW.m))),
    ("last", (f.last(ROW.n),)),
    ("first_by_offset, last_by_offset", (f.first_by_offset(ROW.n), f.last_by_offset(ROW.n))),
    ("min, max", (f.min(ROW.n), f.max(ROW.n), f.max(ROW.w))),
    ("sum", (f.sum(ROW.i), f.sum(ROW.n), f.sum(ROW.n * ROW.i))),
    ("count", (f.count(), f.count(ROW.u))),
    ("avg", (f.avg(ROW.i), f.avg(ROW.e), f.avg(ROW.n))),
    ("weighted_average", (f.weighted_average(ROW.n, ROW.i),)),
    ("count_distinct", (f.count_distinct(ROW.s), f.count_distinct(ROW.u))),
    ("stddev", (f.stddev(ROW.i), f.stddev(ROW.d))),
    ("stddev_population", (f.stddev_population(ROW.i), f.stddev_population(ROW.d))),
]

SECTIONS: dict[str, Forms] = {
    "Operators": OPERATORS,
    "NULL and conditions": CONDITIONS,
    "Text": TEXTS,
    "Numbers": NUMBERS,
    "Time": TIMES,
    "Types": CASTS,
    "Aggregates": AGGREGATES,
}


def form(expression: AnyNode) -> str:
    """Return the expression in KSQL, or why ksqlDB cannot compute it."""
    query = replace(BASE, projection=(Projection("x", expression),))
    try:
        return f"`` {term(expression, query_scope(query, TermScope(sequence=ROW_OFFSET))).text} ``"
    except QueryError as error:
        return f"refused: {str(error).split(': ', 1)[-1]}"


def used(expression: AnyNode) -> Iterator[str]:
    """Yield the names of all functions and aggregates in an expression."""
    if isinstance(expression, Call | Aggregate):
        yield expression.function
    if isinstance(expression, Case | Cast):
        yield type(expression).__name__
    for child in expression.children:
        yield from used(child)  # type: ignore[arg-type]


def table(forms: Forms) -> str:
    lines = ["| function | written | in ksqlDB |", "|---|---|---|"]
    for name, expressions in forms:
        for position, expression in enumerate(map(node, expressions)):
            shown = f"`{name}`" if position == 0 else ""
            lines.append(f"| {_cell(shown)} | {_cell(f'`{_written(expression)}`')} | {_cell(form(expression))} |")
    return "\n".join(lines)


def _written(expression: AnyNode) -> str:
    shown = describe(expression).replace("Row.", "t.").replace("datetime.datetime(", "datetime(")
    return shown.replace("datetime.timezone.utc", "utc").replace("Decimal(", "Precision(")


def _cell(text: str) -> str:
    return text.replace("\\|", "|").replace("|", "\\|")


def tables() -> str:
    return "\n\n".join(f"## {title}\n\n{table(forms)}" for title, forms in SECTIONS.items()) + "\n"


if __name__ == "__main__":
    print(tables(), end="")
