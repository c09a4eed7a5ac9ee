"""Constants as literals of ksqlDB, or as what makes a value of their type from one."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from kandle.ksql.operators import null
from kandle.ksql.terms import FALSE, TRUE, Level, Term, Truth, boolean
from kandle.ksql.types import (
    BIGINT,
    BYTES,
    DATE,
    DOUBLE,
    INTEGER,
    TIMESTAMP,
    VARCHAR,
    KsqlType,
    RefusedError,
    column_type,
    decimal,
    text,
)
from kandle.model.types import BYTES as RAW
from kandle.model.types import DATE as DAY
from kandle.model.types import (
    FLOAT,
    INTEGER_BOUNDS,
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
from kandle.model.types import TIMESTAMP as INSTANT
from kandle.query.nodes import Constant

LARGEST_LITERAL = 18
"""Digits of a number up to which a literal is surely read as it is."""


def constant(node: Constant) -> Term:
    """The value of a constant: a number by its shortest literal, whose type ksqlDB chooses."""
    if node.value is None:
        return null(column_type(node.type))
    return _LITERALS[type(node.type)](node.value)


def number(value: int | Decimal) -> Term:
    """An exact number: an INTEGER or BIGINT without a point, a DECIMAL with one."""
    shown = f"{value:f}" if isinstance(value, Decimal) else str(value)
    level = Level.SUM if value < 0 else Level.ATOM
    count = sum(character.isdigit() for character in shown)
    kind = _number_type(value, shown)
    if count > LARGEST_LITERAL:
        return Term(f"CAST({text(shown)} AS {kind})", kind, nullable=False)
    return Term(shown, kind, nullable=False, level=level)


def _number_type(value: int | Decimal, shown: str) -> KsqlType:
    if "." in shown:
        scale = len(shown.partition(".")[2])
        digits = len(shown.replace("-", "").replace(".", "").lstrip("0"))
        return decimal(max(digits, scale + 1), scale)
    if -(2**31) < value < 2**31:
        return INTEGER
    return BIGINT if INTEGER_BOUNDS[0] <= value <= INTEGER_BOUNDS[1] else decimal(len(shown.lstrip("-")), 0)


def power_of_ten(exponent: int) -> Term:
    """10 ** exponent, exact."""
    return number(10**exponent if exponent >= 0 else Decimal(1).scaleb(exponent))


def _float(value: float) -> Term:
    if not math.isfinite(value):
        raise RefusedError(f"ksqlDB has no literal for {value}; compare with a finite number")
    shown = repr(value)
    level = Level.SUM if shown.startswith("-") else Level.ATOM
    shown = shown.replace("e", "E") if "e" in shown else FLOAT.row.literal.format(shown)
    return Term(shown, DOUBLE, nullable=False, level=level)


def _timestamp(value: datetime) -> Term:
    instant = value.astimezone(UTC)
    if instant.microsecond % 1000:
        raise RefusedError(f"an instant of ksqlDB has milliseconds, {value.isoformat()} has microseconds; round the constant")
    shown = instant.replace(tzinfo=None).isoformat(timespec="milliseconds")
    literal = text(shown.removesuffix(".000"))
    return Term(INSTANT.row.literal.format(literal), TIMESTAMP, nullable=False, literal=literal)


def _date(value: date) -> Term:
    literal = text(value.isoformat())
    return Term(DAY.row.literal.format(literal), DATE, nullable=False, literal=literal)


def _bytes(value: bytes) -> Term:
    literal = text(base64.b64encode(value).decode())
    return Term(RAW.row.literal.format(literal), BYTES, nullable=False, literal=literal)


def _boolean(value: bool) -> Term:
    return boolean(Truth(TRUE, FALSE) if value else Truth(FALSE, TRUE), nullable=False)


_LITERALS: dict[type[DataType], Callable[[Any], Term]] = {
    BooleanType: _boolean,
    IntegerType: number,
    DecimalType: number,
    FloatType: _float,
    StringType: lambda value: Term(text(value), VARCHAR, nullable=False),
    UuidType: lambda value: Term(text(str(value)), VARCHAR, nullable=False),
    BytesType: _bytes,
    DateType: _date,
    TimestampType: _timestamp,
}
