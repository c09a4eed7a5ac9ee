"""Strict conversion of columns: from what a file or frame holds to the physical types of an entity, and back.

A value is converted without any loss or not at all: the first that does not fit is a DataError that names
source, row, column and value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from kandle.errors import DataError, unknown_name
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.markers import EPOCH_FORMATS
from kandle.model.normalizing import normalized_column
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
"""Longer values are cut in messages, in characters."""


def physical_schema(entity: EntityModel) -> dict[str, pl.DataType]:
    """Return the columns of the entity's physical frames and their types."""
    return {field.name: field.type.physical for field in entity.fields}


def logical_schema(entity: EntityModel) -> dict[str, pl.DataType]:
    """Return the columns of the entity's logical frames and their types."""
    return {field.name: field.type.logical for field in entity.fields}


def source_columns(entity: EntityModel, columns: list[str], source: str = "") -> dict[str, str]:
    """Return for every field the column that holds it, by name or alias; DataError if one is missing."""
    return {field.name: _column_of(entity, field, columns, source) for field in entity.fields}


def _column_of(entity: EntityModel, field: FieldModel, columns: list[str], source: str) -> str:
    for name in (field.name, *field.aliases):
        if name in columns:
            return name
    prefix = f"{source}: " if source else ""
    raise DataError(unknown_name(f"{prefix}no column {field.name!r} for {entity.name}.{field.name}", field.name, columns))


def to_physical(entity: EntityModel, frame: pl.DataFrame, *, first_row: int = 1, source: str = "") -> pl.DataFrame:
    """Convert the entity's columns of a frame to their physical types; leave out all other columns.

    Args:
        entity: The entity whose fields are wanted.
        frame: Columns of any types, named as the fields or their aliases.
        first_row: Number of the frame's first row, for messages.
        source: Name of the input, for messages.

    Returns:
        A frame with one column per field, in the order of the fields.

    Raises:
        DataError: If a column is missing, or for the first value that does not fit its field.
    """
    names = source_columns(entity, frame.columns, source)
    targets = [Target(entity, field, source, first_row) for field in entity.fields]
    return pl.DataFrame([_convert(target, frame[names[target.field.name]]) for target in targets])


@dataclass(frozen=True, slots=True)
class Target:
    """The field that a column is converted to, and where the column comes from; makes the error messages."""

    entity: EntityModel
    field: FieldModel
    source: str
    first_row: int

    def error(self, problem: str, position: int | None = None) -> DataError:
        """Return the error of the value at a position of the column, or of the whole column."""
        field = self.field
        source = f"{self.source}, " if self.source else ""
        row = "" if position is None else f"row {self.first_row + position}, "
        declared = f"{self.entity.name}.{field.name} is {field.type}{' | None' if field.nullable else ''}"
        return DataError(f"{source}{row}column {field.name}: {problem} ({declared})")

    def wrong_type(self, column: pl.Series, advice: str = "") -> DataError:
        """Return the error of a column whose values cannot be converted to the field's type at all."""
        return self.error(f"values of type {column.dtype} cannot be read as {self.field.type}{advice}")

    @property
    def accepted(self) -> str:
        """The values that the field takes, in words."""
        if self.field.datetime_format is not None:
            return f"a datetime of the format {self.field.datetime_format!r}"
        return self.field.type.words


def _convert(target: Target, column: pl.Series) -> pl.Series:
    field = target.field
    column = _without_encoding(column, field)
    if column.dtype == pl.Null:
        column = column.cast(field.type.physical)
    convert = _CONVERTERS[type(field.type)]
    result = convert(target, column).cast(field.type.physical).alias(field.name)
    _check_complete(target, column, result)
    return result


def _without_encoding(column: pl.Series, field: FieldModel) -> pl.Series:
    """Return dictionary-encoded text as text, and empty text as NULL where it stands for a missing value."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String and (field.nullable or not isinstance(field.type, StringType)):
        empty = column.str.len_bytes() == 0
        if empty.any():
            return column.set(empty, None)
    return column


def _check_complete(target: Target, column: pl.Series, result: pl.Series) -> None:
    """Raise DataError for the first value that was lost, or is NULL in a field that is not Optional."""
    if result.null_count() == column.null_count():
        if column.null_count() and not target.field.nullable:
            raise target.error("there is no value, but the field is not Optional", column.is_null().arg_max())
        return
    position = (result.is_null() & column.is_not_null()).arg_max()
    assert position is not None
    raise target.error(f"{_shown(column[position])} is not {target.accepted}", position)


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


# One converter per data type: what it cannot convert becomes NULL, so that `_check_complete` names it.


def _boolean(target: Target, column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column
    if column.dtype.is_integer():
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        raise target.wrong_type(column)
    words = {"true": True, "false": False, "1": True, "0": False}
    return column.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _integer(target: Target, column: pl.Series) -> pl.Series:
    if column.dtype.is_integer() or column.dtype == pl.String:
        return column.cast(pl.Int64, strict=False)
    if column.dtype.is_decimal() or column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        return whole.set((whole.cast(column.dtype, strict=False) != column).fill_null(False), None)
    raise target.wrong_type(column)


def _float(target: Target, column: pl.Series) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        raise target.wrong_type(column)
    value = column.cast(pl.Float64, strict=False)
    return value.set((~value.is_finite()).fill_null(False), None)


def _decimal(target: Target, column: pl.Series) -> pl.Series:
    kind = target.field.type
    assert isinstance(kind, DecimalType)
    if column.dtype == pl.String:
        scaled = decimal_from_text(column, kind.scale)
    elif column.dtype.is_float():
        scaled = exact_double(column, kind.scale)
    elif column.dtype.is_integer() or isinstance(column.dtype, pl.Decimal):
        scaled = _rescale(column, kind.scale)
    else:
        raise target.wrong_type(column)
    bound = pl.lit(10**kind.precision, dtype=pl.Int128)
    fits = pl.when(pl.col("v").cast(pl.Int128).abs() < bound).then(pl.col("v"))
    return pl.DataFrame({"v": scaled}).select(fits).to_series()


def _rescale(column: pl.Series, scale: int) -> pl.Series:
    """Convert integers or decimals to multiples of 10**-scale; NULL where digits would be lost."""
    own = column.dtype.scale if isinstance(column.dtype, pl.Decimal) else 0
    value = column.to_physical().cast(pl.Int128)
    if own <= scale:
        return _multiply(value, 10 ** (scale - own))
    unit = pl.lit(10 ** (own - scale), dtype=pl.Int128)
    return pl.DataFrame({"v": value}).select(pl.when(pl.col("v") % unit == 0).then(pl.col("v") // unit)).to_series()


def _multiply(value: pl.Series, factor: int) -> pl.Series:
    if factor == 1:
        return value
    limit = pl.lit((10**38 - 1) // factor, dtype=pl.Int128)
    fits = pl.when(pl.col("v").abs() <= limit).then(pl.col("v") * pl.lit(factor, dtype=pl.Int128))
    return pl.DataFrame({"v": value}).select(fits).to_series()


def _string(target: Target, column: pl.Series) -> pl.Series:
    kind = target.field.type
    assert isinstance(kind, StringType)
    if column.dtype.is_integer() or column.dtype == pl.Boolean or column.dtype == pl.Date:
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        raise target.wrong_type(column)
    if target.field.normalize is not None:
        column = _normalized(target, column)
    if kind.max_length is not None:
        too_long = (column.str.len_chars() > kind.max_length).fill_null(False)
        if too_long.any():
            position = too_long.arg_max()
            assert position is not None
            text = _shown(column[position])
            raise target.error(f"{text} is longer than {kind.max_length} characters", position)
    return column


def _normalized(target: Target, column: pl.Series) -> pl.Series:
    assert target.field.normalize is not None
    normalized = normalized_column(target.field.normalize, column)
    if normalized.failures:
        position = column.is_in(list(normalized.failures)).fill_null(False).arg_max()
        assert position is not None
        raise target.error(normalized.failures[column[position]], position)
    return normalized.column


def _uuid(target: Target, column: pl.Series) -> pl.Series:
    if column.dtype != pl.String:
        raise target.wrong_type(column)
    text = column.str.to_lowercase().str.strip_prefix("urn:uuid:").str.strip_chars("{}").str.replace_all("-", "", literal=True)
    parts = [text.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    joined = pl.DataFrame([part.alias(str(i)) for i, part in enumerate(parts)]).select(pl.concat_str(pl.all(), separator="-"))
    valid = text.str.contains("^[0-9a-f]{32}$").fill_null(False)
    return joined.to_series().set(~valid, None)


def _bytes(target: Target, column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.cast(pl.Binary)
    if column.dtype != pl.Binary:
        raise target.wrong_type(column)
    return column


def _date(target: Target, column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.str.to_date("%Y-%m-%d", strict=False)
    if column.dtype != pl.Date:
        raise target.wrong_type(column)
    return column


def _timestamp(target: Target, column: pl.Series) -> pl.Series:
    pattern = target.field.datetime_format
    if pattern in EPOCH_FORMATS:
        return _from_epoch(column.cast(pl.Int64, strict=False), EPOCH_FORMATS[pattern])
    if column.dtype == pl.String:
        return timestamp_from_text(column, pattern)
    if isinstance(column.dtype, pl.Datetime):
        return _microseconds(column)
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    raise target.wrong_type(column, _epoch_advice(column) if column.dtype.is_integer() else "")


def _epoch_advice(column: pl.Series) -> str:
    """Return how to declare a field whose integers look like this, judged by their number of digits."""
    largest = column.cast(pl.Int128).abs().max()
    digits = len(str(largest)) if isinstance(largest, int) else 0
    name = next((name for name, limit in _EPOCH_DIGITS.items() if digits <= limit), "epoch_ns")
    return f'; if these are times since the epoch, write Annotated[datetime, DatetimeFormat("{name}")]'


_EPOCH_DIGITS = {"epoch_s": 11, "epoch_ms": 14, "epoch_us": 17}
"""The digits that times of our days have at most in each unit."""


def _from_epoch(value: pl.Series, microseconds: int | None) -> pl.Series:
    instant = value // 1000 if microseconds is None else value * microseconds
    if microseconds is not None and microseconds > 1:
        instant = instant.set((instant // microseconds != value).fill_null(False), None)
    return instant.cast(pl.Datetime("us", "UTC"))


def _microseconds(column: pl.Series) -> pl.Series:
    """Convert any datetime column to UTC microseconds; finer digits are cut off, also before 1970."""
    assert isinstance(column.dtype, pl.Datetime)
    if column.dtype.time_unit == "ns":
        return (column.to_physical() // 1000).cast(pl.Datetime("us", "UTC"))
    return column.dt.cast_time_unit("us").to_physical().cast(pl.Datetime("us", "UTC"))


def _string_map(target: Target, column: pl.Series) -> pl.Series:
    if column.dtype != target.field.type.physical:
        raise target.wrong_type(column, "; give a list of {key, value} structs")
    return column


Converter = Callable[[Target, pl.Series], pl.Series]

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
    """Convert a physical frame of the entity to what users see: scaled integers become decimals."""
    return frame.with_columns(
        logical_decimal(frame[field.name], field.type) for field in entity.fields if isinstance(field.type, DecimalType)
    )


def logical_decimal(values: pl.Series, kind: DecimalType) -> pl.Series:
    """Convert scaled integers to exact decimals."""
    units = values.cast(pl.Int128).cast(pl.Decimal(38, 0))
    if kind.scale:
        units = units * pl.Series([Decimal(1).scaleb(-kind.scale)], dtype=pl.Decimal(38, kind.scale))
    return units.cast(kind.logical).alias(values.name)
