from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.errors import SchemaError
from kandle.serde.compatibility import Compatibility, incompatibilities, unreadable
from kandle.serde.schema import parse_schema
from tests.serde.building import record

OPTIONAL = ["null", "int"]
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 6}
OTHER_DECIMAL = DECIMAL | {"scale": 4}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def reasons(reader: Any, writer: Any) -> list[str]:
    return list(unreadable(parse_schema(json.dumps(reader)), parse_schema(json.dumps(writer))))


def fields(*parts: tuple[str, Any] | tuple[str, Any, Any]) -> dict[str, Any]:
    """Return a record; a third part is the default."""
    result = [{"name": part[0], "type": part[1]} | ({"default": part[2]} if len(part) > 2 else {}) for part in parts]
    return {"type": "record", "name": "r", "fields": result}


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ("long", "int"),
        ("double", "long"),
        ("bytes", "string"),
        ("string", "bytes"),
        (["null", "double"], "int"),
        (["null", "string"], ["string"]),
        (fields(("a", "int"), ("b", "int", 3)), fields(("a", "int"))),
        (fields(("a", "int")), fields(("b", "string"), ("a", "int"))),
        (DECIMAL, DECIMAL),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, {"type": "enum", "name": "e", "symbols": ["B"]}),
        ({"type": "enum", "name": "e", "symbols": ["A"], "default": "A"}, {"type": "enum", "name": "e", "symbols": ["B"]}),
        (MILLIS, "long"),
    ],
)
def test_what_avro_can_read_is_compatible(reader: Any, writer: Any) -> None:
    assert reasons(reader, writer) == []


@pytest.mark.parametrize(
    ("reader", "writer", "reason"),
    [
        ("int", "long", "the schema is int, but was written as long"),
        (fields(("a", "string")), fields(("a", "int")), "field a is string, but was written as int"),
        (fields(("a", "int"), ("b", "int")), fields(("a", "int")), "field b was not written and has no default"),
        (fields(("a", "string")), fields(("a", ["null", "string"])), "field a is string, but was written as null"),
        (
            fields(("a", ["null", "int"])),
            fields(("a", "string")),
            "field a is union of null, int, which has no branch for string",
        ),
        (
            fields(("a", DECIMAL)),
            fields(("a", OTHER_DECIMAL)),
            "field a is bytes/decimal(18, 6), but was written as bytes/decimal(18, 4)",
        ),
        (fields(("a", DECIMAL)), fields(("a", "string")), "field a is bytes/decimal(18, 6), but was written as string"),
        (fields(("a", DECIMAL)), fields(("a", "bytes")), "field a is bytes/decimal(18, 6), but was written as bytes"),
        (
            fields(("a", MICROS)),
            fields(("a", MILLIS)),
            "field a is long/timestamp-micros, but was written as long/timestamp-millis",
        ),
        (
            fields(("a", {"type": "map", "values": "int"})),
            fields(("a", {"type": "map", "values": "string"})),
            "field a, values is int, but was written as string",
        ),
        (
            fields(("a", {"type": "enum", "name": "e", "symbols": ["A"]})),
            fields(("a", {"type": "enum", "name": "e", "symbols": ["A", "C"]})),
            "field a has no symbol C",
        ),
        (
            {"type": "fixed", "name": "f", "size": 3},
            {"type": "fixed", "name": "f", "size": 4},
            "the schema has 3 bytes, but was written with 4",
        ),
        (record(name="r"), record(name="q"), "the schema is the record r, but was written as q"),
    ],
)
def test_what_avro_cannot_read_is_named(reader: Any, writer: Any, reason: str) -> None:
    assert reasons(reader, writer) == [reason]


SIMPLE = st.sampled_from(["int", "long", "double", "string", "boolean", ["null", "int"], ["null", "string"], ["string", "long"]])
VALUES = {"null": None, "int": 1, "long": 2, "double": 0.5, "string": "s", "boolean": True}


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3))
    result = []
    for name in names:
        kind = draw(SIMPLE)
        first: Any = kind[0] if isinstance(kind, list) else kind
        result.append((name, kind, VALUES[first]) if draw(st.booleans()) else (name, kind))
    return fields(*result)


def is_read(reader: dict[str, Any], writer: dict[str, Any], value: dict[str, Any]) -> bool:
    source = io.BytesIO()
    fastavro.schemaless_writer(source, writer, value)
    source.seek(0)
    try:
        fastavro.schemaless_reader(source, writer, reader)
    except Exception:
        return False
    return True


@given(schemas(), schemas())
def test_compatible_means_that_fastavro_reads_every_branch(reader: dict[str, Any], writer: dict[str, Any]) -> None:
    first = {value["name"]: VALUES[_branch(value["type"], 0)] for value in writer["fields"]}
    last = {value["name"]: VALUES[_branch(value["type"], -1)] for value in writer["fields"]}
    read = [is_read(reader, writer, value) for value in (first, last)]
    assert (not reasons(reader, writer)) == all(read)


def _branch(kind: Any, number: int) -> str:
    return str(kind[number] if isinstance(kind, list) else kind)


OLD, NEW = json.dumps(fields(("a", "int"))), json.dumps(fields(("a", "int"), ("b", "int")))


@pytest.mark.parametrize(
    ("rule", "first", "second", "good"),
    [
        (Compatibility.NONE, OLD, json.dumps("string"), True),
        (Compatibility.BACKWARD, OLD, NEW, False),
        (Compatibility.BACKWARD, NEW, OLD, True),
        (Compatibility.FORWARD, OLD, NEW, True),
        (Compatibility.FORWARD, NEW, OLD, False),
        (Compatibility.FULL, OLD, NEW, False),
        (Compatibility.FULL, NEW, OLD, False),
        (Compatibility.FULL, OLD, OLD, True),
    ],
)
def test_each_rule_asks_in_its_direction(rule: Compatibility, first: str, second: str, good: bool) -> None:
    assert (not incompatibilities(second, [first], rule)) == good


def test_transitive_rules_look_at_all_schemas() -> None:
    before = [json.dumps(fields(("a", "string"))), json.dumps(fields(("b", "int")))]
    new = json.dumps(fields(("b", "int"), ("a", "int", 0)))
    assert incompatibilities(new, before, Compatibility.BACKWARD) == ()
    assert incompatibilities(new, before, Compatibility.BACKWARD_TRANSITIVE) == (
        "the new schema cannot read older records: field b was not written and has no default",
        "the new schema cannot read older records: field a is int, but was written as string",
    )


@pytest.mark.parametrize(
    "text", ["{", '"strin"', "{}", '{"type": "record", "name": "a"}', "3", '{"type": "fixed", "name": "f"}', "[[]"]
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(SchemaError, match="not an Avro schema"):
        parse_schema(text)


def test_names_are_resolved_within_their_namespace() -> None:
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "int"}]}
    outer = {
        "type": "record",
        "name": "Outer",
        "namespace": "com.example",
        "fields": [{"name": "a", "type": inner}, {"name": "b", "type": "Inner"}, {"name": "c", "type": "com.example.Inner"}],
    }
    names = [field.type.name for field in parse_schema(json.dumps(outer)).fields]
    assert names == ["com.example.Inner"] * 3


def test_an_unknown_logical_type_is_only_its_base() -> None:
    parsed = parse_schema('{"type": "long", "logicalType": "made-up"}')
    assert (parsed.kind, parsed.logical) == ("long", None)
    wrong = parse_schema('{"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 5}')
    assert (wrong.kind, wrong.logical) == ("bytes", None)
