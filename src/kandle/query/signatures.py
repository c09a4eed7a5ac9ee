"""All functions and aggregates of the query language: what they take, what type they give, when that may be NULL.

Two tables, one row each; whoever reads the query tree (the columnar engine, a compiler to text) has a table with the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kandle.errors import QueryError
from kandle.model.types import (
    BOOLEAN,
    DATE,
    FLOAT,
    INTEGER,
    STRING,
    TIMESTAMP,
    BooleanType,
    DataType,
    DecimalType,
    FloatType,
    IntegerType,
    StringMapType,
    StringType,
    TimestampType,
)
from kandle.query import result_types
from kandle.query.nodes import OPERATORS, Aggregate, AnyNode, Call, Constant, WindowBound, aggregates, describe, walk
from kandle.query.result_types import Arguments

Result = Callable[[Arguments], DataType | None]
Nullable = Callable[[Arguments], bool]


def if_any(arguments: Arguments) -> bool:
    return any(argument.nullable for argument in arguments)


def if_all(arguments: Arguments) -> bool:
    return all(argument.nullable for argument in arguments)


def never(arguments: Arguments) -> bool:
    return False


def always(arguments: Arguments) -> bool:
    return True


def unless_constant_divisor(arguments: Arguments) -> bool:
    """A quotient is NULL where the divisor is 0."""
    divisor = arguments[1]
    return if_any(arguments) or not (isinstance(divisor, Constant) and divisor.value)


@dataclass(frozen=True, slots=True)
class Signature:
    """One function: accepted arguments in words, number of arguments, type rule, NULL rule, and how an aggregate rolls up."""

    accepts: str
    count: tuple[int, int]
    result: Result
    nullable: Nullable = if_any
    merge: str = ""


def _of(kind: DataType, *accepted: type[DataType]) -> Result:
    """A result type for arguments of these types, in their order; the last one may repeat."""

    def result(arguments: Arguments) -> DataType | None:
        wanted = [accepted[min(position, len(accepted) - 1)] for position in range(len(arguments))]
        return kind if all(isinstance(a.type, want) for a, want in zip(arguments, wanted, strict=True)) else None

    return result


def _number(kind: DataType) -> Result:
    return lambda arguments: kind if all(isinstance(a.type, IntegerType | FloatType) for a in arguments) else None


def _same_number(arguments: Arguments) -> DataType | None:
    return arguments[0].type if arguments[0].type.is_numeric else None


def _comparison(arguments: Arguments) -> DataType | None:
    return BOOLEAN if result_types.comparable(arguments) else None


def _anything(kind: DataType) -> Result:
    return lambda arguments: kind


def _extreme(arguments: Arguments) -> DataType | None:
    ordered = result_types.comparable(arguments) and not isinstance(arguments[0].type, BooleanType)
    return result_types.common_type(arguments) if ordered else None


def _null_if(arguments: Arguments) -> DataType | None:
    return arguments[0].type if result_types.comparable(arguments) else None


def _comparison_row() -> Signature:
    return Signature("two values of one type, or numbers (not Decimal with float)", (2, 2), _comparison)


def _text(kind: DataType, count: tuple[int, int], accepts: str, *accepted: type[DataType]) -> Signature:
    return Signature(accepts, count, _of(kind, *accepted))


def _part() -> Signature:
    return Signature("a datetime and optionally a time zone", (1, 2), _of(INTEGER, TimestampType, StringType))


NUMBERS = "numbers (not Decimal with float)"
MANY = 1_000

SCALARS: dict[str, Signature] = {
    "add": Signature(NUMBERS, (2, 2), result_types.sum_type),
    "subtract": Signature(NUMBERS, (2, 2), result_types.sum_type),
    "multiply": Signature(NUMBERS, (2, 2), result_types.product_type),
    "divide": Signature(NUMBERS, (2, 2), result_types.quotient_type, unless_constant_divisor),
    "floor_divide": Signature("int or float", (2, 2), result_types.whole_quotient_type, unless_constant_divisor),
    "modulo": Signature("int or float", (2, 2), result_types.whole_quotient_type, unless_constant_divisor),
    "negate": Signature("a number", (1, 1), _same_number),
    "equal": _comparison_row(),
    "not_equal": _comparison_row(),
    "less": _comparison_row(),
    "less_equal": _comparison_row(),
    "greater": _comparison_row(),
    "greater_equal": _comparison_row(),
    "and": Signature("two bools", (2, 2), _of(BOOLEAN, BooleanType)),
    "or": Signature("two bools", (2, 2), _of(BOOLEAN, BooleanType)),
    "not": Signature("a bool", (1, 1), _of(BOOLEAN, BooleanType)),
    "is_null": Signature("anything", (1, 1), _anything(BOOLEAN), never),
    "is_not_null": Signature("anything", (1, 1), _anything(BOOLEAN), never),
    "coalesce": Signature("values of one type", (2, MANY), result_types.common_type, if_all),
    "null_if": Signature("two values of one type", (2, 2), _null_if, always),
    "greatest": Signature("values of one type", (2, MANY), _extreme),
    "least": Signature("values of one type", (2, MANY), _extreme),
    "is_in": Signature("a value and constants of its type", (2, MANY), _comparison),
    "between": Signature("three values of one type", (3, 3), _comparison),
    "upper": _text(STRING, (1, 1), "a str", StringType),
    "lower": _text(STRING, (1, 1), "a str", StringType),
    "trim": _text(STRING, (1, 1), "a str", StringType),
    "length": _text(INTEGER, (1, 1), "a str", StringType),
    "substring": _text(STRING, (2, 3), "a str, a start from 1 and a length", StringType, IntegerType),
    "concat": _text(STRING, (2, MANY), "strs", StringType),
    "replace": _text(STRING, (3, 3), "three strs", StringType),
    "starts_with": _text(BOOLEAN, (2, 2), "two strs", StringType),
    "ends_with": _text(BOOLEAN, (2, 2), "two strs", StringType),
    "contains": _text(BOOLEAN, (2, 2), "two strs", StringType),
    "index_of": _text(INTEGER, (2, 2), "two strs", StringType),
    "left_pad": _text(STRING, (3, 3), "a str, a length and a character", StringType, IntegerType, StringType),
    "right_pad": _text(STRING, (3, 3), "a str, a length and a character", StringType, IntegerType, StringType),
    "abs": Signature("a number", (1, 1), _same_number),
    "round": Signature("a number and a constant number of digits", (1, 2), result_types.rounded_type),
    "floor": Signature("a number", (1, 1), result_types.whole_type),
    "ceil": Signature("a number", (1, 1), result_types.whole_type),
    "sign": Signature("a number", (1, 1), lambda a: INTEGER if a[0].type.is_numeric else None),
    "sqrt": Signature("int or float", (1, 1), _number(FLOAT), always),
    "exp": Signature("int or float", (1, 1), _number(FLOAT)),
    "ln": Signature("int or float", (1, 1), _number(FLOAT), always),
    "log10": Signature("int or float", (1, 1), _number(FLOAT), always),
    "power": Signature("two of int or float", (2, 2), _number(FLOAT)),
    "year": _part(),
    "month": _part(),
    "day": _part(),
    "hour": _part(),
    "minute": _part(),
    "second": _part(),
    "day_of_week": _part(),
    "to_date": Signature("a datetime and optionally a time zone", (1, 2), _of(DATE, TimestampType, StringType)),
    "epoch_millis": Signature("a datetime", (1, 1), _of(INTEGER, TimestampType)),
    "from_epoch_millis": Signature("an int", (1, 1), _of(TIMESTAMP, IntegerType)),
    "milliseconds_between": Signature("two datetimes", (2, 2), _of(INTEGER, TimestampType)),
    "add_milliseconds": Signature("a datetime and an int", (2, 2), _of(TIMESTAMP, TimestampType, IntegerType)),
    "format_timestamp": Signature("a datetime and a strftime pattern", (2, 2), _of(STRING, TimestampType, StringType)),
}


def _same(arguments: Arguments) -> DataType | None:
    return arguments[0].type


def _ordered(arguments: Arguments) -> DataType | None:
    return None if isinstance(arguments[0].type, BooleanType | StringMapType) else arguments[0].type


def _sum(arguments: Arguments) -> DataType | None:
    kind = arguments[0].type
    if isinstance(kind, DecimalType):
        return DecimalType(38, kind.scale)
    return kind if kind.is_numeric else None


def _spread(arguments: Arguments) -> DataType | None:
    return FLOAT if arguments[0].type.is_numeric else None


AGGREGATES: dict[str, Signature] = {
    "first": Signature("anything", (1, 1), _same, if_any, "first of firsts, by event time"),
    "last": Signature("anything", (1, 1), _same, if_any, "last of lasts, by event time"),
    "first_by_offset": Signature("anything", (1, 1), _same, if_any, "first of firsts, by offset"),
    "last_by_offset": Signature("anything", (1, 1), _same, if_any, "last of lasts, by offset"),
    "min": Signature("numbers, texts, dates, datetimes", (1, 1), _ordered, if_any, "least of the least"),
    "max": Signature("numbers, texts, dates, datetimes", (1, 1), _ordered, if_any, "greatest of the greatest"),
    "sum": Signature("a number", (1, 1), _sum, never, "sum of sums"),
    "count": Signature("nothing or anything", (0, 1), _anything(INTEGER), never, "sum of counts"),
    "avg": Signature("a number", (1, 1), lambda a: result_types.average_type(a[0]), if_any, "sum of sums / sum of counts"),
    "count_distinct": Signature("anything", (1, 1), _anything(INTEGER), never, "size of the union of the sets"),
    "stddev": Signature("a number", (1, 1), _spread, always, "sums of counts, values and squares"),
    "stddev_population": Signature("a number", (1, 1), _spread, if_any, "sums of counts, values and squares"),
    "weighted_average": Signature(
        f"two {NUMBERS}", (2, 2), result_types.weighted_average_type, always, "sum of products / sum of weights"
    ),
}


def call(function: str, *arguments: AnyNode) -> Call:
    """A checked call of a scalar function."""
    signature = SCALARS[function]
    kind = _checked(function, signature, arguments)
    return Call(function, arguments, kind, signature.nullable(arguments))


def aggregate(function: str, *arguments: AnyNode) -> Aggregate:
    """A checked aggregate of events; aggregates do not nest."""
    for argument in arguments:
        if aggregates(argument):
            raise QueryError(f"f.{function}({describe(argument)}): an aggregate cannot be inside of another one")
        bound = next((found for found in walk(argument) if isinstance(found, WindowBound)), None)
        if bound is not None:
            raise QueryError(
                f"f.{function}({describe(argument)}): an aggregate takes what events have, and {describe(bound)} is what "
                f"the bucket has; write {describe(bound)} by itself"
            )
    signature = AGGREGATES[function]
    kind = _checked(function, signature, arguments)
    return Aggregate(function, arguments, kind, signature.nullable(arguments))


def _checked(function: str, signature: Signature, arguments: Arguments) -> DataType:
    low, high = signature.count
    kind = signature.result(arguments) if low <= len(arguments) <= high else None
    if kind is None:
        given = ", ".join(f"{describe(argument)}: {argument.type}" for argument in arguments) or "nothing"
        name = f"operator {OPERATORS[function]}" if function in OPERATORS else f"f.{function}"
        raise QueryError(f"{name} takes {signature.accepts}, not ({given})")
    return kind
