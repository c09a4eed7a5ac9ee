"""Which Python values can stand in a query as constants, and as what type."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from kandle.errors import QueryError
from kandle.model.types import BOOLEAN, BYTES, DATE, FLOAT, INTEGER, STRING, TIMESTAMP, UUID, DataType, DecimalType


def constant_type(value: Any) -> DataType:
    """The type of a constant; QueryError if no value of its kind can stand in a query."""
    if isinstance(value, Decimal):
        return _decimal_type(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise QueryError(f"the constant {value!r} has no time zone; write datetime(..., tzinfo=timezone.utc)")
        return TIMESTAMP
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        raise QueryError(f"the constant {value} does not fit 64 bits; write Decimal({str(value)!r})")
    for kind, found in _CONSTANTS.items():
        if type(value) is kind:
            return found
    raise QueryError(
        f"a constant of type {type(value).__name__} cannot stand in a query: {value!r}; use "
        "str, int, float, bool, Decimal, datetime, date, UUID or bytes"
    )


_CONSTANTS: dict[type, DataType] = {
    bool: BOOLEAN,
    int: INTEGER,
    float: FLOAT,
    str: STRING,
    date: DATE,
    uuid.UUID: UUID,
    bytes: BYTES,
}


def _decimal_type(value: Decimal) -> DecimalType:
    if not value.is_finite():
        raise QueryError(f"the constant {value} is not a finite number")
    _, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    return DecimalType(max(1, scale, len(digits) + max(0, int(exponent))), scale)
