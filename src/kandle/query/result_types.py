"""Result types of operators and functions: pure rules over the nodes of the arguments.

A rule returns None where it does not accept the arguments; it raises QueryError itself where it knows a way
out.
"""

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
SMALLEST_QUOTIENT_SCALE = 12
EXTRA_AVERAGE_DIGITS = 6
COMPARABLE = (BooleanType, StringType, UuidType, BytesType, DateType, TimestampType)


def are_numbers(arguments: Arguments) -> bool:
    """Return whether all arguments are numbers; QueryError if decimals and floats are among them."""
    if not all(argument.type.is_numeric for argument in arguments):
        return False
    exact = next((argument for argument in arguments if isinstance(argument.type, DecimalType)), None)
    inexact = next((argument for argument in arguments if isinstance(argument.type, FloatType)), None)
    if exact is not None and inexact is not None:
        shown = " and ".join(f"{describe(argument)} ({argument.type})" for argument in (exact, inexact))
        raise QueryError(f"{shown} cannot be combined: one is exact, the other is not; write {_brought_together(exact, inexact)}")
    return True


def _brought_together(exact: AnyNode, inexact: AnyNode) -> str:
    """Return how to write a decimal and a float so that they have one type."""
    if isinstance(inexact, Constant):
        return f"Decimal({str(inexact.value)!r})"
    if isinstance(exact, Constant):
        return str(float(exact.value))
    return f"f.cast({describe(exact)}, float) or f.cast({describe(inexact)}, Precision(18, 6))"


def _any_of(kind: type[DataType], arguments: Arguments) -> bool:
    return any(isinstance(argument.type, kind) for argument in arguments)


def exact_type(node: AnyNode) -> DecimalType:
    """Return the decimal type of an exact number: an int constant counts its digits, any other int has 19."""
    if isinstance(node.type, DecimalType):
        return node.type
    if isinstance(node, Constant) and isinstance(node.value, int):
        return DecimalType(max(1, len(str(abs(node.value)))), 0)
    return DecimalType(19, 0)


def common_decimal(arguments: Arguments, carry: int = 0) -> DecimalType:
    """Return the decimal type that holds all arguments, of 38 digits at most.

    It has `carry` more digits before the point than the largest of them.
    """
    kinds = [exact_type(argument) for argument in arguments]
    scale = max(kind.scale for kind in kinds)
    whole = max(kind.precision - kind.scale for kind in kinds)
    return DecimalType(min(MAX_PRECISION, whole + scale + carry), scale)


def sum_type(arguments: Arguments) -> DataType | None:
    """Return the type of a sum or difference."""
    if not are_numbers(arguments):
        return None
    if _any_of(FloatType, arguments):
        return FLOAT
    if not _any_of(DecimalType, arguments):
        return INTEGER
    return common_decimal(arguments, carry=1)


def product_type(arguments: Arguments) -> DataType | None:
    """Return the type of a product; of decimals it has the digits of both behind the point."""
    if not are_numbers(arguments):
        return None
    if _any_of(FloatType, arguments):
        return FLOAT
    if not _any_of(DecimalType, arguments):
        return INTEGER
    left, right = (exact_type(argument) for argument in arguments)
    scale = left.scale + right.scale
    if scale > MAX_PRECISION:
        shown = [describe(argument) for argument in arguments]
        finer, other = (shown[0], right) if left.scale >= right.scale else (shown[1], left)
        raise QueryError(
            f"{shown[0]} * {shown[1]} would have {scale} digits behind the point, but {MAX_PRECISION} are possible; "
            f"round first: f.round({finer}, {MAX_PRECISION - other.scale})"
        )
    return DecimalType(min(MAX_PRECISION, left.precision + right.precision), scale)


def quotient_type(arguments: Arguments) -> DataType | None:
    """Return the type of a quotient: a float, or a decimal of 38 digits if one argument is a decimal."""
    if not are_numbers(arguments):
        return None
    if not _any_of(DecimalType, arguments):
        return FLOAT
    scale = max(exact_type(argument).scale for argument in arguments)
    return DecimalType(MAX_PRECISION, min(max(scale, SMALLEST_QUOTIENT_SCALE), LARGEST_QUOTIENT_SCALE))


def floor_quotient_type(arguments: Arguments) -> DataType | None:
    """Return the type of `//`."""
    return _whole_division(arguments, "//", "f.floor({0} / {1})")


def remainder_type(arguments: Arguments) -> DataType | None:
    """Return the type of `%`."""
    return _whole_division(arguments, "%", "{0} - f.floor({0} / {1}) * {1}")


def _whole_division(arguments: Arguments, operator: str, instead: str) -> DataType | None:
    if not are_numbers(arguments):
        return None
    if _any_of(DecimalType, arguments):
        shown = [describe(argument) for argument in arguments]
        raise QueryError(
            f"{shown[0]} {operator} {shown[1]}: {operator} of decimals is not defined, since Python and SQL round it "
            f"differently; write {instead.format(*shown)}"
        )
    return FLOAT if _any_of(FloatType, arguments) else INTEGER


def common_type(arguments: Arguments) -> DataType | None:
    """Return the type that holds the values of all arguments, which are alternatives of each other."""
    known = [argument for argument in arguments if not (isinstance(argument, Constant) and argument.value is None)]
    known = known or list(arguments)
    if all(argument.type.is_numeric for argument in known):
        are_numbers(known)
        if _any_of(DecimalType, known):
            return common_decimal(known)
        return FLOAT if _any_of(FloatType, known) else INTEGER
    kinds = {type(argument.type) for argument in known}
    return known[0].type if len(kinds) == 1 else None


def are_comparable(arguments: Arguments) -> bool:
    """Return whether the arguments can be compared with each other."""
    if all(argument.type.is_numeric for argument in arguments):
        return are_numbers(arguments)
    kinds = {type(argument.type) for argument in arguments}
    return len(kinds) == 1 and kinds.pop() in COMPARABLE


def average_type(arguments: Arguments) -> DataType | None:
    """Return the type of a mean: of decimals, a decimal with some more digits behind the point."""
    kind = arguments[0].type
    if isinstance(kind, DecimalType):
        return _average_of(kind.scale)
    return FLOAT if isinstance(kind, IntegerType | FloatType) else None


def weighted_average_type(arguments: Arguments) -> DataType | None:
    """Return the type of a weighted mean."""
    if not are_numbers(arguments):
        return None
    if not _any_of(DecimalType, arguments):
        return FLOAT
    product_type(arguments)
    return _average_of(exact_type(arguments[0]).scale)


def _average_of(scale: int) -> DecimalType:
    return DecimalType(MAX_PRECISION, min(scale + EXTRA_AVERAGE_DIGITS, max(scale, LARGEST_QUOTIENT_SCALE)))


def rounded_type(arguments: Arguments) -> DataType | None:
    """Return the type of a rounded number; a decimal has fewer digits behind the point."""
    kind, digits = arguments[0].type, arguments[1] if len(arguments) > 1 else Constant(0, INTEGER)
    if not isinstance(digits, Constant) or not isinstance(digits.value, int) or digits.value < 0:
        shown = ", ".join(map(describe, arguments))
        raise QueryError(f"f.round({shown}): the number of digits must be a constant int of 0 or more")
    if isinstance(kind, DecimalType):
        scale = min(kind.scale, digits.value)
        return DecimalType(min(MAX_PRECISION, kind.precision - kind.scale + scale + 1), scale)
    return kind if kind.is_numeric else None


def whole_type(arguments: Arguments) -> DataType | None:
    """Return the type of a number that is rounded down or up to an integer."""
    kind = arguments[0].type
    if isinstance(kind, DecimalType):
        return DecimalType(min(MAX_PRECISION, kind.precision - kind.scale + 1), 0)
    return kind if kind.is_numeric else None
