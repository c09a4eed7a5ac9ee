"""Fields, frames and schemas of all kinds, and fastavro as the judge of what is written and read."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import fastavro
import polars as pl
import pytest
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.errors import KandleError
from kandle.model.types import (
    BOOLEAN,
    BYTES,
    DATE,
    FLOAT,
    INTEGER,
    STRING,
    STRING_MAP,
    TIMESTAMP,
    UUID,
    DataType,
    DecimalType,
)
from kandle.serde import avro_writing
from kandle.serde.avro import AvroFormat
from kandle.serde.port import Decoded, Messages, RecordField
from kandle.serde.registry import EmbeddedRegistry, MemoryJournal

T = TypeVar("T")

PRICE = DecimalType(18, 6)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TICK = (
    RecordField("venue", STRING),
    RecordField("code", STRING),
    RecordField("at", TIMESTAMP),
    RecordField("level", PRICE),
    RecordField("size", INTEGER),
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
INTEGERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-300, 300))


def decimals(kind: DecimalType) -> st.SearchStrategy[int]:
    """Return scaled integers."""
    bound = 10**kind.precision - 1
    return st.one_of(st.integers(-bound, bound), st.integers(-min(bound, 300), min(bound, 300)))


def instants(unit: timedelta) -> st.SearchStrategy[datetime]:
    """Return whole multiples of a unit since the epoch, in the years 1 to 9999."""
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    return st.integers(-((EPOCH - first) // unit), (last - EPOCH) // unit).map(lambda number: EPOCH + number * unit)


def physical_values(field: RecordField) -> st.SearchStrategy[Any]:
    """Return values of physical frames."""
    values: dict[DataType, st.SearchStrategy[Any]] = {
        BOOLEAN: st.booleans(),
        INTEGER: INTEGERS,
        FLOAT: st.floats(),
        STRING: TEXTS,
        UUID: st.uuids().map(str),
        BYTES: st.binary(max_size=40),
        DATE: st.dates(),
        TIMESTAMP: instants(timedelta(microseconds=1 if field.is_fine else 1000)),
        STRING_MAP: st.dictionaries(TEXTS, TEXTS, max_size=3).map(
            lambda value: [{"key": k, "value": v} for k, v in value.items()]
        ),
    }
    chosen = decimals(field.type) if isinstance(field.type, DecimalType) else values[field.type]
    return st.none() | chosen if field.nullable else chosen


@st.composite
def kinds(draw: st.DrawFn) -> DataType:
    """Draw any data type."""
    simple = st.sampled_from([BOOLEAN, INTEGER, FLOAT, STRING, UUID, BYTES, DATE, TIMESTAMP, STRING_MAP])
    precision = draw(st.integers(1, 38))
    return draw(st.one_of(simple, st.builds(DecimalType, st.just(precision), st.integers(0, precision))))


@st.composite
def records(draw: st.DrawFn, least: int = 1) -> tuple[tuple[RecordField, ...], pl.DataFrame]:
    """Fields, and a physical frame of them."""
    count = draw(st.integers(1, 6))
    fields = tuple(
        RecordField(f"f{number}", draw(kinds()), draw(st.booleans()), datetime_format=draw(st.sampled_from([None, "epoch_us"])))
        for number in range(count)
    )
    rows = draw(st.lists(st.tuples(*map(physical_values, fields)), min_size=least, max_size=12))
    return fields, pl.DataFrame(rows, schema={field.name: field.type.physical for field in fields}, orient="row")


def python_value(field: RecordField, value: Any) -> Any:
    """Return a physical value as fastavro takes and gives it."""
    if value is None:
        return None
    if isinstance(field.type, DecimalType):
        digits = tuple(map(int, str(abs(value))))
        return Decimal((int(value < 0), digits, -field.type.scale))
    if field.type == STRING_MAP:
        return {entry["key"]: entry["value"] for entry in value}
    return value


def python_rows(fields: tuple[RecordField, ...], frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as fastavro takes and gives them."""
    return [
        {field.name: python_value(field, value) for field, value in zip(fields, row, strict=True)} for row in frame.iter_rows()
    ]


def datum(schema: Any, value: Any) -> bytes:
    """Return a record as fastavro writes it, without a header."""
    target = io.BytesIO()
    fastavro.schemaless_writer(target, fastavro.parse_schema(schema), value)
    return target.getvalue()


def message(number: int, schema: Any, value: Any) -> bytes:
    """Return a record in the wire format."""
    return b"\0" + number.to_bytes(4, "big") + datum(schema, value)


def read_datum(schema: str, data: bytes) -> Any:
    """Return a record as fastavro reads it; all bytes must be used."""
    source = io.BytesIO(data)
    value = fastavro.schemaless_reader(source, fastavro.parse_schema(json.loads(schema)), None)
    assert source.read() == b""
    return value


def result_of(work: Callable[[], T]) -> T | KandleError:
    """Return what the work gives, or its error."""
    try:
        return work()
    except KandleError as error:
        return error


class BothWays(AvroFormat):
    """Reads and writes a few messages one by one, as it would, and as columns, and finds that both give the same."""

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(avro_writing, "FEW", -1)
            columns = result_of(lambda: AvroFormat.encode(self, frame))
        messages = result_of(lambda: AvroFormat.encode(self, frame))
        if isinstance(messages, KandleError):
            assert str(messages) == str(columns)
            raise messages
        assert messages == columns
        return messages

    def decode(self, messages: Messages) -> Decoded:
        result = super().decode(messages)
        columns = self._decode_columns(messages)
        assert_frame_equal(result.frame, columns.frame)
        assert result.rejects == columns.rejects
        return result


def registry() -> EmbeddedRegistry:
    """Return an empty registry in memory."""
    return EmbeddedRegistry(MemoryJournal())


def avro(*fields: RecordField, topic: str = "ticks") -> AvroFormat:
    """Return the values of a topic."""
    return BothWays(topic, "value", fields, registry())


def decoded(fields: tuple[RecordField, ...], schema: Any, values: list[Any]) -> Decoded:
    """Return what is read of records that another program wrote with its schema."""
    schemas = registry()
    number = schemas.register("other-value", json.dumps(schema))
    return BothWays("ticks", "value", fields, schemas).decode([message(number, schema, value) for value in values])


def record(*fields: tuple[str, Any], name: str = "anything") -> dict[str, Any]:
    """Return a record schema."""
    return {"type": "record", "name": name, "fields": [{"name": value, "type": kind} for value, kind in fields]}


def ticks(count: int) -> pl.DataFrame:
    """Rows of `TICK`."""
    rows = [("north", f"C{at % 7}", EPOCH + timedelta(milliseconds=at), 1_000_000 + at, at % 3) for at in range(count)]
    return pl.DataFrame(rows, schema={field.name: field.type.physical for field in TICK}, orient="row")


SOME_UUID = uuid.UUID("6f1ed002-ab5c-4e41-9d4c-0123456789ab")
SOME_DAY = date(2024, 2, 29)
