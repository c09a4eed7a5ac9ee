from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.model.types import BOOLEAN, BYTES, FLOAT, INTEGER, STRING, DecimalType
from kandle.serde.port import RecordField
from kandle.serde.schema import decimal_bytes
from tests.serde.building import (
    TEXTS,
    BothWays,
    avro,
    datum,
    message,
    python_rows,
    read_datum,
    record,
    records,
    registry,
)

Table = tuple[tuple[RecordField, ...], pl.DataFrame]
HEADER = 5


def is_minimal_in_fastavro(table: Table) -> bool:
    """fastavro writes -128, -32768 .. with a byte more than Java does and than they need."""
    fields, frame = table
    numbers = [value for field in fields if isinstance(field.type, DecimalType) for value in frame[field.name].drop_nulls()]
    return not any(value < 0 and value in {-(2 ** (8 * size - 1)) for size in range(1, 17)} for value in numbers)


@given(records().filter(is_minimal_in_fastavro))
def test_what_is_written_is_byte_for_byte_what_fastavro_writes(table: Table) -> None:
    fields, frame = table
    written = avro(*fields)
    schema = json.loads(written.schema)
    expected = [datum(schema, row) for row in python_rows(fields, frame)]
    assert [message[HEADER:] for message in written.encode(frame) if message is not None] == expected


@given(records(least=0))
def test_what_is_written_is_read_back_as_it_was(table: Table) -> None:
    fields, frame = table
    written = avro(*fields)
    result = written.decode(written.encode(frame))
    assert_frame_equal(result.frame, frame)
    assert result.rejects == ()


INNER = record(("a", "long"), ("b", ["null", "bytes"]), name="Inner")
ITEMS = {"type": "array", "items": ["null", "string", "long"]}
WRITTEN: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "float": ("float", st.floats(width=32)),
    "double": ("double", st.floats()),
    "boolean": ("boolean", st.booleans()),
    "string": ("string", TEXTS),
    "bytes": ("bytes", st.binary(max_size=20)),
    "fixed": ({"type": "fixed", "name": "Four", "size": 4}, st.binary(min_size=4, max_size=4)),
    "enum": ({"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}, st.sampled_from(["BUY", "SELL"])),
    "nothing": ("null", st.none()),
    "array": (ITEMS, st.lists(st.none() | TEXTS | st.integers(-9, 9), max_size=3)),
    "map": ({"type": "map", "values": "double"}, st.dictionaries(TEXTS, st.floats(allow_nan=False), max_size=3)),
    "inner": (INNER, st.fixed_dictionaries({"a": st.integers(0, 99), "b": st.none()})),
    "nullable": (["null", "long"], st.none() | st.integers(-(2**63), 2**63 - 1)),
    "wide_union": (["string", "null", "boolean", "double"], st.none() | TEXTS | st.booleans()),
}
READ = {"int": INTEGER, "long": INTEGER, "float": FLOAT, "double": FLOAT, "boolean": BOOLEAN, "string": STRING, "bytes": BYTES}
READ |= {"fixed": BYTES, "enum": STRING, "nullable": INTEGER}


@st.composite
def foreign(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[RecordField, ...], list[dict[str, Any]]]:
    """Return a foreign schema, fields of some of its own fields in another order, and values."""
    names = draw(st.lists(st.sampled_from(sorted(WRITTEN)), min_size=1, max_size=6, unique=True))
    schema = record(*((name, WRITTEN[name][0]) for name in names))
    wanted = draw(st.permutations([name for name in names if name in READ]))
    chosen = wanted[: draw(st.integers(0, len(wanted)))] or [draw(st.just("missing"))]
    fields = tuple(RecordField(name, READ.get(name, STRING), name in ("nullable", "missing")) for name in chosen)
    values = st.fixed_dictionaries({name: WRITTEN[name][1] for name in names})
    return schema, fields, draw(st.lists(values, min_size=1, max_size=8))


@given(foreign())
def test_what_others_write_is_read_as_fastavro_reads_it(case: tuple[dict[str, Any], tuple[RecordField, ...], list[Any]]) -> None:
    schema, fields, values = case
    schemas = registry()
    number = schemas.register("ticks-value", json.dumps(schema))
    result = BothWays("ticks", "value", fields, schemas).decode([message(number, schema, value) for value in values])
    read = [read_datum(json.dumps(schema), datum(schema, value)) for value in values]
    expected = pl.DataFrame(
        [tuple(row.get(field.name) for field in fields) for row in read],
        schema={field.name: field.type.physical for field in fields},
        orient="row",
    )
    assert result.rejects == ()
    assert_frame_equal(result.frame, expected)


EDGES = sorted({sign * 2**bits + step for bits in range(63) for sign in (-1, 1) for step in (-1, 0, 1)} | {2**63 - 1, -(2**63)})


@pytest.mark.parametrize("nullable", [False, True])
def test_numbers_at_the_edges_of_their_lengths_are_written_as_by_fastavro(nullable: bool) -> None:
    written = avro(RecordField("x", INTEGER, nullable))
    schema = json.loads(written.schema)
    # Each alone, since a column is written by its greatest value.
    for value in EDGES:
        [message] = written.encode(pl.DataFrame({"x": [value]}))
        assert message is not None and message[HEADER:] == datum(schema, {"x": value})
        assert written.decode([message]).frame["x"].to_list() == [value]


def test_decimals_at_the_edges_of_their_lengths_are_read_back() -> None:
    written = avro(RecordField("x", DecimalType(18, 0)))
    for value in EDGES:
        if abs(value) < 10**18:
            [message] = written.encode(pl.DataFrame({"x": [value]}))
            assert message is not None
            assert message[HEADER + 1 :] == decimal_bytes(value)
            assert written.decode([message]).frame["x"].to_list() == [value]


def test_a_nullable_field_with_a_default_has_null_as_its_second_branch() -> None:
    written = avro(RecordField("x", INTEGER, True, default=7))
    schema = json.loads(written.schema)
    assert schema["fields"][0] == {"name": "x", "type": ["long", "null"], "default": 7}
    values = [1, None, 7]
    messages = written.encode(pl.DataFrame({"x": values}))
    assert [message[HEADER:] for message in messages if message is not None] == [datum(schema, {"x": value}) for value in values]
    assert written.decode(messages).frame["x"].to_list() == values


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 31, 32, 33, 40, 41, 63, 64, 65, 127, 128, 10_000, 100_000])
def test_text_of_every_length_is_written_as_by_fastavro(length: int) -> None:
    written = avro(RecordField("x", STRING), RecordField("y", STRING))
    schema = json.loads(written.schema)
    rows = [{"x": "x" * length, "y": "short"}, {"x": "", "y": "y" * length}, {"x": "a", "y": "z" * (length // 2)}]
    messages = written.encode(pl.DataFrame(rows))
    assert [message[HEADER:] for message in messages if message is not None] == [datum(schema, row) for row in rows]
    assert written.decode(messages).frame.to_dicts() == rows


@pytest.mark.parametrize("precision", [18, 38])
@pytest.mark.parametrize(
    ("value", "data"),
    [(0, "00"), (127, "7f"), (128, "0080"), (-128, "80"), (-129, "ff7f"), (-32768, "8000"), (255, "00ff"), (-1, "ff")],
)
def test_a_decimal_is_written_as_javas_big_integer_writes_it(precision: int, value: int, data: str) -> None:
    kind = DecimalType(precision, 0)
    [message] = avro(RecordField("level", kind)).encode(pl.DataFrame({"level": pl.Series([value], dtype=kind.physical)}))
    assert message is not None
    assert message[HEADER:] == bytes([len(data)]) + bytes.fromhex(data)


@given(st.integers(1, 38), st.data())
def test_a_decimal_is_read_from_any_number_of_bytes(precision: int, data: st.DataObject) -> None:
    kind = DecimalType(precision, precision // 2)
    value = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    least = (value if value >= 0 else ~value).bit_length() // 8 + 1
    size = data.draw(st.integers(least, 24))
    written = avro(RecordField("level", kind))
    [sample] = written.encode(pl.DataFrame({"level": pl.Series([0], dtype=kind.physical)}))
    assert sample is not None
    result = written.decode([sample[:HEADER] + bytes([2 * size]) + value.to_bytes(size, "big", signed=True)])
    assert result.frame["level"].to_list() == [value]
