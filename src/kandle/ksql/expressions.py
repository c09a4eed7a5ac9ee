"""The compiler of expressions: nodes of the query tree become terms of ksqlDB.

`term` gives the value of a node, for a projection; `condition` the text of a boolean, for WHERE and HAVING.
One visitor for each type of node; calls go through one table, SCALARS, by the name of the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kandle.errors import PlanError, QueryError
from kandle.ksql.conditions import CONDITIONS, safe_comparison
from kandle.ksql.numbers import NUMBERS
from kandle.ksql.operators import call, cast, constant, null_safe_call
from kandle.ksql.terms import (
    Condition,
    ConditionShape,
    Guard,
    RefusedError,
    ScalarBuilder,
    Term,
    TermScope,
    Truth,
    guarded_term,
    guards_of,
    negation,
    null_safe,
    truth_of,
    with_guard,
)
from kandle.ksql.texts import TEXTS
from kandle.ksql.times import TIMES
from kandle.ksql.types import BIGINT, BOOLEAN, BYTES, DOUBLE, VARCHAR, KsqlType, column_type, quoted
from kandle.query.nodes import Aggregate, AnyNode, Call, Case, Cast, Column, Constant, Node, WindowBound, describe

SOURCE_SCOPE = TermScope()
"""The scope of source events: columns by their own names."""

WINDOW_COLUMNS = {
    "start": Term("WINDOWSTART", BIGINT, nullable=False),
    "end": Term("WINDOWEND", BIGINT, nullable=False),
}


def term(node: AnyNode, scope: TermScope = SOURCE_SCOPE) -> Term:
    """Return the value of a node, of exactly the type that its column has.

    Args:
        node: An expression of the query tree.
        scope: What its leaves stand for.

    Raises:
        QueryError: If ksqlDB cannot compute the expression; the message names it.
    """
    with naming_node(node):
        return cast(_visit(node, scope), column_type(node.type))


def condition(node: AnyNode, scope: TermScope = SOURCE_SCOPE) -> str:
    """Return text that is TRUE where the node is true, and FALSE, never NULL, everywhere else.

    Args:
        node: A boolean expression of the query tree.
        scope: What its leaves stand for.

    Raises:
        QueryError: If ksqlDB cannot compute the expression; the message names it.
    """
    return truth_of(_visit(node, scope)).true.text


@contextmanager
def naming_node(node: AnyNode) -> Iterator[None]:
    """Add the expression to the message of a RefusedError."""
    try:
        yield
    except RefusedError as refusal:
        raise QueryError(f"{describe(node)}: {refusal}") from None


def _visit(node: AnyNode, scope: TermScope) -> Term:
    """Return the value of a node, of the type that ksqlDB gives its text."""
    if node in scope.columns:
        return scope.columns[node]
    with naming_node(node):
        return _VISITORS[type(node)](node, scope)


def _column(node: Column, scope: TermScope) -> Term:
    return Term(quoted(node.name), column_type(node.type), node.nullable)


def _constant(node: Constant, scope: TermScope) -> Term:
    return constant(node)


def _window_bound(node: WindowBound, scope: TermScope) -> Term:
    return call("FROM_UNIXTIME", WINDOW_COLUMNS[node.bound])


def _aggregate(node: Aggregate, scope: TermScope) -> Term:
    raise PlanError(f"{describe(node)} is an aggregate outside of a bucket; use aggregates in select and having only")


def _call(node: Call, scope: TermScope) -> Term:
    if node.function not in SCALARS:
        raise RefusedError(f'kandle cannot write the function {node.function!r} in KSQL; set [engine] kind = "embedded"')
    return SCALARS[node.function](node, [_visit(argument, scope) for argument in node.arguments])


def _case(node: Case, scope: TermScope) -> Term:
    kind = column_type(node.type)
    conditions = [truth_of(_visit(branch.condition, scope)).true for branch in node.branches]
    results = [branch.value for branch in node.branches] + [node.otherwise]
    values = [null_safe(cast(_visit(result, scope), kind)) for result in results]
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
    true = Condition(_case_text(conditions, [value.true.text for value in values]), ConditionShape.ATOM)
    false = Condition(_case_text(conditions, [value.false.text for value in values]), ConditionShape.ATOM)
    return replace(whole, truth=Truth(true, false))


def _cast(node: Cast, scope: TermScope) -> Term:
    value, kind = _visit(node.argument, scope), column_type(node.type)
    if kind != VARCHAR or value.type == VARCHAR:
        return cast(value, kind)
    return _text_of(value, column_type(node.argument.type))


def _text_of(value: Term, kind: KsqlType) -> Term:
    """Return the text of a value of another type than VARCHAR; `kind` is the type of its column."""
    if value.type == BOOLEAN:
        return _text_of_boolean(value)
    if value.type == DOUBLE:
        raise RefusedError("ksqlDB writes floats in its own way, such as 3.0E9; cast to Precision(precision, scale) first")
    # The text has as many digits as the type.
    return cast(cast(value, kind), VARCHAR)


def _text_of_boolean(value: Term) -> Term:
    truth = truth_of(value)
    rest = f"WHEN {truth.false.text} THEN 'false'" if value.nullable else "ELSE 'false'"
    text = f"CASE WHEN {truth.true.text} THEN 'true' {rest} END"
    return Term(text, VARCHAR, value.nullable, guards=guards_of(value))


_VISITORS: dict[type[Node], Callable[[Any, TermScope], Term]] = {
    Column: _column,
    Constant: _constant,
    WindowBound: _window_bound,
    Aggregate: _aggregate,
    Call: _call,
    Case: _case,
    Cast: _cast,
}


def _coalesce(node: Call, terms: Sequence[Term]) -> Term:
    return null_safe_call("COALESCE", *(cast(term, column_type(node.type)) for term in terms))


def _null_if(node: Call, terms: Sequence[Term]) -> Term:
    value, other = terms
    same = safe_comparison("=", value, other)
    return null_safe(with_guard(value, Guard(negation(same), same)))


def _extreme(name: str) -> ScalarBuilder:
    """Return the builder of greatest or least."""

    def build(node: Call, terms: Sequence[Term]) -> Term:
        kind = column_type(node.type)
        if kind == BYTES:
            raise RefusedError(
                "ksqlDB compares bytes as signed numbers, so it would choose another value than kandle; "
                'keep the values in fields of their own, or set [engine] kind = "embedded"'
            )
        text = call(name, *(cast(term, kind) for term in terms)).text
        return guarded_term(text, kind, terms)

    return build


SCALARS: dict[str, ScalarBuilder] = {
    **CONDITIONS,
    **NUMBERS,
    **TEXTS,
    **TIMES,
    "coalesce": _coalesce,
    "null_if": _null_if,
    "greatest": _extreme("GREATEST"),
    "least": _extreme("LEAST"),
}
"""Builders of all functions of one row, by the function's name in the query language."""
