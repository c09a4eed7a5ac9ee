"""One event or bar that cannot be used, of each kind: it is a dead letter that names it, and the others go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import polars as pl
import pytest

import kandle
from kandle import Context, EventSet, Key, MaxLength, Precision, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.engine.failures import FailureCollector
from kandle.engine.pipeline import Pipeline
from kandle.errors import DataError
from kandle.log.headers import header_rows
from kandle.plan.plan import plan
from kandle.time.timeframe import from_instant
from tests.runtime.building import at, bars, frame_of, read, t
from tests.testing.poison import ByCode, Codes, Meters, Reading, Sum, letters
from tests.testing.stories import health, told


@kandle.stream("samples")
@dataclass(frozen=True)
class Sample:
    time: Annotated[datetime, Timestamp()]
    key: Annotated[str, Key(0)]
    text: str = "1"
    number: int = 1
    price: Annotated[Decimal, Precision(18, 6)] = Decimal(1)
    ratio: float = 1.0


@kandle.stream("values")
@dataclass(frozen=True)
class Value:
    key: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    value: int = 0
    exact: Annotated[Decimal | None, Precision(38, 10)] = None
    name: Annotated[str, MaxLength(4)] = ""
    moment: datetime | None = None


def context(value: Callable[[Any], dict[str, Any]], time: Callable[[Any], Any] = lambda s: s.time) -> type[Context]:
    """Return a context whose bars have the fields that `value` returns."""

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        def query(q: Any) -> Any:
            windowed = q.from_(Sample).tumbling(time, minutes=1, gaps=kandle.Gaps.SKIP).group_by(lambda s: s.key)
            return windowed.select(lambda s, w: Value(key=s.key, start=w.start, **value(s)))

        model.entity(Value).to_query(query)

    sets = {"samples": EventSet[Sample], "values_of": EventSet[Value]}
    return type("Values", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


def sample(**values: Any) -> Sample:
    return Sample(at("14:30:10"), "bad", **values)


EVENTS = {
    "a text that is no number": (
        lambda s: {"value": f.sum(f.cast(s.text, int))},
        sample(text="x"),
        ("text", "x", 'f.cast(Sample.text, int) does not fit its type: "x" cannot become an int of 64 bits (Sample.text = x)'),
    ),
    "a number of more than 64 bits": (
        lambda s: {"value": f.max(s.number * s.number)},
        sample(number=2**40),
        ("number", "1099511627776", "Sample.number * Sample.number does not fit its type: 1208925819614629174706176"),
    ),
    "an instant of more than 64 bits": (
        lambda s: {"moment": f.max(f.from_epoch_millis(s.number))},
        sample(number=10**17),
        (
            "number",
            "100000000000000000",
            "f.from_epoch_millis(Sample.number) does not fit its type: 100000000000000000000",
        ),
    ),
    "a decimal of too many digits": (
        lambda s: {"exact": f.last(f.cast(s.number, Precision(9, 2)))},
        sample(number=10**9),
        ("number", "1000000000", "f.cast(Sample.number, Decimal(9, 2)) = 1000000000.00 does not fit Decimal(9, 2)"),
    ),
    "a product of more than 38 digits": (
        lambda s: {"exact": f.last(f.round(s.price * s.price * s.price * s.price, 6))},
        sample(price=Decimal(10**11)),
        (None, None, "has more than 38 digits"),
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_that_cannot_be_computed_is_a_dead_letter_with_entity_field_and_value(name: str) -> None:
    value, event, (field, shown, reason) = EVENTS[name]

    async def story(market: Any) -> None:
        await market.samples.add_async(Sample(at("14:30:05"), "good"))
        await market.samples.add_async(event, headers={"trace": "9"})
        await market.samples.add_async(Sample(at("14:30:20"), "bad"))
        await market.clock.set_async(t("14:31"))
        assert [bar.key for bar in await market.finals_async(Value, "1m")] == ["bad", "good"]
        (letter,) = letters(state_of(market).log, "values_dlq")
        assert (letter["topic"], letter["partition"], letter["offset"], letter["kind"]) == ("samples", 0, 1, "event")
        assert reason in letter["error"]
        assert letter["entity"] == "Sample" and (field is None or letter["field"] == field)
        assert shown is None or letter["value"] == shown
        assert json.loads(letter["key"]) == {"key": "bad"}
        assert json.loads(letter["payload"])["time"].startswith("2024-03-08 14:30:10")
        assert letter["time"] == at("14:30")
        assert header_rows(read(state_of(market).log, "values_dlq")[0].records) == [{"trace": "9"}]
        counters = health(market).counters
        assert (counters.events, counters.failed, counters.dead_letters, counters.late) == (3, 1, 1, 0)

    told(context(value), story)


BARS = {
    "a sum of more than 64 bits": (
        lambda s: {"value": f.sum(s.number)},
        [sample(number=2**62)] * 2,
        ("value", "9223372036854775808", "Value.value = 9223372036854775808 does not fit int (bar key=bad, start="),
    ),
    "a computed value of more than 64 bits": (
        lambda s: {"value": f.max(s.number) * 4},
        [sample(number=2**62)],
        ("value", "18446744073709551616", "Value.value does not fit its type: 18446744073709551616 cannot become an int of"),
    ),
    "a text that is too long": (
        lambda s: {"name": f.last(s.text)},
        [sample(text="12345")],
        ("name", "12345", "Value.name = 12345 is longer than 4 characters (bar key=bad, start="),
    ),
    "an instant beyond the years of datetimes": (
        lambda s: {"moment": f.max(f.from_epoch_millis(s.number))},
        [sample(number=10**15)],
        ("moment", "1000000000000 seconds since 1970", "is outside of the years 1 to 9999"),
    ),
    "a cast of a text": (
        lambda s: {"value": f.cast(f.last(s.text), int)},
        [sample(text="y")],
        ("value", "y", 'Value.value does not fit its type: "y" cannot become an int of 64 bits'),
    ),
}


@pytest.mark.parametrize("name", BARS)
def test_a_bar_that_does_not_fit_is_a_dead_letter_with_field_key_bucket_and_value(name: str) -> None:
    value, events, (field, shown, reason) = BARS[name]

    async def story(market: Any) -> None:
        await market.samples.add_many_async([Sample(at("14:30:05"), "good"), *events])
        state_of(market).settle()
        assert [bar.key for bar in await market.live_async(Value, "1m")] == ["good"]
        await market.clock.set_async(t("14:31"))
        assert [bar.key for bar in await market.live_async(Value, "1m")] == ["good"]
        assert [bar.key for bar in await market.finals_async(Value, "1m")] == ["good"]
        (letter,) = letters(state_of(market).log, "values_dlq")
        assert (letter["topic"], letter["partition"], letter["offset"]) == ("samples", 0, 1 + len(events))
        assert (letter["kind"], letter["entity"], letter["field"], letter["value"]) == ("bar", "Value", field, shown)
        assert (letter["timeframe"], letter["start"], json.loads(letter["key"])) == ("1m", at("14:30"), {"key": "bad"})
        assert reason in letter["error"] and letter["error"].endswith("start=2024-03-08 14:30:00+00:00, 1m)")
        assert health(market).counters.timeframes["1m"].failed == 1
        await market.samples.add_async(Sample(at("14:31:30"), "bad"))
        await market.clock.set_async(t("14:32"))
        assert [bar.key for bar in await market.finals_async(Value, "1m")] == ["bad", "good"]

    told(context(value), story)


@pytest.mark.parametrize("year", [1, 9999])
def test_an_event_whose_time_no_bucket_can_hold_is_a_dead_letter(year: int) -> None:
    async def story(market: Any) -> None:
        await market.samples.add_async(Sample(datetime(year, 6, 1, tzinfo=UTC), "bad"))
        await market.samples.add_async(Sample(at("14:30:05"), "good"))
        await market.clock.set_async(t("14:31"))
        assert [bar.key for bar in await market.finals_async(Value, "1m")] == ["good"]
        (letter,) = letters(state_of(market).log, "values_dlq")
        assert letter["field"] == "time" and "is outside of the years 2 to 9998" in letter["error"]

    told(context(lambda s: {"value": f.count()}), story)


def test_a_live_bar_that_does_not_fit_any_more_is_removed_until_it_fits_again() -> None:
    async def story(market: Any) -> None:
        seen = []
        for number in (2**62, 2**62, -(2**62)):
            await market.samples.add_async(sample(number=number))
            await market.clock.advance_async("1s")
            seen.append([bar.value for bar in await market.live_async(Value, "1m")])
        assert seen == [[2**62], [], [2**62]]

    told(context(lambda s: {"value": f.sum(s.number)}), story)


def test_the_longer_bars_of_a_bar_that_does_not_fit_have_all_of_its_events() -> None:
    async def story(market: Any) -> None:
        for minute, amount in ((30, "9000"), (31, "-9000")):
            moment = at(f"14:{minute}:10")
            await market.readings.add_many_async(
                [Reading(moment, "a", Decimal(amount), 1), Reading(moment, "a", Decimal(amount), 1)]
            )
            await market.clock.set_async(t(f"14:{minute + 1}"))
        await market.clock.set_async(t("14:35"))
        (five,) = bars(state_of(market).log, "sums_5m_final", Sum)
        assert (five.amount, five.readings) == (0, 4)
        failed = letters(state_of(market).log, "sums_dlq")
        assert [(row["timeframe"], row["start"]) for row in failed] == [("1m", at("14:30")), ("1m", at("14:31"))]

    told(Meters, story, validation="relaxed")


@pytest.mark.parametrize("partitions", [1, 3])
def test_an_event_without_a_key_that_can_be_computed_is_left_out_also_where_events_are_copied_by_key(partitions: int) -> None:
    async def story(market: Any) -> None:
        moments = [from_instant(t("14:30") + second) for second in range(6)]
        codes = ["1", "x", "2", "1", "y", "2"]
        await market.readings.add_many_async(
            [Reading(moment, "a", Decimal(1), 1, code) for moment, code in zip(moments, codes, strict=True)]
        )
        for _ in range(3):
            await market.clock.advance_async("1m")
        finals = bars(state_of(market).log, "by_code_1m_final", ByCode)
        assert sorted((bar.code, bar.readings) for bar in finals if bar.start == at("14:30")) == [(1, 2), (2, 2)]
        bad = letters(state_of(market).log, "by_code_dlq")
        assert [(row["topic"], row["offset"], row["field"], row["value"]) for row in bad] == [
            ("readings", 1, "code", "x"),
            ("readings", 4, "code", "y"),
        ]

    told(Codes, story, topics={"readings": {"partitions": partitions}})


def test_when_no_event_can_be_computed_all_are_dead_letters_and_time_goes_on() -> None:
    async def story(market: Any) -> None:
        moments = [from_instant(t("14:30") + number) for number in range(100)]
        await market.samples.add_many_async([Sample(moment, "bad", text="x") for moment in moments])
        await market.clock.set_async(t("14:31"))
        assert await market.finals_async(Value, "1m") == []
        assert len(letters(state_of(market).log, "values_dlq")) == 100

    told(context(lambda s: {"value": f.sum(f.cast(s.text, int))}), story)


def test_a_pipeline_without_anything_that_takes_failures_raises_the_first() -> None:
    declared = plan(context(lambda s: {"value": f.sum(f.cast(s.text, int))}).model().queries[Value])
    events = frame_of([Sample(at("14:30:05"), "a"), sample(text="x"), sample(text="y")])
    with pytest.raises(DataError, match=r"^f\.cast\(Sample\.text, int\) does not fit its type: \"x\".*\(Sample\.text = x\)$"):
        Pipeline(declared).process(events)
    failures = FailureCollector()
    Pipeline(declared, failures=failures).process(events)
    assert [event.row for event in failures.take_events()] == [1, 2]
    assert failures.take_events() == []


def test_an_error_of_the_program_is_no_dead_letter() -> None:
    """A column that is missing says nothing about an event."""
    declared = plan(context(lambda s: {"value": f.sum(s.number)}).model().queries[Value])
    events = frame_of([Sample(at("14:30:05"), "a")]).drop("number")
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        Pipeline(declared, failures=FailureCollector()).process(events)
