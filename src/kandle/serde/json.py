"""Records as JSON objects, one in each message: the format of a topic's keys or values, and how columns become JSON text.

Reading is in `json_reading`. Polars joins the texts column by column: no library writes columns as many small documents. That
costs about 600 microseconds however few rows there are, so a few are written one by one.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

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
from kandle.serde.json_reading import JsonReader
from kandle.serde.json_values import NANOSECONDS, epoch_unit, is_pattern
from kandle.serde.port import FEW, Decoded, Messages, RecordField, check_decimals, checked_column, rejects_of, shown
from kandle.serde.registry import subject_of
from kandle.serde.schema import Shape, Side


class JsonFormat:
    """The key or value records of a topic as JSON; a bare field is its value without an object around it.

    Fields are found by name, by alias, else by name in another case. Those that are missing take their default.

    Args:
        topic: The topic, for messages.
        side: Whether the records are its keys or its values.
        fields: The columns, in the order in which they are written.
        shape: Whether a record of one field is written as an object or as the value alone.
    """

    def __init__(self, topic: str, side: Side, fields: Sequence[RecordField], *, shape: Shape = Shape.RECORD) -> None:
        self.fields = tuple(fields)
        self._subject = subject_of(topic, side)
        self._is_bare = shape is Shape.BARE and len(self.fields) == 1
        self._reader = JsonReader(self.fields, is_bare=self._is_bare)
        pairs = [f"{json.dumps(field.name)}:".replace("%", "%%") + "%s" for field in self.fields]
        self._form = f"{{{','.join(pairs)}}}"

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """Return a message for each row of a physical frame.

        Raises:
            DataError: A value cannot be held by JSON; names subject, field and value.
        """
        if not self.fields:
            return [b"{}"] * frame.height
        if frame.height <= FEW and (messages := self._encode_rows(frame)) is not None:
            return messages
        columns = [json_column(field, frame, self._subject) for field in self.fields]
        if self._is_bare:
            return [text.encode() for text in columns[0].to_list()]
        parts: list[pl.Series | pl.Expr] = []
        for number, (field, column) in enumerate(zip(self.fields, columns, strict=True)):
            parts += [pl.lit(f"{',' if number else '{'}{json.dumps(field.name)}:"), column]
        lines = pl.select(pl.concat_str([*parts, pl.lit("}")])).to_series()
        return [line.encode() for line in lines.to_list()]

    def _encode_rows(self, frame: pl.DataFrame) -> list[bytes | None] | None:
        """Return messages that are written one by one; None if a value is out of the ordinary or cannot be written."""
        columns = [json_texts(field, checked_column(field, frame, self._subject)) for field in self.fields]
        chosen = [column for column in columns if column is not None]
        if len(chosen) < len(columns):
            return None
        if self._is_bare:
            return [text.encode() for text in chosen[0]]
        return [(self._form % texts).encode() for texts in zip(*chosen, strict=True)]

    def decode(self, messages: Messages) -> Decoded:
        """Return the physical rows of the messages, and those that cannot be read as rejects."""
        frame, problems = self._reader.read(messages)
        return Decoded(frame, rejects_of({position: str(problem) for position, problem in problems.items()}, self._subject))


def json_column(field: RecordField, frame: pl.DataFrame, subject: str) -> pl.Series:
    """Return a column of the field's values as JSON text; NULL is the text `null`.

    Args:
        field: The field to write.
        frame: A physical frame with its column.
        subject: Whose field it is, for messages.

    Raises:
        DataError: A value cannot be held by JSON; names subject, field and value.
    """
    column = checked_column(field, frame, subject)
    _check(field, column, subject)
    write = _WRITERS.get(type(field.type), _number)
    if field.is_fine and field.has_open_unit and not is_pattern(field.datetime_format):
        write = _milliseconds(column)
    return pl.DataFrame({"v": column}).select(write(field, pl.col("v")).fill_null("null")).to_series()


def _check(field: RecordField, column: pl.Series, subject: str) -> None:
    where = f"subject {subject}, field {field.name}"
    if isinstance(field.type, DecimalType):
        check_decimals(field, column, subject)
    elif isinstance(field.type, FloatType):
        _refuse(column, ~column.is_finite(), where, "JSON has no such number; use AVRO")
    elif not isinstance(field.type, TimestampType) or field.is_cut:
        return
    elif is_pattern(field.datetime_format):
        text = column.dt.strftime(str(field.datetime_format))
        lost = timestamp_from_text(text, field.datetime_format).ne_missing(column)
        _refuse(column, lost, where, f"text of the form {field.datetime_format!r} would not say all of it")
    elif not field.is_fine:
        unit = epoch_unit(field)
        why = (
            f'it would be cut to multiples of {unit} microseconds; declare DatetimeFormat("epoch_us"), or have it cut by the '
            'option fields.finer = "cut"'
        )
        _refuse(column, column.to_physical() % unit != 0, where, why)


def _refuse(column: pl.Series, bad: pl.Series, where: str, why: str) -> None:
    row = bad.fill_null(False).arg_max() if bad.any() else None
    if row is not None:
        raise DataError(f"{where} = {shown(column[row])} in row {row}: {why}")


def _number(field: RecordField, column: pl.Expr) -> pl.Expr:
    return column.cast(pl.String)


def quoted(column: pl.Expr) -> pl.Expr:
    """Return text with quotes and escapes, by way of an object that holds nothing else."""
    encoded = pl.struct(column.alias("v")).struct.json_encode()
    return pl.when(column.is_not_null()).then(encoded.str.strip_prefix('{"v":').str.strip_suffix("}"))


def _text(field: RecordField, column: pl.Expr) -> pl.Expr:
    return quoted(column)


def _decimal(field: RecordField, column: pl.Expr) -> pl.Expr:
    assert isinstance(field.type, DecimalType)
    scale = field.type.scale
    if scale == 0:
        return column.cast(pl.String)
    unit = pl.lit(10**scale, dtype=field.type.physical)
    sign = pl.when(column < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    behind = (column.abs() % unit).cast(pl.String).str.zfill(scale)
    return pl.when(column.is_not_null()).then(pl.concat_str(sign, (column.abs() // unit).cast(pl.String), pl.lit("."), behind))


def _instant(field: RecordField, column: pl.Expr) -> pl.Expr:
    if is_pattern(field.datetime_format):
        return _text(field, column.dt.strftime(str(field.datetime_format)))
    microseconds = column.to_physical()
    if field.datetime_format == NANOSECONDS:
        return (microseconds.cast(pl.Int128) * 1_000).cast(pl.String)
    return (microseconds // epoch_unit(field)).cast(pl.String)


def _milliseconds(column: pl.Series) -> Callable[[RecordField, pl.Expr], pl.Expr]:
    """Return what writes instants as milliseconds with a fraction, of which programs that know no fractions take the whole.

    Args:
        column: The instants: for whole milliseconds, and for instants after 1970, there are faster ways.
    """
    microseconds = column.to_physical()
    if not (microseconds % 1_000 != 0).any():
        return lambda field, instants: (instants.to_physical() // 1_000).cast(pl.String)
    return _with_fraction if (microseconds < 1_000).any() else _late_with_fraction


def _late_with_fraction(field: RecordField, column: pl.Expr) -> pl.Expr:
    text = column.to_physical().cast(pl.String)
    return pl.concat_str(text.str.head(-3), pl.lit("."), text.str.tail(3)).str.strip_suffix(".000")


def _with_fraction(field: RecordField, column: pl.Expr) -> pl.Expr:
    microseconds = column.to_physical()
    sign = pl.when(microseconds < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    whole, behind = (microseconds.abs() // 1_000).cast(pl.String), microseconds.abs() % 1_000
    fraction = pl.when(behind > 0).then(pl.concat_str(pl.lit("."), behind.cast(pl.String).str.zfill(3))).otherwise(pl.lit(""))
    return pl.when(column.is_not_null()).then(pl.concat_str(sign, whole, fraction))


def _date(field: RecordField, column: pl.Expr) -> pl.Expr:
    return column.to_physical().cast(pl.String)


def _base64(field: RecordField, column: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit('"'), column.bin.encode("base64"), pl.lit('"'))


def map_objects(column: pl.Expr) -> pl.Expr:
    """Return maps of texts as objects."""
    return column.map_elements(_object, return_dtype=pl.String)


def _map(field: RecordField, column: pl.Expr) -> pl.Expr:
    return map_objects(column)


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


def json_texts(field: RecordField, column: pl.Series) -> list[str] | None:
    """Return the values of a few rows as JSON text; None if one is out of the ordinary or cannot be held by JSON.

    Args:
        field: The field of the column.
        column: Its physical values.
    """
    write = _SINGLE_WRITERS.get(type(field.type))
    if write is None:
        return ["null" if text is None else text for text in column.cast(pl.String).to_list()]
    values = (column.cast(pl.Int64) if column.dtype.is_temporal() else column).to_list()
    texts = ["null" if value is None else write(field, value) for value in values]
    return None if None in texts else texts  # type: ignore[return-value]


def _single_text(field: RecordField, value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _single_float(field: RecordField, value: float) -> str | None:
    # As Polars writes it.
    return str(pl.Series([value]).cast(pl.String).item()) if math.isfinite(value) else None


def _single_decimal(field: RecordField, value: int) -> str | None:
    assert isinstance(field.type, DecimalType)
    least, greatest = field.type.bounds
    if not least <= value <= greatest:
        return None
    scale = field.type.scale
    whole, behind = divmod(abs(value), 10**scale)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{behind:0{scale}}" if scale else f"{sign}{whole}"


def _single_instant(field: RecordField, value: int) -> str | None:
    if is_pattern(field.datetime_format):
        return None
    if field.datetime_format == NANOSECONDS:
        return str(value * 1_000)
    if field.is_fine and field.has_open_unit:
        whole, behind = divmod(abs(value), 1_000)
        return f"{'-' if value < 0 else ''}{whole}{f'.{behind:03}' if behind else ''}"
    number, lost = divmod(value, epoch_unit(field))
    return None if lost and not field.is_cut else str(number)


_SINGLE_WRITERS: dict[type[DataType], Callable[[RecordField, Any], str | None]] = {
    StringType: _single_text,
    UuidType: _single_text,
    FloatType: _single_float,
    DecimalType: _single_decimal,
    TimestampType: _single_instant,
    DateType: lambda field, value: str(value),
    BytesType: lambda field, value: f'"{base64.b64encode(value).decode()}"',
    StringMapType: lambda field, value: json.dumps({entry["key"]: entry["value"] for entry in value}, ensure_ascii=False),
}
