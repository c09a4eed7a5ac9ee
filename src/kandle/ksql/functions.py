"""ksqlDB's own table of functions, and which of their signatures accepts given types."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from kandle.ksql.refusal import RefusedError
from kandle.ksql.types import BIGINT, BOOLEAN, BYTES, DATE, DOUBLE, INTEGER, TIMESTAMP, VARCHAR, KsqlType, array, decimal, mapping

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
