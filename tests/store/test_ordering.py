"""Bytes of keys are in the order of the keys, and whole parts are prefixes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.store import ordering
from kandle.store.ordering import following, in_order, ordered_key, ordered_keys, ordered_prefix, stored_parts

INSTANT = pl.Datetime("us", "UTC")
TEXT = st.text(st.sampled_from("\0\1\2ab\u00e9\U0001f600\uffff"), max_size=4) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
PARTS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "text": (pl.String(), TEXT),
    "raw": (pl.Binary(), st.binary(max_size=4) | st.lists(st.sampled_from([b"\0", b"\1", b"\2"]), max_size=4).map(b"".join)),
    "number": (pl.Int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    "wide": (pl.Int128(), st.integers(-(10**38), 10**38) | st.integers(-3, 3)),
    "day": (pl.Date(), st.dates()),
    "instant": (INSTANT, st.datetimes(timezones=st.just(UTC))),
    "flag": (pl.Boolean(), st.booleans()),
}
SCHEMA: dict[str, pl.DataType] = {name: dtype for name, (dtype, _) in PARTS.items()}


@st.composite
def keys(draw: st.DrawFn) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Some columns in any order, and rows of them."""
    names = draw(st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=3, unique=True))
    return names, draw(st.lists(st.tuples(*(PARTS[name][1] for name in names)), min_size=1, max_size=8))


@given(keys())
def test_bytes_have_the_order_of_the_rows(drawn: tuple[list[str], list[tuple[Any, ...]]]) -> None:
    names, rows = drawn
    frame = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in names}, orient="row")
    in_order = ordered_keys(frame.sort(names))
    assert in_order == sorted(in_order)
    assert ordered_keys(frame) == [ordered_key(row, frame.dtypes) for row in rows]
    assert len(set(in_order)) == frame.unique().height


@given(keys(), st.integers(1, 3))
def test_only_keys_with_the_same_first_parts_begin_with_a_prefix(
    drawn: tuple[list[str], list[tuple[Any, ...]]], count: int
) -> None:
    names, rows = drawn
    for row in rows:
        head = dict(list(zip(names, row, strict=True))[:count])
        prefix = ordered_prefix(head, SCHEMA)
        for other in rows:
            key = ordered_key(other, [SCHEMA[name] for name in names])
            assert key.startswith(prefix) == (other[:count] == row[:count])
            assert (prefix <= key < following(prefix)) == key.startswith(prefix)


@given(keys())
def test_the_parts_of_a_key_come_back_as_stored_values(drawn: tuple[list[str], list[tuple[Any, ...]]]) -> None:
    names, rows = drawn
    types = [SCHEMA[name] for name in names]
    frame = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in names}, orient="row")
    stored = list(zip(*(series.to_physical().to_list() for series in frame), strict=True))
    assert [tuple(stored_parts(ordered_key(row, types), types)) for row in rows] == stored


@pytest.mark.parametrize(("prefix", "end"), [(b"", b""), (b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b"")])
def test_what_follows_a_prefix(prefix: bytes, end: bytes) -> None:
    assert following(prefix) == end


def test_the_bytes_are_as_they_are_documented() -> None:
    assert ordered_key(["north", 7], [pl.String(), pl.Int64()]) == b"north\0\x80\0\0\0\0\0\0\x07\0"
    assert ordered_key(["a\0b\1"], [pl.String()]) == b"a\1\1b\1\2\0"
    assert ordered_key([date(1970, 1, 2), datetime(1970, 1, 1, tzinfo=UTC)], [pl.Date(), INSTANT])[:5] == b"\x80\0\0\1\0"


@given(keys())
def test_rows_are_put_in_order_by_numbers_as_they_are_by_values(drawn: tuple[list[str], list[tuple[Any, ...]]]) -> None:
    names, rows = drawn
    frame = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in names}, orient="row")
    assert in_order(frame, names).equals(frame.sort(names))


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MANY_ROWS", 0)
