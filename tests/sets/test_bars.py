"""Sets of bars: `market.bars("1m")`, and what is said without a timeframe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import kandle.testing
from kandle import BarSet, Context, EventSet, ModelBuilder, Period, TableSet
from kandle.errors import AccessError, DataError, ModelError, TimeframeError
from kandle.sets import copies
from tests.context.test_context import Hit, Owner, Page, count

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


class Site(Context):
    hits: EventSet[Hit]
    owners: TableSet[Owner]
    pages: BarSet[Page]

    def on_model_creating(self, model: ModelBuilder) -> None:
        model.entity(Page).to_query(count)


class TestSite(kandle.testing.TestContext, Site):
    """The context with a clock that is moved by hand."""


@pytest.fixture
def site() -> Iterator[TestSite]:
    """Two pages: one with a hit in each of the first two minutes, one with a hit in the second."""
    with kandle.testing.context(TestSite, start=NOON) as context:
        context.hits.add(Hit("/a", NOON))
        context.clock.advance("1m")
        context.hits.add_many([Hit("/a", NOON + timedelta(minutes=1)), Hit("/b", NOON + timedelta(minutes=1))])
        context.clock.advance("90s")
        yield context


def test_a_timeframe_gives_the_same_set_however_it_is_named(site: TestSite) -> None:
    five = site.pages("5m")
    assert five == site.pages(Period.minutes(5)) == site.set(Page, "5m") == site.time_bucket(Page, Period.minutes(5))
    assert five != site.pages("1m")
    assert (five.timeframe, five.topic, five.live.topic) == (Period.minutes(5), "pages_5m_final", "pages_5m_live")


def test_sets_of_bars_say_what_they_are(site: TestSite) -> None:
    assert [repr(site.pages), repr(site.pages("1m")), repr(site.pages("5m").live)] == [
        "BarSet(Page: 1m, 5m)",
        "TimeBucket(Page, 1m)",
        "TimeBucket(Page, 5m, live)",
    ]
    assert site.pages.timeframes == (Period.minutes(1), Period.minutes(5))


def test_iterating_gives_finals_and_live_bars_on_request(site: TestSite) -> None:
    finals = [bar for _, bar in zip(range(3), site.pages("1m"), strict=False)]
    assert {(bar.page, bar.start.minute, bar.hits) for bar in finals} == {("/a", 0, 1), ("/a", 1, 1), ("/b", 1, 1)}
    assert next(iter(site.pages("5m").live)).start == NOON


def test_bars_are_read_by_the_first_parts_of_their_key(site: TestSite) -> None:
    minutes = site.pages("1m")
    assert [(bar.page, bar.start.minute) for bar in minutes.to_list()] == [("/a", 0), ("/a", 1), ("/b", 1)]
    assert minutes.to_list("/a") == minutes.to_list(["/a"]) == minutes.to_list()[:2]
    assert minutes.to_list(["/a", NOON]) == minutes.to_list(["/a", "2024-03-08T12:00Z"]) == minutes.to_list()[:1]
    assert minutes.to_list("/a", start="2024-03-08T12:01Z") == minutes.to_list(end=NOON + timedelta(minutes=2))[1:2]
    assert [bar.hits for bar in site.pages("5m").to_list("/a", include_live=True)] == [2]
    assert site.pages("5m").to_list() == []


def test_bars_are_read_as_frames(site: TestSite) -> None:
    frame = site.pages("1m").to_polars("/b")
    assert frame.rows() == [("/b", NOON + timedelta(minutes=1), 1)]
    assert pl.DataFrame(site.pages("1m").to_arrow("/b")).equals(frame)
    assert site.pages("1m").to_pandas("/b", floats=True)["hits"].tolist() == [1]


def test_a_limit_keeps_the_newest_bars(site: TestSite) -> None:
    assert [(bar.page, bar.start.minute) for bar in site.pages("1m").limit(2).to_list()] == [("/a", 1), ("/b", 1)]


def test_the_async_form_reads_the_same() -> None:
    async def story() -> None:
        async with kandle.testing.context(TestSite, start=NOON) as site:
            await site.hits.add_async(Hit("/a", NOON))
            await site.clock.advance_async("2m")
            async for bar in site.pages("1m"):
                assert bar == (await site.pages("1m").to_list_async("/a"))[0]
                break

    asyncio.run(story())


USES: list[Any] = [
    (lambda bars: bars.to_list(), r"\.to_list"),
    (lambda bars: bars.live, r"\.live"),
    (iter, ""),
    (lambda bars: bars.messages(), r"\.messages"),
]


@pytest.mark.parametrize(("use", "rest"), USES)
def test_what_needs_a_timeframe_names_those_of_the_query(use: Any, rest: str) -> None:
    with pytest.raises(ModelError, match=rf'^Page has bars of 1m, 5m; say which: site\.pages\("1m"\){rest}$'):
        use(Site().pages)


def test_what_an_event_set_of_bars_needs_a_timeframe_for_names_them_too() -> None:
    class Old(Context):
        hits: EventSet[Hit]
        pages: EventSet[Page]

        def on_model_creating(self, model: ModelBuilder) -> None:
            model.entity(Page).to_query(count)

    with kandle.testing.context(Old, start=NOON) as old:
        for use in (old.pages.to_list, old.pages.messages):
            with pytest.raises(ModelError, match=r'^Page has bars of 1m, 5m; say which: old\.set\(Page, "1m"\)$'):
                use()


def test_bars_are_not_written_by_hand() -> None:
    site: Any = Site()
    for bars in (site.pages, site.pages("1m")):
        with pytest.raises(AccessError, match="Page is made by its query; add to the entity that the query reads"):
            bars.add(Page("/a", NOON, 1))
        with pytest.raises(AttributeError, match="has no attribute 'remov'"):
            bars.remov()


def test_an_unknown_timeframe_is_named_with_those_that_exist() -> None:
    with pytest.raises(ModelError, match="Page has no bars of 1h; declared are 1m, 5m"):
        Site().pages("1h")
    with pytest.raises(TimeframeError, match="five minutes"):
        Site().pages("five minutes")


def test_too_many_parts_of_a_key_are_an_error(site: TestSite) -> None:
    with pytest.raises(DataError, match="the key parts of Page are page, start, but 3 were given"):
        site.pages("1m").to_list(["/a", NOON, "more"])


def test_a_bar_set_is_for_what_a_query_with_a_window_makes() -> None:
    class Wrong(Context):
        hits: BarSet[Hit]

    with pytest.raises(ModelError, match=r"Wrong\.hits: no query with a window makes Hit, .* or write EventSet\[Hit\]"):
        Wrong()

    class Table(Context):
        owners: BarSet[Owner]

    with pytest.raises(ModelError, match=r"Table\.owners: Owner is a table; write TableSet\[Owner\]"):
        Table()


class FollowedSite(TestSite):
    """A context whose log is in a folder, so that its copies are too."""


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
def test_bars_from_a_copy_are_those_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    """Read bars of two pages in each minute; before the last ones the context is opened anew, and goes on from its copy."""
    reads: list[dict[str, Any]] = [
        {},
        {"key_prefix": "/a"},
        {"key_prefix": ["/a", NOON]},
        {"key_prefix": "/b", "start": NOON + timedelta(minutes=2), "end": NOON + timedelta(minutes=4)},
        {"start": NOON + timedelta(minutes=3)},
        {"key_prefix": "/b", "include_live": True},
        {"end": NOON},
    ]
    options: dict[str, Any] = {"log": {"path": tmp_path}, "copies": {"store": store}}
    start = NOON
    for minutes in (4, 3):
        with kandle.testing.context(FollowedSite, start=start, **options) as site:
            for _ in range(minutes):
                site.hits.add_many([Hit("/b", start), Hit("/a", start), Hit("/b", start)])
                start += timedelta(minutes=1)
                site.clock.set(start)
            site.clock.advance("30s")
            start += timedelta(seconds=30)
            expected = [site.pages("1m").to_list(**read) for read in reads]
            with monkeypatch.context() as patch:
                patch.setattr(copies, "MANY_ROWS", 0)
                assert [site.pages("1m").to_list(**read) for read in reads] == expected
                newest = max(bar.start for bar in expected[0])
                assert site.pages("1m").limit(2).to_list() == [bar for bar in expected[0] if bar.start == newest]
                assert site.pages("1m").count("/a") == len(expected[1])
                assert [site.pages("1m").get(["/a", NOON])] == expected[2]
                assert site.pages("1m").get(["/c", NOON]) is None
            start += timedelta(seconds=30)
            site.clock.set(start)
    assert (tmp_path / "copies" / "followed_site" / "pages_1m_final").exists() == (store == "rocksdb")


def test_a_bar_is_got_by_its_whole_key_and_bars_are_counted(site: TestSite) -> None:
    minutes = site.pages("1m")
    assert minutes.get(["/a", NOON]) == minutes.to_list()[0]
    assert minutes.get(["/a", NOON + timedelta(minutes=9)]) is None
    assert minutes.get(["/a", NOON + timedelta(minutes=2)]) is None
    assert site.pages("5m").get(["/a", NOON], include_live=True) == site.pages("5m").to_list("/a", include_live=True)[0]
    assert (minutes.count(), minutes.count("/a"), minutes.limit(2).count()) == (3, 2, 2)
    assert minutes.count(start=NOON + timedelta(minutes=1)) == 2
    with pytest.raises(DataError, match="to get a bar of Page give all parts of its key: page, start"):
        minutes.get("/a")


def test_a_limit_counts_for_live_bars_too(site: TestSite) -> None:
    five = site.pages("5m")
    assert five.limit(1).to_list(include_live=True) == five.to_list(include_live=True)[-1:]
    assert five.limit(1).live.to_list() == five.limit(1).to_list(include_live=True)
