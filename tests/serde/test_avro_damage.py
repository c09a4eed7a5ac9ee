from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.model.types import BOOLEAN, INTEGER, STRING, STRING_MAP
from kandle.serde.port import RecordField
from tests.serde.building import PRICE, TICK, BothWays, avro, message, record, records, registry, ticks

Table = tuple[tuple[RecordField, ...], pl.DataFrame]

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 6}


def damaged(data: st.DataObject, good: bytes) -> bytes:
    """Cut, longer, or with other bytes behind the header."""
    way = data.draw(st.sampled_from(["cut", "longer", "changed", "spliced"]))
    at = data.draw(st.integers(0, len(good) - 1))
    if way == "cut":
        return good[:at]
    if way == "longer":
        return good + data.draw(st.one_of(st.just(good), st.binary(min_size=1, max_size=8)))
    if way == "spliced":
        return good[:at] + good[data.draw(st.integers(0, len(good))) :]
    return good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]


def is_whole(schema: Any, body: bytes) -> bool:
    """Return whether fastavro reads the bytes as one record and uses them all."""
    source = io.BytesIO(body)
    try:
        fastavro.schemaless_reader(source, schema, None)
    except Exception:
        return False
    return source.read() == b""


@settings(max_examples=300)
@given(records(), st.data())
def test_a_damaged_message_never_touches_its_neighbours(table: Table, data: st.DataObject) -> None:
    fields, frame = table
    written = avro(*fields)
    messages = written.encode(frame)
    at = data.draw(st.integers(0, len(messages) - 1))
    good = messages[at]
    assert good is not None
    messages[at] = damaged(data, good)
    result = written.decode(messages)
    others = pl.concat([frame[:at], frame[at + 1 :]])
    if result.rejects:
        assert [reject.at for reject in result.rejects] == [at]
        assert result.rejects[0].reason.startswith("ticks-value: ")
        assert_frame_equal(result.frame, others)
    else:
        assert result.frame.height == frame.height
        assert_frame_equal(pl.concat([result.frame[:at], result.frame[at + 1 :]]), others)
        # What is taken is a whole record by another reader's judgement, too.
        changed = messages[at]
        assert changed is not None and changed[:5] == good[:5]
        assert is_whole(fastavro.parse_schema(json.loads(written.schema)), changed[5:])


@given(records(), st.data())
def test_a_message_that_is_cut_or_too_long_is_always_rejected(table: Table, data: st.DataObject) -> None:
    fields, frame = table
    written = avro(*fields)
    messages = written.encode(frame)
    at = data.draw(st.integers(0, len(messages) - 1))
    good = messages[at]
    assert good is not None
    cut = st.integers(0, len(good) - 1).map(lambda end: good[:end])
    longer = st.binary(min_size=1, max_size=9).map(lambda more: good + more)
    messages[at] = data.draw(cut | longer)
    result = written.decode(messages)
    assert [reject.at for reject in result.rejects] == [at]
    assert_frame_equal(result.frame, pl.concat([frame[:at], frame[at + 1 :]]))


def reason(message: bytes | None) -> str:
    """Return why this message among good ticks is rejected."""
    written = avro(*TICK)
    good = written.encode(ticks(3))
    result = written.decode([*good[:2], message, good[2]])
    assert_frame_equal(result.frame, ticks(3))
    [reject] = result.rejects
    assert reject.at == 2
    return reject.reason


def one_tick() -> bytes:
    [result] = avro(*TICK).encode(ticks(1))
    assert result is not None
    return result


def test_null_is_no_record() -> None:
    assert reason(None) == "ticks-value: there is no record (null)"


def test_a_message_shorter_than_the_header_is_no_record() -> None:
    assert reason(b"\0\0\0") == "ticks-value: 3 bytes are no record: the header alone has 5"


def test_another_first_byte_is_not_the_wire_format() -> None:
    assert reason(b'{"venue": "north"}') == "ticks-value: it does not begin with the zero byte of the Confluent wire format"


def test_an_unknown_schema_is_named() -> None:
    assert reason(b"\0\0\0\0\x63" + one_tick()[5:]) == "ticks-value: schema 99 is not in the registry"


def test_a_message_that_ends_too_soon_names_the_field() -> None:
    assert reason(one_tick()[:-1]) == "ticks-value: field size: the message ends in the middle of it"


def test_bytes_behind_the_last_field_are_damage() -> None:
    assert reason(one_tick() + b"\0") == "ticks-value: the record: there are bytes behind its last field"


def test_text_that_is_not_utf_8_names_the_field() -> None:
    assert reason(one_tick().replace(b"north", b"n\xffrth")) == "ticks-value: field venue: it is not text in UTF-8"


def test_a_number_of_more_than_64_bits_is_damage() -> None:
    good = one_tick()
    assert reason(good[:-1] + b"\xff" * 9 + b"\x02") == "ticks-value: field size: a number has more than 64 bits"


def test_numbers_of_nine_and_ten_bytes_are_read() -> None:
    written = avro(*TICK)
    sizes = [2**63 - 1, -(2**63), 2**56, -(2**55) - 1, 2**62, 0]
    frame = ticks(len(sizes)).with_columns(size=pl.Series(sizes))
    assert_frame_equal(written.decode(written.encode(frame)).frame, frame)


def test_a_length_below_zero_is_damage() -> None:
    good = one_tick()
    assert "field venue: the message ends in the middle of it" in reason(good[:5] + b"\x01" + good[6:])


def test_a_length_beyond_all_messages_is_damage() -> None:
    good = one_tick()
    for length in (b"\x80\x80\x80\x80\x80\x40", b"\xfe" + b"\xff" * 8 + b"\x01"):
        assert "field venue: the message ends in the middle of it" in reason(good[:5] + length + good[6:])


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("boolean", b"\x02", "field x: a boolean is neither 0 nor 1"),
        (["null", "boolean"], b"\x01", "field x: there is no branch of a union of that number"),
        (["null", "boolean"], b"\x04", "field x: there is no branch of a union of that number"),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, b"\x01", "field x: there is no symbol of an enum of that number"),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, b"\x02", "field x: there is no symbol of an enum of that number"),
        ("int", b"\x80\x80\x80\x80\x10", "field x: an int has more than 32 bits"),
        ({"type": "map", "values": "boolean"}, b"\x02\x02a\x02\x00", "field y: a boolean is neither 0 nor 1"),
        ({"type": "map", "values": "string"}, b"\x02\x02\xff\x02a\x00", "field y: it is not text in UTF-8"),
        ({"type": "array", "items": "null"}, b"\x80\x80\x80\x80\x80\x40\x00", "field y: the message ends in the middle of it"),
        ({"type": "array", "items": "long"}, b"\x02" + b"\xff" * 10 + b"\x01\x00", "field y: a number has more than 64 bits"),
        ({"type": "array", "items": ["null"]}, b"\x02\x02\x00", "field y: there is no branch of a union of that number"),
        ({"type": "array", "items": "bytes"}, b"\x02\x01\x00", "field y: the message ends in the middle of it"),
        (DECIMAL, b"\x00", "field x: a decimal has no bytes"),
    ],
)
def test_values_that_no_writer_gives_are_damage(kind: Any, body: bytes, words: str) -> None:
    """Hold in fields that are read (x) and in those that nobody asks for (y)."""
    is_read = "field x" in words
    types = {"boolean": BOOLEAN, "int": INTEGER}
    nullable = isinstance(kind, list)
    inner = kind[-1] if nullable else kind
    chosen = types.get(inner, STRING) if isinstance(inner, str) else PRICE if inner is DECIMAL else STRING
    fields = [RecordField("x", chosen, nullable)] if is_read else [RecordField("z", STRING, True)]
    schemas = registry()
    schemas.register("s", json.dumps(record(("x" if is_read else "y", kind))))
    result = BothWays("ticks", "value", fields, schemas).decode([b"\0\0\0\0\1" + body])
    assert result.frame.is_empty()
    assert words in result.rejects[0].reason


def test_blocks_of_items_may_say_how_long_they_are() -> None:
    schemas = registry()
    schemas.register("s", json.dumps(record(("x", {"type": "map", "values": "string"}))))
    body = b"\x01\x08\x02a\x02b" + b"\x02\x02c\x02d" + b"\x00"
    result = BothWays("ticks", "value", [RecordField("x", STRING_MAP)], schemas).decode([b"\0\0\0\0\1" + body])
    assert result.frame["x"].to_list() == [[{"key": "a", "value": "b"}, {"key": "c", "value": "d"}]]


def test_messages_of_many_schemas_keep_their_order() -> None:
    schemas = registry()
    old = {"type": "record", "name": "a", "fields": [{"name": "code", "type": "string"}]}
    new = {"type": "record", "name": "a", "fields": [{"name": "code", "type": ["null", "string"]}, {"name": "n", "type": "int"}]}
    first, second = (schemas.register(f"s{at}", json.dumps(value)) for at, value in enumerate((old, new)))
    messages: list[bytes | None] = []
    for at in range(20):
        value = {"code": f"c{at}", "n": at}
        messages.append(message(first, old, value) if at % 3 else message(second, new, value))
    messages[4] = b"\0" + second.to_bytes(4, "big") + b"\x04"
    result = BothWays("ticks", "value", [RecordField("code", STRING)], schemas).decode(messages)
    assert result.frame["code"].to_list() == [f"c{at}" for at in range(20) if at != 4]
    assert [reject.at for reject in result.rejects] == [4]


def test_no_messages_are_an_empty_frame() -> None:
    result = avro(*TICK).decode([])
    assert_frame_equal(result.frame, ticks(0))


def test_only_bad_messages_are_an_empty_frame() -> None:
    result = avro(*TICK).decode([b"x", None, b"\0\0\0\0\x63x"])
    assert_frame_equal(result.frame, ticks(0))
    assert [reject.at for reject in result.rejects] == [0, 1, 2]
