"""A few messages are read one by one, more of them as columns; `building.BothWays` compares both in the other tests of Avro."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.errors import DataError
from kandle.model.types import FLOAT, INTEGER, STRING, TIMESTAMP, StringType
from kandle.serde.avro import HEADER, AvroFormat
from kandle.serde.avro_single import MessageReader
from kandle.serde.port import FEW, Decoded, Messages, RecordField
from tests.serde.building import TICK, BothWays, avro, message, record, registry, ticks


@pytest.mark.parametrize("count", [0, 1, 2, FEW, FEW + 1])
def test_only_a_few_messages_are_read_one_by_one(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 .. FEW one by one | FEW + 1 as columns"""
    written = AvroFormat("ticks", "value", TICK, registry())
    messages = written.encode(ticks(count))
    as_columns: list[int] = []
    decode_columns = written._decode_columns

    def watched(batch: Messages) -> Decoded:
        as_columns.append(len(batch))
        return decode_columns(batch)

    monkeypatch.setattr(written, "_decode_columns", watched)
    assert_frame_equal(written.decode(messages).frame, ticks(count))
    assert as_columns == ([] if count <= FEW else [count])


@given(st.binary(max_size=24), st.booleans())
def test_any_bytes_are_read_alike_both_ways(body: bytes, is_nullable: bool) -> None:
    kinds: dict[str, Any] = {
        "i": "int",
        "b": "boolean",
        "u": ["null", "string", "double", {"type": "array", "items": "long"}],
        "t": {"type": "long", "logicalType": "timestamp-nanos"},
        "e": {"type": "enum", "name": "E", "symbols": ["UP", "DOWN"]},
    }
    fields = [
        RecordField("i", FLOAT),
        RecordField("u", StringType(3), is_nullable),
        RecordField("t", TIMESTAMP),
        RecordField("e", STRING),
        RecordField("n", INTEGER, default=7),
    ]
    schemas = registry()
    number = schemas.register("s", json.dumps(record(*kinds.items())))
    written = BothWays("ticks", "value", fields, schemas)
    written.decode([b"\0" + number.to_bytes(4, "big") + body])
    for name, kind in kinds.items():
        one = schemas.register(name, json.dumps(record((name, kind), name=f"r_{name}")))
        written.decode([b"\0" + one.to_bytes(4, "big") + body])
        chosen = [field for field in fields if field.name == name] or [RecordField("n", INTEGER, default=7)]
        BothWays("ticks", "value", chosen, schemas).decode([b"\0" + one.to_bytes(4, "big") + body])


def test_a_damaged_message_among_a_few_is_rejected_as_among_many() -> None:
    few, many = avro(*TICK), avro(*TICK)
    good = few.encode(ticks(FEW + 1))
    many.encode(ticks(1))
    assert good[1] is not None
    damaged = [good[0], good[1][:-1], *good[2:]]
    assert few.decode(damaged[:3]).rejects == many.decode(damaged).rejects


def test_messages_of_several_schemas_are_read_one_by_one_each_with_its_own() -> None:
    schemas = registry()
    old, new = record(("x", "int"), name="a"), record(("x", "long"), ("y", "string"), name="a")
    first, second = (schemas.register(f"s{at}", json.dumps(value)) for at, value in enumerate((old, new)))
    written = BothWays("ticks", "value", [RecordField("x", INTEGER), RecordField("y", STRING, True)], schemas)
    values = [message(first, old, {"x": 1}), message(second, new, {"x": 2, "y": "b"}), message(first, old, {"x": 3})]
    assert written.decode(values).frame.rows() == [(1, None), (2, "b"), (3, None)]


def test_a_number_that_never_ends_is_refused_after_ten_bytes() -> None:
    reader = MessageReader(b"\xff" * 1_000_000, HEADER, 1_000_000)
    with pytest.raises(DataError, match="more than 64 bits"):
        reader.number()
