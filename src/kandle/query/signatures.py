"""Signatures of all functions and aggregates: what they take, what they return, and when that may be NULL.

There are two tables with one row per function. The columnar engine and the KSQL compiler each have a table
with the same names.
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
from kandle.query import result_types as types
from kandle.query.nodes import OPERATORS, Aggregate, AnyNode, Call, Constant, WindowBound, aggregates, describe, walk
from kandle.query.result_types import Arguments

TypeRule = Callable[[Arguments], DataType | None]
"""The result type for some arguments; None where they are not accepted."""

NullRule = Callable[[Arguments], bool]
"""Whether the result may be NULL."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One function or aggregate: what it accepts, what it returns, and how an aggregate rolls up."""

    accepts: str
    """The accepted arguments in words, for messages."""
    count: tuple[int, int]
    """The smallest and the largest number of arguments."""
    result: TypeRule
    nullable: NullRule
    merge: str = ""
    """How the value of a bar comes from the values of the finer bars that it is made of, in words."""


# When a result may be NULL


def if_any(arguments: Arguments) -> bool:
    """Return whether some argument may be NULL."""
    return any(argument.nullable for argument in arguments)


def if_all(arguments: Arguments) -> bool:
    """Return whether all arguments may be NULL."""
    return all(argument.nullable for argument in arguments)


def never(arguments: Arguments) -> bool:
    """Return False: the result is never NULL."""
    return False


def always(arguments: Arguments) -> bool:
    """Return True: the result may be NULL whatever the arguments are."""
    return True


def if_any_or_divisor_zero(arguments: Arguments) -> bool:
    """Return whether some argument may be NULL, or the divisor may be 0, which makes a quotient NULL."""
    divisor = arguments[1]
    return if_any(arguments) or not (isinstance(divisor, Constant) and divisor.value)


# Type rules for many functions; those of arithmetic are in `result_types`


def _of(kind: DataType, *accepted: type[DataType]) -> TypeRule:
    """Return a rule for arguments of these types, in their order; the last one may repeat."""

    def result(arguments: Arguments) -> DataType | None:
        wanted = [accepted[min(position, len(accepted) - 1)] for position in range(len(arguments))]
        return kind if all(isinstance(a.type, want) for a, want in zip(arguments, wanted, strict=True)) else None

    return result


def _anything(kind: DataType) -> TypeRule:
    return lambda arguments: kind


def _int_or_float(kind: DataType) -> TypeRule:
    return lambda arguments: kind if all(isinstance(a.type, IntegerType | FloatType) for a in arguments) else None


def _any_number(kind: DataType) -> TypeRule:
    return lambda arguments: kind if arguments[0].type.is_numeric else None


def _same_number(arguments: Arguments) -> DataType | None:
    return arguments[0].type if arguments[0].type.is_numeric else None


def _comparison(arguments: Arguments) -> DataType | None:
    return BOOLEAN if types.are_comparable(arguments) else None


def _extreme(arguments: Arguments) -> DataType | None:
    ordered = types.are_comparable(arguments) and not isinstance(arguments[0].type, BooleanType)
    return types.common_type(arguments) if ordered else None


def _null_if(arguments: Arguments) -> DataType | None:
    return arguments[0].type if types.are_comparable(arguments) else None


NUMBERS = "numbers (not Decimal with float)"
PAIR = "two values of one type, or numbers (not Decimal with float)"
ANY_NUMBER_OF = 1_000


def _scalar(accepts: str, count: int | tuple[int, int], result: TypeRule, nullable: NullRule = if_any) -> Signature:
    return Signature(accepts, (count, count) if isinstance(count, int) else count, result, nullable)


def _time_part(kind: DataType) -> Signature:
    return _scalar("a datetime and optionally a time zone", (1, 2), _of(kind, TimestampType, StringType))


SCALARS: dict[str, Signature] = {
    "add": _scalar(NUMBERS, 2, types.sum_type),
    "subtract": _scalar(NUMBERS, 2, types.sum_type),
    "multiply": _scalar(NUMBERS, 2, types.product_type),
    "divide": _scalar(NUMBERS, 2, types.quotient_type, if_any_or_divisor_zero),
    "floor_divide": _scalar("two of int or float", 2, types.floor_quotient_type, if_any_or_divisor_zero),
    "modulo": _scalar("two of int or float", 2, types.remainder_type, if_any_or_divisor_zero),
    "negate": _scalar("a number", 1, _same_number),
    "equal": _scalar(PAIR, 2, _comparison),
    "not_equal": _scalar(PAIR, 2, _comparison),
    "less": _scalar(PAIR, 2, _comparison),
    "less_equal": _scalar(PAIR, 2, _comparison),
    "greater": _scalar(PAIR, 2, _comparison),
    "greater_equal": _scalar(PAIR, 2, _comparison),
    "and": _scalar("two bools", 2, _of(BOOLEAN, BooleanType)),
    "or": _scalar("two bools", 2, _of(BOOLEAN, BooleanType)),
    "not": _scalar("a bool", 1, _of(BOOLEAN, BooleanType)),
    "is_null": _scalar("a value", 1, _anything(BOOLEAN), never),
    "is_not_null": _scalar("a value", 1, _anything(BOOLEAN), never),
    "coalesce": _scalar("values of one type", (2, ANY_NUMBER_OF), types.common_type, if_all),
    "null_if": _scalar("two values of one type", 2, _null_if, always),
    "greatest": _scalar("values of one type", (2, ANY_NUMBER_OF), _extreme),
    "least": _scalar("values of one type", (2, ANY_NUMBER_OF), _extreme),
    "is_in": _scalar("a value and constants of its type", (2, ANY_NUMBER_OF), _comparison),
    "between": _scalar("three values of one type", 3, _comparison),
    "upper": _scalar("a str", 1, _of(STRING, StringType)),
    "lower": _scalar("a str", 1, _of(STRING, StringType)),
    "trim": _scalar("a str", 1, _of(STRING, StringType)),
    "length": _scalar("a str", 1, _of(INTEGER, StringType)),
    "substring": _scalar("a str, a start from 1 and a length", (2, 3), _of(STRING, StringType, IntegerType)),
    "concat": _scalar("two or more strs", (2, ANY_NUMBER_OF), _of(STRING, StringType)),
    "replace": _scalar("three strs", 3, _of(STRING, StringType)),
    "starts_with": _scalar("two strs", 2, _of(BOOLEAN, StringType)),
    "ends_with": _scalar("two strs", 2, _of(BOOLEAN, StringType)),
    "contains": _scalar("two strs", 2, _of(BOOLEAN, StringType)),
    "index_of": _scalar("two strs", 2, _of(INTEGER, StringType)),
    "left_pad": _scalar("a str, a length and a character", 3, _of(STRING, StringType, IntegerType, StringType)),
    "right_pad": _scalar("a str, a length and a character", 3, _of(STRING, StringType, IntegerType, StringType)),
    "abs": _scalar("a number", 1, _same_number),
    "round": _scalar("a number and a constant number of digits", (1, 2), types.rounded_type),
    "floor": _scalar("a number", 1, types.whole_type),
    "ceil": _scalar("a number", 1, types.whole_type),
    "sign": _scalar("a number", 1, _any_number(INTEGER)),
    "sqrt": _scalar("an int or float", 1, _int_or_float(FLOAT), always),
    "exp": _scalar("an int or float", 1, _int_or_float(FLOAT)),
    "ln": _scalar("an int or float", 1, _int_or_float(FLOAT), always),
    "log10": _scalar("an int or float", 1, _int_or_float(FLOAT), always),
    "power": _scalar("two of int or float", 2, _int_or_float(FLOAT)),
    "year": _time_part(INTEGER),
    "month": _time_part(INTEGER),
    "day": _time_part(INTEGER),
    "hour": _time_part(INTEGER),
    "minute": _time_part(INTEGER),
    "second": _time_part(INTEGER),
    "day_of_week": _time_part(INTEGER),
    "to_date": _time_part(DATE),
    "epoch_millis": _scalar("a datetime", 1, _of(INTEGER, TimestampType)),
    "from_epoch_millis": _scalar("an int", 1, _of(TIMESTAMP, IntegerType)),
    "milliseconds_between": _scalar("two datetimes", 2, _of(INTEGER, TimestampType)),
    "add_milliseconds": _scalar("a datetime and an int", 2, _of(TIMESTAMP, TimestampType, IntegerType)),
    "format_timestamp": _scalar("a datetime and a strftime pattern", 2, _of(STRING, TimestampType, StringType)),
}
"""The scalar functions and operators by name."""


def _same(arguments: Arguments) -> DataType | None:
    return arguments[0].type


def _ordered(arguments: Arguments) -> DataType | None:
    return None if isinstance(arguments[0].type, BooleanType | StringMapType) else arguments[0].type


def _sum(arguments: Arguments) -> DataType | None:
    kind = arguments[0].type
    if isinstance(kind, DecimalType):
        return DecimalType(38, kind.scale)
    return kind if kind.is_numeric else None


AGGREGATES: dict[str, Signature] = {
    "first": Signature("a value", (1, 1), _same, if_any, "first of firsts, by event time"),
    "last": Signature("a value", (1, 1), _same, if_any, "last of lasts, by event time"),
    "first_by_offset": Signature("a value", (1, 1), _same, if_any, "first of firsts, by offset"),
    "last_by_offset": Signature("a value", (1, 1), _same, if_any, "last of lasts, by offset"),
    "min": Signature("a number, text, date or datetime", (1, 1), _ordered, if_any, "minimum of minimums"),
    "max": Signature("a number, text, date or datetime", (1, 1), _ordered, if_any, "maximum of maximums"),
    "sum": Signature("a number", (1, 1), _sum, never, "sum of sums"),
    "count": Signature("nothing or a value", (0, 1), _anything(INTEGER), never, "sum of counts"),
    "avg": Signature("a number", (1, 1), types.average_type, if_any, "sum of sums / sum of counts"),
    "count_distinct": Signature("a value", (1, 1), _anything(INTEGER), never, "size of the union of the sets"),
    "stddev": Signature("a number", (1, 1), _any_number(FLOAT), always, "sums of counts, values and squares"),
    "stddev_population": Signature("a number", (1, 1), _any_number(FLOAT), if_any, "sums of counts, values and squares"),
    "weighted_average": Signature(
        f"two {NUMBERS}", (2, 2), types.weighted_average_type, always, "sum of products / sum of weights"
    ),
}
"""The aggregates by name."""


def call(function: str, *arguments: AnyNode) -> Call:
    """Return a call of a scalar function; QueryError says what it takes if these arguments are wrong."""
    signature = SCALARS[function]
    return Call(function, arguments, _result_type(function, signature, arguments), signature.nullable(arguments))


def aggregate(function: str, *arguments: AnyNode) -> Aggregate:
    """Return an aggregate over events; QueryError if its arguments are wrong.

    An argument cannot hold another aggregate or a bound of the bucket.
    """
    for argument in arguments:
        if aggregates(argument):
            raise QueryError(f"f.{function}({describe(argument)}): an aggregate cannot contain another aggregate")
        bound = next((node for node in walk(argument) if isinstance(node, WindowBound)), None)
        if bound is not None:
            raise QueryError(
                f"f.{function}({describe(argument)}): {describe(bound)} is the same for all events of a bucket and cannot be "
                f"aggregated; write {describe(bound)} without f.{function}"
            )
    signature = AGGREGATES[function]
    return Aggregate(function, arguments, _result_type(function, signature, arguments), signature.nullable(arguments))


def _result_type(function: str, signature: Signature, arguments: Arguments) -> DataType:
    fewest, most = signature.count
    kind = signature.result(arguments) if fewest <= len(arguments) <= most else None
    if kind is None:
        given = ", ".join(f"{describe(argument)}: {argument.type}" for argument in arguments) or "nothing"
        name = f"operator {OPERATORS[function]}" if function in OPERATORS else f"f.{function}"
        raise QueryError(f"{name} takes {signature.accepts}, not ({given})")
    return kind
