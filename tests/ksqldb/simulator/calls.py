"""Calls of functions: which signature, which result, lambdas, and aggregates in the queries that may have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tests.ksqldb.simulator import listed, numeric, temporal, textual
from tests.ksqldb.simulator.aggregates import STREAM_ONLY, starter
from tests.ksqldb.simulator.code import RULES, Aggregation, Code, Column, Row, Scope, code_of, column_code, guarded
from tests.ksqldb.simulator.errors import RefusedError, UnreadError
from tests.ksqldb.simulator.nodes import Call, Field, Lambda, Literal, Node, Star, Unit
from tests.ksqldb.simulator.signatures import Function, Match, accepts, functions, resolve, substituted
from tests.ksqldb.simulator.types import BIGINT, Type, array, as_decimal, check_cast, decimal, struct, wider
from tests.ksqldb.simulator.values import cast

UNIT = Type("INTERVAL UNIT")
STRICT = numeric.FUNCTIONS | textual.FUNCTIONS | temporal.FUNCTIONS | listed.FUNCTIONS
"""Functions that give NULL if any argument is NULL."""
LENIENT = textual.NULL_FUNCTIONS | listed.NULL_FUNCTIONS
"""Functions that see NULL."""


def call(node: Call, scope: Scope) -> Code:
    known = functions().get(node.name)
    if known is None:
        raise RefusedError(f"Can't find any functions with the name '{node.name}'")
    if known.kind == "table":
        raise UnreadError(f"table functions such as {node.name}")
    return aggregate(known, node, scope) if known.kind == "aggregate" else scalar(known, node, scope)


def scalar(function: Function, node: Call, scope: Scope) -> Code:
    plain = [None if isinstance(argument, Lambda) else _argument(argument, scope) for argument in node.arguments]
    kinds = [code.type if code else _arity(argument) for code, argument in zip(plain, node.arguments, strict=True)]
    match = resolve(function, kinds)
    codes = [
        code or _lambda(argument, parameter, match, scope)
        for code, argument, parameter in zip(plain, node.arguments, match.parameters, strict=True)
    ]
    arguments = [_passed(*parts) for parts in zip(codes, node.arguments, match.parameters, strict=True)]
    return Code(result_type(function.name, match, kinds), _applied(function.name, arguments))


def _argument(node: Node, scope: Scope) -> Code:
    if isinstance(node, Unit):
        return Code(UNIT, lambda row: node.name)
    return code_of(node, scope)


def _arity(node: Node) -> Type:
    """A lambda before its types are known: so many parameters and a result."""
    assert isinstance(node, Lambda)
    return Type("LAMBDA", items=(Type("ANY"),) * (len(node.parameters) + 1))


def _lambda(node: Node, parameter: Type, match: Match, scope: Scope) -> Code:
    """The lambda as a function of its arguments; its result binds what the signature leaves open."""
    assert isinstance(node, Lambda)
    inputs = [substituted(kind, match.bound) for kind in parameter.items[:-1]]
    body = code_of(node.body, scope.with_variables(dict(zip(node.parameters, inputs, strict=True))))
    if not accepts(parameter.items[-1], body.known, match.bound, widening=False):
        raise RefusedError(
            f"Expected lambda to return {substituted(parameter.items[-1], match.bound)} but it returns {body.type}"
        )
    slots = [f"=> {name}" for name in node.parameters]
    return Code(parameter, lambda row: lambda *values: body.run({**row, **dict(zip(slots, values, strict=True))}))


def _passed(code: Code, node: Node, parameter: Type) -> Code:
    """An argument on its way: widened to the parameter's type; calls and fields among arguments fail alone."""
    source = code.type
    if source is not None and parameter.name in ("BIGINT", "DOUBLE", "DECIMAL") and source.name != parameter.name:
        target = as_decimal(source) if parameter.name == "DECIMAL" else parameter
        check_cast(source, target)
        return guarded(Code(target, lambda row: cast(code.run(row), source, target)))
    return guarded(code) if isinstance(node, Call | Field) else code


def _applied(name: str, arguments: Sequence[Code]) -> Callable[[Row], Any]:
    def unread(row: Row) -> Any:
        raise UnreadError(f"the values of {name} are not known to this reading")

    def strict(row: Row) -> Any:
        values = [argument.run(row) for argument in arguments]
        return None if any(value is None for value in values) else STRICT[name](*values)

    def lenient(row: Row) -> Any:
        return LENIENT[name](*[argument.run(row) for argument in arguments])

    return strict if name in STRICT else lenient if name in LENIENT else unread


def result_type(name: str, match: Match, arguments: Sequence[Type | None]) -> Type:
    """The result of a scalar function: decimals come out as they go in, but for ROUND to whole numbers, GREATEST and the like."""
    declared = match.signature.result
    if declared.name != "DECIMAL":
        return substituted(declared, match.bound)
    decimals = [kind for kind in arguments if kind is not None]
    kind = reduce(wider, decimals) if name in ("GREATEST", "LEAST") else decimals[0]
    whole = name in ("ROUND", "TRUNC") and len(arguments) == 1
    return decimal(kind.precision - kind.scale, 0) if whole else kind


def aggregate(function: Function, node: Call, scope: Scope) -> Code:
    """An aggregate: its arguments are of the rows, its value is of the group."""
    collector = scope.collector
    if collector is None:
        raise RefusedError(f"Can't use aggregate function {function.name} here: no GROUP BY, or inside of another aggregate")
    if collector.from_table and function.name in STREAM_ONLY:
        raise RefusedError(
            f"The aggregation function(s) ({function.name}) cannot be applied to a table source, only to a stream source."
        )
    arguments = [_counted(argument, collector.rows) for argument in node.arguments]
    kinds = [argument.type for argument in arguments]
    match = resolve(function, kinds)
    kind = aggregate_type(function.name, match, kinds)
    options = [_option(function, argument) for argument in node.arguments[_values(function.name, kinds) :]]
    start = starter(function.name, kinds[0], options)
    slot = f"aggregate {len(collector.aggregations)}"
    collector.aggregations.append(Aggregation(slot, tuple(map(guarded, arguments)), start))
    return column_code(Column(slot, kind))


def _counted(node: Node, rows: Scope) -> Code:
    return Code(BIGINT, lambda row: 1) if isinstance(node, Star) else code_of(node, rows)


def _values(name: str, kinds: Sequence[Type | None]) -> int:
    """How many of the arguments are values of rows; the others are literals."""
    return len(kinds) - 1 if name == "TOPK" else 2 if name == "CORRELATION" else 1


def _option(function: Function, node: Node) -> Any:
    if not isinstance(node, Literal) or node.value is None:
        raise RefusedError(f"Parameter of {function.name} must be a constant")
    return node.value


def aggregate_type(name: str, match: Match, kinds: Sequence[Type | None]) -> Type:
    declared, first = match.signature.result, kinds[0]
    if first is None:
        raise RefusedError(f"Can't infer a type of null in {name}")
    if name == "TOPK":
        others = {f"col{position}": kind for position, kind in enumerate(kinds[1:-1]) if kind is not None}
        return array(struct({"sort_col": first, **others}) if others else first)
    if declared.name == "DECIMAL":
        return first
    return array(first) if name == "TOPKDISTINCT" else substituted(declared, match.bound)


def star(node: Star, scope: Scope) -> Code:
    raise RefusedError("* is only an argument of COUNT")


def misplaced(node: Lambda | Unit, scope: Scope) -> Code:
    raise RefusedError("a lambda or a unit outside of a function's arguments")


RULES |= {Call: call, Star: star, Lambda: misplaced, Unit: misplaced}
