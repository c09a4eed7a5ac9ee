"""Conditions in text: TRUE or FALSE, never NULL, joined with no more parentheses than a reader wants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


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
