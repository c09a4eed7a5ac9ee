"""Scalar functions of the query language in columns: one row per function.

Each builder takes the call node (for types and constant arguments) and the compiled arguments. NULL in gives
NULL out unless the function is about NULL; `and` and `or` are three-valued.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import polars as pl

from kandle.engine import decimals
from kandle.engine.decimals import compute_exactly, decimal_type, fits_wide, narrow, rescale, wide
from kandle.model.types import INTEGER, MAX_PRECISION, DataType, DecimalType, FloatType, IntegerType
from kandle.query.nodes import Call, Constant, describe

Builder = Callable[[Call, list[pl.Expr]], pl.Expr]


def _apply(compute: Callable[..., Any], arguments: list[pl.Expr]) -> pl.Expr:
    """Return the operator applied to two columns; typing knows operators only as functions of anything."""
    result: pl.Expr = compute(*arguments)
    return result


def _types(node: Call) -> list[DataType]:
    return [argument.type for argument in node.arguments]


def _constant(node: Call, position: int, default: Any = None) -> Any:
    if position >= len(node.arguments):
        return default
    argument = node.arguments[position]
    assert isinstance(argument, Constant)
    return argument.value


def _has_decimal(node: Call) -> bool:
    return any(isinstance(kind, DecimalType) for kind in _types(node))


def _common_scale(node: Call) -> int:
    return max(decimal_type(kind).scale for kind in _types(node))


def _align(node: Call, arguments: list[pl.Expr]) -> list[pl.Expr]:
    """Return numeric arguments at one scale (decimals) or of one type (numbers), and others as they are."""
    if not _has_decimal(node):
        return arguments
    scale = _common_scale(node)
    return [_rescale(node, column, kind, scale) for column, kind in zip(arguments, _types(node), strict=True)]


def _rescale(node: Call, column: pl.Expr, kind: DataType, scale: int) -> pl.Expr:
    if fits_wide(kind, scale):
        return rescale(column, kind, scale)
    factor = 10 ** (scale - decimal_type(kind).scale)
    return compute_exactly([column], lambda value: value * factor, describe(node))


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Builder:
    """Return the builder of a sum or difference."""

    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        if isinstance(node.type, FloatType):
            return _apply(compute, [argument.cast(pl.Float64) for argument in arguments])
        whole = max(decimal_type(kind).precision - decimal_type(kind).scale for kind in _types(node))
        scale = _common_scale(node)
        if whole + scale + 1 <= MAX_PRECISION:
            wides = [rescale(column, kind, scale) for column, kind in zip(arguments, _types(node), strict=True)]
            return narrow(_apply(compute, wides), node.type)
        shifts = [10 ** (scale - decimal_type(kind).scale) for kind in _types(node)]
        return compute_exactly(arguments, lambda a, b: compute(a * shifts[0], b * shifts[1]), describe(node))

    return build


def _multiply(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    if isinstance(node.type, FloatType):
        return _apply(operator.mul, [argument.cast(pl.Float64) for argument in arguments])
    if sum(decimal_type(kind).precision for kind in _types(node)) <= MAX_PRECISION:
        return narrow(_apply(operator.mul, [argument.cast(decimals.WIDE) for argument in arguments]), node.type)
    return narrow(compute_exactly(arguments, operator.mul, describe(node)), node.type)


def _divide(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    left, right = arguments
    if isinstance(node.type, FloatType):
        divisor = right.cast(pl.Float64)
        return left.cast(pl.Float64) / pl.when(divisor != 0).then(divisor)
    assert isinstance(node.type, DecimalType)
    numerator, denominator = (decimal_type(kind) for kind in _types(node))
    shift = node.type.scale + denominator.scale - numerator.scale
    return narrow(decimals.divide(left, right, shift, describe(node)), node.type)


def _whole_division(compute: Callable[..., Any]) -> Builder:
    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        left, right = (argument.cast(node.type.physical) for argument in arguments)
        return _apply(compute, [left, pl.when(right != 0).then(right)])

    return build


def _negate(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    # Polars does not negate 128-bit integers.
    return wide(0) - arguments[0] if node.type.physical == decimals.WIDE else -arguments[0]


def _comparison(compute: Callable[..., Any]) -> Builder:
    return lambda node, arguments: _apply(compute, _align(node, arguments))


def _coalesce(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    return pl.coalesce(*_to_result(node, arguments))


def _to_result(node: Call, arguments: list[pl.Expr]) -> list[pl.Expr]:
    """Return numeric arguments in the physical type and scale of the result."""
    if isinstance(node.type, DecimalType):
        scale = node.type.scale
        wides = [_rescale(node, column, kind, scale) for column, kind in zip(arguments, _types(node), strict=True)]
        return [narrow(column, node.type) for column in wides]
    return [argument.cast(node.type.physical) for argument in arguments]


def _null_if(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    left, right = _align(node, arguments)
    return pl.when((left == right).fill_null(False)).then(None).otherwise(arguments[0])


def _extreme(horizontal: Callable[..., pl.Expr]) -> Builder:
    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        columns = _to_result(node, arguments)
        known = pl.all_horizontal([column.is_not_null() for column in columns])
        return pl.when(known).then(horizontal(*columns))

    return build


def _is_in(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    value, *choices = _align(node, arguments)
    return pl.any_horizontal([value == choice for choice in choices])


def _between(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    value, low, high = _align(node, arguments)
    return (value >= low) & (value <= high)


def _substring(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    text, offset = arguments[0], arguments[1] - 1
    if len(arguments) == 2:
        return text.str.slice(offset)
    # Polars takes NULL for "to the end".
    return pl.when(arguments[2].is_not_null()).then(text.str.slice(offset, arguments[2]))


def _index_of(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    text, part = arguments
    before = text.str.split(part).list.first().str.len_chars().cast(pl.Int64)
    return pl.when(text.str.contains(part, literal=True)).then(before + 1).when(text.is_not_null() & part.is_not_null()).then(0)


def _replace(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    text, _, new = arguments
    # Polars wants as many texts as there are new ones, also where the text is a constant, and no constant
    # NULL.
    known = pl.when(new.is_not_null()).then(text)
    return known.str.replace_all(_constant(node, 1), new.fill_null(""), literal=True)


def _pad(left: bool) -> Builder:
    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        length, fill = _constant(node, 1), _constant(node, 2, " ")
        cut = arguments[0].str.slice(0, length)
        return cut.str.pad_start(length, fill) if left else cut.str.pad_end(length, fill)

    return build


def _round(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    digits = _constant(node, 1, 0)
    kind = node.arguments[0].type
    if isinstance(kind, FloatType):
        return arguments[0].round(digits)
    if isinstance(kind, IntegerType):
        return arguments[0]
    assert isinstance(node.type, DecimalType)
    assert isinstance(kind, DecimalType)
    digits = min(digits, kind.scale, node.type.scale)
    whole = decimals.divide(arguments[0], wide(1), digits - kind.scale, describe(node))
    return narrow(whole * wide(10 ** (node.type.scale - digits)), node.type)


def _whole(direction: int) -> Builder:
    """Return the builder of floor (direction -1) or ceil (direction 1)."""

    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        kind = node.arguments[0].type
        if isinstance(kind, DecimalType):
            unit = wide(10**kind.scale)
            value = arguments[0].cast(decimals.WIDE)
            return narrow(value // unit if direction < 0 else (value + unit - wide(1)) // unit, node.type)
        if isinstance(kind, IntegerType):
            return arguments[0]
        return arguments[0].floor() if direction < 0 else arguments[0].ceil()

    return build


def _sign(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    return arguments[0].sign().cast(pl.Int64)


def _float(compute: Callable[[pl.Expr], pl.Expr], *, above: float | None = None, least: float | None = None) -> Builder:
    """Return a builder of a function of floats, which is NULL outside of its domain."""

    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        value = arguments[0].cast(pl.Float64)
        if above is not None:
            value = pl.when(value > above).then(value)
        if least is not None:
            value = pl.when(value >= least).then(value)
        return compute(value)

    return build


def _power(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    return arguments[0].cast(pl.Float64).pow(arguments[1].cast(pl.Float64))


def _date_part(compute: Callable[[pl.Expr], pl.Expr]) -> Builder:
    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        return compute(_in_zone(node, arguments[0])).cast(pl.Int64)

    return build


def _in_zone(node: Call, column: pl.Expr) -> pl.Expr:
    zone = _constant(node, 1)
    return column if zone is None else column.dt.convert_time_zone(zone)


def _milliseconds_between(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    return (arguments[1] - arguments[0]).dt.total_microseconds() // 1000


def _add_milliseconds(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    microseconds = arguments[0].cast(pl.Int64).cast(decimals.WIDE) + arguments[1].cast(decimals.WIDE) * wide(1000)
    return narrow(microseconds, INTEGER).cast(node.type.physical)


def _from_epoch_milliseconds(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    # A 64-bit product would overflow without a word.
    return narrow(arguments[0].cast(decimals.WIDE) * wide(1000), INTEGER).cast(node.type.physical)


SCALARS: dict[str, Builder] = {
    "add": _arithmetic(operator.add),
    "subtract": _arithmetic(operator.sub),
    "multiply": _multiply,
    "divide": _divide,
    "floor_divide": _whole_division(operator.floordiv),
    "modulo": _whole_division(operator.mod),
    "negate": _negate,
    "equal": _comparison(operator.eq),
    "not_equal": _comparison(operator.ne),
    "less": _comparison(operator.lt),
    "less_equal": _comparison(operator.le),
    "greater": _comparison(operator.gt),
    "greater_equal": _comparison(operator.ge),
    "and": lambda node, arguments: arguments[0] & arguments[1],
    "or": lambda node, arguments: arguments[0] | arguments[1],
    "not": lambda node, arguments: ~arguments[0],
    "is_null": lambda node, arguments: arguments[0].is_null(),
    "is_not_null": lambda node, arguments: arguments[0].is_not_null(),
    "coalesce": _coalesce,
    "null_if": _null_if,
    "greatest": _extreme(pl.max_horizontal),
    "least": _extreme(pl.min_horizontal),
    "is_in": _is_in,
    "between": _between,
    "upper": lambda node, arguments: arguments[0].str.to_uppercase(),
    "lower": lambda node, arguments: arguments[0].str.to_lowercase(),
    "trim": lambda node, arguments: arguments[0].str.strip_chars(),
    "length": lambda node, arguments: arguments[0].str.len_chars().cast(pl.Int64),
    "substring": _substring,
    "concat": lambda node, arguments: pl.concat_str(arguments),
    "replace": _replace,
    "starts_with": lambda node, arguments: arguments[0].str.starts_with(arguments[1]),
    "ends_with": lambda node, arguments: arguments[0].str.ends_with(arguments[1]),
    "contains": lambda node, arguments: arguments[0].str.contains(arguments[1], literal=True),
    "index_of": _index_of,
    "left_pad": _pad(left=True),
    "right_pad": _pad(left=False),
    "abs": lambda node, arguments: arguments[0].abs(),
    "round": _round,
    "floor": _whole(-1),
    "ceil": _whole(1),
    "sign": _sign,
    "sqrt": _float(pl.Expr.sqrt, least=0),
    "exp": _float(pl.Expr.exp),
    "ln": _float(pl.Expr.log, above=0),
    "log10": _float(pl.Expr.log10, above=0),
    "power": _power,
    "year": _date_part(lambda column: column.dt.year()),
    "month": _date_part(lambda column: column.dt.month()),
    "day": _date_part(lambda column: column.dt.day()),
    "hour": _date_part(lambda column: column.dt.hour()),
    "minute": _date_part(lambda column: column.dt.minute()),
    "second": _date_part(lambda column: column.dt.second()),
    "day_of_week": _date_part(lambda column: column.dt.weekday()),
    "to_date": lambda node, arguments: _in_zone(node, arguments[0]).dt.date(),
    "epoch_millis": lambda node, arguments: arguments[0].cast(pl.Int64) // 1000,
    "from_epoch_millis": _from_epoch_milliseconds,
    "milliseconds_between": _milliseconds_between,
    "add_milliseconds": _add_milliseconds,
    "format_timestamp": lambda node, arguments: arguments[0].dt.strftime(_constant(node, 1)),
}
