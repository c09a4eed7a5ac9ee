from datetime import UTC, datetime, timedelta

import polars as pl

from kandle.cli.bars import Search, last_of_each, newest_of_each
from kandle.time.timeframe import MINUTE, to_instant

NOW = datetime(2024, 3, 8, 12, tzinfo=UTC)


class Bars:
    """Bars of some minutes ago, and from when on they were read."""

    def __init__(self, **minutes: list[int]) -> None:
        rows = [(key, NOW - timedelta(minutes=ago)) for key, found in minutes.items() for ago in sorted(found, reverse=True)]
        self.frame = pl.DataFrame(rows, schema={"key": pl.String, "start": pl.Datetime("us", "UTC")}, orient="row")
        self.read: list[datetime | None] = []

    def __call__(self, start: datetime | None) -> pl.DataFrame:
        self.read.append(start)
        return self.frame if start is None else self.frame.filter(pl.col("start") >= start)

    def newest(self, count: int) -> dict[str, int]:
        bars = newest_of_each(self, ["key"], Search(to_instant(NOW), MINUTE, count))
        return dict(bars.group_by("key").len().iter_rows())


def test_only_as_much_is_read_as_is_needed() -> None:
    bars = Bars(a=list(range(1, 10_000)), b=list(range(1, 10_000)))
    assert bars.newest(5) == {"a": 5, "b": 5}
    assert bars.read == [NOW - timedelta(minutes=20)]


def test_a_key_with_few_bars_does_not_make_everything_be_read() -> None:
    bars = Bars(a=list(range(1, 10_000)), b=[3])
    assert bars.newest(5) == {"a": 5, "b": 1}
    assert len(bars.read) == 2


def test_bars_of_long_ago_are_found() -> None:
    bars = Bars(a=[1_000_000 + number for number in range(30)])
    assert bars.newest(20) == {"a": 20}
    assert None not in bars.read


def test_where_there_is_nothing_nothing_is_found() -> None:
    assert Bars().newest(20) == {}


def test_bars_without_a_key_are_one_series() -> None:
    bars = Bars(a=[1, 2, 3]).frame.select("start")
    assert last_of_each(bars, [], 2)["start"].to_list() == [NOW - timedelta(minutes=2), NOW - timedelta(minutes=1)]
    assert newest_of_each(lambda start: bars, [], Search(to_instant(NOW), MINUTE, 2)).height == 2


def test_the_order_stays() -> None:
    frame = pl.DataFrame({"key": ["a", "b", "a", "a", "b"], "n": [1, 2, 3, 4, 5]})
    assert last_of_each(frame, ["key"], 2)["n"].to_list() == [3, 4, 2, 5]
