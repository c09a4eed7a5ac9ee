"""Rows as objects: columns by name, types that fit, values that are exact."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kandle
from kandle import Alias, Key
from kandle.errors import DataError, KsqlError
from kandle.ksql.types import KsqlType
from kandle.ksqldb.columns import columns_of, json_of, type_in, type_of, value_of
from kandle.ksqldb.http import Lines
from kandle.ksqldb.rows import row_reader
from kandle.model.entity import entity_model
from tests.ksqldb.declarations import Bar, Everything

EVERYTHING = (
    "`id` STRING KEY, `at` TIMESTAMP, `day` DATE, `amount` DECIMAL(38, 10), `count` BIGINT, `ratio` DOUBLE, `is_good` BOOLEAN, "
    "`raw` BYTES, `labels` MAP<STRING, STRING>, `note` STRING"
)
ROW = [
    "00000000-0000-0000-0000-000000000007",
    "2026-11-22T10:00:00.250",
    "2026-11-22",
    Decimal("1234567890123456789.0000000001"),
    2**62,
    Decimal("8.333333333333334E-10"),
    True,
    "AP8=",
    {"k": "v"},
    None,
]
OBJECT = Everything(
    UUID(int=7),
    datetime(2026, 11, 22, 10, 0, 0, 250_000, tzinfo=UTC),
    date(2026, 11, 22),
    Decimal("1234567890123456789.0000000001"),
    2**62,
    8.333333333333334e-10,
    True,
    b"\x00\xff",
    {"k": "v"},
)


def made(entity: type | None, columns: str, row: list[Any]) -> Any:
    return row_reader(None if entity is None else entity_model(entity), columns_of(columns))(row)


def test_every_type_of_a_field_comes_back() -> None:
    assert made(Everything, EVERYTHING, ROW) == OBJECT
    assert made(None, EVERYTHING, ROW)["at"].tzinfo is UTC


def test_columns_may_come_in_another_order_and_in_other_letters() -> None:
    columns = columns_of(EVERYTHING)[::-1]
    raised = [type(column)(column.name.upper(), column.type) for column in columns]
    assert row_reader(entity_model(Everything), raised)(ROW[::-1]) == OBJECT


@kandle.stream("cases")
@dataclass(frozen=True)
class Cases:
    key: Annotated[str, Key(0)]
    Value: int = 1
    value: int = 2
    other: Annotated[int, Alias("former")] = 3


def test_the_same_letters_win_over_others() -> None:
    assert made(Cases, "`KEY` STRING, `value` BIGINT, `Value` BIGINT", ["k", 20, 10]) == Cases("k", 10, 20)
    assert made(Cases, "`key` STRING, `VALUE` BIGINT, `value` BIGINT", ["k", 10, 20]) == Cases("k", 10, 20)
    assert made(Cases, "`key` STRING, `FORMER` BIGINT", ["k", 30]) == Cases("k", other=30)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            "`key` STRING, `VALUE` BIGINT",
            "column VALUE of the query may be any of Cases.Value, Cases.value; rename it with AS",
        ),
        ("`Value` BIGINT", "the query returns no columns for Cases.key; it returns Value"),
        ("`key` STRING, `extra` BIGINT", "column extra of the query has no field in Cases, which has key, Value, value, other"),
        ("`key` STRING, `KEY` STRING", "column KEY of the query has no field in Cases"),
        ("`key` STRING, `other` BIGINT, `former` BIGINT", "the query returns more than one column for Cases.other"),
        ("`key` BIGINT", r"column key is BIGINT, which does not fit Cases.key \(str\); CAST it to VARCHAR"),
        ("`key` STRING, `other` DOUBLE", r"column other is DOUBLE, which does not fit Cases.other \(int\); CAST it to BIGINT"),
        ("`key` STRING, `other` DECIMAL(18, 0)", r"column other is DECIMAL\(18,0\), which does not fit Cases.other"),
        ("`key` STRING, `other` MAP<STRING, BIGINT>", r"column other is MAP<VARCHAR, BIGINT>, which does not fit Cases.other"),
    ],
)
def test_columns_that_do_not_fit_are_named(columns: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        row_reader(entity_model(Cases), columns_of(columns))


def test_two_columns_of_one_name_are_not_one_value_of_a_dict() -> None:
    with pytest.raises(DataError, match="more than one column a; rename them with AS"):
        row_reader(None, columns_of("`a` BIGINT, `b` BIGINT, `a` BIGINT"))


def test_bounds_of_windows_are_left_out_where_there_are_no_fields_for_them() -> None:
    bar = "`broker` STRING, `symbol` STRING, `WINDOWSTART` BIGINT, `WINDOWEND` BIGINT, `start` TIMESTAMP, "
    bar += ", ".join(f"`{name}` DECIMAL(20, 8)" for name in ("open", "high", "low", "close")) + ", `volume` INTEGER"
    found = made(Bar, bar, ["b", "s", 1, 2, "2026-11-22T10:00:00", *[Decimal("1.50000000")] * 4, 3])
    price = Decimal("1.5")
    assert found == Bar("b", "s", datetime(2026, 11, 22, 10, tzinfo=UTC), price, price, price, price, 3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["k", None], r"Cases.other is None, but the field is not Optional"),
        (["k", "7"], "column other = '7' is not a valid BIGINT"),
        (["k", True], "column other = True is not a valid BIGINT"),
        (["k", Decimal("7.0")], "is not a valid BIGINT"),
        (["k", 2**63], "does not fit 64 bits"),
        (["k"], "the row has 1 values, but the result has 2 columns"),
    ],
)
def test_a_value_that_does_not_fit_is_named(row: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        made(Cases, "`key` STRING, `other` BIGINT", row)


def test_a_decimal_is_never_rounded_into_its_field() -> None:
    names = EVERYTHING.replace("DECIMAL(38, 10)", "DECIMAL(38, 12)")
    assert made(Everything, names, [*ROW[:3], Decimal("1.500000000000"), *ROW[4:]]).amount == Decimal("1.5")
    with pytest.raises(DataError, match=r"Everything.amount = .* has 11 digits behind the point"):
        made(Everything, names, [*ROW[:3], Decimal("0.00000000001"), *ROW[4:]])


VALUES = [
    ("BOOLEAN", False, False),
    ("INTEGER", -7, -7),
    ("DOUBLE", 3, 3.0),
    ("DOUBLE", "NaN", "nan"),
    ("DECIMAL(18, 6)", 2, Decimal(2)),
    ("DECIMAL(18, 6)", "1.250000", Decimal("1.25")),
    ("STRING", "三", "三"),
    ("VARCHAR(10)", "a", "a"),
    ("BYTES", "AP8=", b"\x00\xff"),
    ("DATE", "1969-12-31", date(1969, 12, 31)),
    ("TIME", "06:30:15.250", time(6, 30, 15, 250_000)),
    ("TIMESTAMP", "1969-12-31T23:59:59.999", datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    ("TIMESTAMP", "2026-11-22T12:00:00+02:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
    ("ARRAY<DECIMAL(4, 2)>", [Decimal("1.50"), None], [Decimal("1.5"), None]),
    ("MAP<STRING, ARRAY<DATE>>", {"a": ["2026-11-22"]}, {"a": [date(2026, 11, 22)]}),
    (
        "STRUCT<`A` BIGINT, `b``c` STRUCT<`d` DATE>>",
        {"A": 1, "b`c": {"d": "2026-11-22"}},
        {"A": 1, "b`c": {"d": date(2026, 11, 22)}},
    ),
]


@pytest.mark.parametrize(("kind", "found", "value"), VALUES)
def test_values_of_every_type(kind: str, found: Any, value: Any) -> None:
    read = value_of(type_of(kind), found)
    assert str(read) == "nan" if value == "nan" else (read == value and type(read) is type(value))
    assert value_of(type_of(kind), None) is None


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("BOOLEAN", 1),
        ("BIGINT", "1"),
        ("DOUBLE", True),
        ("DOUBLE", "x"),
        ("DECIMAL(4, 2)", "x"),
        ("DECIMAL(4, 2)", "NaN"),
        ("DECIMAL(4, 2)", 1.5),
        ("STRING", 1),
        ("BYTES", "*"),
        ("DATE", 20_000),
        ("DATE", "yesterday"),
        ("TIMESTAMP", 1_795_341_600_000),
        ("TIMESTAMP", "+58862-01-01T00:00:00.000"),
        ("ARRAY<BIGINT>", {}),
        ("ARRAY<BIGINT>", ["x"]),
        ("MAP<STRING, BIGINT>", []),
        ("STRUCT<`a` BIGINT>", {"b": 1}),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, found: Any) -> None:
    with pytest.raises(DataError, match=r"column c = .* is not a valid"):
        made(None, f"`c` {kind}", [found])


def test_types_are_read_as_they_are_described() -> None:
    schema = {
        "type": "ARRAY",
        "fields": None,
        "memberSchema": {
            "type": "STRUCT",
            "memberSchema": None,
            "fields": [
                {"name": "a", "schema": {"type": "DECIMAL", "parameters": {"precision": 18, "scale": 6}}},
                {"name": "b", "schema": {"type": "MAP", "memberSchema": {"type": "STRING"}}},
            ],
        },
    }
    assert type_in(schema) == type_of("ARRAY<STRUCT<`a` DECIMAL(18, 6), `b` MAP<STRING, STRING>>>")


@pytest.mark.parametrize(
    "text", ["", "FLOAT", "DECIMAL", "DECIMAL(1)", "DECIMAL(a, b)", "ARRAY", "ARRAY<", "MAP<STRING>", "INT INT", "INT;"]
)
def test_an_unsupported_type_is_an_error(text: str) -> None:
    with pytest.raises(KsqlError, match=r"uses an unsupported type in .*; supported are BOOLEAN"):
        type_of(text)


SIMPLE = st.sampled_from([type_of(name) for name in ("BOOLEAN", "INTEGER", "DOUBLE", "STRING", "TIME", "DECIMAL(12, 3)")])
TYPES = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        inner.map(lambda kind: KsqlType("ARRAY", elements=(kind,))),
        inner.map(lambda kind: KsqlType("MAP", elements=(type_of("STRING"), kind))),
        st.dictionaries(st.text("ab`, <>()", min_size=1, max_size=4), inner, min_size=1, max_size=3).map(
            lambda fields: KsqlType("STRUCT", elements=tuple(fields.values()), fields=tuple(fields))
        ),
    ),
    max_leaves=6,
)


@given(TYPES)
def test_a_type_is_read_from_its_own_text(kind: KsqlType) -> None:
    assert type_of(str(kind)) == kind


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6), st.datetimes(timezones=st.just(UTC)))
def test_what_is_inserted_is_what_is_read(amount: Decimal, moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    (row,) = Lines().feed(f'["{json_of(amount)}","{json_of(moment)}"]\n'.encode())
    assert made(None, "`a` DECIMAL(38, 6), `t` TIMESTAMP", row) == {"a": amount, "t": moment}
