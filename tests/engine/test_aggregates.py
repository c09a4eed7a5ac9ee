"""Every aggregate against plain Python, over batches in any split and order, and rolled up from minutes to an hour."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from itertools import pairwise
from typing import Annotated, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kandle
from kandle import Context, EventSet, Gaps, KandleError, Key, Precision, Timestamp
from kandle import functions as f
from kandle.engine.aggregates import AGGREGATES as BUILDERS
from kandle.engine.pipeline import Pipeline
from kandle.errors import DataError
from kandle.model.columns import to_logical
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.plan import plan
from kandle.query.signatures import AGGREGATES

START = datetime(2024, 3, 8, 14, tzinfo=UTC)
Six = Annotated[Decimal | None, Precision(18, 6)]
Wide = Annotated[Decimal | None, Precision(38, 10)]


@kandle.stream("samples")
@dataclass(frozen=True)
class Sample:
    at: Annotated[datetime, Timestamp()]
    amount: Six = None
    wide: Wide = None
    whole: int = 0
    real: float | None = None
    text: str | None = None
    weight: int = 1


@kandle.stream("statistics")
@dataclass(frozen=True)
class Statistic:
    start: Annotated[datetime, Timestamp(), Key(0)]
    first: Six
    last: Six
    least: Six
    greatest: Six
    total: Annotated[Decimal, Precision(38, 6)]
    wide_total: Annotated[Decimal, Precision(38, 10)]
    whole_total: int
    events: int
    known: int
    mean: Annotated[Decimal | None, Precision(38, 9)]
    whole_mean: float | None
    wide_mean: Annotated[Decimal | None, Precision(38, 3)]
    first_came: str | None
    last_came: str | None
    texts: int
    greatest_text: str | None
    spread: float | None
    population: float | None
    real_spread: float | None
    weighted: Annotated[Decimal | None, Precision(38, 8)]
    span: Annotated[Decimal | None, Precision(19, 6)]


class Statistics(Context):
    samples: EventSet[Sample]
    statistics: EventSet[Statistic]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Statistic).to_query(
            lambda q: (
                q.from_(Sample)
                .tumbling(lambda t: t.at, minutes=(1, 5), hours=1, grace="1h")
                .select(
                    lambda t, w: Statistic(
                        start=w.start,
                        first=f.first(t.amount),
                        last=f.last(t.amount),
                        least=f.min(t.amount),
                        greatest=f.max(t.amount),
                        total=f.sum(t.amount),  # type: ignore[arg-type, type-var]
                        wide_total=f.sum(t.wide),  # type: ignore[arg-type, type-var]
                        whole_total=f.sum(t.whole),
                        events=f.count(),
                        known=f.count(t.amount),
                        mean=f.avg(t.amount),  # type: ignore[arg-type]
                        whole_mean=f.avg(t.whole),
                        wide_mean=f.avg(t.wide),  # type: ignore[arg-type]
                        first_came=f.first_by_offset(t.text),
                        last_came=f.last_by_offset(t.text),
                        texts=f.count_distinct(t.text),
                        greatest_text=f.max(t.text),
                        spread=f.stddev(t.amount),  # type: ignore[arg-type]
                        population=f.stddev_population(t.whole),
                        real_spread=f.stddev(t.real),  # type: ignore[arg-type]
                        weighted=f.weighted_average(t.amount, t.weight),  # type: ignore[arg-type]
                        span=f.max(t.amount) - f.min(t.amount),  # type: ignore[operator]
                    )
                )
            )
        )


QUERY = Statistics.model().queries[Statistic]


def test_the_engine_knows_every_aggregate_of_the_language() -> None:
    assert set(BUILDERS) == set(AGGREGATES)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


samples = st.lists(
    st.builds(
        Sample,
        at=st.integers(0, 50 * 60).map(lambda seconds: START + timedelta(seconds=seconds)),
        amount=optional(st.integers(-(10**17), 10**17).map(lambda value: Decimal(value).scaleb(-6))),
        wide=optional(st.integers(-(10**36), 10**36).map(lambda value: Decimal(value).scaleb(-10))),
        whole=st.integers(-(10**9), 10**9),
        real=optional(st.floats(-1000, 1000)),
        text=optional(st.sampled_from(["a", "b", "c", ""])),
        weight=st.integers(0, 5),
    ),
    min_size=1,
    max_size=20,
)


def by_python(events: Sequence[Sample]) -> dict[str, Any]:
    """The statistics of one bucket."""
    in_time = sorted(events, key=lambda event: event.at)
    amounts = [event.amount for event in in_time if event.amount is not None]
    wides = [event.wide for event in events if event.wide is not None]
    texts = [event.text for event in events if event.text is not None]
    wholes = [event.whole for event in events]
    reals = [event.real for event in events if event.real is not None]
    weighed = [(event.amount, event.weight) for event in events if event.amount is not None]
    weight = sum(event for _, event in weighed)
    with localcontext() as context:
        context.prec = 200
        return {
            "first": amounts[0] if amounts else None,
            "last": amounts[-1] if amounts else None,
            "least": min(amounts, default=None),
            "greatest": max(amounts, default=None),
            "total": sum(amounts, Decimal(0)),
            "wide_total": sum(wides, Decimal(0)),
            "whole_total": sum(wholes),
            "events": len(events),
            "known": len(amounts),
            "mean": rounded(sum(amounts) / Decimal(len(amounts)), 9) if amounts else None,
            "whole_mean": sum(wholes) / len(wholes),
            "wide_mean": rounded(sum(wides) / Decimal(len(wides)), 3) if wides else None,
            "first_came": texts[0] if texts else None,
            "last_came": texts[-1] if texts else None,
            "texts": len(set(texts)),
            "greatest_text": max(texts, default=None),
            "spread": near(statistics.stdev(amounts)) if len(amounts) > 1 else None,
            "population": near(statistics.pstdev(wholes)),
            "real_spread": near(statistics.stdev(reals)) if len(reals) > 1 else None,
            "weighted": rounded(sum(a * w for a, w in weighed) / Decimal(weight), 8) if weight else None,
            "span": max(amounts) - min(amounts) if amounts else None,
        }


def rounded(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def near(value: Any) -> Any:
    return pytest.approx(float(value), rel=1e-9, abs=1e-6)


def bars_of(batches: Sequence[Sequence[Sample]], gaps: Gaps = Gaps.SKIP) -> dict[str, list[Statistic]]:
    pipeline = Pipeline(plan(_with_gaps(gaps)))
    for batch in batches:
        pipeline.process(mapping(entity_model(Sample)).to_frame(batch))
    bars: dict[str, list[Statistic]] = {}
    for finals in pipeline.finish(pipeline.newest + 1):
        objects = mapping(entity_model(Statistic)).from_frame(finals.bars)
        bars.setdefault(finals.plan.name, []).extend(objects)
    return bars


def _with_gaps(gaps: Gaps) -> Any:
    import dataclasses

    return dataclasses.replace(QUERY, gaps=gaps)


def start_of(at: datetime, minutes: int) -> datetime:
    return at.replace(second=0, minute=at.minute // minutes * minutes)


@settings(max_examples=100)
@given(samples, st.lists(st.integers(0, 20), max_size=4))
def test_every_aggregate_of_every_timeframe_is_that_of_the_events(events: list[Sample], cuts: list[int]) -> None:
    """Events come in any order; by event time, events of the same time keep theirs."""
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    try:
        bars = bars_of([events[low:high] for low, high in pairwise(edges)])
    except DataError as error:
        assert "38 digits" in str(error) or "does not fit" in str(error)
        assert abs(sum(int(event.wide.scaleb(10)) for event in events if event.wide is not None)) >= 10**37
        return
    for name, minutes in (("1m", 1), ("5m", 5), ("1h", 60)):
        starts = sorted({start_of(event.at, minutes) for event in events})
        assert [bar.start for bar in bars[name]] == starts
        for bar in bars[name]:
            expected = by_python([event for event in events if start_of(event.at, minutes) == bar.start])
            assert {field: getattr(bar, field) for field in expected} == expected, name


def test_a_bucket_without_events_has_the_value_of_one_weightless_event() -> None:
    """
    14:00        14:01        14:02
    | 1.5   2.5  |            |  4
    """
    events = [
        Sample(START, amount=Decimal("1.5"), whole=3, text="x", real=1.0, weight=2),
        Sample(START + timedelta(seconds=9), amount=Decimal("2.5"), whole=5, text="y", real=2.0),
        Sample(START + timedelta(minutes=2), amount=Decimal(4), whole=1),
    ]
    gap = bars_of([events], Gaps.CARRY)["1m"][1]
    carried = Decimal("2.500000")
    assert (gap.first, gap.last, gap.least, gap.greatest) == (carried,) * 4
    assert (gap.mean, gap.weighted, gap.span) == (Decimal("2.500000000"), Decimal("2.50000000"), 0)
    assert (gap.whole_mean, gap.first_came, gap.last_came, gap.greatest_text) == (5.0, "y", "y", "y")
    assert (gap.total, gap.whole_total, gap.events, gap.known, gap.texts) == (0, 0, 0, 0, 0)
    assert (gap.spread, gap.population, gap.real_spread) == (None, 0.0, None)


def test_without_carrying_a_bucket_without_events_is_null_but_for_counts_and_sums() -> None:
    events = [Sample(START, amount=Decimal("1.5")), Sample(START + timedelta(minutes=2), amount=Decimal(4))]
    gap = bars_of([events], Gaps.NULL)["1m"][1]
    assert (gap.first, gap.last, gap.mean, gap.weighted, gap.span, gap.population) == (None,) * 6
    assert (gap.total, gap.events, gap.texts) == (0, 0, 0)


def test_the_last_value_that_was_known_is_carried_over_buckets_in_which_all_are_null() -> None:
    """
    14:00        14:01        14:02        14:03
    | 1.5        | NULL       |            | NULL
    """
    minutes = (timedelta(minutes=number) for number in (0, 1, 3))
    amounts = (Decimal("1.5"), None, None)
    events = [Sample(START + minute, amount=amount) for minute, amount in zip(minutes, amounts, strict=True)]
    bars = bars_of([events], Gaps.CARRY)["1m"]
    assert [bar.first for bar in bars] == [Decimal("1.5"), None, Decimal("1.5"), None]


def test_a_gap_adds_nothing_to_its_parent_unless_all_children_are_gaps() -> None:
    """The minutes after 14:00 carry 1, which is below all that the second five minutes traded: it must not become their low."""
    events = [Sample(START, amount=Decimal(1)), Sample(START + timedelta(minutes=7), amount=Decimal(5))]
    events += [Sample(START + timedelta(minutes=20), amount=Decimal(9))]
    five = bars_of([events], Gaps.CARRY)["5m"]
    assert [(bar.least, bar.events) for bar in five] == [(1, 1), (5, 1), (5, 0), (5, 0), (9, 1)]


def test_a_sum_that_no_field_can_hold_is_an_error_that_names_the_expression() -> None:
    events = [Sample(START, wide=Decimal(10**28 - 1)) for _ in range(2)]
    # Columns are computed beside event other: whichever fails first is named.
    with pytest.raises(KandleError, match=r"f\.(sum|avg)\(Sample\.wide\).*more than 38 digits"):
        bars_of([events])


def test_an_int_sum_beyond_64_bits_is_an_error_that_names_field_and_bar_and_no_column_of_the_engine() -> None:
    events = [Sample(START, whole=2**62) for _ in range(2)]
    message = (
        r"Statistic\.whole_(total|mean) = 9223372036854775808 does not fit int "
        r"\(bar start=2024-03-08 14:00:00\+00:00, 1m\)"
    )
    with pytest.raises(DataError, match=f"^{message}$"):
        bars_of([events])


def test_the_event_that_came_last_is_that_of_the_last_batch_whatever_its_time() -> None:
    """Texts come in the order c, a, b, one in a batch of its own; by event time the order is a, b, c."""
    events = [Sample(START + timedelta(seconds=second), text=text) for second, text in ((9, "c"), (1, "a"), (1, "b"))]
    for batches in ([events], [[event] for event in events]):
        bar = bars_of(batches)["1h"][0]
        assert (bar.first_came, bar.last_came) == ("c", "b")


def test_of_events_of_the_same_time_the_first_that_came_is_first_and_the_last_is_last() -> None:
    """The batches are out of order, so that first and last are looked up by their times."""
    late = Sample(START + timedelta(seconds=30), amount=Decimal(9))
    same = [Sample(START, amount=Decimal(number)) for number in (1, 2, 3)]
    ends = [Sample(START + timedelta(seconds=40), amount=Decimal(number)) for number in (4, 5)]
    bar = bars_of([[late], *[[event] for event in (*ends, *same)]])["1m"][0]
    assert (bar.first, bar.last) == (1, 5)


def test_sums_that_leave_64_bits_on_the_way_come_back_exact() -> None:
    events = [Sample(START, whole=2**62), Sample(START, whole=2**62), Sample(START, whole=-(2**62))]
    bars = bars_of([[event] for event in events])
    assert [bar.whole_total for bar in bars["1m"]] == [2**62]


def test_doubles_do_not_lose_their_spread_in_large_values() -> None:
    events = [Sample(START, real=1e9 + step) for step in (0.0, 0.1, 0.2)]
    spread = bars_of([[event] for event in events])["1m"][0].real_spread
    assert spread is not None
    assert math.isclose(spread, 0.1, rel_tol=1e-4)


def test_partials_do_not_change_the_bars_of_a_timeframe_when_they_are_merged_early() -> None:
    events = [Sample(START + timedelta(seconds=number % 120), amount=Decimal(number)) for number in range(300)]
    one_by_one = Pipeline(plan(QUERY))
    for event in events:
        one_by_one.process(mapping(entity_model(Sample)).to_frame([event]))
        one_by_one.changes()
    whole = Pipeline(plan(QUERY))
    whole.process(mapping(entity_model(Sample)).to_frame(events))
    target = entity_model(Statistic)
    for ours, theirs in zip(one_by_one.finish(one_by_one.newest + 1), whole.finish(whole.newest + 1), strict=True):
        assert to_logical(target, ours.bars).equals(to_logical(target, theirs.bars))
        assert isinstance(ours.gaps, pl.Series)
