"""Records, their headers and batches as values."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

from kandle.errors import DataError
from kandle.log.headers import HEADERS, header_column, header_lists, header_rows, raw_header_rows, stored_headers
from kandle.log.records import Batch, Records
from tests.log.building import headers_of, numbers_of, offsets_of, records, tombstones_of
from tests.log.contract_records import LAWS

texts = st.text(max_size=5)
headers = st.lists(st.none() | st.dictionaries(texts, texts, max_size=3), max_size=6)


def marked(count: int) -> Records:
    """Return records of which each has its own header and every third is a tombstone."""
    rows = header_column([{"n": str(number)} for number in range(count)])
    gone = pl.Series([number % 3 == 0 for number in range(count)], dtype=pl.Boolean)
    return Records(records(range(count)).frame, rows, gone)


def batch(first: int, count: int) -> Batch:
    """Return a batch of which every second offset is missing."""
    offsets = np.arange(first, first + 2 * count, 2)
    return Batch("topic", 3, offsets, offsets * 1000, marked(count))


@pytest.mark.parametrize("column", ["headers", "tombstones"])
def test_there_must_be_headers_and_tombstones_for_each_record(column: str) -> None:
    short = {"headers": header_column([{"a": "b"}]), "tombstones": pl.Series([True])}[column]
    with pytest.raises(DataError, match=rf"2 records have 1 {column}"):
        Records(records([1, 2]).frame, **{column: short})


def test_records_are_counted_by_rows() -> None:
    assert (len(records([])), len(records([1, 2]))) == (0, 2)


def test_a_filter_keeps_headers_and_tombstones_with_their_rows() -> None:
    rows = marked(7)
    part = rows.filter(pl.Series([number in (0, 2, 3, 5) for number in range(7)]))
    assert part.frame["number"].to_list() == [0, 2, 3, 5]
    assert header_rows(part) == [{"n": "0"}, {"n": "2"}, {"n": "3"}, {"n": "5"}]
    assert part.tombstones is not None
    assert part.tombstones.to_list() == [True, False, True, False]


@pytest.mark.parametrize(
    ("offset", "length", "expected"), [(0, 2, [0, 1]), (3, 2, [3, 4]), (5, None, [5, 6]), (7, None, []), (6, 9, [6])]
)
def test_a_slice_keeps_headers_and_tombstones_with_their_rows(offset: int, length: int | None, expected: list[int]) -> None:
    part = marked(7).slice(offset, length)
    assert part.frame["number"].to_list() == expected
    assert header_rows(part) == [{"n": str(number)} for number in expected]
    assert part.tombstones is not None
    assert part.tombstones.to_list() == [number % 3 == 0 for number in expected]


def test_rows_without_headers_and_tombstones_stay_so_when_they_are_cut() -> None:
    for part in (records(range(5)).slice(1, 2), records(range(5)).filter(pl.Series([True, False] * 2 + [True]))):
        assert (part.headers, part.tombstones) == (None, None)


@pytest.mark.parametrize(("offset", "length"), [(0, 4), (1, 2), (2, None), (4, None), (1, 0)])
def test_a_part_of_a_batch_has_its_own_offsets_and_times(offset: int, length: int | None) -> None:
    whole = batch(10, 4)
    part = whole.slice(offset, length)
    chosen = [0, 1, 2, 3][offset : None if length is None else offset + length]
    assert (part.topic, part.partition, len(part)) == ("topic", 3, len(chosen))
    assert offsets_of([part]) == [10 + 2 * number for number in chosen]
    assert part.timestamps.tolist() == [1000 * (10 + 2 * number) for number in chosen]
    assert numbers_of([part]) == chosen
    assert headers_of([part]) == [{"n": str(number)} for number in chosen]
    assert tombstones_of([part]) == [number % 3 == 0 for number in chosen]


def test_reading_goes_on_behind_the_last_offset_whatever_holes_there_are() -> None:
    assert batch(10, 4).next_offset == 17
    assert type(batch(10, 4).next_offset) is int


@given(rows=headers)
@LAWS
def test_headers_are_the_same_after_they_were_a_column(rows: list[dict[str, str] | None]) -> None:
    column = header_column(rows)
    frame = records(range(len(rows))).frame
    assert header_rows(Records(frame, column)) == [row or {} for row in rows]
    assert (column is None) == (not any(rows))
    assert column is None or column.dtype == HEADERS


def test_the_order_of_headers_is_kept() -> None:
    column = header_column([{"b": "1", "a": "2", "c": ""}])
    assert list(header_rows(Records(records([1]).frame, column))[0].items()) == [("b", "1"), ("a", "2"), ("c", "")]


def test_cutting_does_not_change_the_whole() -> None:
    whole = marked(5)
    before = marked(5)
    whole.slice(1, 2)
    whole.filter(pl.Series([False] * 5))
    assert_frame_equal(whole.frame, before.frame)
    assert whole.headers is not None
    assert before.headers is not None
    assert_series_equal(whole.headers, before.headers)


def test_headers_that_are_no_text_stay_as_they_are_and_are_left_out_of_the_texts() -> None:
    pairs = [("a", b"\xff\x00"), ("b", None), ("c", b""), ("d", b"1"), ("d", b"2")]
    column = header_column([None, pairs, {"d": "3", "e": b"4", "f": None}])
    rows = Records(records([1, 2, 3]).frame, column)
    assert raw_header_rows(rows) == [(), tuple(pairs), (("d", b"3"), ("e", b"4"), ("f", None))]
    assert header_rows(rows) == [{}, {"c": "", "d": "2"}, {"d": "3", "e": "4"}]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"trace": 7}, "header 'trace' = 7 is of type int; give a text, bytes or None"),
        ([(b"trace", "7")], "is no pair of a name and a value"),
        (["ab"], "header 'ab' is no pair"),
        ({"trace": "\ud800"}, "not text that UTF-8 can hold"),
    ],
)
def test_headers_that_are_neither_text_nor_bytes_are_refused(headers: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        header_column([headers])


def test_headers_that_a_former_version_has_stored_as_text_can_be_read() -> None:
    former = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
    column = stored_headers(pl.Series("headers", [None, [{"name": "a", "value": "ü"}], []], dtype=former))
    assert raw_header_rows(Records(records([1, 2, 3]).frame, column)) == [(), (("a", "ü".encode()),), ()]


GAP = [{"name": "gap", "value": b"true"}]
OTHER = [{"name": "trace", "value": b"7"}]
NONE = [{"name": "trace", "value": None}]


@pytest.mark.parametrize(
    ("rows", "lists"),
    [
        ([GAP, None, [], OTHER], [[("gap", b"true")], None, None, [("trace", b"7")]]),
        ([GAP + OTHER, None], [[("gap", b"true"), ("trace", b"7")], None]),
        ([NONE, None], [[("trace", None)], None]),
        ([None, []], [None, None]),
        ([], []),
    ],
    ids=["one each", "several", "no value", "none", "no record"],
)
def test_headers_are_pairs_for_each_record(rows: list[Any], lists: list[Any]) -> None:
    assert header_lists(pl.Series("headers", rows, dtype=HEADERS)) == lists


def test_equal_headers_share_a_list_so_that_many_cost_little() -> None:
    lists = header_lists(pl.Series("headers", [GAP, OTHER] * 1_000, dtype=HEADERS))
    assert len({id(pairs) for pairs in lists}) == 2
