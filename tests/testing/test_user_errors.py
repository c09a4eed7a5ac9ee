"""What users do wrong: the message names the thing and the way out, and nothing of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pytest

import kandle.testing
from kandle import Context, EventSet, Key, Options, Period, Timestamp
from kandle.context.context import state_of
from kandle.errors import AccessError, DataError, ModelError, OptionsError, StateError, TimeframeError
from tests.runtime.building import hours, t, tick
from tests.runtime.declarations import Bar, Tick, bars_market
from tests.testing.stories import told

PLAIN = bars_market(minutes=(1, 5))
GOOD = tick("14:30:10", 5)


@kandle.stream("pings")
@dataclass(frozen=True)
class Ping:
    """A value that is a float."""

    at: Annotated[datetime, Timestamp()]
    host: Annotated[str, Key(0)]
    millis: float


class Site(Context):
    """Events without a query."""

    pings: EventSet[Ping]


BAD_EVENTS = [
    (replace(GOOD, time=None), "Tick.time is None, but the field is not Optional"),  # type: ignore[arg-type]
    (replace(GOOD, symbol=None), "Tick.symbol is None, but the field is not Optional"),  # type: ignore[arg-type]
    (
        replace(GOOD, time=datetime(2024, 3, 8, 14, 30)),
        "Tick.time = datetime.datetime(2024, 3, 8, 14, 30) has no time zone",
    ),
    (replace(GOOD, price=Decimal(10) ** 12), "has too many digits before the point (Decimal(18, 6))"),
    (replace(GOOD, price=Decimal("0.0000001")), "Tick.price = Decimal('1E-7') has 7 digits behind the point"),
    (replace(GOOD, price=1.5), "Tick.price = 1.5 is of type float, not Decimal; write Decimal('1.5')"),  # type: ignore[arg-type]
    (replace(GOOD, price=Decimal("NaN")), "Tick.price = Decimal('NaN') is not a finite Decimal"),
    (replace(GOOD, symbol="a\ud800"), "Tick.symbol = 'a\\ud800' is not text that UTF-8 can hold"),
    (replace(GOOD, size=2**63), "Tick.size = 9223372036854775808 does not fit 64 bits"),
    (hours("14:30", "15:00"), "is of type Hours, not Tick"),
]


@pytest.mark.parametrize(("event", "words"), BAD_EVENTS)
def test_an_event_that_does_not_fit_names_field_and_value_and_is_not_kept(event: Any, words: str) -> None:
    async def story(market: Any) -> None:
        with pytest.raises(DataError) as one:
            await market.ticks.add_async(event)
        assert words in str(one.value)
        with pytest.raises(DataError) as many:
            await market.ticks.add_many_async([GOOD, event])
        assert words in str(many.value)
        # What was wrong does not stop what is right.
        await market.ticks.add_async(GOOD)
        await market.clock.set_async(t("14:31"))
        assert [bar.ticks for bar in await market.finals_async(Bar, "1m")] == [1]

    told(PLAIN, story)


def test_a_frame_whose_columns_have_the_types_of_storage_is_looked_at_like_any_other() -> None:
    """Decimals are kept as scaled integers; an integer of the user is still a whole number, not so many millionths."""

    async def story(market: Any) -> None:
        rows = pl.DataFrame({found.name: [getattr(GOOD, found.name)] for found in fields(Tick)})
        whole = rows.with_columns(price=pl.lit(10, pl.Int64))
        await market.ticks.add_many_async(whole)
        assert [kept.price for kept in await market.ticks.to_list_async()] == [Decimal(10)]
        with pytest.raises(DataError, match=r"frame, row 2, column symbol: there is no value.*Tick\.symbol"):
            await market.ticks.add_many_async(pl.concat([whole, whole.with_columns(symbol=pl.lit(None, pl.String))]))
        assert sum(state_of(market).log.ends("ticks")) == 1

    told(PLAIN, story)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_frame_with_a_float_that_is_no_number_is_refused(value: float) -> None:
    async def story(site: Any) -> None:
        with pytest.raises(DataError, match=r"frame, row 1, column millis: .* is not a finite number"):
            await site.pings.add_many_async(pl.DataFrame({"at": [GOOD.time], "host": ["a"], "millis": [value]}))
        assert state_of(site).log.ends("pings") == [0]

    told(Site, story)


@pytest.mark.parametrize("objects", [5, None, GOOD])
def test_what_is_neither_objects_nor_a_frame_is_named(objects: Any) -> None:
    async def story(market: Any) -> None:
        with pytest.raises(DataError, match=f"add_many takes objects of Tick or a Polars frame, not a {type(objects).__name__}"):
            await market.ticks.add_many_async(objects)

    told(PLAIN, story)


def test_a_field_that_is_missing_is_told_by_python_before_anything_is_kept() -> None:
    async def story(market: Any) -> None:
        with pytest.raises(TypeError, match="symbol"):
            await market.ticks.add_async(Tick(time=GOOD.time, price=GOOD.price))  # type: ignore[call-arg]
        assert state_of(market).log.ends("ticks") == [0]

    told(PLAIN, story)


def test_a_context_that_only_reads_writes_nothing() -> None:
    async def story(market: Any) -> None:
        expected = "cannot be written: the context was opened with access='read_only'"
        with pytest.raises(AccessError, match=f"Tick {expected}"):
            await market.ticks.add_async(GOOD)
        with pytest.raises(AccessError, match=f"Tick {expected}"):
            await market.ticks.add_many_async([GOOD])
        with pytest.raises(AccessError, match=f"Hours {expected}"):
            await market.hours.remove_async(["A", GOOD.time.date()])
        assert market.health().queries == ()

    told(PLAIN, story, access="read_only")


def test_a_context_that_only_writes_reads_nothing() -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(GOOD)
        with pytest.raises(AccessError, match="Bar cannot be read: the context was opened with access='write_only'"):
            await market.finals_async(Bar, "1m")
        with pytest.raises(AccessError, match="Tick cannot be read"):
            await market.ticks.to_list_async()

    told(PLAIN, story, access="write_only")


def test_bars_are_not_written_by_hand() -> None:
    async def story(market: Any) -> None:
        bar = Bar("A", GOOD.time, *(Decimal(1),) * 4, volume=1, ticks=1)
        with pytest.raises(AccessError, match="Bar is made by its query; add to the entity that the query reads"):
            await market.bars.add_async(bar)

    told(PLAIN, story)


@pytest.mark.parametrize("period", [Period.minutes(15), "15m", "1h"])
def test_a_period_that_was_not_declared_is_named_with_those_that_are(period: Any) -> None:
    async def story(market: Any) -> None:
        with pytest.raises(ModelError, match=f"Bar has no bars of {period}; declared are 1m, 5m"):
            market.time_bucket(Bar, period)

    told(PLAIN, story)


def test_a_period_that_cannot_be_read_is_named_with_examples() -> None:
    async def story(market: Any) -> None:
        with pytest.raises(TimeframeError, match="five minutes"):
            market.time_bucket(Bar, "five minutes")

    told(PLAIN, story)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (["A", "B"], r"key part Bar\.start = 'B' is not a datetime such as 2024-03-08T14:30"),
        (["A", "2024-03-08T14:30Z", "B"], "the key parts of Bar are symbol, start, but 3 were given"),
        ([7], r"key part Bar\.symbol = 7 is not a str; give text"),
    ],
)
def test_a_key_that_does_not_fit_is_named_with_its_parts(key: Any, message: str) -> None:
    async def story(market: Any) -> None:
        with pytest.raises(DataError, match=message):
            await market.finals_async(Bar, "1m", key)

    told(PLAIN, story)


WRONG_OPTIONS = [
    ({"heartbeats": {}}, "unknown option 'heartbeats'; did you mean 'heartbeat'?"),
    ({"runtime": {"comit_interval": "1s"}}, "unknown option 'runtime.comit_interval'; did you mean 'commit_interval'?"),
    ({"universe": {"expire_after": "soon"}}, "universe.expire_after"),
    ({"access": "write"}, "option 'access' = 'write'"),
]


@pytest.mark.parametrize(("options", "words"), WRONG_OPTIONS)
def test_a_wrong_option_is_named_with_the_valid_ones(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionsError) as error:
        kandle.testing.context(PLAIN, start="2024-03-08T14:30Z", **options)
    assert words in str(error.value)


@pytest.mark.parametrize("start", ["2024-03-08T25:30Z", "yesterday", datetime(2024, 3, 8)])
def test_a_start_that_is_no_time_or_a_datetime_without_a_zone_is_refused(start: Any) -> None:
    with pytest.raises((TimeframeError, DataError), match=r"2024|yesterday"):
        kandle.testing.context(PLAIN, start=start)


def test_a_context_that_is_not_open_says_how_to_open_it() -> None:
    market = kandle.testing.context(PLAIN, start="2024-03-08T14:30Z")
    with pytest.raises(StateError, match="the context is not open; write `with Market"):
        market.health()


@pytest.mark.parametrize("was_open", [False, True])
def test_a_script_that_writes_outside_of_with_is_told_at_once(was_open: bool, tmp_path: Path) -> None:
    """Without an error the call would give a coroutine that nobody awaits, and the event would be lost without a word."""
    market: Any = PLAIN(Options(access="write_only", log={"path": tmp_path}))
    if was_open:
        with market:
            market.ticks.add(GOOD)
    calls: list[Callable[[], object]] = [lambda: market.ticks.add(GOOD), lambda: market.ticks.add_many([GOOD])]
    for call in calls:
        with pytest.raises(StateError, match="the context is not open"):
            call()


def test_an_event_is_no_row_of_a_table() -> None:
    async def story(market: Any) -> None:
        with pytest.raises(DataError, match="not Hours"):
            await market.hours.add_async(GOOD)
        assert await market.hours.to_list_async() == []

    told(PLAIN, story)
