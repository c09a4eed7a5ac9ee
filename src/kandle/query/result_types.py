"""Result types of operators and functions: pure rules over argument nodes, each None where the arguments are refused."""

from __future__ import annotations

from collections.abc import Sequence

from kandle.errors import QueryError
from kandle.model.types import (
    FLOAT,
    INTEGER,
    MAX_PRECISION,
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.query.nodes import AnyNode, Constant, describe

Arguments = Sequence[AnyNode]

LARGEST_QUOTIENT_SCALE = 18
LEAST_QUOTIENT_SCALE = 12
EXTRA_AVERAGE_DIGITS = 6
COMPARABLE = (BooleanType, StringType, UuidType, BytesType, DateType, TimestampType)


def exact_type(node: AnyNode) -> DecimalType:
    """The decimal type of an exact number: a constant int counts its digits, another int has 19."""
    if isinstance(node.type, DecimalType):
        return node.type
    if isinstance(node, Constant) and isinstance(node.value, int):
        return DecimalType(max(1, len(str(abs(node.value)))), 0)
    return DecimalType(19, 0)


def numbers(arguments: Arguments) -> bool:
    """Whether all arguments are numbers that may meet: decimals and floats may not."""
    if not all(argument.type.is_numeric for argument in arguments):
        return False
    kinds = {type(argument.type) for argument in arguments}
    if DecimalType in kinds and FloatType in kinds:
        shown = " and ".join(f"{describe(argument)} ({argument.type})" for argument in arguments)
        raise QueryError(
            f"{shown} cannot meet: one is exact, the other is not; write f.cast(x, float) or f.cast(x, Precision(18, 6))"
        )
    return True


def _some(kind: type[DataType], arguments: Arguments) -> bool:
    return any(isinstance(argument.type, kind) for argument in arguments)


def sum_type(arguments: Arguments) -> DataType | None:
    """add and subtract."""
    if not numbers(arguments):
        return None
    if _some(FloatType, arguments):
        return FLOAT
    if not _some(DecimalType, arguments):
        return INTEGER
    return common_decimal(arguments, carry=1)


def common_decimal(arguments: Arguments, carry: int = 0) -> DecimalType:
    """The decimal type that holds all arguments, with `carry` digits more before the point, as far as 38 digits go."""
    kinds = [exact_type(argument) for argument in arguments]
    scale = max(kind.scale for kind in kinds)
    whole = max(kind.precision - kind.scale for kind in kinds)
    return DecimalType(min(MAX_PRECISION, whole + scale + carry), scale)


def product_type(arguments: Arguments) -> DataType | None:
    if not numbers(arguments):
        return None
    if _some(FloatType, arguments):
        return FLOAT
    if not _some(DecimalType, arguments):
        return INTEGER
    left, right = (exact_type(argument) for argument in arguments)
    scale = left.scale + right.scale
    if scale > MAX_PRECISION:
        raise QueryError(
            f"{describe(arguments[0])} * {describe(arguments[1])} would have {scale} digits behind the point, "
            f"{MAX_PRECISION} are possible; round one of them first: f.round(x, digits)"
        )
    return DecimalType(min(MAX_PRECISION, left.precision + right.precision), scale)


def quotient_type(arguments: Arguments) -> DataType | None:
    if not numbers(arguments):
        return None
    if not _some(DecimalType, arguments):
        return FLOAT
    scale = max(exact_type(argument).scale for argument in arguments)
    return DecimalType(MAX_PRECISION, min(max(scale, LEAST_QUOTIENT_SCALE), LARGEST_QUOTIENT_SCALE))


def whole_quotient_type(arguments: Arguments) -> DataType | None:
    if not numbers(arguments):
        return None
    if _some(DecimalType, arguments):
        raise QueryError(
            f"// and % of decimals are not defined here, since Python and SQL differ on them ({describe(arguments[0])}); "
            "write f.floor(x / y) or cast to int"
        )
    return FLOAT if _some(FloatType, arguments) else INTEGER


def common_type(arguments: Arguments) -> DataType | None:
    """The type that values of all arguments have when they are alternatives of each other."""
    known = [argument for argument in arguments if not (isinstance(argument, Constant) and argument.value is None)]
    known = known or list(arguments)
    if all(argument.type.is_numeric for argument in known):
        numbers(known)
        if _some(DecimalType, known):
            return common_decimal(known)
        return FLOAT if _some(FloatType, known) else INTEGER
    kinds = {type(argument.type) for argument in known}
    return known[0].type if len(kinds) == 1 else None


def comparable(arguments: Arguments) -> bool:
    """Whether the arguments can be compared with each other."""
    if all(argument.type.is_numeric for argument in arguments):
        return numbers(arguments)
    kinds = {type(argument.type) for argument in arguments}
    return len(kinds) == 1 and kinds.pop() in COMPARABLE


def average_type(argument: AnyNode) -> DataType | None:
    if isinstance(argument.type, DecimalType):
        scale = min(argument.type.scale + EXTRA_AVERAGE_DIGITS, max(argument.type.scale, LARGEST_QUOTIENT_SCALE))
        return DecimalType(MAX_PRECISION, scale)
    return FLOAT if isinstance(argument.type, IntegerType | FloatType) else None


def weighted_average_type(arguments: Arguments) -> DataType | None:
    if not numbers(arguments):
        return None
    if not _some(DecimalType, arguments):
        return FLOAT
    product_type(arguments)
    scale = exact_type(arguments[0]).scale
    return DecimalType(MAX_PRECISION, min(scale + EXTRA_AVERAGE_DIGITS, max(scale, LARGEST_QUOTIENT_SCALE)))


def rounded_type(arguments: Arguments) -> DataType | None:
    kind, places = arguments[0].type, arguments[1] if len(arguments) > 1 else Constant(0, INTEGER)
    if not isinstance(places, Constant) or not isinstance(places.value, int) or places.value < 0:
        raise QueryError(f"f.round({describe(arguments[0])}, ...): the number of digits is a constant, 0 or more")
    if isinstance(kind, DecimalType):
        scale = min(kind.scale, places.value)
        return DecimalType(min(MAX_PRECISION, kind.precision - kind.scale + scale + 1), scale)
    return kind if kind.is_numeric else None


def whole_type(arguments: Arguments) -> DataType | None:
    """floor and ceil."""
    kind = arguments[0].type
    if isinstance(kind, DecimalType):
        return DecimalType(min(MAX_PRECISION, kind.precision - kind.scale + 1), 0)
    return kind if kind.is_numeric else None
