"""Strict conversion of columns: from whatever a file or frame holds to the physical types of an entity, and back to logical ones.

A value is taken exactly or not at all: the first that does not fit is a DataError that names source, row, column and value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from kandle.errors import DataError, unknown_name
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.markers import EPOCH_FORMATS
from kandle.model.parsing import decimal_from_text, exact_double, timestamp_from_text
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

LONGEST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Place:
    """Where columns come from, for messages: rows are counted from `first_row`."""

    entity: EntityModel
    source: str
    first_row: int

    def error(self, found: FieldModel, position: int | None, what: str) -> DataError:
        """The error of one value, or of a whole column."""
        row = "" if position is None else f"row {self.first_row + position}, "
        source = f"{self.source}, " if self.source else ""
        optional = " | None" if found.nullable else ""
        return DataError(f"{source}{row}column {found.name}: {what} ({self.entity.name}.{found.name} is {found.type}{optional})")


def physical_schema(entity: EntityModel) -> dict[str, pl.DataType]:
    """Columns of the entity's physical frames."""
    return {found.name: found.type.physical for found in entity.fields}


def logical_schema(entity: EntityModel) -> dict[str, pl.DataType]:
    """Columns of the entity's logical frames."""
    return {found.name: found.type.logical for found in entity.fields}


def source_columns(entity: EntityModel, columns: list[str], source: str = "") -> dict[str, str]:
    """For every field the column that holds it, by name or alias; DataError if one is missing."""
    return {found.name: _column_of(entity, found, columns, source) for found in entity.fields}


def _column_of(entity: EntityModel, found: FieldModel, columns: list[str], source: str) -> str:
    for name in (found.name, *found.aliases):
        if name in columns:
            return name
    prefix = f"{source}: " if source else ""
    raise DataError(unknown_name(f"{prefix}no column {found.name!r} for {entity.name}.{found.name}", found.name, columns))


def to_physical(entity: EntityModel, frame: pl.DataFrame, *, first_row: int = 1, source: str = "") -> pl.DataFrame:
    """The entity's columns of a frame in their physical types; other columns are left out."""
    place = Place(entity, source, first_row)
    names = source_columns(entity, frame.columns, source)
    return pl.DataFrame([_converted(place, found, frame[names[found.name]]) for found in entity.fields])


def _converted(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    column = _plain(column, found)
    if column.dtype == pl.Null:
        column = column.cast(found.type.physical)
    convert = _CONVERTERS[type(found.type)]
    result = convert(place, found, column).cast(found.type.physical).alias(found.name)
    _check_all_taken(place, found, column, result)
    return result


def _plain(column: pl.Series, found: FieldModel) -> pl.Series:
    """Dictionary-encoded text as text; empty text as NULL where it stands for a missing value."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String and (found.nullable or not isinstance(found.type, StringType)):
        empty = column.str.len_bytes() == 0
        if empty.any():
            return column.set(empty, None)
    return column


def _check_all_taken(place: Place, found: FieldModel, column: pl.Series, result: pl.Series) -> None:
    if result.null_count() == column.null_count():
        if column.null_count() and not found.nullable:
            position = column.is_null().arg_max()
            raise place.error(found, position, "there is no value, but the field is not Optional")
        return
    bad = (result.is_null() & column.is_not_null()).arg_max()
    assert bad is not None
    raise place.error(found, bad, f"{_shown(column[bad])} is not {_accepted(found)}")


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _accepted(found: FieldModel) -> str:
    """What the field takes, in words."""
    if found.datetime_format is not None:
        return f"a datetime of the format {found.datetime_format!r}"
    return found.type.words


def _wrong_type(place: Place, found: FieldModel, column: pl.Series, advice: str = "") -> DataError:
    return place.error(found, None, f"values of type {column.dtype} cannot be read as {found.type}{advice}")


def _boolean(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column
    if column.dtype.is_integer():
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        raise _wrong_type(place, found, column)
    words = {"true": True, "false": False, "1": True, "0": False}
    return column.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _integer(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    if column.dtype.is_integer() or column.dtype == pl.String:
        return column.cast(pl.Int64, strict=False)
    if column.dtype.is_decimal() or column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        return whole.set((whole.cast(column.dtype, strict=False) != column).fill_null(False), None)
    raise _wrong_type(place, found, column)


def _float(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        raise _wrong_type(place, found, column)
    value = column.cast(pl.Float64, strict=False)
    return value.set((~value.is_finite()).fill_null(False), None)


def _decimal(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    kind = found.type
    assert isinstance(kind, DecimalType)
    if column.dtype == pl.String:
        scaled = decimal_from_text(column, kind.scale)
    elif column.dtype.is_float():
        scaled = exact_double(column, kind.scale)
    elif column.dtype.is_integer() or isinstance(column.dtype, pl.Decimal):
        scaled = _rescaled(column, kind.scale)
    else:
        raise _wrong_type(place, found, column)
    bound = pl.lit(10**kind.precision, dtype=pl.Int128)
    fits = pl.when(pl.col("v").cast(pl.Int128).abs() < bound).then(pl.col("v"))
    return pl.DataFrame({"v": scaled}).select(fits).to_series()


def _rescaled(column: pl.Series, scale: int) -> pl.Series:
    """Integers or decimals as multiples of 10**-scale, NULL where digits would be lost."""
    own = column.dtype.scale if isinstance(column.dtype, pl.Decimal) else 0
    value = column.to_physical().cast(pl.Int128)
    if own <= scale:
        return _multiplied(value, 10 ** (scale - own))
    unit = pl.lit(10 ** (own - scale), dtype=pl.Int128)
    return pl.DataFrame({"v": value}).select(pl.when(pl.col("v") % unit == 0).then(pl.col("v") // unit)).to_series()


def _multiplied(value: pl.Series, factor: int) -> pl.Series:
    if factor == 1:
        return value
    limit = pl.lit((10**38 - 1) // factor, dtype=pl.Int128)
    fits = pl.when(pl.col("v").abs() <= limit).then(pl.col("v") * pl.lit(factor, dtype=pl.Int128))
    return pl.DataFrame({"v": value}).select(fits).to_series()


def _string(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    assert isinstance(found.type, StringType)
    if column.dtype.is_integer() or column.dtype == pl.Boolean or column.dtype == pl.Date:
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        raise _wrong_type(place, found, column)
    if found.type.max_length is not None:
        too_long = (column.str.len_chars() > found.type.max_length).fill_null(False)
        if too_long.any():
            position = too_long.arg_max()
            assert position is not None
            text = _shown(column[position])
            raise place.error(found, position, f"{text} is longer than {found.type.max_length} characters")
    return column


def _uuid(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    if column.dtype != pl.String:
        raise _wrong_type(place, found, column)
    text = column.str.to_lowercase().str.strip_prefix("urn:uuid:").str.strip_chars("{}").str.replace_all("-", "", literal=True)
    parts = [text.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    joined = pl.DataFrame([part.alias(str(i)) for i, part in enumerate(parts)]).select(pl.concat_str(pl.all(), separator="-"))
    valid = text.str.contains("^[0-9a-f]{32}$").fill_null(False)
    return joined.to_series().set(~valid, None)


def _bytes(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.cast(pl.Binary)
    if column.dtype != pl.Binary:
        raise _wrong_type(place, found, column)
    return column


def _date(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.str.to_date("%Y-%m-%d", strict=False)
    if column.dtype != pl.Date:
        raise _wrong_type(place, found, column)
    return column


def _timestamp(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    pattern = found.datetime_format
    if pattern in EPOCH_FORMATS:
        return _from_epoch(column.cast(pl.Int64, strict=False), EPOCH_FORMATS[pattern])
    if column.dtype == pl.String:
        return timestamp_from_text(column, pattern)
    if isinstance(column.dtype, pl.Datetime):
        return _microseconds(column)
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    advice = ""
    if column.dtype.is_integer():
        advice = '; write Annotated[datetime, DatetimeFormat("epoch_ms")] (or epoch_s, epoch_us, epoch_ns) beside the field'
    raise _wrong_type(place, found, column, advice)


def _from_epoch(value: pl.Series, microseconds: int | None) -> pl.Series:
    instant = value // 1000 if microseconds is None else value * microseconds
    if microseconds is not None and microseconds > 1:
        instant = instant.set((instant // microseconds != value).fill_null(False), None)
    return instant.cast(pl.Datetime("us", "UTC"))


def _microseconds(column: pl.Series) -> pl.Series:
    """Any datetime column in UTC microseconds; finer digits are cut off, also before 1970."""
    assert isinstance(column.dtype, pl.Datetime)
    if column.dtype.time_unit == "ns":
        return (column.to_physical() // 1000).cast(pl.Datetime("us", "UTC"))
    return column.dt.cast_time_unit("us").to_physical().cast(pl.Datetime("us", "UTC"))


def _string_map(place: Place, found: FieldModel, column: pl.Series) -> pl.Series:
    if column.dtype != found.type.physical:
        raise _wrong_type(place, found, column, "; give a list of {key, value} structs")
    return column


Converter = Callable[[Place, FieldModel, pl.Series], pl.Series]

_CONVERTERS: dict[type[DataType], Converter] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    FloatType: _float,
    DecimalType: _decimal,
    StringType: _string,
    UuidType: _uuid,
    BytesType: _bytes,
    DateType: _date,
    TimestampType: _timestamp,
    StringMapType: _string_map,
}


def to_logical(entity: EntityModel, frame: pl.DataFrame) -> pl.DataFrame:
    """A physical frame of the entity as users see it: scaled integers become decimals."""
    return frame.with_columns(
        logical_decimal(frame[found.name], found.type) for found in entity.fields if isinstance(found.type, DecimalType)
    )


def logical_decimal(values: pl.Series, kind: DecimalType) -> pl.Series:
    """Scaled integers as exact decimals."""
    units = values.cast(pl.Int128).cast(pl.Decimal(38, 0))
    if kind.scale:
        units = units * pl.Series([Decimal(1).scaleb(-kind.scale)], dtype=pl.Decimal(38, kind.scale))
    return units.cast(kind.logical).alias(values.name)
