"""Pieces of expressions: KSQL text with its type, and where it is NULL.

NULL in ksqlDB: a comparison with NULL is FALSE, and some functions skip NULL. Most other expressions with a
NULL operand raise an error inside ksqlDB, which makes the *whole* expression around them NULL: a COALESCE or
CASE around one is NULL as well. A term therefore carries guards, conditions under which its text can be
evaluated, and says whether it is safe without them.

    x * 2                                    not null-safe: an error where x is NULL
    CASE WHEN x IS NOT NULL THEN x * 2 END   null-safe: NULL where x is NULL
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from kandle.errors import QueryError
from kandle.ksql.types import BOOLEAN, KsqlType
from kandle.query.nodes import AnyNode, Call, Node


class RefusedError(QueryError):
    """A reason and a way out, without the expression; `expressions.naming_node` adds the expression."""


class ConditionShape(Enum):
    """The outermost operator of a condition."""

    ATOM = "a name, a literal, a call"
    COMPARISON = "everything else"
    AND = "AND"
    OR = "OR"


@dataclass(frozen=True, slots=True)
class Condition:
    """Text that ksqlDB evaluates to TRUE or FALSE, never to NULL.

    Attributes:
        parts: The conditions connected by AND or OR.
    """

    text: str
    shape: ConditionShape = ConditionShape.COMPARISON
    parts: tuple[Condition, ...] = ()


TRUE = Condition("TRUE", ConditionShape.ATOM)
FALSE = Condition("FALSE", ConditionShape.ATOM)


def all_of(*conditions: Condition) -> Condition:
    """Return a condition that is TRUE where all are; ksqlDB evaluates them in order up to the first FALSE."""
    return _connected(ConditionShape.AND, TRUE, FALSE, conditions)


def any_of(*conditions: Condition) -> Condition:
    """Return a condition that is TRUE where one is; ksqlDB evaluates them in order up to the first TRUE."""
    return _connected(ConditionShape.OR, FALSE, TRUE, conditions)


def negation(condition: Condition) -> Condition:
    """Return a condition that is TRUE where this one is FALSE."""
    if condition in (TRUE, FALSE):
        return FALSE if condition == TRUE else TRUE
    return Condition(f"NOT {_in_parentheses(condition)}")


def _connected(shape: ConditionShape, neutral: Condition, decisive: Condition, conditions: Iterable[Condition]) -> Condition:
    flat = (part for condition in conditions for part in (condition.parts if condition.shape is shape else (condition,)))
    parts = [part for part in dict.fromkeys(flat) if part != neutral]
    if decisive in parts:
        parts = parts[: parts.index(decisive) + 1]
    if not parts or parts[0] == decisive:
        return parts[0] if parts else neutral
    if len(parts) == 1:
        return parts[0]
    return Condition(f" {shape.value} ".join(map(_in_parentheses, parts)), shape, tuple(parts))


def _in_parentheses(condition: Condition) -> str:
    return condition.text if condition.shape is ConditionShape.ATOM else f"({condition.text})"


class Precedence(IntEnum):
    """How strongly the parts of an expression bind."""

    SUM = 1
    PRODUCT = 2
    ATOM = 3


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that holds where a term has a value, and its opposite."""

    holds: Condition
    fails: Condition


@dataclass(frozen=True, slots=True)
class Truth:
    """The conditions under which a boolean is true and false; neither holds where it is NULL."""

    true: Condition
    false: Condition


@dataclass(frozen=True, slots=True)
class Term:
    """A value as KSQL text.

    Attributes:
        text: KSQL text of the value.
        type: The type that ksqlDB gives the text.
        nullable: Whether the value may be NULL.
        precedence: How strongly the outermost operator binds.
        is_null_safe: Whether the text can stand anywhere and is NULL where there is no value. Otherwise it
            raises an error in ksqlDB where there is no value, so it must stand alone, inside another unsafe
            term, or behind its guards.
        guards: Conditions that, in this order, all hold exactly where the value is not NULL. Without guards,
            `text IS NOT NULL` says so.
        truth: Where a computed boolean is true and false.
        original: The value before a cast that loses nothing.
        literal: For a constant date, instant or bytes: the text that stands for it in a comparison.
    """

    text: str
    type: KsqlType
    nullable: bool
    precedence: Precedence = Precedence.ATOM
    is_null_safe: bool = True
    guards: tuple[Guard, ...] = ()
    truth: Truth | None = None
    original: Term | None = None
    literal: str = ""


ScalarBuilder = Callable[[Call, Sequence[Term]], Term]
"""Makes the term of a call of the query language from the call and the terms of its arguments."""


@dataclass(frozen=True, slots=True)
class TermScope:
    """What the nodes of an expression stand for at one point of a program.

    Attributes:
        columns: Terms of subtrees that are columns already. A column without an entry is referred to by its
            own name.
        time: Event time, for aggregates in the order of event time.
        sequence: Order of arrival, a BIGINT such as ROWOFFSET. It decides between events of the same time.
        arguments: Names `_a0`, `_a1`, .. of the arguments of aggregates.
    """

    columns: Mapping[Node, Term] = field(default_factory=dict)
    time: AnyNode | None = None
    sequence: Term | None = None
    arguments: Mapping[AnyNode, str] = field(default_factory=dict)


def guards_of(*terms: Term) -> tuple[Guard, ...]:
    """Return the distinct guards that hold where all terms have a value."""
    return tuple(dict.fromkeys(guard for term in terms if term.nullable for guard in term.guards or (_null_guard(term),)))


def _null_guard(term: Term) -> Guard:
    shown = operand(term, Precedence.ATOM)
    return Guard(Condition(f"{shown} IS NOT NULL"), Condition(f"{shown} IS NULL"))


def all_known(*terms: Term) -> Condition:
    """Return the condition that all terms have a value."""
    return all_of(*(guard.holds for guard in guards_of(*terms)))


def any_unknown(*terms: Term) -> Condition:
    """Return the condition that one of the terms is NULL."""
    return any_of(*(guard.fails for guard in guards_of(*terms)))


def strict_term(text: str, kind: KsqlType, operands: Iterable[Term], precedence: Precedence = Precedence.ATOM) -> Term:
    """Return a term that has no value, or raises an error in ksqlDB, where an operand is NULL."""
    terms = tuple(operands)
    nullable = any(term.nullable for term in terms)
    return Term(text, kind, nullable, precedence, is_null_safe=not nullable, guards=guards_of(*terms))


def guarded_term(text: str, kind: KsqlType, operands: Iterable[Term], precedence: Precedence = Precedence.ATOM) -> Term:
    """Return a term that is NULL where an operand is, although ksqlDB would give the text another value."""
    return null_safe(strict_term(text, kind, operands, precedence))


def null_safe(term: Term) -> Term:
    """Return the value as a null-safe term, behind its guards if necessary."""
    if term.is_null_safe or not term.nullable:
        return term
    text = f"CASE WHEN {all_known(term).text} THEN {term.text} END"
    return Term(text, term.type, nullable=True, guards=term.guards)


def with_guard(term: Term, guard: Guard) -> Term:
    """Return the term with one more guard, where ksqlDB raises an error unless it holds."""
    guards = tuple(dict.fromkeys((*guards_of(term), guard)))
    return Term(term.text, term.type, True, term.precedence, is_null_safe=False, guards=guards)


def operand(term: Term, precedence: Precedence) -> str:
    """Return the term's text as an operand, in parentheses if it binds less strongly than `precedence`."""
    return term.text if term.precedence >= precedence else f"({term.text})"


def truth_of(term: Term) -> Truth:
    """Return the conditions under which a boolean term is true and false."""
    if term.truth is not None:
        return term.truth
    if not term.nullable:
        true = Condition(term.text, ConditionShape.ATOM)
        return Truth(true, negation(true))
    return Truth(Condition(f"{term.text} = TRUE"), Condition(f"{term.text} = FALSE"))


def boolean_term(truth: Truth, *, nullable: bool) -> Term:
    """Return a computed boolean: its condition or, if it may be NULL, a CASE that is TRUE, FALSE or NULL."""
    if truth.true in (TRUE, FALSE) and not nullable:
        return Term(truth.true.text, BOOLEAN, False, truth=truth)
    if not nullable:
        return Term(truth.true.text, BOOLEAN, False, Precedence.SUM, truth=truth)
    either = any_of(truth.true, truth.false)
    text = f"CASE WHEN {truth.true.text} THEN TRUE WHEN {truth.false.text} THEN FALSE END"
    return Term(text, BOOLEAN, True, guards=(Guard(either, negation(either)),), truth=truth)
