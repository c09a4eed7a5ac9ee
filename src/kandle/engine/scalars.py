"""One row per scalar function of the query language: its name and how it is computed in columns.

Each builder takes the call node (for types and constant arguments) and the compiled arguments. NULL in gives NULL out unless
the function is about NULL; `and` and `or` are three-valued.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import polars as pl

from kandle.engine import decimals
from kandle.engine.decimals import digits, exact, fits_wide, narrowed, rescaled, wide
from kandle.model.types import MAX_PRECISION, DataType, DecimalType, FloatType, IntegerType
from kandle.query.nodes import Call, Constant, describe

Builder = Callable[[Call, list[pl.Expr]], pl.Expr]


def _applied(compute: Callable[..., Any], arguments: list[pl.Expr]) -> pl.Expr:
    """The operator of two columns; typing knows operators only as functions of anything."""
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
    return max(digits(kind).scale for kind in _types(node))


def _aligned(node: Call, arguments: list[pl.Expr]) -> list[pl.Expr]:
    """Numeric arguments brought to one scale (decimals) or one type (numbers), others as they are."""
    if not _has_decimal(node):
        return arguments
    scale = _common_scale(node)
    return [_rescaled(node, column, kind, scale) for column, kind in zip(arguments, _types(node), strict=True)]


def _rescaled(node: Call, column: pl.Expr, kind: DataType, scale: int) -> pl.Expr:
    if fits_wide(kind, scale):
        return rescaled(column, kind, scale)
    factor = 10 ** (scale - digits(kind).scale)
    return exact([column], lambda value: value * factor, describe(node))


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Builder:
    """add and subtract."""

    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        if isinstance(node.type, FloatType):
            return _applied(compute, [argument.cast(pl.Float64) for argument in arguments])
        whole = max(digits(kind).precision - digits(kind).scale for kind in _types(node))
        scale = _common_scale(node)
        if whole + scale + 1 <= MAX_PRECISION:
            wides = [rescaled(column, kind, scale) for column, kind in zip(arguments, _types(node), strict=True)]
            return narrowed(_applied(compute, wides), node.type)
        shifts = [10 ** (scale - digits(kind).scale) for kind in _types(node)]
        return exact(arguments, lambda a, b: compute(a * shifts[0], b * shifts[1]), describe(node))

    return build


def _multiply(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    if isinstance(node.type, FloatType):
        return _applied(operator.mul, [argument.cast(pl.Float64) for argument in arguments])
    if sum(digits(kind).precision for kind in _types(node)) <= MAX_PRECISION:
        return narrowed(_applied(operator.mul, [argument.cast(decimals.WIDE) for argument in arguments]), node.type)
    return narrowed(exact(arguments, operator.mul, describe(node)), node.type)


def _divide(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    left, right = arguments
    if isinstance(node.type, FloatType):
        divisor = right.cast(pl.Float64)
        return left.cast(pl.Float64) / pl.when(divisor != 0).then(divisor)
    assert isinstance(node.type, DecimalType)
    numerator, denominator = (digits(kind) for kind in _types(node))
    shift = node.type.scale + denominator.scale - numerator.scale
    return narrowed(decimals.divided(left, right, shift, describe(node)), node.type)


def _whole_division(compute: Callable[..., Any]) -> Builder:
    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        left, right = (argument.cast(node.type.physical) for argument in arguments)
        return _applied(compute, [left, pl.when(right != 0).then(right)])

    return build


def _negate(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    # Polars does not negate 128-bit integers.
    return wide(0) - arguments[0] if node.type.physical == decimals.WIDE else -arguments[0]


def _comparison(compute: Callable[..., Any]) -> Builder:
    return lambda node, arguments: _applied(compute, _aligned(node, arguments))


def _coalesce(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    return pl.coalesce(*_to_result(node, arguments))


def _to_result(node: Call, arguments: list[pl.Expr]) -> list[pl.Expr]:
    """Numeric arguments in the physical type and scale of the result."""
    if isinstance(node.type, DecimalType):
        scale = node.type.scale
        wides = [_rescaled(node, column, kind, scale) for column, kind in zip(arguments, _types(node), strict=True)]
        return [narrowed(column, node.type) for column in wides]
    return [argument.cast(node.type.physical) for argument in arguments]


def _null_if(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    left, right = _aligned(node, arguments)
    return pl.when((left == right).fill_null(False)).then(None).otherwise(arguments[0])


def _extreme(horizontal: Callable[..., pl.Expr]) -> Builder:
    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        columns = _to_result(node, arguments)
        known = pl.all_horizontal([column.is_not_null() for column in columns])
        return pl.when(known).then(horizontal(*columns))

    return build


def _is_in(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    value, *choices = _aligned(node, arguments)
    return pl.any_horizontal([value == choice for choice in choices])


def _between(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    value, low, high = _aligned(node, arguments)
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
    # Polars wants as many texts as there are new ones, also where the text is a constant, and no constant NULL.
    known = pl.when(new.is_not_null()).then(text)
    return known.str.replace_all(_constant(node, 1), new.fill_null(""), literal=True)


def _pad(left: bool) -> Builder:
    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        length, fill = _constant(node, 1), _constant(node, 2, " ")
        cut = arguments[0].str.slice(0, length)
        return cut.str.pad_start(length, fill) if left else cut.str.pad_end(length, fill)

    return build


def _round(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    places = _constant(node, 1, 0)
    kind = node.arguments[0].type
    if isinstance(kind, FloatType):
        return arguments[0].round(places)
    if isinstance(kind, IntegerType):
        return arguments[0]
    assert isinstance(node.type, DecimalType)
    assert isinstance(kind, DecimalType)
    places = min(places, kind.scale, node.type.scale)
    whole = decimals.divided(arguments[0], wide(1), places - kind.scale, describe(node))
    return narrowed(whole * wide(10 ** (node.type.scale - places)), node.type)


def _whole(direction: int) -> Builder:
    """floor (direction -1) and ceil (direction 1)."""

    def build(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
        kind = node.arguments[0].type
        if isinstance(kind, DecimalType):
            unit = wide(10**kind.scale)
            value = arguments[0].cast(decimals.WIDE)
            return narrowed(value // unit if direction < 0 else (value + unit - wide(1)) // unit, node.type)
        if isinstance(kind, IntegerType):
            return arguments[0]
        return arguments[0].floor() if direction < 0 else arguments[0].ceil()

    return build


def _sign(node: Call, arguments: list[pl.Expr]) -> pl.Expr:
    return arguments[0].sign().cast(pl.Int64)


def _float(compute: Callable[[pl.Expr], pl.Expr], *, above: float | None = None, least: float | None = None) -> Builder:
    """A float function; outside of its domain it is NULL."""

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
    return (arguments[0].cast(pl.Int64) + arguments[1] * 1000).cast(node.type.physical)


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
    "from_epoch_millis": lambda node, arguments: (arguments[0] * 1000).cast(node.type.physical),
    "milliseconds_between": _milliseconds_between,
    "add_milliseconds": _add_milliseconds,
    "format_timestamp": lambda node, arguments: arguments[0].dt.strftime(_constant(node, 1)),
}
