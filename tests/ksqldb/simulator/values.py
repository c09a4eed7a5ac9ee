"""Values as the server has them: casts, decimals with Java's rules, text as Java prints it.

Rows hold bool, int, float, Decimal, str, bytes, date, time, aware datetime (UTC, milliseconds), list, dict and None.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

from tests.ksqldb.simulator.errors import RowFailedError, UnreadError
from tests.ksqldb.simulator.types import BITS, Type

EXACT = decimal.Context(prec=400, traps=[decimal.InvalidOperation, decimal.Overflow, decimal.DivisionByZero])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wrapped(value: int, bits: int) -> int:
    """A whole number in two's complement, as Java's sums run over."""
    limit: int = 2 ** (bits - 1)
    return (value + limit) % (2 * limit) - limit


def saturated(value: float, bits: int) -> int:
    """A double as a whole number: cut, held within the range, NaN as 0."""
    if math.isnan(value):
        return 0
    limit = 2 ** (bits - 1)
    return -limit if value <= -limit else limit - 1 if value >= limit - 1 else int(value)


def scaled(value: Decimal, scale: int, rounding: str | None = None) -> Decimal:
    """A decimal with this scale; without rounding it must be exact."""
    rounded = value.quantize(Decimal(1).scaleb(-scale), rounding=rounding or ROUND_HALF_UP, context=EXACT)
    if rounding is None and rounded != value:
        raise RowFailedError("Rounding necessary")
    return rounded if rounded else rounded.copy_abs()  # Java has no negative zero here


def quotient(left: Decimal, right: Decimal, kind: Type) -> Decimal:
    """A quotient in its type, if it ends within its scale."""
    if not right:
        raise RowFailedError("Division by zero")
    units = Fraction(left) / Fraction(right) * 10**kind.scale
    if units.denominator != 1:
        raise RowFailedError("Rounding necessary")
    return Decimal(units.numerator).scaleb(-kind.scale, EXACT)


def remainder(left: Decimal, right: Decimal, kind: Type) -> Decimal:
    if not right:
        raise RowFailedError("Division by zero")
    return scaled(EXACT.remainder(left, right), kind.scale)


def to_decimal(value: Any, kind: Type) -> Decimal:
    """CAST AS DECIMAL: half up; too large fails; a double is its binary value cut to the precision first."""
    number = Decimal(value.strip() if isinstance(value, str) else value)
    if not number.is_finite():
        raise RowFailedError("Infinite or NaN")
    if isinstance(value, int | float):
        number = decimal.Context(prec=kind.precision, rounding=ROUND_HALF_UP).plus(number)
    if abs(number) >= Decimal(10) ** (kind.precision - kind.scale):
        raise RowFailedError(f"Numeric field overflow: {kind} <- {number}")
    return scaled(number, kind.scale, ROUND_HALF_UP)


def plain(value: Decimal) -> str:
    return format(value, "f")


def double_text(value: float) -> str:
    """A double as Java prints it: 2.5, 3.0E9, 1.0E-4, NaN, -Infinity."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = plain(Decimal(repr(value)))
        return text if "." in text else f"{text}.0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    fraction = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{fraction}E{int(exponent) + len(digits) - 1}"


def text_of(value: Any) -> str:
    """CAST AS VARCHAR, as text or as a part of a collection's."""
    for kind, write in TEXTS:
        if isinstance(value, kind):
            return write(value)
    return str(value)


def timestamp_text(value: datetime) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}".rjust(23, "0")


def _listed(value: Any) -> str:
    return "null" if value is None else text_of(value)


TEXTS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (bool, lambda value: "true" if value else "false"),
    (float, double_text),
    (Decimal, plain),
    (datetime, timestamp_text),
    (date, date.isoformat),
    (time, lambda value: value.isoformat("seconds" if not value.microsecond else "milliseconds")),
    (list, lambda value: f"[{', '.join(map(_listed, value))}]"),
    (dict, lambda value: f"{{{', '.join(f'{key}={_listed(item)}' for key, item in value.items())}}}"),
)


def milliseconds_of(value: datetime) -> int:
    return (value - EPOCH) // timedelta(milliseconds=1)


def timestamp_at(milliseconds: int) -> datetime:
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError as error:
        raise UnreadError(f"a timestamp of {milliseconds} ms is beyond the years that Python knows") from error


TIMESTAMP_PATTERN = re.compile(
    r"(\d{4})(?:-(\d\d?)(?:-(\d\d?))?)?(?:T(?:(\d\d?)(?::(\d\d?)(?::(\d\d?)(?:\.(\d{1,3}))?)?)?)?)?(Z|[+-]\d\d:?\d\d)?"
)


def parse_timestamp(text: str) -> datetime:
    """Text that stands for a timestamp in comparisons and casts; parts from the right may be missing."""
    match = TIMESTAMP_PATTERN.fullmatch(text)
    if match is None:
        raise RowFailedError(f"Failed to parse timestamp '{text}'")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    moment: datetime = _checked(
        datetime, int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0)
    )
    offset = datetime.strptime(zone.replace("Z", "+0000"), "%z").tzinfo if zone else UTC
    return (moment.replace(tzinfo=offset) + timedelta(milliseconds=int((fraction or "0").ljust(3, "0")))).astimezone(UTC)


def parse_date(text: str) -> date:
    match = re.fullmatch(r"(\d{4})(?:-(\d\d?)(?:-(\d\d?))?)?", text)
    if match is None:
        raise RowFailedError(f"Failed to parse date '{text}'")
    year, month, day = match.groups()
    parsed: date = _checked(date, int(year), int(month or 1), int(day or 1))
    return parsed


def parse_time(text: str) -> time:
    match = re.fullmatch(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?", text)
    if match is None:
        raise RowFailedError(f"Failed to parse time '{text}'")
    hour, minute, second, fraction = match.groups()
    parsed: time = _checked(time, int(hour), int(minute), int(second or 0), 1000 * int((fraction or "0").ljust(3, "0")))
    return parsed


def _checked(kind: Callable[..., Any], *parts: int) -> Any:
    try:
        return kind(*parts)
    except ValueError as error:
        raise RowFailedError(str(error)) from error


def _whole_text(text: str, bits: int) -> int:
    if not re.fullmatch(r"[+-]?\d+", text.strip()) or wrapped(int(text), bits) != int(text):
        raise RowFailedError(f'For input string: "{text}"')
    return int(text)


def _double_text(text: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text.strip()):
        raise RowFailedError(f'For input string: "{text}"')
    return float(text)


def _decimal_text(text: str, kind: Type) -> Decimal:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text.strip()):
        raise RowFailedError(f"not a number: {text}")
    return to_decimal(text, kind)


def _to_whole(value: Any, kind: Type) -> int:
    return saturated(value, BITS[kind.name]) if isinstance(value, float) else wrapped(int(value), BITS[kind.name])


TRUE_TEXTS = ("t", "tr", "tru", "true", "y", "ye", "yes")

FROM_TEXT: dict[str, Callable[[str, Type], Any]] = {
    "BOOLEAN": lambda text, kind: text.strip().lower() in TRUE_TEXTS,
    "INTEGER": lambda text, kind: _whole_text(text, 32),
    "BIGINT": lambda text, kind: _whole_text(text, 64),
    "DOUBLE": lambda text, kind: _double_text(text),
    "DECIMAL": _decimal_text,
    "TIMESTAMP": lambda text, kind: parse_timestamp(text),
    "DATE": lambda text, kind: parse_date(text),
    "TIME": lambda text, kind: parse_time(text),
}
FROM_VALUE: dict[str, Callable[[Any, Type], Any]] = {
    "INTEGER": _to_whole,
    "BIGINT": _to_whole,
    "DOUBLE": lambda value, kind: float(value),
    "DECIMAL": to_decimal,
    "VARCHAR": lambda value, kind: text_of(value),
    "DATE": lambda value, kind: value.date(),
    "TIME": lambda value, kind: value.time(),
    "TIMESTAMP": lambda value, kind: datetime(value.year, value.month, value.day, tzinfo=UTC),
}


def cast(value: Any, source: Type | None, target: Type) -> Any:
    """A value as another type; the types were checked before."""
    if value is None or source is None or source == target:
        return value
    if target.name == "ARRAY":
        return [cast(item, source.items[0], target.items[0]) for item in value]
    if target.name == "MAP":
        return {
            cast(key, source.items[0], target.items[0]): cast(item, source.items[1], target.items[1])
            for key, item in value.items()
        }
    if target.name == "STRUCT":
        inner = dict(zip(source.fields, source.items, strict=True))
        return {
            name: cast(value.get(name), inner.get(name), kind) for name, kind in zip(target.fields, target.items, strict=True)
        }
    table = FROM_TEXT if source.name == "VARCHAR" else FROM_VALUE
    return table[target.name](value, target)


def stored(value: Any, kind: Type) -> Any:
    """A value as a column of this type holds it: decimals with the column's scale, doubles as doubles."""
    if value is None:
        return None
    if kind.name == "DECIMAL":
        return scaled(Decimal(value), kind.scale)
    if kind.name == "DOUBLE":
        return float(value)
    if kind.name == "ARRAY":
        return [stored(item, kind.items[0]) for item in value]
    if kind.name == "MAP":
        return {key: stored(item, kind.items[1]) for key, item in value.items()}
    if kind.name == "STRUCT":
        return {name: stored(value.get(name), item) for name, item in zip(kind.fields, kind.items, strict=True)}
    return value
