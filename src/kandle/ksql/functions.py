"""The functions of ksqlDB 7.4 and their signatures, read from functions.csv.

Every call in a program is checked against them: a call that ksqlDB would refuse is refused when the model is
built.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from kandle.ksql.terms import RefusedError
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
    array,
    decimal,
    mapping,
)

WIDER = {"INTEGER": ("BIGINT", "DECIMAL", "DOUBLE"), "BIGINT": ("DECIMAL", "DOUBLE"), "DECIMAL": ("DOUBLE",)}
"""The types to which ksqlDB widens an argument of a scalar function; it widens no arguments of aggregates."""

_TYPES = {kind.name: kind for kind in (BOOLEAN, INTEGER, BIGINT, DOUBLE, VARCHAR, BYTES, DATE, TIMESTAMP)}
_TYPES["INT"] = INTEGER
_DECIMAL = decimal(0, 0)
_ROW = re.compile(r"\((?P<parameters>.*)\)->(?P<result>.*)")
_GENERIC = re.compile(r"[A-Z]")


@dataclass(frozen=True, slots=True)
class FunctionSignature:
    """A row of functions.csv.

    Attributes:
        text: The signature as it is written there.
        aggregate: Whether the function is an aggregate.
        parameters: Parameter types as they are written there.
        result: Type of the result as it is written there.
    """

    text: str
    aggregate: bool
    parameters: tuple[str, ...]
    result: str

    def parameters_for(self, count: int) -> tuple[str, ...] | None:
        """Return the parameters of a call with `count` arguments; None if it cannot have so many."""
        for position, parameter in enumerate(self.parameters):
            if parameter.endswith("..."):
                repeated = count - len(self.parameters) + 1
                kind = (parameter.removesuffix("..."),) * repeated
                return None if repeated < 0 else (*self.parameters[:position], *kind, *self.parameters[position + 1 :])
        return self.parameters if len(self.parameters) == count else None


@functools.cache
def function_table() -> dict[str, tuple[FunctionSignature, ...]]:
    """Return the signatures of all functions by name."""
    signatures: dict[str, tuple[FunctionSignature, ...]] = {}
    text = files("kandle.ksql").joinpath("functions.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        signatures[row["name"]] = (*signatures.get(row["name"], ()), _signature(row))
    return signatures


def _signature(row: dict[str, str]) -> FunctionSignature:
    match = _ROW.fullmatch(row["signature"])
    assert match is not None, row
    parameters = tuple(_split(match["parameters"]))
    return FunctionSignature(row["signature"], row["kind"] == "aggregate", parameters, match["result"])


def _split(text: str) -> Iterator[str]:
    """Yield the parts between commas outside of brackets."""
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


def result_type(name: str, arguments: Sequence[KsqlType]) -> KsqlType:
    """Return the type of a call.

    Args:
        name: Name of the function.
        arguments: Types of the arguments.

    Raises:
        RefusedError: If ksqlDB has no signature for these arguments, or several; the message lists the
            signatures.
    """
    matches = [(cost, result) for signature in function_table().get(name, ()) for cost, result in _matches(signature, arguments)]
    exact = [result for cost, result in matches if cost == 0]
    possible = exact or [result for _, result in matches]
    if len(set(possible)) == 1 and (exact or len(matches) == 1):
        return possible[0]
    raise RefusedError(_refusal(name, arguments, ambiguous=bool(possible)))


def _refusal(name: str, arguments: Sequence[KsqlType], *, ambiguous: bool) -> str:
    signatures = ", ".join(f"{name}{signature.text}" for signature in function_table().get(name, ()))
    why = "cannot choose between its signatures for" if ambiguous else "does not take"
    shown = ", ".join(map(str, arguments))
    return f"ksqlDB's {name} {why} ({shown}); it has {signatures or f'no function {name}'}; cast the arguments with f.cast"


def _matches(signature: FunctionSignature, arguments: Sequence[KsqlType]) -> Iterator[tuple[int, KsqlType]]:
    """Yield the number of widened arguments and the result type, if the signature accepts the arguments."""
    parameters = signature.parameters_for(len(arguments))
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
    """Return 0 for an argument of the parameter's type, 1 for one that is widened to it, else None."""
    if parameter == "ANY" or parameter.startswith("LAMBDA"):
        return 0
    if _GENERIC.fullmatch(parameter):
        return 0 if bound.setdefault(parameter, argument) == argument else None
    if parameter.startswith("ARRAY<") and argument.name == "ARRAY":
        return _widened(parameter[len("ARRAY<") : -1], argument.elements[0], bound)
    if parameter == "DECIMAL" or parameter in _TYPES:
        name = "DECIMAL" if parameter == "DECIMAL" else _TYPES[parameter].name
        return 0 if name == argument.name else (1 if name in WIDER.get(argument.name, ()) else None)
    return None


def _result(signature: FunctionSignature, arguments: Sequence[KsqlType], bound: dict[str, KsqlType]) -> KsqlType:
    if signature.result == "DECIMAL":
        return next((argument for argument in arguments if argument.is_decimal), _DECIMAL)
    return _type_of(signature.result, bound)


def _type_of(text: str, bound: dict[str, KsqlType]) -> KsqlType:
    if text.startswith("ARRAY<"):
        return array(_type_of(text[len("ARRAY<") : -1], bound))
    if text.startswith("MAP<"):
        key, value = _split(text[len("MAP<") : -1])
        return mapping(_type_of(key, bound), _type_of(value, bound))
    return bound.get(text) or _TYPES.get(text) or KsqlType(text)
