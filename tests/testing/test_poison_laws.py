"""The laws with poison among the events: each expected bucket has one final or one dead letter, however the input is cut."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.context.context import state_of
from kandle.time.timeframe import MINUTE, from_instant
from tests.runtime.building import bars, t
from tests.testing.poison import Expected, Meters, Reading, Sum, bar_letters, expected_of, is_poison, letters
from tests.testing.stories import health, told

START, MINUTES = t("14:00"), 10
END = START + MINUTES * MINUTE


@st.composite
def readings_of(draw: st.DrawFn) -> list[Reading]:
    """Readings of ten minutes in the order of time; one in three is poison, or makes its bar such."""
    one = st.tuples(
        st.integers(0, MINUTES * 60 - 1),
        st.sampled_from(["a", "b", "long meter"]),
        st.sampled_from([Decimal("1.25"), Decimal("9999.99"), Decimal("-9999.99"), Decimal("4000")]),
        st.sampled_from([1, 2**62, -(2**62)]),
        st.sampled_from(["1", "2", "49", "50", "many", "9" * 18 + "1", "-" + "9" * 18, "9" * 30]),
    )
    drawn = sorted(draw(st.lists(one, min_size=1, max_size=15)), key=lambda values: values[0])
    return [
        Reading(from_instant(START + second * 1_000_000), meter, amount, count, code)
        for second, meter, amount, count, code in drawn
    ]


def cuts(draw: st.DataObject, readings: list[Reading]) -> list[list[Reading]]:
    """Return the readings cut into pieces."""
    borders = sorted(draw.draw(st.sets(st.integers(0, len(readings)), max_size=4)))
    return [readings[begin:end] for begin, end in zip([0, *borders], [*borders, len(readings)], strict=True)]


def minute_of(reading: Reading) -> int:
    return t(reading.time.isoformat()) // MINUTE * MINUTE


def result_of(market: Any) -> Expected:
    """Return finals and letters of bars; each is there once."""
    log = state_of(market).log
    finals = []
    for name in ("1m", "5m"):
        bars_made = bars(log, f"sums_{name}_final", Sum)
        finals += [(name, b.meter, b.start, b.amount, b.count, b.codes, b.readings) for b in bars_made]
    bad = bar_letters(log)
    assert len(set(finals)) == len(finals)
    assert len(set(bad)) == len(bad)
    return set(finals), set(bad)


def check(market: Any, readings: list[Reading]) -> None:
    """Compare finals, dead letters of bars and dead letters of events with what the readings say."""
    assert result_of(market) == expected_of(readings, END)
    events = [row for row in letters(state_of(market).log) if row["kind"] == "event"]
    assert len({(row["partition"], row["offset"]) for row in events}) == len(events) == sum(map(is_poison, readings))
    assert all(row["entity"] == "Reading" and row["field"] == "code" for row in events)


@settings(max_examples=40)
@given(st.data(), readings_of(), st.sampled_from([1, 3]))
def test_each_expected_bucket_has_one_final_or_one_dead_letter_however_events_are_cut(
    data: st.DataObject, readings: list[Reading], partitions: int
) -> None:
    pieces = cuts(data, readings)

    async def story(market: Any) -> None:
        for piece in pieces:
            if piece:
                await market.clock.set_async(max(market.clock.now(), minute_of(piece[0])))
                await market.readings.add_many_async(piece)
            if data.draw(st.booleans()):
                state_of(market).settle()
        await market.clock.set_async(END)
        check(market, readings)
        counters = health(market).counters
        failed = sum(frame.failed for frame in counters.timeframes.values())
        assert counters.dead_letters == counters.failed + failed == len(letters(state_of(market).log))

    told(Meters, story, START, topics={"readings": {"partitions": partitions}}, validation="relaxed")


@settings(max_examples=15)
@given(st.data(), readings_of(), st.sampled_from(["memory", "rocksdb"]))
def test_a_context_that_is_left_and_opened_again_writes_each_dead_letter_once(
    data: st.DataObject, readings: list[Reading], store: str
) -> None:
    with TemporaryDirectory() as name:
        folder, now = Path(name) / "log", START
        options: dict[str, Any] = {"state": {"store": store}, "validation": "relaxed"}
        for piece in filter(None, cuts(data, readings)):
            begin = max(now, minute_of(piece[0]))
            # Buckets close in a commit of their own, which the next context replays.
            until = max(begin, minute_of(piece[-1]))

            async def part(market: Any, piece: list[Reading] = piece, until: int = until) -> None:
                await market.readings.add_many_async(piece)
                state_of(market).settle()
                await market.clock.set_async(until)

            told(Meters, part, begin, folder, **options)
            now = until

        async def end(market: Any) -> None:
            await market.clock.set_async(END)
            check(market, readings)

        told(Meters, end, now, folder, **options)
        told(Meters, end, END, folder, **options)
