"""Session calendars and the buckets that they expect, against brute force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle import Timeframe
from kandle.errors import ScheduleError
from kandle.time.buckets import buckets
from kandle.time.sessions import SessionCalendar, SessionRows
from kandle.time.slots import HoppingSlots, check_trading_days, slots
from kandle.time.timeframe import DAY, HOUR, MINUTE, SECOND, from_instant, parse_instant

Span = tuple[str, str, str]


def calendar(rows: dict[str, Sequence[Span]], *, is_whole: bool = False) -> SessionCalendar:
    """A calendar from (open, close, trading date) texts by key."""
    keys = [(name,) for name in rows]
    flat = [(number, *span) for number, spans in enumerate(rows.values()) for span in spans]
    columns = SessionRows(
        keys=keys,
        key_ids=np.array([row[0] for row in flat], dtype=np.int64),
        opens=np.array([parse_instant(row[1]) for row in flat], dtype=np.int64),
        closes=np.array([parse_instant(row[2]) for row in flat], dtype=np.int64),
        days=np.array([parse_instant(row[3]) // DAY for row in flat], dtype=np.int64),
    )
    return SessionCalendar(columns, is_whole=is_whole)


FUTURES: list[Span] = [
    # Sunday evening belongs to Monday; a break of an hour; a half day on Wednesday.
    ("2024-03-10T22:00Z", "2024-03-11T21:00Z", "2024-03-11"),
    ("2024-03-11T22:00Z", "2024-03-12T21:00Z", "2024-03-12"),
    ("2024-03-12T22:00Z", "2024-03-13T17:15Z", "2024-03-13"),
    ("2024-03-17T22:00Z", "2024-03-18T21:00Z", "2024-03-18"),
]
LUNCH: list[Span] = [
    ("2024-03-11T01:30Z", "2024-03-11T04:00Z", "2024-03-11"),
    ("2024-03-11T05:00Z", "2024-03-11T08:00Z", "2024-03-11"),
    ("2024-03-12T01:30Z", "2024-03-12T04:00:30Z", "2024-03-12"),
]


def texts(instants: np.ndarray) -> list[str]:
    return [from_instant(int(instant)).strftime("%d %H:%M") for instant in instants]


def test_the_open_counts_and_the_close_does_not() -> None:
    of = calendar({"a": LUNCH})
    for text, inside in (
        ("01:30", True),
        ("01:29:59.999999", False),
        ("03:59:59.999999", True),
        ("04:00", False),
        ("05:00", True),
    ):
        assert of.is_in_session(("a",), parse_instant(f"2024-03-11T{text}Z")) is inside
    assert not of.is_in_session(("b",), parse_instant("2024-03-11T02:00Z"))


def test_keys_with_the_same_sessions_share_a_group() -> None:
    of = calendar({"a": LUNCH, "b": FUTURES, "c": LUNCH, "d": [*LUNCH, LUNCH[0]]})
    assert of.groups([("a",), ("b",), ("c",), ("d",), ("x",)]).tolist() == [0, 1, 0, 0, -1]
    assert of.group_count == 2


spans = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=0, max_size=8)


@given(st.lists(spans, min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 2), st.integers(-10, 900)), max_size=40))
def test_locate_finds_the_session_that_brute_force_finds(
    shapes: list[list[tuple[int, int]]], asked: list[tuple[int, int]]
) -> None:
    rows: list[tuple[int, int, int]] = []
    for key, shape in enumerate(shapes):
        edge = 0
        for pause, length in shape:
            rows.append((key, edge + pause, edge + pause + length))
            edge += pause + length
    ids, opens, closes = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
    of = SessionCalendar(SessionRows([(key,) for key in range(len(shapes))], ids, opens, closes))
    groups = of.groups([(key,) for key, _ in asked])
    located = of.locate(groups, np.array([time for _, time in asked], dtype=np.int64))
    for (key, time), row in zip(asked, located, strict=True):
        inside = [(a, b) for k, a, b in rows if k == key and a <= time < b]
        assert ([(int(of.opens[row]), int(of.closes[row]))] if row >= 0 else []) == inside


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("2024-03-11T02:00Z", "2024-03-11T02:00Z", "2024-03-11")], r"key \('a',\) closes before or when it opens"),
        (
            [("2024-03-11T02:00Z", "2024-03-11T04:00Z", "2024-03-11"), ("2024-03-11T03:00Z", "2024-03-11T05:00Z", "2024-03-11")],
            r"2024-03-11T02:00:00\+00:00 .. .* overlaps session 2024-03-11T03:00:00.*must not overlap",
        ),
        (
            [("2024-03-11T02:00Z", "2024-03-11T04:00Z", "2024-03-12"), ("2024-03-11T05:00Z", "2024-03-11T06:00Z", "2024-03-11")],
            r"has an earlier trading date",
        ),
    ],
)
def test_rows_that_contradict_each_other_are_named(rows: list[Span], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        calendar({"a": rows})


def test_an_empty_schedule_is_never_in_session() -> None:
    of = calendar({})
    assert of.locate(of.groups([("a",)]), np.array([0])).tolist() == [-1]


def expected(timeframe: str, of: SessionCalendar, group: int = 0, *, by_trading_day: bool = True) -> tuple[list[str], list[str]]:
    """When each begins, and when it is complete."""
    slot = slots(Timeframe.parse(timeframe), base=Timeframe.parse("1m"), calendar=of, by_trading_day=by_trading_day)
    starts = slot.expected(group, parse_instant("2024-01-01"), parse_instant("2025-01-01"))
    groups = np.full(len(starts), group)
    return texts(slot.opened(groups, starts)), texts(slot.complete(groups, starts))


def test_days_and_weeks_of_trading_dates_begin_with_their_first_open() -> None:
    of = calendar({"a": FUTURES})
    assert expected("1d", of) == (
        ["10 22:00", "11 22:00", "12 22:00", "17 22:00"],
        ["11 21:00", "12 21:00", "13 17:15", "19 00:00"],
    )
    assert expected("1wk", of) == (["10 22:00", "17 22:00"], ["13 17:15", "25 00:00"])
    assert expected("1mo", of) == (["10 22:00"], ["01 00:00"])


def test_a_whole_schedule_is_over_with_its_last_close() -> None:
    of = calendar({"a": FUTURES}, is_whole=True)
    assert expected("1wk", of)[1] == ["13 17:15", "18 21:00"]
    assert expected("1h", of)[1][-1] == "18 21:00"


def test_an_hour_is_complete_with_the_last_minute_that_the_schedule_expects() -> None:
    """
    17:00            17:15            18:00
    |  session       | closed         |
    """
    starts, complete = expected("1h", calendar({"a": FUTURES}))
    assert complete[starts.index("13 17:00")] == "13 17:15"
    assert complete[starts.index("13 16:00")] == "13 17:00"


def test_a_session_that_ends_inside_a_minute_ends_with_it() -> None:
    starts, complete = expected("1m", calendar({"a": LUNCH}))
    assert (starts[-1], complete[-1]) == ("12 04:00", "12 04:01")
    assert len(starts) == 150 + 180 + 151


def test_a_bucket_that_two_sessions_share_is_one_bucket() -> None:
    starts, _ = expected("4h", calendar({"a": LUNCH}))
    assert starts == ["11 00:00", "11 04:00", "12 00:00", "12 04:00"]


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), min_size=1, max_size=6),
    st.sampled_from(["1m", "5m", "1h", "1d"]),
)
def test_expected_buckets_are_those_that_overlap_a_session(shape: list[tuple[int, int]], timeframe: str) -> None:
    edges, edge = [], parse_instant("2024-03-30T20:00Z")
    for pause, length in shape:
        edge += pause * 37 * SECOND
        edges.append((edge, edge + length * 41 * SECOND))
        edge += length * 41 * SECOND
    opens, closes = (np.array(column, dtype=np.int64) for column in zip(*edges, strict=True))
    of = SessionCalendar(SessionRows([("a",)], np.zeros(len(edges), np.int64), opens, closes))
    frame = Timeframe.parse(timeframe)
    slot = slots(frame, zone="Europe/Berlin", base=Timeframe.parse("1m"), calendar=of)
    starts = buckets(frame, "Europe/Berlin").range(edges[0][0] - DAY, edge + DAY)
    ends = buckets(frame, "Europe/Berlin").next(starts)
    brute = [int(a) for a, b in zip(starts, ends, strict=True) if any(o < b and c > a for o, c in edges)]
    assert slot.expected(0, edges[0][0] - 2 * DAY, edge + 2 * DAY).tolist() == brute
    middle = brute[len(brute) // 2]
    assert slot.expected(0, middle, edge + 2 * DAY).tolist() == [start for start in brute if start > middle]
    assert slot.expected(0, 0, middle).tolist() == [start for start in brute if start < middle]


def test_sessions_of_two_trading_dates_in_one_base_bucket_are_refused_by_name() -> None:
    rows = [("2024-03-11T02:00Z", "2024-03-11T21:15Z", "2024-03-11"), ("2024-03-11T21:30Z", "2024-03-12T20:00Z", "2024-03-12")]
    of = calendar({"a": rows})
    check_trading_days(of, Timeframe.parse("15m"))
    message = r"key \('a',\): the session that closes at 2024-03-11T21:15.*share a bucket of 1h; .* for example 30m$"
    with pytest.raises(ScheduleError, match=message):
        check_trading_days(of, Timeframe.parse("1h"))


def test_hopping_windows_hold_each_instant_in_all_that_overlap_it() -> None:
    hopping = HoppingSlots(Timeframe.parse("6m"), Timeframe.parse("2m"))
    assert (hopping.starts(np.array([7 * MINUTE])) // MINUTE).tolist() == [[6, 4, 2]]
    none = np.zeros(1, np.int64)
    assert hopping.end(none, np.array([0])).tolist() == [6 * MINUTE]
    assert (hopping.expected(0, 0, 7 * MINUTE) // MINUTE).tolist() == [2, 4, 6]


def test_hopping_windows_with_a_schedule_are_those_that_hold_a_part_of_a_session() -> None:
    of = calendar({"a": [("2024-03-11T02:00Z", "2024-03-11T02:02Z", "2024-03-11")]})
    hopping = HoppingSlots(Timeframe.parse("6m"), Timeframe.parse("2m"), of)
    begin = parse_instant("2024-03-11T01:00Z")
    assert texts(hopping.expected(0, begin, begin + 2 * HOUR)) == ["11 01:56", "11 01:58", "11 02:00"]
