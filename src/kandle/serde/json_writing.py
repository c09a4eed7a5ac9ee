"""Columns as JSON: every digit of decimals, instants as numbers since the epoch or in the form of their field."""

from __future__ import annotations

import json
from collections.abc import Callable

import polars as pl

from kandle.errors import DataError
from kandle.model.parsing import timestamp_from_text
from kandle.model.types import (
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.serde.encoding import check_decimals, checked_column
from kandle.serde.fields import RecordField
from kandle.serde.port import shown

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


def _text(found: RecordField, column: pl.Expr) -> pl.Expr:
    """Text with quotes and escapes, by way of an object that holds nothing else."""
    encoded = pl.struct(column.alias("v")).struct.json_encode()
    return pl.when(column.is_not_null()).then(encoded.str.strip_prefix('{"v":').str.strip_suffix("}"))


def _decimal(found: RecordField, column: pl.Expr) -> pl.Expr:
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
        return _text(found, column.dt.strftime(str(found.datetime_format)))
    micros = column.to_physical()
    if found.datetime_format == NANOS:
        return (micros.cast(pl.Int128) * 1_000).cast(pl.String)
    return (micros // EPOCH_UNITS.get(found.datetime_format or "", USUAL_UNIT)).cast(pl.String)


def _date(found: RecordField, column: pl.Expr) -> pl.Expr:
    return column.to_physical().cast(pl.String)


def _base64(found: RecordField, column: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit('"'), column.bin.encode("base64"), pl.lit('"'))


def _map(found: RecordField, column: pl.Expr) -> pl.Expr:
    return column.map_elements(_object, return_dtype=pl.String)


def _object(entries: pl.Series) -> str:
    return json.dumps({entry["key"]: entry["value"] for entry in entries}, ensure_ascii=False)


_WRITERS: dict[type[DataType], Callable[[RecordField, pl.Expr], pl.Expr]] = {
    StringType: _text,
    UuidType: _text,
    DecimalType: _decimal,
    TimestampType: _instant,
    DateType: _date,
    BytesType: _base64,
    StringMapType: _map,
}
