"""Random events of any entity, many with the same time, as the engine and as ksqlDB read them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import polars as pl

from kandle.ksql.declarations import stored_type
from kandle.ksql.types import BIGINT, VARCHAR
from kandle.model.entity import EntityModel, FieldModel
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

START = datetime(2026, 3, 8, 10, 0, tzinfo=UTC)
UNITS = {"epoch_s": 1, "epoch_us": 1_000_000}
Row = dict[str, Any]

VALUES: dict[type[DataType], Callable[[Random, Any], Any]] = {
    BooleanType: lambda random, kind: random.random() < 0.5,
    IntegerType: lambda random, kind: random.randint(0, 9),
    FloatType: lambda random, kind: random.randint(-40, 40) / 8,
    DecimalType: lambda random, kind: Decimal(random.randint(1, 9999)).scaleb(-min(kind.scale, 3)),
    StringType: lambda random, kind: random.choice(["a|b", "A%", "Ö'x", "東京"]),
    UuidType: lambda random, kind: uuid.UUID(int=random.randint(1, 2)),
    BytesType: lambda random, kind: bytes([random.randint(0, 255)]),
    DateType: lambda random, kind: date(2026, 3, random.randint(1, 3)),
    TimestampType: lambda random, kind: START + timedelta(seconds=random.randint(0, 600)),
    StringMapType: lambda random, kind: {"a": "b"},
}


def events(entity: EntityModel, seed: int, count: int = 120) -> list[Row]:
    """Return events in the order of their times, over about ten minutes with gaps."""
    random = Random(seed)
    time = START
    rows: list[Row] = []
    for _ in range(count):
        time += timedelta(milliseconds=random.choice([0, 0, 1, 900, 5_000, 12_000]))
        if random.random() < 0.03:
            time += timedelta(minutes=2)
        rows.append({field.name: _value(field, random, time) for field in entity.fields})
    return rows


def _value(field: FieldModel, random: Random, time: datetime) -> Any:
    if field.is_timestamp:
        # The format holds whole seconds only.
        return time.replace(microsecond=0) if field.datetime_format in ("epoch_s", "%d.%m.%Y %H:%M:%S") else time
    if field.nullable and random.random() < 0.3:
        return None
    return VALUES[type(field.type)](random, field.type)


def frame(entity: EntityModel, rows: Sequence[Row]) -> pl.DataFrame:
    """Return the events for the engine."""
    columns = {field.name: [_plain(field, row[field.name]) for row in rows] for field in entity.fields}
    return pl.DataFrame({field.name: pl.Series(columns[field.name], dtype=_dtype(field)) for field in entity.fields})


def _dtype(field: FieldModel) -> pl.DataType:
    return pl.Int64() if field.datetime_format in UNITS else field.type.logical


def _plain(field: FieldModel, value: Any) -> Any:
    if field.datetime_format in UNITS:
        return round(value.timestamp() * UNITS[field.datetime_format])
    if isinstance(value, dict):
        return [{"key": key, "value": text} for key, text in value.items()]
    return str(value) if isinstance(value, uuid.UUID) else value


def server_rows(entity: EntityModel, rows: Sequence[Row]) -> list[Row]:
    """Return the events for ksqlDB; the records have the time of the event."""
    stamp = entity.timestamp
    assert stamp is not None
    times = [{"ROWTIME": round(row[stamp.name].timestamp() * 1_000)} for row in rows]
    values = [{field.name: _stored(entity, field, row.get(field.name)) for field in entity.fields} for row in rows]
    return [time | value for time, value in zip(times, values, strict=True)]


def _stored(entity: EntityModel, field: FieldModel, value: Any) -> Any:
    if isinstance(value, datetime):
        kind = stored_type(entity, field)
        if kind == VARCHAR:
            return pl.Series([value]).dt.strftime(str(field.datetime_format))[0]
        if kind == BIGINT:
            return round(value.timestamp() * UNITS[str(field.datetime_format)])
    if field.header is not None:
        return None if value is None else value.encode()
    return str(value) if isinstance(value, uuid.UUID) else value
