"""Strict columns: every value exactly or an error that names it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kandle
from kandle import Alias
from kandle.errors import DataError
from kandle.model.columns import to_logical, to_physical
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from tests.model.rows import MODEL, Row


def converted(name: str, values: Any, dtype: Any = None) -> list[Any]:
    """A column through `to_physical` and `to_logical`."""
    column = pl.Series(name, values, dtype=dtype)
    base = {field.name: pl.Series([None] * len(column)) for field in MODEL.fields}
    base["name"], base["at"] = pl.Series(["a"] * len(column)), pl.Series([datetime(2024, 1, 1)] * len(column))
    frame = pl.DataFrame({**base, name: column})
    return to_logical(MODEL, to_physical(MODEL, frame, source="file.csv", first_row=11))[name].to_list()


GOOD: list[tuple[str, Any, Any]] = [
    (
        "amount",
        ["1.5", "-0.00001", "1e3", "1.5E-2", "+2", ".5", "3.", "", "1.500000000", "9999999999999.99999"],
        [
            Decimal("1.5"),
            Decimal("-0.00001"),
            Decimal(1000),
            Decimal("0.015"),
            Decimal(2),
            Decimal("0.5"),
            Decimal(3),
            None,
            Decimal("1.5"),
            Decimal("9999999999999.99999"),
        ],
    ),
    ("amount", [1, -2, None], [Decimal(1), Decimal(-2), None]),
    ("amount", [1.38676, 0.1, -2.5, None], [Decimal("1.38676"), Decimal("0.1"), Decimal("-2.5"), None]),
    ("amount", [Decimal("1.2300000"), Decimal("-7")], [Decimal("1.23"), Decimal(-7)]),
    ("wide", ["1234567890123456789012345678.0123456789"], [Decimal("1234567890123456789012345678.0123456789")]),
    ("whole", ["1", "-9223372036854775808", ""], [1, -(2**63), None]),
    ("whole", [1.0, -3.0], [1, -3]),
    ("real", ["1.5", "-2e10", ""], [1.5, -2e10, None]),
    ("flag", ["true", "FALSE", "1", "0", ""], [True, False, True, False, None]),
    ("day", ["2024-02-29", ""], [date(2024, 2, 29), None]),
    ("note", ["x", ""], ["x", None]),
    ("name", ["x", ""], ["x", ""]),
    ("epoch", ["1709908200250", ""], [datetime(2024, 3, 8, 14, 30, 0, 250000, tzinfo=UTC), None]),
    ("epoch", [-1, 0], [datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)]),
    ("german", ["08.03.2024 14:30"], [datetime(2024, 3, 8, 14, 30, tzinfo=UTC)]),
    ("identity", ["{6BA7B810-9DAD-11D1-80B4-00C04FD430C8}"], ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]),
    (
        "at",
        ["2024-03-08T14:30:00.25Z", "2024-03-08 14:30:00", "2024-03-08T15:30:00+01:00", "2024-03-08T14:30Z", "2024-03-08"],
        [
            datetime(2024, 3, 8, 14, 30, 0, 250000, tzinfo=UTC),
            *[datetime(2024, 3, 8, 14, 30, tzinfo=UTC)] * 3,
            datetime(2024, 3, 8, tzinfo=UTC),
        ],
    ),
]


@pytest.mark.parametrize(("name", "given_values", "expected"), GOOD)
def test_values_are_taken_exactly(name: str, given_values: Any, expected: Any) -> None:
    assert converted(name, given_values) == expected


def test_datetime_columns_of_any_unit_and_zone_become_utc_microseconds() -> None:
    moment = datetime(1969, 12, 31, 23, 0, 0, 1, tzinfo=UTC)
    nanoseconds = pl.Series([-3_599_999_998_999, None]).head(1).cast(pl.Datetime("ns"))
    assert converted("at", nanoseconds) == [moment]  # The last 999 ns are cut off.
    assert converted("at", pl.Series([moment]).dt.convert_time_zone("Asia/Tokyo")) == [moment]
    assert converted("at", pl.Series([datetime(2024, 1, 1)], dtype=pl.Datetime("ms"))) == [datetime(2024, 1, 1, tzinfo=UTC)]


def test_dictionary_encoded_text_is_text() -> None:
    assert converted("name", ["a", "b"], pl.Categorical) == ["a", "b"]
    assert converted("amount", ["1.5"], pl.Categorical) == [Decimal("1.5")]


BAD: list[tuple[str, Any, str]] = [
    (
        "amount",
        ["1", "1.000001"],
        r"file\.csv, row 12, column amount: '1\.000001' is not a decimal of at most 13 digits before and 5",
    ),
    ("amount", ["1e-7"], r"'1e-7' is not a decimal"),
    ("amount", ["99999999999999"], r"'99999999999999' is not a decimal"),
    ("amount", ["x"], r"row 11, column amount: 'x'.*\(Row\.amount is Decimal\(18, 5\) \| None\)"),
    ("amount", [" 1"], r"' 1' is not a decimal"),
    ("amount", ["nan"], r"'nan'"),
    ("amount", [0.123456789], r"0\.123456789 is not a decimal"),
    ("amount", [float("nan")], r"nan is not a decimal"),
    ("amount", [Decimal("0.000001")], r"0\.000001 is not a decimal"),
    ("amount", [True], r"values of type Boolean cannot be read as Decimal"),
    ("whole", ["1", "", "1.0"], r"row 13, column whole: '1\.0' is not a whole number of 64 bits"),
    ("whole", ["9223372036854775808"], r"not a whole number of 64 bits"),
    ("whole", [1.5], r"1\.5 is not a whole number"),
    ("real", ["inf"], r"'inf' is not a finite number"),
    ("flag", ["yes"], r"'yes' is not true or false"),
    ("day", ["2024-02-30"], r"'2024-02-30' is not a date"),
    ("at", ["2024-03-08T14:30:00Z", "08.03.2024"], r"row 12, column at: '08\.03\.2024' is not a datetime such as"),
    ("at", [""], r"column at: there is no value, but the field is not Optional"),
    ("at", [1709908200250], r"Int64 cannot be read as datetime; if these .*, write .*DatetimeFormat\(\"epoch_ms\"\)\]"),
    ("at", [1709908200], r"since the epoch, write Annotated\[datetime, DatetimeFormat\(\"epoch_s\"\)\]"),
    ("at", [1709908200250000000], r"DatetimeFormat\(\"epoch_ns\"\)\]"),
    ("german", ["2024-03-08"], r"is not a datetime of the format '%d\.%m\.%Y %H:%M'"),
    ("epoch", [2**62], r"is not a datetime"),
    ("identity", ["1234"], r"'1234' is not a UUID"),
    ("name", ["abc", "abcdefg"], r"row 12, column name: 'abcdefg' is longer than 6 characters"),
    ("name", [None], r"column name: there is no value"),
    ("note", [1.5], r"Float64 cannot be read as str"),
]


@pytest.mark.parametrize(("name", "given_values", "message"), BAD)
def test_a_value_that_does_not_fit_is_named(name: str, given_values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        converted(name, given_values)


def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"f: no column 'name' for Row\.name; did you mean 'nam'\? Choose from: nam, at$"):
        to_physical(MODEL, pl.DataFrame({"nam": ["a"], "at": ["2024-01-01"]}), source="f")


def test_an_alias_stands_for_its_field_and_other_columns_are_left_out() -> None:
    @kandle.stream("aliased")
    @dataclass
    class Aliased:
        name: Annotated[str, Alias("title")]

    assert to_physical(entity_model(Aliased), pl.DataFrame({"more": [1], "title": ["x"]})).to_dict(as_series=False) == {
        "name": ["x"]
    }


wide = st.decimals(-(10**27), 10**27, places=10, allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), wide), st.integers(-(10**17), 10**17).map(lambda v: Decimal(v).scaleb(-5))), min_size=1
    )
)
def test_decimals_come_back_from_text_and_from_objects_with_every_digit(pairs: list[tuple[Decimal | None, Decimal]]) -> None:
    texts = {"wide": ["" if a is None else f"{a:f}" for a, _ in pairs], "amount": [f"{b:f}" for _, b in pairs]}
    assert converted("wide", texts["wide"]) == [a for a, _ in pairs]
    assert converted("amount", texts["amount"]) == [b for _, b in pairs]
    rows = [Row("a", datetime(2024, 1, 1, tzinfo=UTC), amount=b, wide=a) for a, b in pairs]
    assert mapping(MODEL).from_frame(mapping(MODEL).to_frame(rows)) == rows


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_taken_only_as_the_decimal_that_it_is_the_nearest_to(number: float) -> None:
    try:
        amount = converted("amount", [number])[0]
    except DataError:
        assert float(f"{number:.5f}") != number or abs(number) * 10**5 >= 2**53
    else:
        assert float(amount) == number
