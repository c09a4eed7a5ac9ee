from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.errors import ModelError
from kandle.serde.keys import key_text, murmur2, partition_numbers

PARTITIONS = 1_000_003
"""So many that two hashes hardly ever meet in one partition."""

JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Vectors of `UtilsTest.testMurmur2` in Kafka."""

COLUMNS = {
    "text": (pl.String(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
    "number": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "wide": (pl.Int128(), st.integers(-(10**38) + 1, 10**38 - 1)),
    "flag": (pl.Boolean(), st.booleans()),
    "float": (pl.Float64(), st.floats()),
    "day": (pl.Date(), st.dates()),
    "instant": (pl.Datetime("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    "bytes": (pl.Binary(), st.binary(max_size=9)),
}


def positive(data: bytes) -> int:
    return murmur2(data) & 0x7FFFFFFF


def numbers(frame: pl.DataFrame) -> list[int]:
    return [int(number) for number in partition_numbers(frame, PARTITIONS)]


@st.composite
def frames(draw: st.DrawFn, least: int = 1) -> pl.DataFrame:
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=least, max_size=3, unique=True))
    parts = st.tuples(*(st.none() | COLUMNS[name][1] for name in names))
    known = draw(st.lists(parts, min_size=1, max_size=8))
    rows = draw(st.lists(st.sampled_from(known), max_size=30))
    return pl.DataFrame(rows, schema={name: COLUMNS[name][0] for name in names}, orient="row")


@pytest.mark.parametrize(("data", "expected"), JAVA.items())
def test_murmur2_is_that_of_java(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected


def test_a_column_of_strings_has_the_partitions_of_java() -> None:
    frame = pl.DataFrame({"key": [data.decode() for data in JAVA]})
    assert numbers(frame) == [(value & 0x7FFFFFFF) % PARTITIONS for value in JAVA.values()]


@given(st.lists(st.none() | COLUMNS["text"][1]))
def test_one_string_is_hashed_as_its_utf_8(keys: list[str | None]) -> None:
    frame = pl.DataFrame({"key": keys}, schema={"key": pl.String})
    assert numbers(frame) == [positive((key or "").encode()) % PARTITIONS for key in keys]


@given(st.lists(COLUMNS["number"][1]))
def test_one_integer_is_hashed_as_8_bytes_big_endian(keys: list[int]) -> None:
    frame = pl.DataFrame({"key": keys}, schema={"key": pl.Int64})
    assert numbers(frame) == [positive(key.to_bytes(8, "big", signed=True)) % PARTITIONS for key in keys]


def test_an_integer_that_is_null_is_hashed_as_no_bytes() -> None:
    frame = pl.DataFrame({"key": [None, 7]}, schema={"key": pl.Int64})
    assert numbers(frame)[0] == positive(b"") % PARTITIONS


@given(frames(least=2))
def test_several_parts_are_hashed_as_their_text(frame: pl.DataFrame) -> None:
    assert numbers(frame) == [positive(key_text(row).encode()) % PARTITIONS for row in frame.rows()]


@given(frames())
def test_a_row_has_the_same_partition_in_whatever_company(frame: pl.DataFrame) -> None:
    alone = [numbers(frame[row : row + 1])[0] for row in range(frame.height)]
    assert numbers(frame) == alone


@given(st.lists(st.binary(max_size=300), min_size=1))
def test_keys_of_very_different_lengths_do_not_disturb_each_other(parts: list[bytes]) -> None:
    frame = pl.DataFrame({"key": parts}, schema={"key": pl.Binary})
    assert numbers(frame) == [positive(part.hex().encode()) % PARTITIONS for part in parts]


@pytest.mark.parametrize("partitions", [1, 2, 3, 12, 4096])
def test_partitions_are_counted_from_0(partitions: int) -> None:
    result = partition_numbers(pl.DataFrame({"key": [str(number) for number in range(50_000)]}), partitions)
    assert result.dtype == np.int64
    assert set(result.tolist()) == set(range(partitions))


@pytest.mark.parametrize("partitions", [1, 12])
def test_no_rows_have_no_partitions(partitions: int) -> None:
    assert partition_numbers(pl.DataFrame(schema={"key": pl.String}), partitions).tolist() == []


def test_columns_may_have_any_name() -> None:
    frame = pl.DataFrame({"index": ["a", "b"], "row": [1, 2], "kandle": [True, False]})
    assert numbers(frame) == numbers(frame.rename({"index": "one", "row": "two", "kandle": "three"}))


def test_both_zeros_of_a_float_are_one_key_and_so_are_all_nans() -> None:
    frame = pl.DataFrame({"key": [0.0, -0.0, math.nan, -math.nan]})
    alone = [numbers(frame[row : row + 1])[0] for row in range(4)]
    assert alone[0] == alone[1]
    assert alone[2] == alone[3]
    assert numbers(frame) == alone


class Market(StrEnum):
    XETRA = "XETR"


NEW_YORK_WINTER = timezone(timedelta(hours=-5))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), ""),
        (("BTC",), "BTC"),
        (("BTC", "Köln"), "BTC\0Köln"),
        ((None, "BTC", None), "\0BTC\0"),
        ((-7, 10**37), "-7\0" + "1" + "0" * 37),
        ((True, False), "true\0false"),
        ((0.1, 1e22, -0.0, math.inf), "0.1\x001e+22\x000.0\x00inf"),
        ((date(987, 1, 2),), "0987-01-02"),
        ((datetime(2024, 3, 4, 5, 6, tzinfo=UTC),), "2024-03-04T05:06:00Z"),
        ((datetime(2024, 3, 4, 5, 6, 7, 80, tzinfo=UTC),), "2024-03-04T05:06:07.000080Z"),
        ((datetime(2024, 3, 4, 23, 0, tzinfo=NEW_YORK_WINTER),), "2024-03-05T04:00:00Z"),
        ((b"\x00\xff",), "00ff"),
        ((Market.XETRA, np.float64(1.5)), "XETR\x001.5"),
    ],
)
def test_the_text_of_a_key_joins_its_parts_by_nul(parts: tuple[object, ...], expected: str) -> None:
    assert key_text(parts) == expected


def test_a_part_without_a_text_is_refused_by_its_type() -> None:
    with pytest.raises(ModelError, match=r"type list; parts are of NoneType, bool, bytes, date, datetime, float, int, str"):
        key_text(["BTC", [1]])


def test_a_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(ModelError, match="needs a zone"):
        partition_numbers(pl.DataFrame({"key": [datetime(2024, 1, 1)]}), 2)
