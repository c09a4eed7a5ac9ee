from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.errors import DataError, SchemaError
from kandle.model.types import (
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
    StringType,
)
from kandle.serde.avro import AvroFormat
from kandle.serde.port import RecordField
from kandle.serde.schema import Shape
from tests.serde.building import PRICE, SOME_UUID, TICK, BothWays, avro, datum, decoded, message, record, registry, ticks

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
NANOS = {"type": "long", "logicalType": "timestamp-nanos"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}
DAYS = {"type": "int", "logicalType": "date"}
FIXED = {"type": "fixed", "name": "F", "size": 12, "logicalType": "decimal", "precision": 6, "scale": 2}
NULL_TEXT = {"type": "map", "values": ["null", "string"]}
INSTANT = datetime(2024, 3, 8, 14, 30, 0, 250_000, tzinfo=UTC)
SECONDS = int(INSTANT.timestamp())


def one(field: RecordField, kind: Any, value: Any) -> Any:
    """Return a foreign value as the field."""
    result = decoded((field,), record((field.name, kind)), [{field.name: value}])
    assert result.rejects == ()
    return result.frame.item()


def refused(field: RecordField, kind: Any, value: Any) -> str:
    """Return why a foreign value is not taken."""
    result = decoded((field,), record((field.name, kind)), [{field.name: value}])
    assert result.frame.is_empty()
    return result.rejects[0].reason


@pytest.mark.parametrize(
    ("kind", "written", "value", "expected"),
    [
        (INTEGER, "int", 7, 7),
        (FLOAT, "int", 7, 7.0),
        (FLOAT, "long", 2**60, float(2**60)),
        (FLOAT, "float", 0.5, 0.5),
        (STRING, "bytes", b"text", "text"),
        (BYTES, "string", "text", b"text"),
        (UUID, "string", str(SOME_UUID).upper(), str(SOME_UUID)),
        (TIMESTAMP, MILLIS, INSTANT, INSTANT),
        (TIMESTAMP, MICROS, INSTANT + timedelta(microseconds=1), INSTANT + timedelta(microseconds=1)),
        (TIMESTAMP, NANOS, SECONDS * 10**9 + 1_000, INSTANT.replace(microsecond=1)),
        (DATE, {"type": "int", "logicalType": "date"}, date(1, 1, 1), date(1, 1, 1)),
        (STRING_MAP, {"type": "map", "values": ["null", "string"]}, {"a": "b"}, [{"key": "a", "value": "b"}]),
        (
            STRING_MAP,
            {"type": "array", "items": record(("key", ["null", "string"]), ("value", ["null", "string"]), name="MapEntry")},
            [{"key": "a", "value": "b"}, {"key": "a", "value": "c"}],
            [{"key": "a", "value": "c"}],
        ),
        (DecimalType(6, 2), FIXED, Decimal("-1.25"), -125),
        (STRING, ["null", "long", "string"], "text", "text"),
    ],
)
def test_types_are_promoted(kind: DataType, written: Any, value: Any, expected: Any) -> None:
    result = one(RecordField("x", kind), written, value)
    assert (result.to_list() if kind == STRING_MAP else result) == expected


@pytest.mark.parametrize(
    ("datetime_format", "number"),
    [("epoch_s", SECONDS), ("epoch_ms", SECONDS * 1000), ("epoch_us", SECONDS * 1_000_000)],
)
def test_a_plain_number_is_an_instant_where_the_entity_says_so(datetime_format: str, number: int) -> None:
    assert one(RecordField("at", TIMESTAMP, datetime_format=datetime_format), "long", number) == INSTANT.replace(microsecond=0)


def test_a_plain_number_is_no_instant_by_itself() -> None:
    reason = refused(RecordField("at", TIMESTAMP), "long", SECONDS)
    assert "field at: it is long in the schema and datetime in the declaration" in reason
    assert 'DatetimeFormat("epoch_ms")' in reason


@pytest.mark.parametrize(
    ("field", "written", "value", "words"),
    [
        (RecordField("x", INTEGER), "string", "7", "it is string in the schema and int in the declaration"),
        (RecordField("x", INTEGER), "double", 7.0, "it is double in the schema and int in the declaration"),
        (RecordField("x", INTEGER, True), MILLIS, INSTANT, "long/timestamp-millis in the schema and int | None"),
        (RecordField("x", TIMESTAMP), LOCAL, INSTANT.replace(tzinfo=None), "local-timestamp"),
        (RecordField("x", INTEGER), ["null", "long"], None, "field x: there is no value, but the field is not Optional"),
        (RecordField("x", STRING), ["string", "long"], 7, "field x: long is not str"),
        (RecordField("x", StringType(3)), "string", "four", "field x: it has more than 3 characters"),
        (RecordField("x", UUID), "string", "6f1ed002", "field x: it is not a UUID"),
        (RecordField("x", STRING_MAP), NULL_TEXT, {"a": None}, "a key or value of a map is null"),
        (RecordField("x", TIMESTAMP), MICROS, 2**62, "field x: it is not within the years 1 to 9999"),
        (RecordField("x", TIMESTAMP), NANOS, 1, "field x: it is finer than a microsecond"),
        (RecordField("x", DATE), DAYS, -(2**31), "field x: it is not within the years 1 to 9999"),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(field: RecordField, written: Any, value: Any, words: str) -> None:
    assert words in refused(field, written, value)


@pytest.mark.parametrize(("precision", "scale"), [(18, 4), (16, 6), (38, 6)])
def test_a_decimal_of_another_precision_or_scale_is_reported_by_name(precision: int, scale: int) -> None:
    written = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    reason = refused(RecordField("level", PRICE), written, Decimal("1.5"))
    words = f"it is bytes/decimal({precision}, {scale}) in the schema and Decimal(18, 6) in the declaration"
    assert f"subject ticks-value, field level: {words}" in reason


def test_a_decimal_of_more_digits_than_its_schema_says_is_rejected() -> None:
    written = avro(RecordField("level", DecimalType(2, 0)))
    schema = json.loads(written.schema)
    written.prepare()
    good, bad = (b"\0\0\0\0\1" + datum(schema, {"level": Decimal(99)})[:-1] + bytes([number]) for number in (99, 100))
    result = written.decode([good, bad])
    assert result.frame["level"].to_list() == [99]
    assert "field level: a number does not fit Decimal(2, 0)" in result.rejects[0].reason


def test_new_fields_take_their_default_and_old_ones_are_passed_over() -> None:
    fields = (
        RecordField("code", STRING),
        RecordField("count", INTEGER, default=5),
        RecordField("level", PRICE, default=Decimal("1.5")),
        RecordField("note", STRING, True),
        RecordField("state", STRING, True, default="new"),
        RecordField("tags", STRING_MAP, default={"a": "b"}),
    )
    inner = {"type": "array", "items": record(("deep", {"type": "map", "values": "long"}), name="Deep")}
    schema = record(("dropped", inner), ("code", "string"), ("also", ["null", "double", "string"]))
    values = [{"dropped": [{"deep": {"k": 1}}] * at, "code": f"c{at}", "also": "x" if at else None} for at in range(3)]
    result = decoded(fields, schema, values)
    assert result.rejects == ()
    assert result.frame.rows() == [(f"c{at}", 5, 1_500_000, None, "new", [{"key": "a", "value": "b"}]) for at in range(3)]


def test_a_field_without_default_must_have_been_written() -> None:
    result = decoded((RecordField("code", STRING), RecordField("count", INTEGER)), record(("code", "string")), [{"code": "c"}])
    assert (
        "subject ticks-value: the schema has no field count, which is declared as int without a default"
        in result.rejects[0].reason
    )


def test_fields_are_found_by_name_then_alias_then_in_another_case() -> None:
    fields = (RecordField("code", STRING, aliases=("ticker",)), RecordField("size", INTEGER), RecordField("ticker_2", STRING))
    schema = record(("TICKER_2", "string"), ("SIZE", "int"), ("ticker", "string"), ("CODE", "string"))
    result = decoded(fields, schema, [{"TICKER_2": "z", "SIZE": 1, "ticker": "a", "CODE": "no"}])
    assert result.frame.rows() == [("a", 1, "z")]


def test_a_bare_value_is_read_as_the_only_field() -> None:
    assert decoded((RecordField("code", STRING),), "string", ["a", "b"]).frame["code"].to_list() == ["a", "b"]


def test_a_bare_value_is_not_read_as_several_fields() -> None:
    result = decoded(TICK, "string", ["a"])
    assert "the schema is string, not a record with the fields venue, code, at, level, size" in result.rejects[0].reason


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_a_bare_key_is_written_without_a_record(values: list[str | None]) -> None:
    field = RecordField("code", STRING, True)
    written = BothWays("ticks", "key", [field], registry(), shape=Shape.BARE)
    assert json.loads(written.schema) == ["null", "string"]
    messages = written.encode(pl.DataFrame({"code": values}, schema={"code": pl.String}))
    assert [message[5:] for message in messages if message is not None] == [datum(["null", "string"], value) for value in values]


def test_an_enum_and_a_fixed_are_text_and_bytes() -> None:
    symbols = {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}
    schema = record(("side", ["null", symbols]), ("again", "Side"), ("raw", {"type": "fixed", "name": "Two", "size": 2}))
    fields = (RecordField("side", STRING, True), RecordField("again", STRING), RecordField("raw", BYTES))
    result = decoded(
        fields, schema, [{"side": "SELL", "again": "BUY", "raw": b"ab"}, {"side": None, "again": "SELL", "raw": b"cd"}]
    )
    assert result.frame.rows() == [("SELL", "BUY", b"ab"), (None, "SELL", b"cd")]


def test_a_schema_that_contains_itself_is_refused_by_name() -> None:
    schema = record(("code", "string"), ("next", ["null", "anything"]))
    with pytest.raises(SchemaError, match="'anything' contains itself"):
        decoded((RecordField("code", STRING),), schema, [{"code": "a", "next": None}])


def test_a_null_in_a_field_that_needs_a_value_is_not_written() -> None:
    frame = ticks(3).with_columns(size=pl.Series([1, None, 3], dtype=pl.Int64))
    with pytest.raises(DataError, match="subject ticks-value, field size: there is no value in row 1, but"):
        avro(*TICK).encode(frame)


def test_a_map_with_an_entry_without_a_value_is_not_written() -> None:
    rows = [[{"key": "a", "value": "b"}], None, [{"key": "a", "value": "b"}, {"key": "c", "value": None}]]
    frame = pl.DataFrame({"labels": pl.Series(rows, dtype=STRING_MAP.physical)})
    with pytest.raises(DataError, match=r"field labels = .*: an entry has no key or no value"):
        avro(RecordField("labels", STRING_MAP, True)).encode(frame)


def test_a_decimal_of_too_many_digits_is_not_written() -> None:
    frame = ticks(2).with_columns(level=pl.Series([1, 10**18]))
    with pytest.raises(DataError, match=r"field level = 1000000000000000000 in row 1: it does not fit Decimal\(18, 6\)"):
        avro(*TICK).encode(frame)


def test_an_instant_between_two_milliseconds_is_not_cut() -> None:
    frame = ticks(2).with_columns(at=ticks(2)["at"].dt.offset_by("1us"))
    with pytest.raises(DataError, match=r"field at = .* in row 0: timestamp-millis would lose its microseconds.*epoch_us"):
        avro(*TICK).encode(frame)


AT = RecordField("at", TIMESTAMP)


def moments(rows: int, extra: str = "1us") -> pl.DataFrame:
    instants = pl.DataFrame({"at": [INSTANT] * rows}, schema={"at": TIMESTAMP.physical})
    return instants.with_columns(pl.col("at").dt.offset_by(extra))


@pytest.mark.parametrize("rows", [1, 50])
def test_a_topic_keeps_the_unit_that_its_instants_have(rows: int) -> None:
    schemas = registry()
    fine = replace(AT, unit="micros")
    AvroFormat("t", "value", [AT], schemas).encode(moments(1, "0us"))
    later = AvroFormat("t", "value", [fine], schemas)
    assert later.decode(later.encode(moments(rows, "1ms"))).frame.equals(moments(rows, "1ms"))
    assert json.loads(later.schema)["fields"][0]["type"] == MILLIS
    with pytest.raises(DataError, match="timestamp-millis would lose its microseconds"):
        later.encode(moments(rows))
    cutting = AvroFormat("t", "value", [replace(fine, is_cut=True)], schemas)
    assert cutting.decode(cutting.encode(moments(rows, "-1us"))).frame.equals(moments(rows, "-1ms"))
    other = AvroFormat("u", "value", [fine], schemas)
    assert other.decode(other.encode(moments(rows))).frame.equals(moments(rows))
    assert json.loads(other.schema)["fields"][0]["type"] == MICROS
    kept = AvroFormat("u", "value", [AT], schemas)
    assert kept.decode(kept.encode(moments(rows))).frame.equals(moments(rows))
    with pytest.raises(SchemaError, match=r"subject u-value, field at: its instants are timestamp-micros in the topic"):
        AvroFormat("u", "value", [replace(AT, has_fixed_unit=True)], schemas).encode(moments(rows))


def test_a_missing_column_and_one_of_another_type_are_named() -> None:
    with pytest.raises(DataError, match="the column size is missing"):
        avro(*TICK).encode(ticks(1).drop("size"))
    with pytest.raises(DataError, match="field size: a column of String is not one of Int64"):
        avro(*TICK).encode(ticks(1).cast({"size": str}))


def test_the_newest_schema_of_the_subject_must_fit_before_anything_is_written() -> None:
    schemas = registry()
    level = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
    schemas.register("ticks-value", json.dumps(record(("level", level), name="ticks_value")))
    with pytest.raises(SchemaError, match=r"field level: it is bytes/decimal\(10, 2\) in the schema and Decimal\(18, 6\)"):
        BothWays("ticks", "value", [RecordField("level", PRICE)], schemas).encode(ticks(1).select("level"))


def test_plans_are_made_once_for_each_schema() -> None:
    schemas = registry()
    written = BothWays("ticks", "value", TICK, schemas)
    messages = written.encode(ticks(2))
    asked: list[int] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(schemas, name)

        def schema(self, number: int) -> str | None:
            asked.append(number)
            return schemas.schema(number)

    reading = BothWays("ticks", "value", TICK, Watched())
    assert reading.decode(messages).frame.height == reading.decode(messages).frame.height == 2
    assert asked == [1]


def test_a_schema_that_was_unknown_is_asked_for_again() -> None:
    schemas = registry()
    schema = record(("code", "string"))
    reading = BothWays("ticks", "value", [RecordField("code", STRING)], schemas)
    sample = message(1, schema, {"code": "a"})
    assert reading.decode([sample]).rejects
    schemas.register("other", json.dumps(schema))
    assert reading.decode([sample]).frame["code"].to_list() == ["a"]
