from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import fastavro
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kandle
from kandle.errors import SchemaError
from kandle.model.entity import entity_model
from kandle.model.parsing import scaled
from kandle.model.types import INTEGER, STRING, TIMESTAMP, DecimalType
from kandle.plan.topics import TopicColumn, entity_topic
from kandle.serde.port import RecordField, column_fields, entity_field, physical_default
from kandle.serde.schema import avro_schema, canonical, decimal_bytes, fingerprint, record_name
from tests.serde.building import SOME_UUID


@kandle.stream("all.kinds-1")
@dataclass(frozen=True)
class Everything:
    code: Annotated[str, kandle.Key(0), kandle.MaxLength(8)]
    at: Annotated[datetime, kandle.Timestamp(), kandle.Key(1)]
    level: Annotated[Decimal, kandle.Precision(18, 6)]
    fine: Annotated[datetime, kandle.DatetimeFormat("epoch_us")]
    day: date
    flag: bool = True
    count: Annotated[int, kandle.Alias("quantity")] = 3
    ratio: float = 0.5
    identity: UUID = SOME_UUID
    raw: bytes = b"\xff\x00"
    tags: dict[str, str] = field(default_factory=dict)
    note: str | None = None
    limit: Annotated[Decimal | None, kandle.Precision(9, 2)] = Decimal("-1.5")
    since: date = date(1970, 1, 11)
    begun: datetime = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


ENTITY = entity_model(Everything)


def value_schema() -> dict[str, Any]:
    spec = entity_topic(ENTITY)
    fields = [field for field in column_fields(spec.columns, ENTITY) if field.name not in spec.keys]
    result: dict[str, Any] = json.loads(avro_schema(fields, spec.name, "value", "com.example"))
    return result


def test_every_type_has_its_avro_form() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal"}
    assert value_schema() == {
        "type": "record",
        "name": "all_kinds_1_value",
        "namespace": "com.example",
        "fields": [
            {"name": "level", "type": decimal | {"precision": 18, "scale": 6}},
            {"name": "fine", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "flag", "type": "boolean", "default": True},
            {"name": "count", "type": "long", "default": 3, "aliases": ["quantity"]},
            {"name": "ratio", "type": "double", "default": 0.5},
            {"name": "identity", "type": "string", "default": str(SOME_UUID)},
            {"name": "raw", "type": "bytes", "default": "\u00ff\u0000"},
            {"name": "tags", "type": {"type": "map", "values": "string"}, "default": {}},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "limit", "type": [decimal | {"precision": 9, "scale": 2}, "null"], "default": "\u00ff\u006a"},
            {"name": "since", "type": {"type": "int", "logicalType": "date"}, "default": 10},
            {"name": "begun", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 1000},
        ],
    }


def test_fastavro_takes_the_schema() -> None:
    fastavro.parse_schema(value_schema())


def test_key_columns_are_plain_fields_in_their_order() -> None:
    spec = entity_topic(ENTITY)
    fields = {field.name: field for field in column_fields(spec.columns, ENTITY)}
    schema = json.loads(avro_schema([fields[name] for name in spec.keys], spec.name, "key"))
    assert schema["name"] == "all_kinds_1_key"
    assert [(value["name"], value["type"]) for value in schema["fields"]] == [
        ("code", "string"),
        ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ]


def test_columns_without_an_entity_keep_their_types() -> None:
    spec = entity_topic(ENTITY)
    plain = column_fields(spec.columns)
    assert [(field.name, str(field.type), field.nullable) for field in plain] == [
        (field.name, field.kind, field.nullable) for field in spec.columns
    ]


def test_instants_that_are_no_entitys_keep_their_microseconds() -> None:
    [field] = column_fields([TopicColumn("start", "timestamp", TIMESTAMP.physical)])
    assert field.is_fine


def test_a_column_without_an_avro_form_is_named() -> None:
    with pytest.raises(SchemaError, match="column x: thing"):
        column_fields([TopicColumn("x", "thing", pl.List(pl.Int64()))])


@pytest.mark.parametrize(
    ("topic", "name"), [("ticks", "ticks_key"), ("a.b-c", "a_b_c_key"), ("1m", "_1m_key"), ("bars_1m_final", "bars_1m_final_key")]
)
def test_record_names_come_from_the_topic(topic: str, name: str) -> None:
    assert record_name(topic, "key") == name


def test_a_name_that_avro_does_not_take_is_refused() -> None:
    with pytest.raises(SchemaError, match="topic t, field größe: 'größe' is not an Avro name"):
        avro_schema([RecordField("größe", INTEGER)], "t", "value")


def test_a_namespace_that_avro_does_not_take_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"'a\.\.b' is not an Avro namespace"):
        avro_schema([RecordField("a", INTEGER)], "t", "value", "a..b")


@pytest.mark.parametrize("default", ["0.001", "100"])
def test_a_default_that_does_not_fit_is_named(default: str) -> None:
    with pytest.raises(SchemaError, match=rf"field level: the default Decimal\('{default}'\) is no Decimal\(4, 2\)"):
        avro_schema([RecordField("level", DecimalType(4, 2), default=Decimal(default))], "t", "value")


def test_defaults_that_are_made_anew_are_none_for_a_schema() -> None:
    @kandle.stream("made")
    @dataclass
    class Made:
        identity: UUID = field(default_factory=lambda: SOME_UUID)
        tags: dict[str, str] = field(default_factory=dict)

    identity, tags = map(entity_field, entity_model(Made).fields)
    assert "default" not in json.loads(avro_schema([identity], "made", "value"))["fields"][0]
    assert physical_default(tags) == []


def test_documentation_and_order_do_not_change_a_fingerprint() -> None:
    schema = {"type": "record", "name": "a", "fields": [{"name": "x", "type": "int"}]}
    other = {"fields": [{"type": "int", "doc": "what", "name": "x"}], "doc": "long", "name": "a", "type": "record"}
    assert fingerprint(json.dumps(schema)) == fingerprint(json.dumps(other, indent=2))


def test_scale_and_default_change_a_fingerprint() -> None:
    marks = {
        fingerprint(avro_schema([RecordField("x", kind, default=default)], "t", "value"))
        for kind in (DecimalType(9, 2), DecimalType(9, 3))
        for default in (Decimal(1), Decimal(2))
    }
    assert len(marks) == 4


def test_a_default_that_is_named_doc_is_kept() -> None:
    schema = {"type": "record", "name": "a", "fields": [{"name": "x", "type": {"type": "map", "values": "string"}}]}
    schema["fields"][0]["default"] = {"doc": "kept"}  # type: ignore[index]
    assert json.loads(canonical(json.dumps(schema)))["fields"][0]["default"] == {"doc": "kept"}


@given(st.integers())
def test_decimal_bytes_are_as_short_as_they_can_be(value: int) -> None:
    data = decimal_bytes(value)
    assert int.from_bytes(data, "big", signed=True) == value
    assert len(data) == 1 or int.from_bytes(data[1:], "big", signed=True) != value


@given(st.integers(-(10**20), 10**20), st.integers(0, 12), st.integers(0, 12))
def test_a_decimal_is_scaled_exactly_or_refused(whole: int, digits: int, scale: int) -> None:
    value = Decimal((int(whole < 0), tuple(map(int, str(abs(whole)))), -digits))
    if whole * 10**scale % 10**digits:
        with pytest.raises(ValueError, match="digits"):
            scaled(value, scale)
    else:
        assert scaled(value, scale) == whole * 10**scale // 10**digits


@pytest.mark.parametrize("text", ["1e999999999", "-1e-999999999", "NaN", "Infinity"])
def test_numbers_beyond_all_bounds_are_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"digits|not a number"):
        scaled(Decimal(text), 2)


def test_a_fine_datetime_needs_epoch_us() -> None:
    fields = [RecordField("a", STRING), RecordField("at", TIMESTAMP, default=datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC))]
    with pytest.raises(SchemaError, match="field at: the default"):
        avro_schema(fields, "t", "value")
