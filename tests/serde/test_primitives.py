from __future__ import annotations

import struct
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.errors import DataError, SchemaError
from kandle.model.types import BYTES, FLOAT, INTEGER, STRING, TIMESTAMP, DataType
from kandle.serde.port import RecordField
from kandle.serde.primitives import KafkaFormat
from tests.serde.building import INTEGERS, TEXTS


def written(kind: DataType) -> KafkaFormat:
    return KafkaFormat("ticks", "key", [RecordField("x", kind)])


@given(
    st.one_of(
        st.tuples(st.just(STRING), st.lists(TEXTS)),
        st.tuples(st.just(INTEGER), st.lists(INTEGERS)),
        st.tuples(st.just(FLOAT), st.lists(st.floats(allow_nan=False))),
        st.tuples(st.just(BYTES), st.lists(st.binary())),
    )
)
def test_what_is_written_is_read_back(case: tuple[DataType, list[Any]]) -> None:
    kind, values = case
    frame = pl.DataFrame({"x": values}, schema={"x": kind.physical})
    result = written(kind).decode(written(kind).encode(frame))
    assert result.frame["x"].to_list() == values
    assert result.rejects == ()


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (STRING, "ä", b"\xc3\xa4"),
        (INTEGER, -2, b"\xff\xff\xff\xff\xff\xff\xff\xfe"),
        (FLOAT, 1.0, b"\x3f\xf0\0\0\0\0\0\0"),
        (BYTES, b"\0", b"\0"),
    ],
)
def test_messages_are_those_of_javas_serializers(kind: DataType, value: Any, message: bytes) -> None:
    assert written(kind).encode(pl.DataFrame({"x": [value]}, schema={"x": kind.physical})) == [message]


def test_an_integer_of_four_bytes_is_read() -> None:
    assert written(INTEGER).decode([struct.pack(">i", -7)]).frame["x"].to_list() == [-7]


@pytest.mark.parametrize(
    ("kind", "message", "words"),
    [
        (INTEGER, b"\0\0\0", "ticks-key, field x: 3 bytes are no integer of 4 or 8"),
        (FLOAT, b"\0\0\0\0", "4 bytes are no double of 8"),
        (STRING, b"\xff", "it is not text in UTF-8"),
        (STRING, None, "there is no value (null)"),
    ],
)
def test_what_is_no_value_is_rejected_by_name(kind: DataType, message: bytes | None, words: str) -> None:
    result = written(kind).decode([message])
    assert result.frame.is_empty()
    assert words in result.rejects[0].reason


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([RecordField("a", STRING), RecordField("b", STRING)], "KAFKA is a format of one column, not of a, b"),
        ([], "not of no columns"),
        ([RecordField("a", TIMESTAMP)], "KAFKA has no datetime"),
        ([RecordField("a", STRING, True)], r"KAFKA has no str \| None"),
    ],
)
def test_other_records_have_no_such_format(fields: list[RecordField], words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        KafkaFormat("ticks", "key", fields)


def test_a_missing_value_is_not_written() -> None:
    with pytest.raises(DataError, match="field x: there is no value in row 1"):
        written(STRING).encode(pl.DataFrame({"x": ["a", None]}))
