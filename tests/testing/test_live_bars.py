"""Live bars: the newest value of each open bucket, as often as was asked for; the last one of a bucket is its final."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.context.context import state_of
from kandle.log.port import TopicPartition
from kandle.time.timeframe import SECOND, from_instant
from tests.runtime.building import Parts, at, bars, hours, t, tick
from tests.runtime.declarations import Bar, bars_market
from tests.testing.stories import in_topic, told

PLAIN = bars_market(minutes=(1, 5))


def test_the_newest_value_of_an_open_bucket_is_what_is_read() -> None:
    async def story(market: Any) -> None:
        bar = None
        for number, price in enumerate((5, 9, 2), 1):
            await market.ticks.add_async(tick(f"14:30:{number}0", price))
            for timeframe in ("1m", "5m"):
                [bar] = await market.live_async(Bar, timeframe)
                assert (bar.close, bar.ticks) == (price, number)
            assert await market.finals_async(Bar, "1m") == []
        assert bar is not None
        assert (bar.open, bar.high, bar.low, bar.close) == (5, 9, 2, 2)

    told(PLAIN, story)


def test_finals_come_first_and_open_bars_after_them_each_bucket_once() -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_many_async([tick("14:30:10", 5), tick("14:30:10", 5, "B")])
        await market.clock.set_async(t("14:32:30"))
        await market.ticks.add_async(tick("14:32:10", 6))
        live = await market.live_async(Bar, "1m")
        assert [(bar.symbol, bar.start.minute, bar.ticks) for bar in live] == [
            ("A", 30, 1),
            ("A", 31, 0),
            ("A", 32, 1),
            ("B", 30, 1),
            ("B", 31, 0),
        ]
        assert [bar.start for bar in await market.finals_async(Bar, "1m", ["A"])] == [at("14:30"), at("14:31")]

    told(PLAIN, story)


def test_a_late_event_changes_no_live_bar() -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("14:31:10"))
        before = in_topic(market, "1m", "live"), in_topic(market, "5m", "live")
        await market.ticks.add_async(tick("14:30:50", 99))
        assert (in_topic(market, "1m", "live"), in_topic(market, "5m", "live")) == before

    told(PLAIN, story)


MOVES = st.lists(
    st.tuples(st.sampled_from([0, 1, 20, 61, 200]), st.sampled_from("AB"), st.one_of(st.none(), st.integers(1, 99))),
    min_size=1,
    max_size=15,
)


@pytest.mark.parametrize("scheduled", [False, True])
@settings(max_examples=25)
@given(MOVES)
def test_the_last_live_value_of_every_bucket_is_its_final(scheduled: bool, moves: list[tuple[int, str, int | None]]) -> None:
    async def story(market: Any) -> None:
        if scheduled:
            await market.hours.add_many_async(
                [hours("14:30", "14:33:30"), hours("14:35", "15:50", day="2024-03-09"), hours("14:30", "15:00", "B")]
            )
        for seconds, symbol, price in moves:
            await market.clock.set_async(market.clock.now() + seconds * SECOND)
            await market.ticks.add_async(tick(from_instant(market.clock.now()), price, symbol))
            state_of(market).settle()
        await market.clock.set_async(t("16:00"))
        for timeframe in ("1m", "5m"):
            last = {(bar.symbol, bar.start): bar for bar in in_topic(market, timeframe, "live")}
            assert last == {(bar.symbol, bar.start): bar for bar in in_topic(market, timeframe)}
            assert await market.live_async(Bar, timeframe) == await market.finals_async(Bar, timeframe)

    told(bars_market(minutes=(1, 5), scheduled=scheduled), story)


def test_live_bars_leave_no_more_often_than_the_commit_interval_and_finals_at_once() -> None:
    """
    seconds   0    1    2    3    4    5 ...        an event each second, commits of live bars at most every 10 s
    live      x                             x       and then with the newest value
    """
    parts = Parts(PLAIN, "14:30")
    worker = parts.worker(commit_interval=10 * SECOND)
    worker.step()
    sizes = []
    for second in range(50):
        parts.clock.jump(t("14:30") + second * SECOND)
        parts.add(tick(from_instant(parts.clock.now()), second + 1))
        worker.step()
        sizes.append(parts.log.ends("bars_1m_live")[0])
    assert sizes == [1 + second // 10 for second in range(50)]
    assert [bar.close for bar in bars(parts.log, "bars_1m_live")] == [1, 11, 21, 31, 41]
    parts.clock.jump(t("14:31:01"))
    parts.add(tick("14:31:00"), tick("14:31:01"))
    worker.step()
    [final] = bars(parts.log, "bars_1m_final")
    assert (final.ticks, final.close) == (50, 50)
    assert parts.log.ends("bars_1m_final") == [1]
    assert parts.log.committed("kandle-bars", "ticks")[0] == parts.log.ends("ticks")[0]
    assert parts.log.first(TopicPartition("bars_1m_live", 0)) == 0
