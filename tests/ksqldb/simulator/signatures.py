"""The server's table of functions, and which signature a call meets."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.types import BASE_TYPES, NUMBERS, Type

TABLE = Path(__file__).with_name("functions.csv")
GENERICS = frozenset("TSRKV")


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters and result; `variadic` is the place of the parameter that may come any number of times."""

    parameters: tuple[Type, ...]
    result: Type
    variadic: int | None = None

    def spread(self, count: int) -> tuple[Type, ...] | None:
        """The parameters for so many arguments, or None."""
        if self.variadic is None:
            return self.parameters if len(self.parameters) == count else None
        extra = count - len(self.parameters) + 1
        before, after = self.parameters[: self.variadic], self.parameters[self.variadic + 1 :]
        return (*before, *(self.parameters[self.variadic],) * extra, *after) if extra >= 0 else None

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.parameters))})"


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    kind: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A signature with the parameters spread over the arguments and what the generic ones stand for."""

    signature: Signature
    parameters: tuple[Type, ...]
    bound: dict[str, Type]


@cache
def functions() -> dict[str, Function]:
    functions: dict[str, Function] = {}
    with TABLE.open(newline="") as lines:
        for row in csv.DictReader(lines):
            known = functions.get(row["name"])
            signatures = (*(known.signatures if known else ()), _signature(row["signature"]))
            functions[row["name"]] = Function(row["name"], row["kind"], signatures)
    return functions


def _signature(text: str) -> Signature:
    parameters, result = text.removeprefix("(").rsplit(")->", 1)
    names = _split(parameters)
    variadic = next((position for position, name in enumerate(names) if name.endswith("...")), None)
    return Signature(tuple(_parameter(name.removesuffix("...")) for name in names), _parameter(result), variadic)


def _split(text: str) -> list[str]:
    """Parts between the commas that are not inside of brackets."""
    parts, depth = [""], 0
    for position, sign in enumerate(text):
        arrow = sign == ">" and text[position - 1] == "="
        depth += (sign in "<(") - (sign in ">)" and not arrow)
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts if part.strip()]


def _parameter(text: str) -> Type:
    if text.startswith("LAMBDA"):
        inputs, result = text.removeprefix("LAMBDA (").split(") => ")
        return Type("LAMBDA", items=(*map(_parameter, _split(inputs)), _parameter(result)))
    if "<" not in text:
        return BASE_TYPES.get(text, Type(text))
    name, inner = text.removesuffix(">").split("<", 1)
    if name == "STRUCT":
        fields = dict(part.split(" ", 1) for part in _split(inner))
        return Type(name, items=tuple(map(_parameter, fields.values())), fields=tuple(fields))
    return Type(name, items=tuple(map(_parameter, _split(inner))))


def resolve(function: Function, arguments: Sequence[Type | None]) -> Match:
    """The signature of a call: the only one that fits as it is, else, for scalar functions, the only one after widening."""
    given = ", ".join("null" if kind is None else str(kind) for kind in arguments)
    for widening in (False, True) if function.kind == "scalar" else (False,):
        matches = [match for signature in function.signatures if (match := _match(signature, arguments, widening))]
        if len(matches) > 1:
            raise RefusedError(f"Function '{function.name}' cannot be resolved due to ambiguous method parameters ({given}).")
        if matches:
            return matches[0]
    choices = " ".join(f"{function.name}{signature}" for signature in function.signatures)
    raise RefusedError(f"Function '{function.name}' does not accept parameters ({given}). Valid alternatives are: {choices}")


def _match(signature: Signature, arguments: Sequence[Type | None], widening: bool) -> Match | None:
    parameters = signature.spread(len(arguments))
    if parameters is None:
        return None
    bound: dict[str, Type] = {}
    pairs = zip(parameters, arguments, strict=True)
    fits = all(argument is None or accepts(parameter, argument, bound, widening) for parameter, argument in pairs)
    return Match(signature, parameters, bound) if fits else None


def accepts(parameter: Type, argument: Type, bound: dict[str, Type], widening: bool) -> bool:
    """Whether an argument fits; binds generic types, which must be the same wherever they stand."""
    if parameter.name in GENERICS and not parameter.items:
        return argument.name not in ("LAMBDA", "INTERVAL UNIT") and bound.setdefault(parameter.name, argument) == argument
    if parameter.name == "ANY":
        return argument.name not in ("LAMBDA", "INTERVAL UNIT")
    if parameter.name == "LAMBDA":
        return argument.name == "LAMBDA" and len(argument.items) == len(parameter.items)
    if parameter.items:
        pairs = zip(parameter.items, argument.items, strict=False)
        return parameter.name == argument.name and all(accepts(*pair, bound, widening) for pair in pairs)
    if widening and argument.name in NUMBERS and parameter.name in NUMBERS:
        return NUMBERS.index(argument.name) <= NUMBERS.index(parameter.name)
    return argument.name == parameter.name


def substituted(kind: Type, bound: dict[str, Type]) -> Type:
    """A parameter's or result's type with the generic ones replaced."""
    if kind.name in GENERICS and not kind.items:
        if kind.name not in bound:
            raise RefusedError("Can't infer a type of null. Please explicitly cast it to a required type")
        return bound[kind.name]
    return Type(kind.name, kind.precision, kind.scale, tuple(substituted(item, bound) for item in kind.items), kind.fields)
