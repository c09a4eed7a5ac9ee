from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.errors import DataError, KandleError
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
    FloatType,
    StringType,
)
from kandle.serde import json as json_format
from kandle.serde.json import JsonFormat
from kandle.serde.port import FEW, RecordField
from kandle.serde.schema import Shape
from tests.serde.building import PRICE, SOME_DAY, SOME_UUID, TICK, records, result_of, ticks

Table = tuple[tuple[RecordField, ...], pl.DataFrame]
INSTANT = datetime(2024, 3, 8, 14, 30, 0, 250_000, tzinfo=UTC)
MILLIS = 1_709_908_200_250


def written(*fields: RecordField) -> JsonFormat:
    return JsonFormat("ticks", "value", fields)


def is_sayable(table: Table) -> bool:
    """JSON has no infinite numbers."""
    fields, frame = table
    return all(frame[field.name].is_finite().all() for field in fields if isinstance(field.type, FloatType))


@given(records(least=0).filter(is_sayable))
def test_what_is_written_is_read_back_as_it_was(table: Table) -> None:
    fields, frame = table
    result = written(*fields).decode(written(*fields).encode(frame))
    assert result.rejects == ()
    assert_frame_equal(result.frame, frame)


@given(records())
def test_a_few_records_are_written_as_many_are(table: Table) -> None:
    """Byte for byte, and with the same errors."""
    fields, frame = table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_format, "FEW", -1)
        many = result_of(lambda: written(*fields).encode(frame))
    few = result_of(lambda: written(*fields).encode(frame))
    assert str(few) == str(many) if isinstance(few, KandleError) else few == many


def test_more_than_a_few_records_are_read_back_as_they_were() -> None:
    written_many = written(*TICK).encode(ticks(FEW + 1))
    assert_frame_equal(written(*TICK).decode(written_many).frame, ticks(FEW + 1))


@pytest.mark.parametrize("value", [0.1, -0.0, 1e300, 5e-324, 1.7976931348623157e308, 1e16, 123456789.0, 1e-7, float("inf")])
def test_floats_of_a_few_records_are_written_as_those_of_many(value: float) -> None:
    field, frame = RecordField("100%", FLOAT), pl.DataFrame({"100%": [value]})
    if value == float("inf"):
        with pytest.raises(DataError, match="JSON has no such number"):
            written(field).encode(frame)
        return
    assert written(field).encode(frame) == written(field).encode(frame[[0] * (FEW + 1)])[:1]


@given(records().filter(is_sayable))
def test_every_message_is_a_json_object_with_the_fields_in_their_order(table: Table) -> None:
    fields, frame = table
    for message in written(*fields).encode(frame):
        assert message is not None
        assert list(json.loads(message)) == [field.name for field in fields]


def test_messages_are_what_ksqldb_reads() -> None:
    fields = (
        *TICK,
        RecordField("day", DATE),
        RecordField("flag", BOOLEAN),
        RecordField("raw", BYTES),
        RecordField("tags", STRING_MAP),
        RecordField("note", STRING, True),
    )
    row = ("nörth", 'a"b', INSTANT, -1_500_000, 3, SOME_DAY, True, b"\xff", [{"key": "k", "value": "v"}], None)
    frame = pl.DataFrame([row], schema={field.name: field.type.physical for field in fields}, orient="row")
    [message] = written(*fields).encode(frame)
    assert message is not None
    days = (SOME_DAY - date(1970, 1, 1)).days
    assert message.decode() == (
        f'{{"venue":"nörth","code":"a\\"b","at":{MILLIS},"level":-1.500000,"size":3,"day":{days},"flag":true,'
        '"raw":"/w==","tags":{"k": "v"},"note":null}'
    )


def one(field: RecordField, text: str) -> Any:
    result = written(field).decode([f'{{"{field.name}": {text}}}'.encode()])
    assert result.rejects == ()
    return result.frame.item()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (PRICE, "1.5", 1_500_000),
        (PRICE, '"-1.500000"', -1_500_000),
        (PRICE, "15e-1", 1_500_000),
        (PRICE, "7", 7_000_000),
        (PRICE, "0e999999999", 0),
        (DecimalType(38, 18), "12345678901234567890.123456789012345678", 12345678901234567890123456789012345678),
        (INTEGER, "9223372036854775807", 2**63 - 1),
        (INTEGER, '"12"', 12),
        (INTEGER, "12.0", 12),
        (FLOAT, "1", 1.0),
        (FLOAT, "0.1", 0.1),
        (TIMESTAMP, str(MILLIS), INSTANT),
        (TIMESTAMP, f'"{MILLIS}"', INSTANT),
        (TIMESTAMP, '"2024-03-08T14:30:00.25Z"', INSTANT),
        (TIMESTAMP, '"2024-03-08T15:30:00.250000000+01:00"', INSTANT),
        (DATE, '"2024-02-29"', SOME_DAY),
        (DATE, "0", date(1970, 1, 1)),
        (UUID, f'"{str(SOME_UUID).upper()}"', str(SOME_UUID)),
        (STRING, '"\\ud83d\\ude00"', "😀"),
    ],
)
def test_values_are_read_exactly(kind: DataType, text: str, value: Any) -> None:
    assert one(RecordField("x", kind), text) == value


@pytest.mark.parametrize(("form", "unit"), [("epoch_s", 10**6), ("epoch_ms", 10**3), ("epoch_us", 1)])
def test_numbers_are_instants_in_the_unit_of_the_entity(form: str, unit: int) -> None:
    field = RecordField("at", TIMESTAMP, datetime_format=form)
    whole = INSTANT.replace(microsecond=0)
    micros = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert one(field, str(micros // unit)) == whole
    frame = pl.DataFrame({"at": [whole]}, schema={"at": TIMESTAMP.physical})
    assert written(field).encode(frame) == [f'{{"at":{micros // unit}}}'.encode()]


def test_a_datetime_of_a_form_of_its_own_is_text_of_that_form() -> None:
    field = RecordField("at", TIMESTAMP, nullable=True, datetime_format="%d.%m.%Y %H:%M:%S")
    whole = INSTANT.replace(microsecond=0)
    frame = pl.DataFrame({"at": pl.Series([whole, None], dtype=TIMESTAMP.physical)})
    assert written(field).encode(frame) == [b'{"at":"08.03.2024 14:30:00"}', b'{"at":null}']
    texts = ['{"at":"08.03.2024 14:30:00"}', '{"at":"2024-03-08T14:30:00Z"}', f'{{"at":{MILLIS - 250}}}']
    assert written(field).decode([text.encode() for text in texts]).frame["at"].to_list() == [whole] * 3
    assert "at" in written(field).decode([b'{"at":"8 March"}']).rejects[0].reason
    with pytest.raises(DataError, match=r"field at = .*text of the form '%d.%m.%Y %H:%M:%S' would not say all of it"):
        written(field).encode(pl.DataFrame({"at": pl.Series([INSTANT], dtype=TIMESTAMP.physical)}))


def test_nanoseconds_are_written_and_read() -> None:
    field = RecordField("at", TIMESTAMP, datetime_format="epoch_ns")
    frame = pl.DataFrame({"at": [INSTANT]}, schema={"at": TIMESTAMP.physical})
    assert written(field).encode(frame) == [f'{{"at":{MILLIS}000000}}'.encode()]
    assert one(field, f"{MILLIS}000000") == INSTANT


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        (RecordField("x", PRICE), "0.0000001", "more than 6 digits behind the point"),
        (RecordField("x", PRICE), "1e12", "is not Decimal(18, 6)"),
        (RecordField("x", PRICE), "1e999999999", "too large"),
        (RecordField("x", PRICE), '"1,5"', "'1,5' is not Decimal(18, 6)"),
        (RecordField("x", PRICE), "true", "True is not Decimal(18, 6)"),
        (RecordField("x", INTEGER), "1.5", "more than 0 digits behind the point"),
        (RecordField("x", INTEGER), "9223372036854775808", "is not int"),
        (RecordField("x", INTEGER), "true", "True is not int"),
        (RecordField("x", FLOAT), "1e400", "is not float"),
        (RecordField("x", FLOAT), "NaN", "NaN is no number of JSON"),
        (RecordField("x", BOOLEAN), "1", "1 is not bool"),
        (RecordField("x", STRING), "1", "1 is not str"),
        (RecordField("x", STRING), '"\\ud83d"', "half a character"),
        (RecordField("x", StringType(2)), '"abc"', "more than 2 characters"),
        (RecordField("x", UUID), '"abc"', "'abc' is not UUID"),
        (RecordField("x", BYTES), '"*"', "field x"),
        (RecordField("x", DATE), "99999999", "is not date"),
        (RecordField("x", DATE), '"2023-02-29"', "field x"),
        (RecordField("x", TIMESTAMP), "1e17", "years 1 to 9999"),
        (RecordField("x", TIMESTAMP), '"yesterday-ish"', "not a point in time"),
        (RecordField("x", TIMESTAMP), '"2024-03-08T14:30:00.1234567Z"', "finer than a microsecond"),
        (RecordField("x", TIMESTAMP, datetime_format="epoch_ns"), "1", "finer than a microsecond"),
        (RecordField("x", STRING_MAP), '{"a": 1}', "is not dict[str, str]"),
        (RecordField("x", STRING), "null", "there is no value, but the field is not Optional"),
        (RecordField("x", STRING), "[" * 100_000, "ticks-value: "),
        (RecordField("x", INTEGER), "1" * 5000, "ticks-value: "),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(field: RecordField, text: str, words: str) -> None:
    result = written(field).decode([f'{{"x": {text}}}'.encode()])
    assert result.frame.is_empty()
    assert words in result.rejects[0].reason


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (None, "there is no record (null)"),
        (b"", "it is not JSON"),
        (b'{"venue": "x"', "it is not JSON"),
        (b"[1]", "it is not a JSON object"),
        (b'"text"', "it is not a JSON object"),
        (b"\xff\xfe", "it is not JSON"),
        (b"{}", "there is no field venue"),
        (b"\0\0\0\0\1abc", "it is not JSON"),
    ],
)
def test_what_is_no_record_is_rejected_and_its_neighbours_are_kept(message: bytes | None, words: str) -> None:
    good = written(*TICK).encode(ticks(2))
    result = written(*TICK).decode([good[0], message, good[1]])
    assert_frame_equal(result.frame, ticks(2))
    assert [reject.at for reject in result.rejects] == [1]
    assert words in result.rejects[0].reason


def test_names_are_found_by_alias_and_in_another_case_and_others_passed_over() -> None:
    fields = (RecordField("code", STRING, aliases=("ticker",)), RecordField("size", INTEGER, default=7))
    messages = [b'{"ticker": "a", "SIZE": 1, "more": [1]}', b'{"CODE": "b"}', b'{"CODE": "no", "code": "c", "Size": 2}']
    assert written(*fields).decode(messages).frame.rows() == [("a", 1), ("b", 7), ("c", 2)]


def test_a_bare_key_is_its_value() -> None:
    bare = JsonFormat("ticks", "key", [RecordField("code", STRING)], shape=Shape.BARE)
    assert bare.encode(ticks(2)) == [b'"C0"', b'"C1"']
    assert bare.decode([b'"C0"', b'{"code": "C1"}']).frame["code"].to_list() == ["C0", "C1"]


def test_a_bare_map_is_its_value() -> None:
    bare = JsonFormat("ticks", "key", [RecordField("tags", STRING_MAP)], shape=Shape.BARE)
    assert bare.decode([b'{"a": "b"}']).frame["tags"].to_list() == [[{"key": "a", "value": "b"}]]


def test_numbers_that_json_cannot_say_are_not_written() -> None:
    frame = pl.DataFrame({"x": [1.0, float("nan")]})
    with pytest.raises(DataError, match="field x = nan in row 1: JSON has no such number"):
        written(RecordField("x", FLOAT)).encode(frame)


def test_microseconds_are_not_cut() -> None:
    frame = ticks(2).with_columns(at=ticks(2)["at"].dt.offset_by("1us"))
    with pytest.raises(DataError, match=r"field at = .* in row 0: .*epoch_us"):
        written(*TICK).encode(frame)


MOMENTS = st.integers(-(10**15), 2 * 10**15).map(lambda micros: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))


@given(st.lists(MOMENTS | st.none(), min_size=1, max_size=5), st.sampled_from([1, FEW + 1]))
def test_microseconds_are_a_fraction_of_milliseconds(moments: list[datetime | None], repeats: int) -> None:
    at = RecordField("at", TIMESTAMP, nullable=True, unit="micros")
    frame = pl.DataFrame({"at": moments * repeats}, schema={"at": TIMESTAMP.physical})
    messages = written(at).encode(frame)
    for message, moment in zip(messages, moments * repeats, strict=True):
        value = json.loads(message or b"", parse_float=Decimal)["at"]
        micros = None if moment is None else (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        assert (None if value is None else value * 1000) == micros
    assert_frame_equal(written(at).decode(messages).frame, frame)


@pytest.mark.parametrize("rows", [1, FEW + 1])
def test_whole_milliseconds_are_written_without_a_fraction_and_others_only_cut_where_asked_for(rows: int) -> None:
    whole = pl.DataFrame({"at": [INSTANT] * rows}, schema={"at": TIMESTAMP.physical})
    fine = whole.with_columns(pl.col("at").dt.offset_by("1us"))
    assert written(RecordField("at", TIMESTAMP, unit="micros")).encode(whole)[0] == b'{"at":1709908200250}'
    assert written(RecordField("at", TIMESTAMP, unit="micros")).encode(fine)[0] == b'{"at":1709908200250.001}'
    assert written(RecordField("at", TIMESTAMP, is_cut=True)).encode(fine)[0] == b'{"at":1709908200250}'
    pattern = RecordField("at", TIMESTAMP, datetime_format="%Y-%m-%d %H:%M", unit="micros", is_cut=True)
    assert written(pattern).encode(fine)[0] == b'{"at":"2024-03-08 14:30"}'


def test_a_decimal_of_too_many_digits_is_not_written() -> None:
    with pytest.raises(DataError, match=r"field level = 1000 in row 0: it does not fit Decimal\(3, 1\)"):
        written(RecordField("level", DecimalType(3, 1))).encode(pl.DataFrame({"level": [1000]}))


@given(st.integers(-(10**18) + 1, 10**18 - 1), st.integers(0, 18))
def test_every_digit_of_a_decimal_is_written(value: int, scale: int) -> None:
    [message] = written(RecordField("x", DecimalType(18, scale))).encode(pl.DataFrame({"x": [value]}))
    assert message is not None
    result = json.loads(message, parse_float=Decimal, parse_int=Decimal)["x"]
    assert result == Decimal(value).scaleb(-scale)
    assert -result.as_tuple().exponent == scale
