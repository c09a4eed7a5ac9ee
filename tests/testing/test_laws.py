"""The laws through a whole context: however events and time come in pieces, each expected bucket has one final, and the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.context.context import state_of
from kandle.time.timeframe import HOUR, MINUTE, SECOND, from_instant
from tests.laws.declarations import RESULTS, declared
from tests.laws.reference import Event, Session
from tests.laws.reference import bars as reference_bars
from tests.runtime.building import at, hours, t, tick
from tests.runtime.declarations import Tick, bars_market
from tests.testing.stories import health, in_topic, opened, told

START, END = t("14:00"), t("16:00")
NAMES = ("1m", "5m", "15m", "1h")
PLAIN = bars_market(minutes=(1, 5, 15), hours=1)
SCHEDULED = bars_market(minutes=(1, 5, 15), hours=1, scheduled=True)
NOBODY = "nobody"

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Piece:
    """Events that are added at one time, after the clock has moved through instants; then the context may be left and opened."""

    moments: tuple[int, ...]
    ticks: tuple[Tick, ...]
    settles: bool
    leaves: bool


@st.composite
def ticks_of(draw: st.DrawFn) -> list[Tick]:
    """Events of two hours, minute after minute, in any order within a minute."""
    one = st.tuples(
        st.integers(0, 119),
        st.sampled_from([0, 1, 29_500_000, 59_999_999]),
        st.one_of(st.none(), st.integers(-9, 99)),
        st.sampled_from("ABC"),
        st.integers(0, 9),
    )
    found = sorted(draw(st.lists(one, min_size=1, max_size=20)), key=lambda each: each[0])
    return [tick(from_instant(START + m * MINUTE + u), price, symbol, size) for m, u, price, symbol, size in found]


@st.composite
def pieces_of(draw: st.DrawFn) -> tuple[list[Tick], list[Piece]]:
    """Events and a way to cut them up: each comes before its minute is over, or long before, from a source with a fast clock."""
    ticks = draw(ticks_of())
    pieces: list[Piece] = []
    now, begin = START, 0
    while begin < len(ticks):
        count = draw(st.integers(1, len(ticks) - begin))
        first = t(ticks[begin].time.isoformat())
        latest = first - first % MINUTE + MINUTE - 1
        moments = sorted(draw(st.lists(st.integers(now, max(now, latest)), max_size=3)))
        now = moments[-1] if moments else now
        pieces.append(Piece(tuple(moments), tuple(ticks[begin : begin + count]), draw(st.booleans()), draw(st.booleans())))
        begin += count
    return ticks, [*pieces, Piece((*sorted(draw(st.lists(st.integers(now, END), max_size=3))), END), (), True, False)]


async def add(market: Any, piece: Piece) -> None:
    for moment in piece.moments:
        await market.clock.set_async(moment)
    if piece.ticks:
        await market.ticks.add_many_async(piece.ticks)
    if piece.settles:
        state_of(market).settle()


def rows(market: Any, timeframe: str) -> list[Row]:
    """The finals of a topic as the reference writes them; one that is there twice is twice in the list."""
    found = [((b.symbol,), b.start, b.open, b.high, b.low, b.close, b.volume, b.ticks) for b in in_topic(market, timeframe)]
    return sorted(found, key=lambda row: (row[1], row[0]))


def finals(market: Any) -> dict[str, list[Row]]:
    return {name: rows(market, name) for name in NAMES}


def expected(ticks: list[Tick], sessions: list[Session] | None = None) -> dict[str, list[Row]]:
    """Bars that are made from the events themselves; one of nobody says how late it is at the end."""
    events = [Event(each.time, (each.symbol,), each.price, each.size) for each in ticks]
    events.append(Event(from_instant(END - 1), (NOBODY,), None, 0))
    found = {name: reference_bars(events, name, sessions=sessions) for name in NAMES}
    return {name: [row for row in every if row[0] != (NOBODY,)] for name, every in found.items()}


@settings(max_examples=40)
@given(pieces_of(), st.sampled_from([1, 3]))
def test_any_split_of_events_and_any_steps_of_the_clock_give_the_bars_of_the_events_themselves(
    cut: tuple[list[Tick], list[Piece]], partitions: int
) -> None:
    ticks, pieces = cut

    async def story(market: Any) -> dict[str, list[Row]]:
        for piece in pieces:
            await add(market, piece)
        assert health(market).counters.late == 0
        return finals(market)

    assert told(PLAIN, story, START, topics={"ticks": {"partitions": partitions}}) == expected(ticks)


@settings(max_examples=20)
@given(pieces_of(), st.sampled_from(["memory", "rocksdb"]))
def test_a_context_that_is_left_and_opened_again_anywhere_makes_the_same_finals_once(
    cut: tuple[list[Tick], list[Piece]], store: str
) -> None:
    ticks, pieces = cut

    async def part(market: Any, some: list[Piece]) -> dict[str, list[Row]]:
        for piece in some:
            await add(market, piece)
        return finals(market)

    def tell(some: list[Piece], start: int, folder: Path) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = told(PLAIN, lambda market: part(market, some), start, folder, state={"store": store})
        return found

    with TemporaryDirectory() as name:
        folder, waiting, now = Path(name) / "log", list[Piece](), START
        for piece in pieces:
            waiting.append(piece)
            if piece.leaves:
                tell(waiting, now, folder)
                now = max([now, *(moment for each in waiting for moment in each.moments)])
                waiting = []
        assert tell(waiting, now, folder) == expected(ticks)
        # Nothing comes of opening it once more, now or later on in the same minute.
        assert tell([], END, folder) == tell([], END + 59 * SECOND, folder) == expected(ticks)


def merged(children: list[Row], start: Any, carried: Any) -> Row:
    """The bar of its children: those without events add nothing, unless there are only such."""
    held = [row for row in children if row[7]]
    if not held:
        return (children[0][0], start, *(carried,) * 4, 0, 0)
    whole = [[row[column] for row in held if row[column] is not None] for column in range(2, 6)]
    prices = (whole[0][0], max(whole[1]), min(whole[2]), whole[3][-1]) if whole[0] else (None,) * 4
    return (held[0][0], start, *prices, sum(row[6] for row in held), sum(row[7] for row in held))


@settings(max_examples=25)
@given(ticks_of(), st.sampled_from([("1m", "5m", 5), ("5m", "15m", 15), ("15m", "1h", 60)]))
def test_a_parent_is_the_merge_of_its_children_as_they_stand_there(ticks: list[Tick], edge: tuple[str, str, int]) -> None:
    child, parent, length = edge

    async def story(market: Any) -> dict[str, list[Row]]:
        await market.ticks.add_many_async(ticks)
        await market.clock.set_async(END)
        return finals(market)

    found = told(PLAIN, story, START)
    groups: dict[tuple[Any, Any], list[Row]] = {}
    for row in found[child]:
        start = t(row[1].isoformat()) // (length * MINUTE) * (length * MINUTE)
        groups.setdefault((from_instant(start), row[0]), []).append(row)
    made = [merged(children, start, children[0][2]) for (start, _), children in sorted(groups.items())]
    assert found[parent] == made == expected(ticks)[parent]


@st.composite
def sessions_of(draw: st.DrawFn) -> list[Session]:
    """Sessions of A and B within the two hours, C has none: opens and closes inside of minutes, breaks and whole hours off."""
    found: list[Session] = []
    for symbol in "AB":
        edge = START
        for _ in range(draw(st.integers(1, 3))):
            opens = edge + draw(st.integers(0, 40)) * MINUTE + draw(st.sampled_from([0, 0, 30])) * SECOND
            closes = opens + draw(st.integers(1, 40)) * MINUTE
            if closes > END:
                break
            found.append(Session((symbol,), from_instant(opens), from_instant(closes)))
            edge = closes
    return found or [Session(("A",), from_instant(START), from_instant(END))]


@settings(max_examples=40)
@given(pieces_of(), sessions_of())
def test_with_a_schedule_every_expected_bucket_has_one_final_and_no_other_has_any(
    cut: tuple[list[Tick], list[Piece]], sessions: list[Session]
) -> None:
    ticks, pieces = cut
    days = [at(f"2024-02-{number:02d}T00:00").date() for number in range(1, 29)]
    rows_ = [type(hours("14:00", "15:00"))(s.key[0], day, s.open, s.close) for s, day in zip(sessions, days, strict=False)]

    async def story(market: Any) -> dict[str, list[Row]]:
        await market.hours.add_many_async(rows_)
        for piece in pieces:
            await add(market, piece)
        counters = health(market).counters
        inside = [s for s in ticks if any(e.key == (s.symbol,) and e.open <= s.time < e.close for e in sessions)]
        assert (counters.late, counters.outside_sessions) == (0, len(ticks) - len(inside))
        return finals(market)

    assert told(SCHEDULED, story, START) == expected(ticks, sessions)


AS_DECLARED = declared({"house": str, "unit": int}, {"minutes": (1, 5)})
OTHERS = [
    declared({"unit": int, "house": str}, {"minutes": (1, 5)}),
    declared({"zone": str, "amounts": int}, {"minutes": (1, 5)}, value_first=True),
    declared({"open": int, "begin": str}, {"minutes": (1, 5)}, value_first=True),
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: "-".join(other.columns))
@settings(max_examples=6)
@given(ticks_of())
def test_other_names_and_another_order_of_the_key_columns_make_no_difference(other: Any, ticks: list[Tick]) -> None:
    def keyed(of: Any, each: Tick) -> dict[str, Any]:
        kinds = of.event.__annotations__
        return {name: "ABC".index(each.symbol) if "int" in str(kinds[name]) else each.symbol for name in of.columns}

    def found(of: Any) -> dict[str, list[Any]]:
        events = [of.event(moment=each.time, amount=each.price, quantity=each.size, **keyed(of, each)) for each in ticks]

        async def story(market: Any) -> dict[str, list[Any]]:
            await market.events.add_many_async(events)
            await market.clock.set_async(END)
            whole: dict[str, list[Any]] = {}
            for name in ("1m", "5m"):
                bars = await market.finals_async(of.bar, name)
                key = [sorted(str(getattr(bar, column)) for column in of.columns) for bar in bars]
                values = [tuple(getattr(bar, column) for column in ("begins", *RESULTS)) for bar in bars]
                whole[name] = sorted(zip(key, values, strict=True), key=lambda row: (row[0], row[1][0]))
            return whole

        whole: dict[str, list[Any]] = told(of.context, story, START)
        return whole

    assert found(other) == found(AS_DECLARED)
    assert sum(values[-1] for _, values in found(other)["1m"]) == len(ticks)


def test_the_laws_speak_of_contexts_that_do_something() -> None:
    """Two hours of one key have 120 finals of a minute, all but one of them gaps."""

    async def story(market: Any) -> dict[str, list[Row]]:
        await market.ticks.add_async(tick("14:00:10", 5))
        await market.clock.set_async(END)
        return finals(market)

    found = told(PLAIN, story, START)
    assert {name: len(every) for name, every in found.items()} == {"1m": 120, "5m": 24, "15m": 8, "1h": 2}
    assert found == expected([tick("14:00:10", 5)])
    assert END - START == 2 * HOUR
    assert opened(PLAIN, START).clock.now() == START
