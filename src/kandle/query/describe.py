"""Expressions as their writers wrote them, for messages and for `explain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kandle.query.nodes import Aggregate, Branch, Call, Case, Cast, Column, Constant, Node, WindowBound

OPERATORS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "modulo": "%",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "and": "&",
    "or": "|",
}


def describe(node: Node) -> str:
    """The expression as Python text, such as `f.max(Tick.bid) - f.min(Tick.bid)`."""
    return _DESCRIBERS[type(node)](node)


def _call(node: Call) -> str:
    if node.function in OPERATORS:
        left, right = (_operand(argument) for argument in node.arguments)
        return f"{left} {OPERATORS[node.function]} {right}"
    if node.function == "negate":
        return f"-{_operand(node.arguments[0])}"
    name = "not_" if node.function == "not" else node.function
    return f"f.{name}({', '.join(map(describe, node.arguments))})"


def _operand(node: Node) -> str:
    nested = isinstance(node, Call) and node.function in OPERATORS
    return f"({describe(node)})" if nested else describe(node)


def _case(node: Case) -> str:
    branches = ", ".join(map(describe, node.branches))
    return f"f.case({branches}, otherwise={describe(node.otherwise)})"


def _branch(node: Branch) -> str:
    return f"({describe(node.condition)}, {describe(node.value)})"


def _aggregate(node: Aggregate) -> str:
    return f"f.{node.function}({', '.join(map(describe, node.arguments))})"


_DESCRIBERS: dict[type[Node], Callable[[Any], str]] = {
    Column: lambda node: f"{node.entity}.{node.name}",
    Constant: lambda node: repr(node.value),
    WindowBound: lambda node: f"w.{node.bound}",
    Call: _call,
    Cast: lambda node: f"f.cast({describe(node.argument)}, {node.type})",
    Case: _case,
    Branch: _branch,
    Aggregate: _aggregate,
}
