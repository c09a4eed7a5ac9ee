"""The compiler of the query tree to expressions of ksqlDB: one visitor from nodes to terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kandle.errors import PlanError, QueryError
from kandle.ksql.conditions import CONDITIONS, holds
from kandle.ksql.constants import constant
from kandle.ksql.numbers import NUMBERS
from kandle.ksql.operators import call, call_of_plain, cast
from kandle.ksql.terms import (
    Check,
    Condition,
    Scope,
    Shape,
    Term,
    Truth,
    checks_of,
    guarded,
    negated,
    only_where,
    plain,
    truth_of,
)
from kandle.ksql.texts import TEXTS
from kandle.ksql.times import TIMES
from kandle.ksql.types import BIGINT, BOOLEAN, BYTES, DOUBLE, VARCHAR, KsqlType, RefusedError, column_type, quoted
from kandle.query.nodes import Aggregate, AnyNode, Call, Case, Cast, Column, Constant, Node, WindowBound, describe

Builder = Callable[[Call, Sequence[Term]], Term]


def _coalesce(node: Call, terms: Sequence[Term]) -> Term:
    return call_of_plain("COALESCE", *(cast(term, column_type(node.type)) for term in terms))


def _null_if(node: Call, terms: Sequence[Term]) -> Term:
    value, other = terms
    same = holds("=", value, other)
    return plain(only_where(Check(negated(same), same), value))


def _extreme(name: str) -> Builder:
    def build(node: Call, terms: Sequence[Term]) -> Term:
        kind = column_type(node.type)
        if kind == BYTES:
            raise RefusedError(
                'ksqlDB takes bytes for signed numbers when it orders them; use role "live" with f.max or f.min of each'
            )
        found = call(name, *(cast(term, kind) for term in terms))
        return guarded(found.text, kind, terms)

    return build


SCALARS: dict[str, Builder] = {
    **CONDITIONS,
    **NUMBERS,
    **TEXTS,
    **TIMES,
    "coalesce": _coalesce,
    "null_if": _null_if,
    "greatest": _extreme("GREATEST"),
    "least": _extreme("LEAST"),
}


SOURCE = Scope()
"""The scope of source events: columns by their own names."""

WINDOW_COLUMNS = {
    "start": Term("WINDOWSTART", BIGINT, nullable=False),
    "end": Term("WINDOWEND", BIGINT, nullable=False),
}


def term(node: AnyNode, scope: Scope = SOURCE) -> Term:
    """The value of a node, of exactly the type that a column of it has."""
    with naming(node):
        return cast(_visited(node, scope), column_type(node.type))


def condition(node: AnyNode, scope: Scope = SOURCE) -> str:
    """Text that is TRUE exactly where the node is true, and FALSE, never NULL, where it is false or NULL."""
    return truth_of(_visited(node, scope)).true.text


def _visited(node: AnyNode, scope: Scope) -> Term:
    """The value of a node, of the type that ksqlDB gives its text."""
    if node in scope.columns:
        return scope.columns[node]
    with naming(node):
        return _VISITORS[type(node)](node, scope)


@contextmanager
def naming(node: AnyNode) -> Iterator[None]:
    """What is refused is said of this expression."""
    try:
        yield
    except RefusedError as refusal:
        raise QueryError(f"{describe(node)}: {refusal}") from None


def _column(node: Column, scope: Scope) -> Term:
    return Term(quoted(node.name), column_type(node.type), node.nullable)


def _window_bound(node: WindowBound, scope: Scope) -> Term:
    return call("FROM_UNIXTIME", WINDOW_COLUMNS[node.bound])


def _aggregate(node: Aggregate, scope: Scope) -> Term:
    raise PlanError(f"{describe(node)} stands where no bucket is: aggregates belong in select and having")


def _call(node: Call, scope: Scope) -> Term:
    if node.function not in SCALARS:
        raise RefusedError(f"the compiler to ksqlDB has no function {node.function!r}")
    return SCALARS[node.function](node, [_visited(argument, scope) for argument in node.arguments])


def _case(node: Case, scope: Scope) -> Term:
    kind = column_type(node.type)
    conditions = [truth_of(_visited(branch.condition, scope)).true for branch in node.branches]
    results = [branch.value for branch in node.branches] + [node.otherwise]
    values = [plain(cast(_visited(result, scope), kind)) for result in results]
    shown = [value.text for value in values]
    if isinstance(node.otherwise, Constant) and node.otherwise.value is None:
        shown[-1] = ""
    whole = Term(_case_text(conditions, shown), kind, any(value.nullable for value in values))
    return _boolean_case(whole, conditions, [truth_of(value) for value in values]) if kind == BOOLEAN else whole


def _case_text(conditions: list[Condition], values: list[str]) -> str:
    *results, otherwise = values
    branches = (f"WHEN {condition.text} THEN {result}" for condition, result in zip(conditions, results, strict=True))
    return f"CASE {' '.join(branches)}{f' ELSE {otherwise}' if otherwise else ''} END"


def _boolean_case(whole: Term, conditions: list[Condition], values: list[Truth]) -> Term:
    true = Condition(_case_text(conditions, [value.true.text for value in values]), Shape.ATOM)
    false = Condition(_case_text(conditions, [value.false.text for value in values]), Shape.ATOM)
    return replace(whole, truth=Truth(true, false))


def _cast(node: Cast, scope: Scope) -> Term:
    return _as_type(_visited(node.argument, scope), node.argument, column_type(node.type))


def _as_type(value: Term, node: AnyNode, kind: KsqlType) -> Term:
    if kind == VARCHAR and value.type == BOOLEAN:
        return _text_of_boolean(value)
    if kind == VARCHAR and value.type == DOUBLE:
        raise RefusedError("ksqlDB writes floats in another way than we do (3.0E9); cast to Precision(precision, scale) first")
    if kind == VARCHAR and value.type != VARCHAR:
        # The text has the digits of the type.
        return cast(cast(value, column_type(node.type)), kind)
    return cast(value, kind)


def _text_of_boolean(value: Term) -> Term:
    truth = truth_of(value)
    rest = f"WHEN {truth.false.text} THEN 'false'" if value.nullable else "ELSE 'false'"
    text = f"CASE WHEN {truth.true.text} THEN 'true' {rest} END"
    return Term(text, VARCHAR, value.nullable, checks=checks_of(value))


_VISITORS: dict[type[Node], Callable[[Any, Scope], Term]] = {
    Column: _column,
    Constant: lambda node, scope: constant(node),
    WindowBound: _window_bound,
    Aggregate: _aggregate,
    Call: _call,
    Case: _case,
    Cast: _cast,
}
