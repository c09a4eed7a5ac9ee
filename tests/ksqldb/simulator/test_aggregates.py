"""Aggregates over rows in the order of processing, as a real server computed them or as its own code says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.expressing import aggregate, aggregate_type_of
from tests.ksqldb.simulator.types import BIGINT, DOUBLE, INTEGER, decimal

TICKS = {"seconds": BIGINT, "price": decimal(18, 6)}
ARRIVED: list[tuple[int, int | str]] = [(20, 5), (10, 7), (10, "7.5"), (30, 9), (25, 1), (30, 8)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("EARLIEST_BY_OFFSET(`price`)", 5),
        ("LATEST_BY_OFFSET(`price`)", 8),
        ("TOPK(0 - `seconds`, `price`, 1)[1]->`col0`", 7),
        ("TOPK(`seconds`, `price`, 1)[1]->`col0`", 9),
        ("TOPK(`seconds`, 3)", [30, 30, 25]),
        ("MIN(`price`)", 1),
        ("SUM(`price`)", Decimal("37.5")),
        ("COUNT(*)", 6),
        ("COUNT_DISTINCT(`seconds`)", 4),
        ("LATEST_BY_OFFSET(`seconds`, 2)", [25, 30]),
        ("AVG(`seconds`)", 125 / 6),
        ("CORRELATION(`seconds`, `seconds`)", 1.0),
    ],
)
def test_aggregates_take_rows_in_the_order_of_arrival(text: str, value: object) -> None:
    rows = [{"seconds": seconds, "price": Decimal(price)} for seconds, price in ARRIVED]
    assert aggregate(text, rows, TICKS) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SUM(`price`)", 0),
        ("AVG(`seconds`)", 0.0),
        ("MAX(`price`)", None),
        ("COUNT(`price`)", 0),
        ("COUNT(*)", 1),
        ("LATEST_BY_OFFSET(`price`)", None),
        ("COLLECT_LIST(`price`)", [None]),
        ("TOPK(`seconds`, `price`, 1)[1]->`col0`", None),
    ],
)
def test_aggregates_of_nothing_but_null(text: str, value: object) -> None:
    assert aggregate(text, [{}], TICKS) == value


def test_nulls_are_taken_by_offset_only_if_asked_for() -> None:
    rows: list[dict[str, Any]] = [{"price": Decimal(1)}, {"price": None}]
    assert aggregate("LATEST_BY_OFFSET(`price`)", rows, TICKS) == 1
    assert aggregate("LATEST_BY_OFFSET(`price`, FALSE)", rows, TICKS) is None


def test_the_two_deviations_of_the_server_are_variance_and_deviation() -> None:
    rows = [{"x": 5.25}, {"x": 5.5}]
    assert aggregate("STDDEV_SAMP(`x`)", rows, {"x": DOUBLE}) == 0.03125
    assert round(aggregate("STDDEV_SAMPLE(`x`)", rows, {"x": DOUBLE}), 5) == 0.17678


def test_sums_and_averages_of_whole_numbers_run_over() -> None:
    rows = [{"x": 2**31 - 1}, {"x": 1}]
    assert aggregate("SUM(`x`)", rows, {"x": INTEGER}) == -(2**31)
    assert aggregate("AVG(`x`)", rows, {"x": INTEGER}) == -(2.0**30)
    assert aggregate("AVG(CAST(`x` AS DOUBLE))", rows, {"x": INTEGER}) == 2.0**30


def test_a_decimal_sum_that_overflows_stops_the_query() -> None:
    rows = [{"p": Decimal("99.9")}, {"p": Decimal("0.1")}]
    with pytest.raises(OverflowError, match="Numeric field overflow"):
        aggregate("SUM(`p`)", rows, {"p": decimal(3, 1)})
    assert aggregate("SUM(CAST(`p` AS DECIMAL(38,1)))", rows, {"p": decimal(3, 1)}) == 100


@pytest.mark.parametrize("text", ["SUM(SUM(`i`))", "SUM(`i`) + `i`", "EARLIEST_BY_OFFSET(`i`, `i`)"])
def test_aggregates_do_not_nest_or_mix_with_rows(text: str) -> None:
    with pytest.raises(RefusedError):
        aggregate_type_of(text, {"i": INTEGER})
