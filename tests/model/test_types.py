"""One row for each data type, checked against what reads and writes each representation."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import msgspec
import polars as pl
import pytest

from kandle.ksql.operators import constant
from kandle.ksql.types import column_type
from kandle.model import types
from kandle.model.entity import HINTS
from kandle.model.types import PYTHON_TYPES, SIMPLE_TYPES, DataType, DecimalType, TimestampType
from kandle.query.nodes import Constant
from kandle.serde.avro import AvroFormat
from kandle.serde.json import JsonFormat
from kandle.serde.port import RecordField
from kandle.serde.registry import EmbeddedRegistry, MemoryJournal
from kandle.serde.schema import avro_type, parse_schema

MOMENT = datetime(2024, 3, 8, 14, 30, 0, 250_000, tzinfo=UTC)
VALUES: dict[DataType, tuple[Any, str]] = {
    types.BOOLEAN: (True, "true"),
    types.INTEGER: (-(2**63), "-9223372036854775808"),
    types.FLOAT: (0.25, "0.25"),
    types.STRING: ("tide", "tide"),
    types.UUID: (uuid.UUID("6f1ed002-ab5c-4e41-9d4c-0123456789ab"), "6f1ed002-ab5c-4e41-9d4c-0123456789ab"),
    types.BYTES: (b"raw", "raw"),
    types.DATE: (date(2024, 2, 29), "2024-02-29"),
    types.TIMESTAMP: (MOMENT, "2024-03-08T14:30:00.250Z"),
    types.STRING_MAP: ({"unit": "m"}, '{"unit": "m"}'),
    DecimalType(9, 2): (Decimal("1234567.89"), "1234567.89"),
    DecimalType(38, 18): (Decimal("-12345678901234567890.5"), "-12345678901234567890.5"),
}
ALL = [pytest.param(kind, *pair, id=str(kind)) for kind, pair in VALUES.items()]
each_type = pytest.mark.parametrize(("kind", "value", "text"), ALL)
KSQL_LITERALS = {
    types.BOOLEAN: "TRUE",
    types.INTEGER: "CAST('-9223372036854775808' AS BIGINT)",
    types.FLOAT: "0.25E0",
    types.STRING: "'tide'",
    types.UUID: "'6f1ed002-ab5c-4e41-9d4c-0123456789ab'",
    types.BYTES: "TO_BYTES('cmF3', 'base64')",
    types.DATE: "PARSE_DATE('2024-02-29', 'yyyy-MM-dd')",
    types.TIMESTAMP: "CAST('2024-03-08T14:30:00.250' AS TIMESTAMP)",
}


def frame_of(kind: DataType, value: Any) -> pl.DataFrame:
    return pl.DataFrame({"x": [kind.to_physical(value)]}, schema={"x": kind.physical})


def logical_value(kind: DataType, frame: pl.DataFrame) -> Any:
    column = frame["x"]
    if isinstance(kind, DecimalType):
        return Decimal(column.item()).scaleb(-kind.scale)
    [value] = column.to_list()
    return kind.to_python(value)


def test_every_data_type_is_walked() -> None:
    classes = {type(kind).__name__ for kind in VALUES}
    assert classes == {kind.__name__ for kind in DataType.__subclasses__()}
    assert set(SIMPLE_TYPES) == {kind for kind in VALUES if not isinstance(kind, DecimalType)}


@each_type
def test_a_value_is_one_of_its_type_in_python_and_in_physical_and_logical_columns(kind: DataType, value: Any, text: str) -> None:
    assert kind.problem(value) is None
    assert isinstance(value, kind.row.python)
    assert kind.parse(text) == value
    frame = frame_of(kind, value)
    assert frame.schema == {"x": kind.physical}
    assert logical_value(kind, frame) == value


@each_type
def test_none_stays_none_and_values_of_other_types_are_refused(kind: DataType, value: Any, text: str) -> None:
    assert kind.to_physical(None) is kind.to_python(None) is None
    for other, (foreign, _) in VALUES.items():
        if type(other) is not type(kind) and not (kind == types.FLOAT and other == types.INTEGER):
            assert kind.problem(foreign) is not None


@each_type
def test_hints_name_the_type(kind: DataType, value: Any, text: str) -> None:
    if isinstance(kind, DecimalType):
        assert str(kind) == f"Decimal({kind.precision}, {kind.scale})"
        return
    [hint] = [hint for hint, known in HINTS.items() if known == kind]
    assert str(kind) == (str(hint) if kind == types.STRING_MAP else hint.__name__)
    if kind != types.STRING_MAP:
        assert PYTHON_TYPES[type(value)] == kind


@each_type
def test_avro_holds_the_value_as_the_row_says(kind: DataType, value: Any, text: str) -> None:
    assert avro_type(RecordField("x", kind)) == kind.avro
    fastavro.parse_schema({"type": "record", "name": "r", "fields": [{"name": "x", "type": kind.avro}]})
    written = AvroFormat("t", "value", [RecordField("x", kind)], EmbeddedRegistry(MemoryJournal()))
    assert json.loads(written.schema)["fields"][0]["type"] == kind.avro
    assert parse_schema(json.dumps(kind.avro)).kind in json.dumps(kind.avro)
    frame = frame_of(kind, value)
    assert written.decode(written.encode(frame)).frame.equals(frame)


def test_instants_of_microseconds_have_an_avro_type_of_their_own() -> None:
    field = RecordField("x", types.TIMESTAMP, datetime_format="epoch_us")
    assert isinstance(field.type, TimestampType)
    assert avro_type(field) == field.type.avro_micros != field.type.avro


@each_type
def test_json_holds_the_value_as_the_row_says(kind: DataType, value: Any, text: str) -> None:
    written = JsonFormat("t", "value", [RecordField("x", kind)])
    frame = frame_of(kind, value)
    [message] = written.encode(frame)
    assert message is not None
    assert written.decode([message]).frame.equals(frame)
    content = msgspec.json.decode(message)["x"]
    msgspec.convert(content, kind.row.json)
    assert isinstance(content, dict) == (kind == types.STRING_MAP)


@each_type
def test_ksqldb_holds_the_value_as_the_row_says(kind: DataType, value: Any, text: str) -> None:
    assert str(column_type(kind)) == kind.ksql
    if kind in KSQL_LITERALS:
        literal = constant(Constant(value, kind)).text
        assert literal == KSQL_LITERALS[kind]
        form = re.escape(kind.row.literal).replace(re.escape("{}"), ".+")
        assert re.fullmatch(form, literal)


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind.bounds is not None], ids=str)
def test_bounds_are_the_last_values_that_fit(kind: DataType) -> None:
    """first - 1 | first ... last | last + 1"""
    assert kind.bounds is not None
    field = RecordField("x", kind, datetime_format="epoch_us" if kind == types.TIMESTAMP else None)
    read = JsonFormat("t", "value", [field])
    for bound, step in zip(kind.bounds, (-1, 1), strict=True):
        scale = kind.scale if isinstance(kind, DecimalType) else 0
        inside, outside = (f"{types.EXACT.scaleb(Decimal(number), -scale):f}" for number in (bound, bound + step))
        frame = read.decode([f'{{"x":{inside}}}'.encode()]).frame
        assert frame["x"].to_physical().to_list() == [bound]
        [reject] = read.decode([f'{{"x":{outside}}}'.encode()]).rejects
        assert "field x: " in reject.reason


def test_the_table_of_the_module_says_what_the_rows_say() -> None:
    assert types.__doc__ is not None
    lines = [line.split("|")[1:-1] for line in types.__doc__.splitlines() if line.startswith("| `")]
    table = {cells[0].strip().strip("`"): [cell.strip() for cell in cells] for cells in lines}
    for kind in (*SIMPLE_TYPES, DecimalType(9, 2)):
        name = "Decimal(p, s)" if isinstance(kind, DecimalType) else str(kind)
        cells = table.pop(name)
        python, logical, avro, ksql = cells[1].strip("`"), cells[3], cells[4], cells[6]
        assert python.rpartition(".")[2] == kind.row.python[0].__name__
        assert logical == type(kind.logical).__name__
        assert cells[2].partition("/")[0] == type(kind.physical).__name__
        assert avro.partition("/")[0].partition(" ")[0] == parse_schema(json.dumps(kind.avro)).kind
        assert ksql == (kind.ksql if name != "Decimal(p, s)" else "DECIMAL(p,s)")
    assert not table
