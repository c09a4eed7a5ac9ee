"""Compiler of query expressions to Polars expressions over physical frames: one visitor per kind of node."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from kandle.engine import decimals
from kandle.engine.scalars import SCALARS
from kandle.errors import DataError, KandleError, PlanError
from kandle.model.columns import logical_decimal
from kandle.model.types import EXACT, BooleanType, DataType, DecimalType, FloatType, IntegerType, StringType, UuidType
from kandle.query.nodes import Aggregate, AnyNode, Call, Case, Cast, Column, Constant, Node, WindowBound, describe

OPENED = "_opened"
"""Column with the start of a bucket as users see it; sessions may open later than their bucket's `START`."""

END = "_end"
"""Column with the end of a bucket."""

WINDOW_COLUMNS = {"start": OPENED, "end": END}


@dataclass(frozen=True, slots=True)
class Scope:
    """Subtrees whose values are columns already: aggregates, arguments, group keys."""

    columns: Mapping[Node, str]


SOURCE = Scope({})
"""The scope of source events: columns by their own names."""


def compile_expression(node: AnyNode, scope: Scope = SOURCE) -> pl.Expr:
    """Return the Polars expression that computes a node on a physical frame."""
    if node in scope.columns:
        return pl.col(scope.columns[node])
    column = _VISITORS[type(node)](node, scope)
    # Polars spreads a constant over all rows, but no longer what Python computed of one.
    return column.first() if node.children and _is_constant(node) else column


def _is_constant(node: Node) -> bool:
    return all(_is_constant(child) for child in node.children) if node.children else isinstance(node, Constant)


FAILURES = (
    DataError,
    ArithmeticError,
    pl.exceptions.InvalidOperationError,
    pl.exceptions.ComputeError,
    pl.exceptions.OutOfBoundsError,
    pl.exceptions.PanicException,
)
"""What an expression raises whose values cannot be computed; any other error is one of the program."""


class ExpressionError(DataError):
    """An expression that cannot be computed for some row.

    Attributes:
        name: The name of the column that the expression fills; empty if it cannot be told.
        value: The value that does not fit, as text, where the message of the engine has it.
    """

    def __init__(self, message: str, name: str = "", value: str | None = None) -> None:
        super().__init__(message)
        self.name, self.value = name, value


def evaluate(frame: pl.DataFrame, expressions: list[pl.Expr], labels: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Select expressions of a frame.

    Args:
        frame: The frame to select from.
        expressions: The expressions, each with a name.
        labels: What an expression of some name computes, for messages: `{"_a0": "f.cast(Tick.size, int)"}`.

    Raises:
        ExpressionError: A value cannot be computed; the message names the expression and, where known, the value.
    """
    try:
        return frame.select(expressions)
    except FAILURES as error:
        raise _expression_error(error, _failing(frame, expressions), labels or {}) from error


def _expression_error(error: BaseException, name: str, labels: Mapping[str, str]) -> ExpressionError:
    # Polars adds lines that show its own expressions.
    text = str(error).split("\n", 1)[0]
    if isinstance(error, KandleError):
        digits = _TOO_MANY_DIGITS.search(text)
        return ExpressionError(text, name, None if digits is None else digits["value"])
    label = labels.get(name, "a computed value")
    failure = _FAILED_CONVERSION.match(str(error))
    if failure is None:
        return ExpressionError(f"{label} cannot be computed: {text}", name)
    kind = _TYPE_NAMES.get(failure["type"], failure["type"])
    value = failure["values"]
    return ExpressionError(f"{label} does not fit its type: {value} cannot become {kind}", name, value.strip('"'))


_FAILED_CONVERSION = re.compile(r"conversion from `.*` to `(?P<type>.*)` failed in column .* values?: \[(?P<values>.*)\]")
_TOO_MANY_DIGITS = re.compile(r" = (?P<value>-?[0-9.]+) does not fit Decimal\([0-9, ]+\)$")
_TYPE_NAMES = {"i64": "an int of 64 bits", "f64": "a float", "i128": "a Decimal of 38 digits"}
"""Names of Polars types in messages."""


def _failing(frame: pl.DataFrame, expressions: list[pl.Expr]) -> str:
    """Return the name of the first expression that cannot be selected."""
    if len(expressions) == 1:
        return expressions[0].meta.output_name(raise_if_undetermined=False) or ""
    for expression in expressions:
        try:
            frame.select(expression)
        except FAILURES:
            return expression.meta.output_name(raise_if_undetermined=False) or ""
    return ""


def _column(node: Column, scope: Scope) -> pl.Expr:
    return pl.col(node.name)


def _constant(node: Constant, scope: Scope) -> pl.Expr:
    if isinstance(node.type, DecimalType) and node.value is not None:
        return pl.lit(int(node.value.scaleb(node.type.scale, EXACT)), dtype=node.type.physical)
    if isinstance(node.type, UuidType) and node.value is not None:
        return pl.lit(str(node.value), dtype=pl.String)
    return pl.lit(node.value, dtype=node.type.physical)


def _window_bound(node: WindowBound, scope: Scope) -> pl.Expr:
    return pl.col(WINDOW_COLUMNS[node.bound]).cast(node.type.physical)


def _aggregate(node: Aggregate, scope: Scope) -> pl.Expr:
    raise PlanError(f"{describe(node)} is used where there is no bucket; aggregates are possible in select and having")


def _call(node: Call, scope: Scope) -> pl.Expr:
    if node.function not in SCALARS:
        raise PlanError(f"the columnar engine has no function {node.function!r} (in {describe(node)})")
    arguments = [compile_expression(argument, scope) for argument in node.arguments]
    return SCALARS[node.function](node, arguments)


def _case(node: Case, scope: Scope) -> pl.Expr:
    result = _as_type(compile_expression(node.otherwise, scope), node.otherwise, node.type)
    for branch in reversed(node.branches):
        value = _as_type(compile_expression(branch.value, scope), branch.value, node.type)
        result = pl.when(compile_expression(branch.condition, scope)).then(value).otherwise(result)
    return result


def _as_type(column: pl.Expr, node: AnyNode, kind: DataType) -> pl.Expr:
    return column if node.type == kind else convert(column, node.type, kind, describe(node))


def _cast(node: Cast, scope: Scope) -> pl.Expr:
    return convert(compile_expression(node.argument, scope), node.argument.type, node.type, describe(node))


def convert(column: pl.Expr, source: DataType, target: DataType, label: str) -> pl.Expr:
    """Return a column of type `source` as type `target`; an error names `label` and a value that does not fit."""
    if source == target or (type(source) is type(target) and not isinstance(target, DecimalType)):
        return column
    return _CONVERSIONS[type(target)](column, source, target, label)


def _to_decimal(column: pl.Expr, source: DataType, target: DecimalType, label: str) -> pl.Expr:
    if isinstance(source, FloatType):
        scaled = (column * 10.0**target.scale).round().cast(decimals.WIDE)
    elif isinstance(source, StringType):
        scaled = column.cast(pl.Decimal(38, target.scale)).map_batches(pl.Series.to_physical, return_dtype=decimals.WIDE)
    elif decimals.fits_wide(source, target.scale):
        scaled = decimals.rescale(column, source, target.scale)
    else:
        factor = 10 ** (target.scale - decimals.decimal_type(source).scale)
        scaled = decimals.compute_exactly([column], lambda value: value * factor, label)
    return decimals.narrow(decimals.check_digits(scaled, target, label), target)


def _to_float(column: pl.Expr, source: DataType, target: DataType, label: str) -> pl.Expr:
    if isinstance(source, DecimalType):
        return column.map_batches(lambda values: _nearest_doubles(values, source.scale), return_dtype=pl.Float64)
    return column.cast(pl.Float64, strict=True)


def _nearest_doubles(values: pl.Series, scale: int) -> pl.Series:
    """Return scaled integers as doubles.

    NumPy divides, since Polars multiplies by the reciprocal of a constant divisor.
    """
    doubles = pl.Series(values.name, values.cast(pl.Float64).to_numpy() / 10.0**scale)
    return doubles.set(values.is_null(), None)


def _to_string(column: pl.Expr, source: DataType, target: DataType, label: str) -> pl.Expr:
    if isinstance(source, DecimalType):
        return to_polars_decimal(column, source).cast(pl.String)
    if isinstance(source, BooleanType):
        return pl.when(column).then(pl.lit("true")).when(~column).then(pl.lit("false"))
    return column.cast(pl.String)


def _to_integer(column: pl.Expr, source: DataType, target: DataType, label: str) -> pl.Expr:
    if isinstance(source, DecimalType):
        return (column.cast(decimals.WIDE) // decimals.wide(10**source.scale)).cast(pl.Int64, strict=True)
    return column.cast(pl.Int64, strict=True)


def to_polars_decimal(column: pl.Expr, kind: DecimalType) -> pl.Expr:
    """Return a physical decimal column as a Polars decimal."""
    return column.map_batches(lambda values: logical_decimal(values, kind), return_dtype=kind.logical)


_VISITORS: dict[type[Node], Callable[..., pl.Expr]] = {
    Column: _column,
    Constant: _constant,
    WindowBound: _window_bound,
    Aggregate: _aggregate,
    Call: _call,
    Case: _case,
    Cast: _cast,
}

_CONVERSIONS: dict[type[DataType], Callable[..., pl.Expr]] = {
    DecimalType: _to_decimal,
    FloatType: _to_float,
    StringType: _to_string,
    IntegerType: _to_integer,
}
