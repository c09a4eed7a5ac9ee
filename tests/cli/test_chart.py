import io

import pytest
from rich.console import Console

from kandle.cli.chart import Candles, candle_chart

UP_DOWN = Candles(labels=["09:00", "10:00"], first=[1.0, 4.0], highest=[5.0, 5.0], lowest=[1.0, 0.0], last=[4.0, 2.0])


def lines(candles: Candles, **options: int) -> list[str]:
    return [line.rstrip() for line in candle_chart(candles, **options).plain.splitlines()]


def test_bodies_rise_and_fall_and_wicks_reach_beyond_them() -> None:
    assert lines(UP_DOWN, width=20, height=6, decimals=1) == [
        "5.0 ┤│ │",
        "4.0 ┤█ ░",
        "    │█ ░",
        "    │█ ░",
        "    │█ │",
        "0.0 ┤  │",
        "    └────",
        "     09:00",
    ]


def test_a_candle_without_movement_is_a_line_or_a_cross() -> None:
    same = Candles(["a", "b"], [2.0, 2.0], [2.0, 3.0], [2.0, 1.0], [2.0, 2.0])
    assert lines(same, width=20, height=3, decimals=0)[1] == "  │─ ┼"


def test_candles_that_are_all_the_same_stand_in_the_middle() -> None:
    flat = Candles(["a"], [7.0], [7.0], [7.0], [7.0])
    assert [line[-1] for line in lines(flat, width=10, height=3, decimals=0)[:3]] == ["┤", "─", "┤"]


def test_the_newest_candles_are_shown_where_not_all_fit() -> None:
    count = 50
    many = Candles([f"{n:02}" for n in range(count)], *([[float(n) for n in range(count)]] * 4))
    chart = lines(many, width=24, height=5, decimals=0)
    assert max(map(len, chart)) <= 24
    assert chart[-1].split()[0] == "30"
    assert chart[-3].startswith("30 ┤")
    assert chart[0].startswith("49 ┤")


def test_colours_appear_on_a_terminal_only() -> None:
    for is_terminal in (True, False):
        out = io.StringIO()
        Console(file=out, force_terminal=is_terminal, color_system="standard" if is_terminal else None, width=80).print(
            candle_chart(UP_DOWN)
        )
        assert ("\x1b[32m" in out.getvalue()) is is_terminal
        assert "█" in out.getvalue()


def test_nothing_is_drawn_of_nothing() -> None:
    assert lines(Candles([], [], [], [], [])) == ["nothing to draw"]


def test_sequences_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        Candles(["a", "b"], [1.0], [1.0], [1.0], [1.0])
