"""Records that msgspec reads many at a time are those that are read one by one, and so are the reasons why others are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.model.types import FLOAT, INTEGER, SIMPLE_TYPES, STRING, STRING_MAP, TIMESTAMP, DecimalType, StringType
from kandle.serde.json_reading import MOST_FOREIGN_NAMES, JsonProblem, JsonReader
from kandle.serde.port import FEW, Messages, RecordField
from tests.serde.building import PRICE, TEXTS, TICK, kinds

FORMATS = [None, "epoch_s", "epoch_us", "epoch_ns", "%d.%m.%Y %H:%M"]
NUMBERS = [
    *("0", "-0", "-0.0", "7", "12.0", "1.5", "0.1", "-0.0000001", "1e2", "15E-1", "1e400", "1e-400", "1e999999999"),
    *("1e99999999999999999999", "1e-99999999999999999999", "9007199254740993", "9007199254740993.0", "99999999"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "1709908200250"),
    *("1709908200250000", "1709908200250000000", "1.5" + "0" * 200, "1.5" + "0" * 200 + "1", "1" * 40, "1" * 400, "1" * 5000),
    *("0.1000000000000000055511151231257827", "253402300799999", "253402300800000", "-62135596800000", "-62135596800001"),
    *("2932896", "2932897", "-719162", "-719163", "123456789012.123456", "999999999999.999999", "1000000000000"),
]
WORDS = [
    *("", "7", "-1.5", "1.5e3", " 1.5", "1_000", "+1", "1.", ".5", "NaN", "Infinity", "\uff11", "1,5", "true", "C0", "QQ==", "Q"),
    *("2024-03-08", "2024-02-30", "0000-01-01", "2024-W10-5", "20240308", "08.03.2024 14:30", "2024-03-08 14:30", "*"),
    *("2024-03-08T14:30:00Z", "2024-03-08T14:30:00.25+01:00", "2024-03-08T14:30:60Z", "2024-03-08T24:00:00Z"),
    *("2024-03-08T14:30:00.1234567Z", "2024-03-08T14:30:00,5Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"),
    *("6f1ed002-ab5c-4e41-9d4c-0123456789ab", "6F1ED002AB5C4E419D4C0123456789AB", "\u0130", "\u017f"),
    "urn:uuid:6f1ed002-ab5c-4e41-9d4c-0123456789ab",
]
LITERALS = [
    *("null", "true", "false", "[]", "[1.5]", "{}", '{"a":"b"}', '{"a":1}', '{"a":"b","a":"c"}', '"\\ud83d"', '"\\ud83d\\ude00"'),
    *('"\\q"', "NaN", "Infinity", "-", "01", "1.", "'a'", '"\t"', "[" * 3000),
]


def values() -> st.SearchStrategy[str]:
    """Text of JSON values, some of which are none."""
    texts = st.one_of(st.sampled_from(WORDS), TEXTS).map(lambda text: json.dumps(text, ensure_ascii=False))
    return st.one_of(st.sampled_from(NUMBERS), texts, st.sampled_from(LITERALS), st.integers().map(str), st.floats().map(repr))


@st.composite
def readers(draw: st.DrawFn) -> tuple[RecordField, ...]:
    """Fields that have other spellings, defaults and lengths."""
    fields = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.one_of(kinds(), st.just(StringType(3)), st.just(DecimalType(18, 6))))
        default = draw(st.sampled_from([..., None])) if kind != INTEGER else draw(st.sampled_from([..., None, 7]))
        aliases = draw(st.sampled_from([(), (f"g{number}",), ("G0",), ("f1", "\u017f")]))
        extra: dict[str, Any] = {} if default is ... else {"default": default}
        nullable = draw(st.booleans()) or default is None
        datetime_format = draw(st.sampled_from(FORMATS)) if kind == TIMESTAMP else None
        fields.append(RecordField(f"f{number}", kind, nullable, aliases=aliases, datetime_format=datetime_format, **extra))
    return tuple(fields)


NAMES = st.sampled_from(
    [*("f0", "f1", "f2", "f3", "F0", "F1", "F2", "g0", "g1", "G0", "G1", "s", "S", "\u017f", "other", 'a"b', "f0" * 30), ""]
)


@st.composite
def messages(draw: st.DrawFn, fields: tuple[RecordField, ...]) -> bytes | None:
    """Draw an object with some of the fields, or what is left of it after damage."""
    names = [field.name for field in fields if draw(st.integers(0, 7))] + draw(st.lists(NAMES, max_size=3))
    space = draw(st.sampled_from(["", " ", "\n", "\t\r\n"]))
    pairs = [f"{json.dumps(name)}{space}:{space}{draw(values())}" for name in names]
    text = f"{space}{{{f'{space},{space}'.join(pairs)}}}{space}".encode()
    way = draw(st.sampled_from(["whole", "whole", "whole", "whole", "cut", "changed", "longer", "bare", "none", "mark"]))
    position = draw(st.integers(0, len(text) - 1))
    damaged = {
        "cut": text[:position],
        "changed": text[:position] + draw(st.binary(min_size=1, max_size=2)) + text[position + 1 :],
        "longer": text + draw(st.sampled_from([b"{}", b"\0", b",", b" ", b"\n{}"])),
        "bare": draw(values()).encode(),
        "mark": b"\xef\xbb\xbf" + text,
        "none": None,
    }
    return damaged.get(way, text)


def careful(reader: JsonReader, batch: Sequence[bytes | None]) -> tuple[pl.DataFrame, dict[int, str]]:
    """Read all records one by one."""
    rows, problems, _ = reader._careful(batch, range(len(batch)))
    return reader._frame(rows), {position: str(problem) for position, problem in problems.items()}


@given(readers(), st.booleans(), st.data())
def test_both_ways_give_the_same_rows_and_the_same_reasons(
    fields: tuple[RecordField, ...], is_bare: bool, data: st.DataObject
) -> None:
    fields = fields[:1] if is_bare else fields
    reader = JsonReader(fields, is_bare=is_bare)
    batch = data.draw(st.lists(messages(fields), max_size=12))
    expected, reasons = careful(reader, batch)
    # The second time the names of the first are known.
    for _ in range(2):
        frame, problems = reader._read_many(batch)
        assert {position: str(problem) for position, problem in problems.items()} == reasons
        assert_frame_equal(frame, expected)


@pytest.mark.parametrize("text", [*NUMBERS, *map(json.dumps, WORDS), *LITERALS])
@pytest.mark.parametrize("nullable", [False, True])
def test_every_value_is_read_both_ways_alike_by_every_type(text: str, nullable: bool) -> None:
    message = f'{{"x":{text}}}'.encode()
    others = [RecordField("x", TIMESTAMP, nullable, datetime_format=form) for form in FORMATS]
    for field in [*(RecordField("x", kind, nullable) for kind in (*SIMPLE_TYPES, PRICE, DecimalType(38, 0))), *others]:
        reader = JsonReader([field])
        for batch in ([message], [message, b'{"x":1}', b'{"x":"a"}']):
            expected, reasons = careful(reader, batch)
            frame, problems = reader._read_many(batch)
            assert {position: str(problem) for position, problem in problems.items()} == reasons, field
            assert_frame_equal(frame, expected)


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1])
def test_only_a_few_records_are_read_one_by_one(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 .. FEW one by one | FEW + 1 together"""
    reader = JsonReader([RecordField("x", INTEGER)])
    together: list[int] = []
    read_many = reader._read_many

    def watched(batch: Messages) -> tuple[pl.DataFrame, dict[int, JsonProblem]]:
        together.append(len(batch))
        return read_many(batch)

    monkeypatch.setattr(reader, "_read_many", watched)
    assert reader.read([b'{"x":1}'] * count)[0]["x"].to_list() == [1] * count
    assert together == ([] if count <= FEW else [count])


def test_names_that_come_up_are_read_together_from_then_on() -> None:
    reader = JsonReader(TICK)
    batch: list[bytes | None] = [b'{"VENUE":"n","code":"c","AT":0,"level":1.5,"Size":1,"more":{"a":[1.5]}}'] * 3
    assert len(reader._struct.decode(batch)[1]) == 3
    reader._read_many(batch)
    assert reader._struct.decode(batch)[1] == []


def test_records_of_ever_new_names_do_not_fill_the_memory() -> None:
    reader = JsonReader([RecordField("x", INTEGER)])
    for number in range(MOST_FOREIGN_NAMES * 2):
        frame, problems = reader._read_many([f'{{"x":{number},"n{number}":0}}'.encode()])
        assert frame["x"].to_list() == [number]
        assert not problems
    assert len(getattr(reader._struct, "names")) == MOST_FOREIGN_NAMES + 1  # noqa: B009


def test_records_that_leave_out_a_field_with_a_default_are_read_together() -> None:
    fields = [
        RecordField("x", INTEGER, default=7),
        RecordField("note", STRING, True),
        RecordField("tags", STRING_MAP, default={}),
    ]
    reader = JsonReader([*fields, RecordField("y", FLOAT)])
    batch: list[bytes | None] = [b'{"y":1}', b'{"x":1,"note":"n","tags":{"a":"b"},"y":2}']
    assert reader._struct.decode(batch)[1] == []
    frame, problems = reader._read_many(batch)
    assert frame.rows() == [(7, None, [], 1.0), (1, "n", [{"key": "a", "value": "b"}], 2.0)]
    assert not problems
