from datetime import UTC, datetime, timedelta

import polars as pl

from kandle.cli.demo_checks import bars_of_bars, bars_of_ticks, check_finals, check_timeframe, is_late
from kandle.cli.demo_market import OLDEST, STEP, SYMBOLS, RandomWalks
from kandle.time.timeframe import SECOND, Period, to_instant

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
START = to_instant(NOON)
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "price": pl.Decimal(18, 2),
    "size": pl.Int64,
    "_appended": pl.Int64,
}
GRACE = SECOND // 2


def ticks(*rows: tuple[str, float, str, int]) -> pl.DataFrame:
    """Ticks (symbol, seconds after noon, price, size), written at once."""
    made = [(symbol, NOON + timedelta(seconds=at), price, size, START + round(at * SECOND)) for symbol, at, price, size in rows]
    text = SCHEMA | {"price": pl.String}
    return pl.DataFrame(made, schema=text, orient="row").with_columns(pl.col("price").cast(pl.Decimal(18, 2)))


FEW = ticks(("A", 1.2, "10.00", 5), ("A", 1.9, "11.50", 1), ("B", 3.0, "7.00", 2), ("A", 1.5, "9.00", 1), ("A", 4.1, "12.00", 3))


def seconds(bars: pl.DataFrame) -> list[tuple[object, ...]]:
    """Rows with the start as seconds after noon and prices as text."""
    return [
        (symbol, (start - NOON).total_seconds(), *map(str, prices), volume, count)
        for symbol, start, *prices, volume, count in bars.sort("symbol", "start").iter_rows()
    ]


def test_bars_of_ticks_have_no_holes_between_the_first_tick_and_the_end() -> None:
    # A   .1   .  .  4    ->  bars 1 (three ticks), 2 and 3 (gaps), 4;   B ->  bars 3, 4 (gap)
    assert seconds(bars_of_ticks(FEW, SECOND, START + 5 * SECOND)) == [
        ("A", 1, "10.00", "11.50", "9.00", "11.50", 7, 3),
        ("A", 2, "11.50", "11.50", "11.50", "11.50", 0, 0),
        ("A", 3, "11.50", "11.50", "11.50", "11.50", 0, 0),
        ("A", 4, "12.00", "12.00", "12.00", "12.00", 3, 1),
        ("B", 3, "7.00", "7.00", "7.00", "7.00", 2, 1),
        ("B", 4, "7.00", "7.00", "7.00", "7.00", 0, 0),
    ]


def test_only_buckets_that_end_by_then_are_expected() -> None:
    until = START + 5 * SECOND - 1
    assert bars_of_ticks(FEW, SECOND, until).height == 4
    assert bars_of_ticks(FEW, 5 * SECOND, until).height == 0
    assert bars_of_ticks(FEW, 5 * SECOND, until + 1).height == 2


def test_bars_of_bars_are_bars_of_the_ticks() -> None:
    until = START + 20 * SECOND
    second = bars_of_ticks(FEW, SECOND, until)
    assert bars_of_bars(second, 5 * SECOND, until).equals(bars_of_ticks(FEW, 5 * SECOND, until))
    shuffled = pl.concat([second, second[:3]]).sample(fraction=1, shuffle=True, seed=1)
    assert bars_of_bars(shuffled, 5 * SECOND, until).equals(bars_of_ticks(FEW, 5 * SECOND, until))


def test_what_is_missing_doubled_or_different_is_counted() -> None:
    until = START + 5 * SECOND
    right = bars_of_ticks(FEW, SECOND, until)
    assert check_timeframe(Period.seconds(1), right, (right, right), until).is_right
    later = right.with_columns(pl.col("start") + timedelta(seconds=10))
    wrong = pl.concat(
        [
            right[:1].with_columns(high=pl.col("high") + 1),  # different
            right[1:4],
            right[2:4],  # doubled
            right[4:5].with_columns(start=pl.lit(NOON)),  # too early: nothing was expected there
            later,  # not of interest: after the end
        ]
    )
    result = check_timeframe(Period.seconds(1), wrong, (right, right), until)
    assert (result.expected, result.written, result.duplicates, result.gaps, result.wrong) == (6, 4, 2, 2, 2)
    assert not result.is_right


def test_each_timeframe_is_checked_against_the_one_before_it() -> None:
    until = START + 15 * SECOND
    finals = {Period.seconds(size): bars_of_ticks(FEW, size * SECOND, until) for size in (1, 5, 15)}
    results = check_finals(FEW, finals, until)
    assert [(result.timeframe, result.expected, result.gaps, result.is_right) for result in results] == [
        ("1s", 26, 23, True),
        ("5s", 6, 4, True),
        ("15s", 2, 0, True),
    ]
    finals[Period.seconds(1)] = finals[Period.seconds(1)].filter(pl.col("ticks") != 3)
    assert [each.is_right for each in check_finals(FEW, finals, until)] == [False, False, True]


def test_a_tick_is_late_that_was_written_after_a_heartbeat_said_that_its_bucket_was_over() -> None:
    # partition 0:  tick of second 1 | beat: over up to 1.5 | tick of second 1 | beat: over up to 2.5 | ticks of seconds 1 and 2
    written = ticks(*[("A", at, "1.00", 1) for at in (1.0, 1.2, 1.4, 2.0)], ("B", 1.0, "1.00", 1))
    written = written.with_columns(_partition=pl.Series([0, 0, 0, 0, 1]), _offset=pl.Series([0, 1, 2, 3, 0]))
    beats = pl.DataFrame(
        {"_partition": [0, 0, 1], "position": [1, 2, 1], "instant": [NOON + timedelta(seconds=at) for at in (1.5, 2.5, 9.5)]},
        schema_overrides={"instant": pl.Datetime("us", "UTC")},
    )
    late = is_late(written, beats, SECOND, GRACE)
    assert late.to_list() == [False, False, True, False, False]
    assert is_late(written, beats.clear(), SECOND, GRACE).to_list() == [False] * 5


def walked(seed: int, length: int = 400) -> pl.DataFrame:
    walks = RandomWalks(seed, START)
    return pl.concat([walks.until(START + number * STEP) for number in range(length + 1)])


def test_the_same_seed_gives_the_same_walks_and_another_seed_others() -> None:
    assert walked(7).equals(walked(7))
    assert not walked(7).equals(walked(8))


def test_walks_follow_the_clock_in_order_and_pause() -> None:
    made = walked(7)
    assert made["symbol"].n_unique() == len(SYMBOLS) == 4
    assert made["time"].is_sorted()
    assert (made["price"] > 0).all()
    bars = bars_of_ticks(made, 5 * SECOND, START + 20 * SECOND)
    gaps = bars.filter(pl.col("ticks") == 0)
    assert 0 < gaps.height < bars.height / 4


def test_ticks_are_never_old_even_if_the_generator_was_held_up() -> None:
    walks = RandomWalks(7, START)
    walks.until(START + 10 * STEP)
    late = walks.until(START + 100 * STEP)
    assert to_instant(late["time"].min()) >= START + 100 * STEP - OLDEST - STEP  # type: ignore[arg-type]
    assert walks.next_end == START + 101 * STEP
