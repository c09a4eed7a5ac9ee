"""Records as JSON objects, one a message."""

from __future__ import annotations

import base64
import json
import math
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NoReturn

import polars as pl

from kandle.errors import DataError
from kandle.model.parsing import timestamp_from_text
from kandle.model.types import (
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.serde.avro_readers import FIRST_DAY, LAST_DAY
from kandle.serde.avro_writing import check_decimals, checked_column
from kandle.serde.port import Decoded, Messages, RecordField, has_default, physical_default, rejects_of, scaled, shown
from kandle.serde.registry import subject_of
from kandle.serde.schema import EPOCH_DAY, Shape, Side
from kandle.time.timeframe import parse_instant, to_instant

NANOS = "epoch_ns"
EPOCH_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
USUAL_UNIT = 1_000


def json_column(found: RecordField, frame: pl.DataFrame, subject: str) -> pl.Series:
    """The field's values as JSON text, null included; DataError names subject, field and a value that JSON cannot hold."""
    column = checked_column(found, frame, subject)
    _check(found, column, subject)
    write = _WRITERS.get(type(found.type), _plain)
    return pl.DataFrame({"v": column}).select(write(found, pl.col("v")).fill_null("null")).to_series()


def _check(found: RecordField, column: pl.Series, subject: str) -> None:
    if isinstance(found.type, DecimalType):
        check_decimals(found, column, subject)
    elif isinstance(found.type, FloatType):
        _refuse(column, ~column.is_finite(), f"subject {subject}, field {found.name}", "JSON has no such number; use AVRO")
    elif isinstance(found.type, TimestampType) and is_pattern(found.datetime_format):
        text = column.dt.strftime(str(found.datetime_format))
        why = f"text of the form {found.datetime_format!r} would not say all of it"
        _refuse(
            column,
            timestamp_from_text(text, found.datetime_format).ne_missing(column),
            f"subject {subject}, field {found.name}",
            why,
        )
    elif isinstance(found.type, TimestampType) and found.datetime_format != NANOS:
        unit = EPOCH_UNITS.get(found.datetime_format or "", USUAL_UNIT)
        why = f'it would be cut to multiples of {unit} microseconds; declare DatetimeFormat("epoch_us")'
        _refuse(column, column.to_physical() % unit != 0, f"subject {subject}, field {found.name}", why)


def is_pattern(datetime_format: str | None) -> bool:
    """Whether instants are text of a form of their own."""
    return datetime_format is not None and "%" in datetime_format


def _refuse(column: pl.Series, bad: pl.Series, where: str, why: str) -> None:
    row = bad.fill_null(False).arg_max() if bad.any() else None
    if row is not None:
        raise DataError(f"{where} = {shown(column[row])} in row {row}: {why}")


def _plain(found: RecordField, column: pl.Expr) -> pl.Expr:
    return column.cast(pl.String)


def _text_json(found: RecordField, column: pl.Expr) -> pl.Expr:
    """Text with quotes and escapes, by way of an object that holds nothing else."""
    encoded = pl.struct(column.alias("v")).struct.json_encode()
    return pl.when(column.is_not_null()).then(encoded.str.strip_prefix('{"v":').str.strip_suffix("}"))


def _decimal_json(found: RecordField, column: pl.Expr) -> pl.Expr:
    assert isinstance(found.type, DecimalType)
    scale = found.type.scale
    if scale == 0:
        return column.cast(pl.String)
    unit = pl.lit(10**scale, dtype=found.type.physical)
    sign = pl.when(column < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    behind = (column.abs() % unit).cast(pl.String).str.zfill(scale)
    return pl.when(column.is_not_null()).then(pl.concat_str(sign, (column.abs() // unit).cast(pl.String), pl.lit("."), behind))


def _instant(found: RecordField, column: pl.Expr) -> pl.Expr:
    if is_pattern(found.datetime_format):
        return _text_json(found, column.dt.strftime(str(found.datetime_format)))
    micros = column.to_physical()
    if found.datetime_format == NANOS:
        return (micros.cast(pl.Int128) * 1_000).cast(pl.String)
    return (micros // EPOCH_UNITS.get(found.datetime_format or "", USUAL_UNIT)).cast(pl.String)


def _date_json(found: RecordField, column: pl.Expr) -> pl.Expr:
    return column.to_physical().cast(pl.String)


def _base64(found: RecordField, column: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit('"'), column.bin.encode("base64"), pl.lit('"'))


def _map(found: RecordField, column: pl.Expr) -> pl.Expr:
    return column.map_elements(_object, return_dtype=pl.String)


def _object(entries: pl.Series) -> str:
    return json.dumps({entry["key"]: entry["value"] for entry in entries}, ensure_ascii=False)


_WRITERS: dict[type[DataType], Callable[[RecordField, pl.Expr], pl.Expr]] = {
    StringType: _text_json,
    UuidType: _text_json,
    DecimalType: _decimal_json,
    TimestampType: _instant,
    DateType: _date_json,
    BytesType: _base64,
    StringMapType: _map,
}


INTEGER_END = 2**63
DAY = 86_400_000_000
FIRST_INSTANT, END_OF_INSTANTS = FIRST_DAY * DAY, (LAST_DAY + 1) * DAY


def column_of(found: RecordField, values: list[Any]) -> pl.Series:
    """A physical column of values that `json_value` gave."""
    numbers = {TimestampType: pl.Int64(), DateType: pl.Int32()}.get(type(found.type))
    if numbers is None:
        return pl.Series(found.name, values, dtype=found.type.physical)
    return pl.Series(found.name, values, dtype=numbers).cast(found.type.physical)


def default_value(found: RecordField) -> Any:
    """The default, as `json_value` would give it."""
    value = physical_default(found)
    if isinstance(found.type, TimestampType) and value is not None:
        return to_instant(value)
    return value if not isinstance(value, date) else value.toordinal() - EPOCH_DAY.toordinal()


def json_value(found: RecordField, value: Any) -> Any:
    """The physical value, that of an instant or a date as its number; ValueError says what is wrong with it.

    Numbers with a point must have been read as Decimal.
    """
    if value is None:
        if not found.nullable:
            raise ValueError("there is no value, but the field is not Optional")
        return None
    return _VALUES[type(found.type)](found, value)


def _wrong(found: RecordField, value: Any) -> ValueError:
    text = repr(value) if isinstance(value, str) else str(value)
    return ValueError(f"{text[:40]} is not {found.type}")


def _boolean(found: RecordField, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(found, value)
    return value


def _number(found: RecordField, value: Any) -> Decimal | int:
    """A number, or text that is one."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,100}(\.\d{1,100})?([eE][+-]?\d{1,6})?", value, re.ASCII):
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _wrong(found, value)
    return value


def _integer(found: RecordField, value: Any) -> int:
    whole = value if type(value) is int else scaled(_number(found, value), 0)
    if not -INTEGER_END <= whole < INTEGER_END:
        raise _wrong(found, value)
    return whole


def _float(found: RecordField, value: Any) -> float:
    try:
        number = float(_number(found, value))
    except OverflowError:
        raise _wrong(found, value) from None
    if not math.isfinite(number):
        raise _wrong(found, value)
    return number


def _decimal_value(found: RecordField, value: Any) -> int:
    assert isinstance(found.type, DecimalType)
    whole = scaled(_number(found, value), found.type.scale)
    if abs(whole) >= 10**found.type.precision:
        raise _wrong(found, value)
    return whole


def _text_value(found: RecordField, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(found, value)
    if not value.isascii() and re.search("[\ud800-\udfff]", value):
        raise ValueError("it is text with half a character")
    longest = found.type.max_length if isinstance(found.type, StringType) else None
    if longest is not None and len(value) > longest:
        raise ValueError(f"it has more than {longest} characters")
    return value


def _uuid(found: RecordField, value: Any) -> str:
    try:
        return str(uuid.UUID(_text_value(found, value)))
    except ValueError:
        raise _wrong(found, value) from None


def _bytes(found: RecordField, value: Any) -> bytes:
    return base64.b64decode(_text_value(found, value), validate=True)


def _date_value(found: RecordField, value: Any) -> int:
    """Days since the epoch, or ISO 8601."""
    if isinstance(value, str) and "-" in value[1:]:
        return date.fromisoformat(value).toordinal() - EPOCH_DAY.toordinal()
    days = _integer(found, value)
    if not FIRST_DAY <= days <= LAST_DAY:
        raise _wrong(found, value)
    return days


def _timestamp(found: RecordField, value: Any) -> int:
    """Text in the form of the field, a number since the epoch in its unit, or ISO 8601; in microseconds."""
    if isinstance(value, str) and is_pattern(found.datetime_format):
        instant = timestamp_from_text(pl.Series([value]), found.datetime_format).to_physical()[0]
        if instant is not None:
            return int(instant)
    if isinstance(value, str) and "-" in value[1:]:
        if re.search(r"[.,]\d{6}\d*[1-9]", value):
            raise ValueError(f"{value[:40]} is finer than a microsecond")
        return parse_instant(value)
    number = value if type(value) is int else scaled(_number(found, value), 0)
    if found.datetime_format == NANOS:
        micros, rest = divmod(number, 1_000)
        if rest:
            raise ValueError(f"{number} is finer than a microsecond")
    else:
        micros = number * EPOCH_UNITS.get(found.datetime_format or "", USUAL_UNIT)
    if not FIRST_INSTANT <= micros < END_OF_INSTANTS:
        raise ValueError(f"{number} is not within the years 1 to 9999")
    return micros


def _string_map(found: RecordField, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _wrong(found, value)
    return [{"key": _text_value(found, key), "value": _text_value(found, text)} for key, text in value.items()]


_VALUES: dict[type[DataType], Callable[[RecordField, Any], Any]] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    FloatType: _float,
    DecimalType: _decimal_value,
    StringType: _text_value,
    UuidType: _uuid,
    BytesType: _bytes,
    DateType: _date_value,
    TimestampType: _timestamp,
    StringMapType: _string_map,
}


class JsonFormat:
    """The key or value records of a topic as JSON; a bare field is its value without an object around it.

    Fields are found by name, by alias, else by name in another case. Those that are missing take their default.
    """

    def __init__(self, topic: str, side: Side, fields: Sequence[RecordField], *, shape: Shape = Shape.RECORD) -> None:
        self.fields = tuple(fields)
        self._subject = subject_of(topic, side)
        self._is_bare = shape is Shape.BARE and len(self.fields) == 1
        self._names = {each.name.casefold(): each.name for each in reversed(self.fields)}
        self._names |= {name: each.name for each in self.fields for name in (*each.aliases, each.name)}

        self._defaults = {each.name: default_value(each) for each in self.fields}

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row of a physical frame."""
        columns = [json_column(each, frame, self._subject) for each in self.fields]
        if self._is_bare:
            return [text.encode() for text in columns[0].to_list()]
        if not columns:
            return [b"{}"] * frame.height
        parts: list[pl.Series | pl.Expr] = []
        for at, (each, column) in enumerate(zip(self.fields, columns, strict=True)):
            parts += [pl.lit(f"{',' if at else '{'}{json.dumps(each.name)}:"), column]
        lines = pl.select(pl.concat_str([*parts, pl.lit("}")])).to_series()
        return [line.encode() for line in lines.to_list()]

    def decode(self, messages: Messages) -> Decoded:
        """A row per message."""
        rows, reasons = [], {}
        for at, message in enumerate(messages):
            try:
                rows.append(self._row(message))
            except (ValueError, RecursionError) as error:
                reasons[at] = f"{self._subject}: {error}"
        columns = list(zip(*rows, strict=True)) or [()] * len(self.fields)
        frame = pl.DataFrame([column_of(each, list(column)) for each, column in zip(self.fields, columns, strict=True)])
        return Decoded(frame, rejects_of(reasons))

    def _row(self, message: bytes | None) -> list[Any]:
        if message is None:
            raise ValueError("there is no record (null)")
        content = self._content(message)
        found: dict[str, Any] = {}
        for name, value in content.items():
            known = self._names.get(name) or self._names.get(name.casefold())
            if known is not None and (name == known or known not in content):
                found[known] = value
        return [self._value(each, found) for each in self.fields]

    def _content(self, message: bytes) -> dict[str, Any]:
        try:
            content = json.loads(message.decode(), parse_float=Decimal, parse_constant=_refuse_constant)
        except ValueError as error:
            raise ValueError(f"it is not JSON: {error}") from None
        if isinstance(content, dict) and not (self._is_bare and self.fields[0].name not in content):
            return content
        if len(self.fields) == 1:
            return {self.fields[0].name: content}
        raise ValueError("it is not a JSON object")

    def _value(self, each: RecordField, found: dict[str, Any]) -> Any:
        if each.name not in found:
            if not has_default(each):
                raise ValueError(f"there is no field {each.name}")
            return self._defaults[each.name]
        try:
            return json_value(each, found[each.name])
        except ValueError as error:
            raise ValueError(f"field {each.name}: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
