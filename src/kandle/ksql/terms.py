"""Pieces of expressions: text with the type that ksqlDB gives it, and what is known of NULL in it.

NULL in ksqlDB: a comparison with NULL is FALSE, and some functions skip NULL. Most other expressions with a NULL operand give an
error, which makes the *whole* expression around them NULL, so that a COALESCE or CASE around one gives NULL as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from kandle.ksql.types import BOOLEAN, KsqlType
from kandle.query.nodes import AnyNode, Node


class Shape(Enum):
    """What a condition is made of."""

    ATOM = "a name, a literal, a call"
    COMPARISON = "everything else"
    AND = "AND"
    OR = "OR"


@dataclass(frozen=True, slots=True)
class Condition:
    """Text that ksqlDB evaluates to TRUE or FALSE, never to NULL."""

    text: str
    shape: Shape = Shape.COMPARISON
    parts: tuple[Condition, ...] = ()
    """What is joined by AND or OR."""


TRUE = Condition("TRUE", Shape.ATOM)
FALSE = Condition("FALSE", Shape.ATOM)


def all_of(*conditions: Condition) -> Condition:
    """TRUE where all are; ksqlDB goes from left to right and stops at the first that is FALSE."""
    return _joined(Shape.AND, TRUE, FALSE, conditions)


def any_of(*conditions: Condition) -> Condition:
    """TRUE where one is; ksqlDB goes from left to right and stops at the first that is TRUE."""
    return _joined(Shape.OR, FALSE, TRUE, conditions)


def negated(condition: Condition) -> Condition:
    """TRUE where the condition is FALSE."""
    if condition in (TRUE, FALSE):
        return FALSE if condition == TRUE else TRUE
    return Condition(f"NOT {_operand(condition)}")


def _joined(shape: Shape, neutral: Condition, decisive: Condition, conditions: Iterable[Condition]) -> Condition:
    flat = (part for each in conditions for part in (each.parts if each.shape is shape else (each,)))
    parts = [part for part in dict.fromkeys(flat) if part != neutral]
    if decisive in parts:
        parts = parts[: parts.index(decisive) + 1]
    if not parts or parts[0] == decisive:
        return parts[0] if parts else neutral
    if len(parts) == 1:
        return parts[0]
    return Condition(f" {shape.value} ".join(map(_operand, parts)), shape, tuple(parts))


def _operand(condition: Condition) -> str:
    return condition.text if condition.shape is Shape.ATOM else f"({condition.text})"


class Level(IntEnum):
    """How strongly the parts of a text hold together."""

    SUM = 1
    PRODUCT = 2
    ATOM = 3


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that holds where a value is there, and its opposite."""

    holds: Condition
    fails: Condition


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a boolean is true, and where it is false; neither holds where it is NULL."""

    true: Condition
    false: Condition


@dataclass(frozen=True, slots=True)
class Term:
    """A value: its text, ksqlDB's type of it, whether it may be NULL.

    A *plain* term can stand anywhere: where it has no value it is NULL. One that is not gives an error in ksqlDB where it has no
    value, so it stands alone, in an operand of a term that is not plain either, or behind its checks.
    """

    text: str
    type: KsqlType
    nullable: bool
    level: Level = Level.ATOM
    plain: bool = True
    checks: tuple[Check, ...] = ()
    """In this order all hold exactly where the value is not NULL; without any, `text IS NOT NULL` says so."""
    truth: Truth | None = None
    """Of a boolean that is computed: where it is true and where false."""
    original: Term | None = None
    """Of a cast that loses nothing: the value before it."""
    literal: str = ""
    """Of a constant date, instant or bytes: the text that stands for it in a comparison."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where leaves of the tree are found, and what aggregates need: event time, the order of arrival, names of arguments."""

    columns: Mapping[Node, Term] = field(default_factory=dict)
    """Whole subtrees that are columns already; a column without an entry is referred to by its own name."""
    time: AnyNode | None = None
    """Event time, for aggregates that go by it."""
    sequence: Term | None = None
    """Order of arrival, a BIGINT such as ROWOFFSET: with it the last of several events of one time is the one that came last."""
    arguments: Mapping[AnyNode, str] = field(default_factory=dict)
    """The names `_a0`, `_a1`, .. of the arguments of aggregates."""


def checks_of(*terms: Term) -> tuple[Check, ...]:
    """What holds where all of the terms have a value, each once."""
    return tuple(dict.fromkeys(check for term in terms if term.nullable for check in term.checks or (_presence(term),)))


def _presence(term: Term) -> Check:
    shown = within(term, Level.ATOM)
    return Check(Condition(f"{shown} IS NOT NULL"), Condition(f"{shown} IS NULL"))


def known(*terms: Term) -> Condition:
    """Where all terms have a value."""
    return all_of(*(check.holds for check in checks_of(*terms)))


def unknown(*terms: Term) -> Condition:
    """Where one of the terms is NULL."""
    return any_of(*(check.fails for check in checks_of(*terms)))


def strict(text: str, kind: KsqlType, operands: Iterable[Term], level: Level = Level.ATOM) -> Term:
    """Text that has no value, or gives an error, where an operand is NULL."""
    terms = tuple(operands)
    nullable = any(term.nullable for term in terms)
    return Term(text, kind, nullable, level, plain=not nullable, checks=checks_of(*terms))


def guarded(text: str, kind: KsqlType, operands: Iterable[Term], level: Level = Level.ATOM) -> Term:
    """Text that would have another value than NULL where an operand is NULL, kept from being evaluated there."""
    return plain(strict(text, kind, operands, level))


def plain(term: Term) -> Term:
    """The value in a form that can stand anywhere."""
    if term.plain or not term.nullable:
        return term
    text = f"CASE WHEN {known(term).text} THEN {term.text} END"
    return Term(text, term.type, nullable=True, checks=term.checks)


def only_where(check: Check, term: Term) -> Term:
    """The term with one more check: ksqlDB gives an error where it does not hold."""
    checks = tuple(dict.fromkeys((*checks_of(term), check)))
    return Term(term.text, term.type, True, term.level, plain=False, checks=checks)


def within(term: Term, level: Level) -> str:
    """The text as an operand that must hold together at least so strongly."""
    return term.text if term.level >= level else f"({term.text})"


def truth_of(term: Term) -> Truth:
    """Where a boolean is true and where false."""
    if term.truth is not None:
        return term.truth
    if not term.nullable:
        true = Condition(term.text, Shape.ATOM)
        return Truth(true, negated(true))
    return Truth(Condition(f"{term.text} = TRUE"), Condition(f"{term.text} = FALSE"))


def boolean(truth: Truth, *, nullable: bool) -> Term:
    """A computed boolean: its condition, or where it may be NULL a CASE that gives TRUE, FALSE or NULL."""
    if truth.true in (TRUE, FALSE) and not nullable:
        return Term(truth.true.text, BOOLEAN, False, truth=truth)
    if not nullable:
        return Term(truth.true.text, BOOLEAN, False, Level.SUM, truth=truth)
    check = Check(any_of(truth.true, truth.false), negated(any_of(truth.true, truth.false)))
    text = f"CASE WHEN {truth.true.text} THEN TRUE WHEN {truth.false.text} THEN FALSE END"
    return Term(text, BOOLEAN, True, checks=(check,), truth=truth)
