"""Values as text, for CSV and NDJSON: every digit of a decimal, instants in UTC, NULL apart from empty text."""

from __future__ import annotations

import json
from collections.abc import Callable

import polars as pl

from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import BytesType, DateType, FloatType, StringMapType, StringType, TimestampType, UuidType

MILLISECONDS, MICROSECONDS = "%Y-%m-%dT%H:%M:%S%.3fZ", "%Y-%m-%dT%H:%M:%S%.6fZ"


def csv_values(entity: EntityModel, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with instants, bytes and maps as text; all else is written right as it is."""
    return frame.select(_TEXTS.get(type(found.type), _itself)(pl.col(found.name)) for found in entity.fields)


def ndjson_lines(entity: EntityModel, frame: pl.DataFrame) -> pl.Series:
    """One JSON object per row, in the order of the fields."""
    for found in entity.fields:
        if isinstance(found.type, FloatType) and not frame[found.name].is_finite().all():
            raise DataError(f"{entity.name}.{found.name} is infinite or no number, which JSON cannot say; use csv or parquet")
    parts: list[pl.Expr] = []
    for position, found in enumerate(entity.fields):
        start = "{" if position == 0 else ","
        parts += [pl.lit(f"{start}{json.dumps(found.name)}:"), _json_value(found).fill_null("null")]
    return frame.select(line=pl.concat_str([*parts, pl.lit("}")])).to_series()


def _json_value(found: FieldModel) -> pl.Expr:
    column = pl.col(found.name)
    text = _TEXTS.get(type(found.type), _itself)(column)
    if isinstance(found.type, StringType | UuidType):
        return _json_text(text)
    if isinstance(found.type, TimestampType | DateType | BytesType):
        return pl.concat_str(pl.lit('"'), text.cast(pl.String), pl.lit('"'))
    return text.cast(pl.String)


def _json_text(column: pl.Expr) -> pl.Expr:
    """Text with quotes and escapes, by way of an object that holds nothing else."""
    encoded = pl.struct(column.alias("v")).struct.json_encode()
    return pl.when(column.is_not_null()).then(encoded.str.strip_prefix('{"v":').str.strip_suffix("}"))


def _instant(column: pl.Expr) -> pl.Expr:
    """Milliseconds where they are enough, else microseconds."""
    is_coarse = column.dt.timestamp("us") % 1000 == 0
    return pl.when(is_coarse).then(column.dt.strftime(MILLISECONDS)).otherwise(column.dt.strftime(MICROSECONDS))


def _base64(column: pl.Expr) -> pl.Expr:
    return column.bin.encode("base64")


def _map(column: pl.Expr) -> pl.Expr:
    return column.map_elements(_json_object, return_dtype=pl.String)


def _json_object(entries: pl.Series) -> str:
    return json.dumps({entry["key"]: entry["value"] for entry in entries}, ensure_ascii=False)


def _itself(column: pl.Expr) -> pl.Expr:
    return column


_TEXTS: dict[type, Callable[[pl.Expr], pl.Expr]] = {
    TimestampType: _instant,
    BytesType: _base64,
    StringMapType: _map,
}
