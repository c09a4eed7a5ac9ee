"""Operators, casts and calls of ksqlDB on terms, with the types that it gives them."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

from kandle.ksql.terms import Condition, Level, Term, plain, strict, within
from kandle.ksql.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    INTEGER,
    TIMESTAMP,
    VARCHAR,
    KsqlType,
    RefusedError,
    array,
    decimal,
    mapping,
)

WIDER = {"INTEGER": ("BIGINT", "DECIMAL", "DOUBLE"), "BIGINT": ("DECIMAL", "DOUBLE"), "DECIMAL": ("DOUBLE",)}
"""What a scalar function's argument is widened to by ksqlDB itself; arguments of aggregates never are."""

_NAMES = {kind.name: kind for kind in (BOOLEAN, INTEGER, BIGINT, DOUBLE, VARCHAR, BYTES, DATE, TIMESTAMP)}
_NAMES["INT"] = INTEGER
_DECIMAL = decimal(0, 0)
_ROW = re.compile(r"\((?P<parameters>.*)\)->(?P<result>.*)")
_GENERIC = re.compile(r"[A-Z]")


@dataclass(frozen=True, slots=True)
class Signature:
    """One row of the table: parameter types as they are written there."""

    text: str
    aggregate: bool
    parameters: tuple[str, ...]
    result: str

    def spread(self, count: int) -> tuple[str, ...] | None:
        """The parameters of a call with so many arguments, a variadic one repeated."""
        for position, parameter in enumerate(self.parameters):
            if parameter.endswith("..."):
                repeated = count - len(self.parameters) + 1
                kind = (parameter.removesuffix("..."),) * repeated
                return None if repeated < 0 else (*self.parameters[:position], *kind, *self.parameters[position + 1 :])
        return self.parameters if len(self.parameters) == count else None


def _split(text: str) -> Iterator[str]:
    """The parts between commas that stand in no brackets."""
    depth, part = 0, ""
    for character in text.replace("=>", "\0"):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += character
    if part.strip():
        yield part.strip()


def _signature(row: dict[str, str]) -> Signature:
    found = _ROW.fullmatch(row["signature"])
    assert found is not None, row
    return Signature(row["signature"], row["kind"] == "aggregate", tuple(_split(found["parameters"])), found["result"])


@functools.cache
def table() -> dict[str, tuple[Signature, ...]]:
    """All functions of ksqlDB 7.4 by name."""
    every: dict[str, tuple[Signature, ...]] = {}
    text = files("kandle.ksql").joinpath("functions.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        every[row["name"]] = (*every.get(row["name"], ()), _signature(row))
    return every


def accepted(name: str, arguments: Sequence[KsqlType]) -> KsqlType:
    """The type of a call; an error names the function and its signatures if ksqlDB would refuse it."""
    found = [(cost, result) for signature in table().get(name, ()) for cost, result in _matches(signature, arguments)]
    exact = [result for cost, result in found if cost == 0]
    possible = exact or [result for _, result in found]
    if len(set(possible)) == 1 and (exact or len(found) == 1):
        return possible[0]
    raise RefusedError(_refusal(name, arguments, ambiguous=bool(possible)))


def _refusal(name: str, arguments: Sequence[KsqlType], *, ambiguous: bool) -> str:
    signatures = ", ".join(f"{name}{signature.text}" for signature in table().get(name, ())) or f"no function {name}"
    why = "cannot choose between its signatures for" if ambiguous else "does not take"
    return f"ksqlDB's {name} {why} ({', '.join(map(str, arguments))}); it has {signatures}; cast the arguments"


def _matches(signature: Signature, arguments: Sequence[KsqlType]) -> Iterator[tuple[int, KsqlType]]:
    """The number of widened arguments and the type of the result, if the signature accepts the arguments."""
    parameters = signature.spread(len(arguments))
    if parameters is None:
        return
    bound: dict[str, KsqlType] = {}
    cost = 0
    for parameter, argument in zip(parameters, arguments, strict=True):
        widened = _widened(parameter, argument, bound)
        if widened is None or (widened and signature.aggregate):
            return
        cost += widened
    yield cost, _result(signature, arguments, bound)


def _widened(parameter: str, argument: KsqlType, bound: dict[str, KsqlType]) -> int | None:
    """0 if the argument is of the parameter's type, 1 if it becomes so by widening, else None."""
    if parameter == "ANY" or parameter.startswith("LAMBDA"):
        return 0
    if _GENERIC.fullmatch(parameter):
        return 0 if bound.setdefault(parameter, argument) == argument else None
    if parameter.startswith("ARRAY<") and argument.name == "ARRAY":
        return _widened(parameter[len("ARRAY<") : -1], argument.elements[0], bound)
    if parameter == "DECIMAL" or parameter in _NAMES:
        name = "DECIMAL" if parameter == "DECIMAL" else _NAMES[parameter].name
        return 0 if name == argument.name else (1 if name in WIDER.get(argument.name, ()) else None)
    return None


def _result(signature: Signature, arguments: Sequence[KsqlType], bound: dict[str, KsqlType]) -> KsqlType:
    if signature.result == "DECIMAL":
        return next((argument for argument in arguments if argument.is_decimal), _DECIMAL)
    return _kind(signature.result, bound)


def _kind(text: str, bound: dict[str, KsqlType]) -> KsqlType:
    if text.startswith("ARRAY<"):
        return array(_kind(text[len("ARRAY<") : -1], bound))
    if text.startswith("MAP<"):
        key, value = _split(text[len("MAP<") : -1])
        return mapping(_kind(key, bound), _kind(value, bound))
    return bound.get(text) or _NAMES.get(text) or KsqlType(text)


LEVELS = {"+": Level.SUM, "-": Level.SUM, "*": Level.PRODUCT, "/": Level.PRODUCT, "%": Level.PRODUCT}
DIGITS = {"INTEGER": decimal(10, 0), "BIGINT": decimal(19, 0)}
LEAST_SCALE = 6
"""Digits behind the point that a quotient of decimals has at least."""

CASTS = {
    "INTEGER": ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR"),
    "BIGINT": ("INTEGER", "DOUBLE", "DECIMAL", "VARCHAR"),
    "DOUBLE": ("INTEGER", "BIGINT", "DECIMAL", "VARCHAR"),
    "DECIMAL": ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "VARCHAR"),
    "VARCHAR": ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "BOOLEAN", "TIMESTAMP"),
    "TIMESTAMP": ("VARCHAR", "DATE"),
    "DATE": ("TIMESTAMP",),
}


def digits(kind: KsqlType) -> KsqlType:
    """The decimal type of an exact number."""
    return DIGITS.get(kind.name, kind)


def arithmetic(operator: str, left: Term, right: Term) -> Term:
    """left operator right; NULL or an error where an operand is NULL or a divisor of exact numbers 0."""
    level = LEVELS[operator]
    kind = arithmetic_type(operator, left.type, right.type)
    # Operators of one level are read from left to right.
    text = f"{within(left, level)} {operator} {within(right, Level(level + 1))}"
    return strict(text, kind, (left, right), level)


def arithmetic_type(operator: str, left: KsqlType, right: KsqlType) -> KsqlType:
    """The type that ksqlDB gives a sum, product, quotient or remainder."""
    if not (left.is_number and right.is_number):
        raise RefusedError(f"ksqlDB has no {left} {operator} {right}")
    if DOUBLE in (left, right):
        return DOUBLE
    if not (left.is_decimal or right.is_decimal):
        return BIGINT if BIGINT in (left, right) else INTEGER
    return _DECIMAL_TYPES[operator](digits(left), digits(right))


def _sum_type(left: KsqlType, right: KsqlType) -> KsqlType:
    scale = max(left.scale, right.scale)
    return decimal(max(left.whole, right.whole) + scale + 1, scale)


def _product_type(left: KsqlType, right: KsqlType) -> KsqlType:
    return decimal(left.precision + right.precision + 1, left.scale + right.scale)


def _quotient_type(left: KsqlType, right: KsqlType) -> KsqlType:
    scale = max(LEAST_SCALE, left.scale + right.precision + 1)
    return decimal(left.whole + right.scale + scale, scale)


def _remainder_type(left: KsqlType, right: KsqlType) -> KsqlType:
    scale = max(left.scale, right.scale)
    return decimal(min(left.whole, right.whole) + scale, scale)


_DECIMAL_TYPES = {"+": _sum_type, "-": _sum_type, "*": _product_type, "/": _quotient_type, "%": _remainder_type}


def negative(term: Term) -> Term:
    """The number with the other sign."""
    return strict(f"-{within(term, Level.ATOM)}", term.type, (term,), Level.SUM)


def joined(left: Term, right: Term) -> Term:
    """Two texts, one after the other; a NULL operand would become the text `null`."""
    text = f"{within(left, Level.SUM)} + {within(right, Level.PRODUCT)}"
    return strict(text, VARCHAR, (left, right), Level.SUM)


def cast(term: Term, kind: KsqlType) -> Term:
    """The value as another type, where it is not of that type already; NULL of NULL."""
    if term.type == kind:
        return term
    if kind.name not in CASTS.get(term.type.name, ()):
        raise RefusedError(f"ksqlDB cannot cast {term.type} to {kind}")
    if term.original is not None and keeps_all(term.original.type, kind):
        return cast(term.original, kind)
    result = strict(f"CAST({term.text} AS {kind})", kind, (term,))
    original = term if kind.is_decimal and digits(term.type).scale == kind.scale else None
    return replace(result, plain=term.plain, original=original)


def keeps_all(source: KsqlType, target: KsqlType) -> bool:
    """Whether a decimal type has all digits behind the point of another exact one."""
    return target.is_decimal and digits(source).scale <= target.scale


def null(kind: KsqlType) -> Term:
    """NULL of a type."""
    return Term(f"CAST(NULL AS {kind})", kind, nullable=True)


def call(name: str, *arguments: Term) -> Term:
    """A call that gives NULL, or an error, where an argument is NULL; refused if ksqlDB has no such signature."""
    kind = accepted(name, [argument.type for argument in arguments])
    return strict(f"{name}({', '.join(argument.text for argument in arguments)})", kind, arguments)


def call_of_plain(name: str, *arguments: Term) -> Term:
    """A call that is itself defined for NULL, such as COALESCE; it may be NULL where all arguments may."""
    safe = [plain(argument) for argument in arguments]
    kind = accepted(name, [argument.type for argument in safe])
    text = f"{name}({', '.join(argument.text for argument in safe)})"
    return Term(text, kind, all(argument.nullable for argument in safe))


def compared(operator: str, left: Term, right: Term) -> Condition:
    """left operator right, FALSE where one is NULL; the operands are plain or known."""
    numbers = left.type.is_number and right.type.is_number
    instants = {left.type, right.type} <= {TIMESTAMP, VARCHAR}
    if not (numbers or instants or left.type.name == right.type.name):
        raise RefusedError(f"ksqlDB cannot compare {left.type} with {right.type}")
    return Condition(f"{_side(left)} {operator} {_side(right)}")


def _side(term: Term) -> str:
    return term.text if term.type.is_number else within(term, Level.ATOM)
