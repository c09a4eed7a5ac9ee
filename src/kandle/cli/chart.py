"""A candle chart of characters. It knows nothing of fields: it takes labels and four sequences of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

RISING, FALLING = "█", "░"
WICK, FLAT, CROSS = "│", "─", "┼"
STYLES = {RISING: "green", FALLING: "red"}
LABEL_EVERY = 4
"""Rows between two labels of the vertical axis."""


@dataclass(frozen=True, slots=True)
class Candles:
    """Labels (such as times) and the first, highest, lowest and last value of each candle, all equally many."""

    labels: Sequence[str]
    first: Sequence[float]
    highest: Sequence[float]
    lowest: Sequence[float]
    last: Sequence[float]

    def __post_init__(self) -> None:
        sizes = {len(each) for each in (self.labels, self.first, self.highest, self.lowest, self.last)}
        if len(sizes) != 1:
            raise ValueError(f"candles need as many labels as values of each kind, but there are {sorted(sizes)}")

    def tail(self, count: int) -> Candles:
        """The last `count` candles."""
        start = max(len(self.labels) - count, 0)
        return Candles(self.labels[start:], self.first[start:], self.highest[start:], self.lowest[start:], self.last[start:])


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to rows, of which 0 is the lowest."""

    low: float
    high: float
    rows: int

    def row(self, value: float) -> int:
        if self.high <= self.low:
            return self.rows // 2
        return round((value - self.low) / (self.high - self.low) * (self.rows - 1))

    def value(self, row: int) -> float:
        return self.low + (self.high - self.low) * row / max(self.rows - 1, 1)


def candle_chart(candles: Candles, *, width: int = 100, height: int = 16, decimals: int = 2) -> Text:
    """The newest candles that fit, highest row first, with labels at the left and below; `█` rises and `░` falls."""
    if not candles.labels:
        return Text("nothing to draw\n")
    margin = _margin(candles, decimals)
    columns = max(width - margin - 2, 2)
    step = 2 if 2 * len(candles.labels) <= columns else 1
    shown = candles.tail(columns // step)
    scale = Scale(min(shown.lowest), max(shown.highest), height)
    chart = Text()
    for row in reversed(range(height)):
        label = f"{scale.value(row):.{decimals}f}" if row % LABEL_EVERY == 0 or row == height - 1 else ""
        chart.append(f"{label:>{margin}} ┤" if label else f"{'':>{margin}} │")
        for position in range(len(shown.labels)):
            _append(chart, _cell(shown, position, row, scale), step)
        chart.append("\n")
    chart.append(f"{'':>{margin}} └{'─' * (len(shown.labels) * step)}\n{'':>{margin}}  ")
    chart.append(_axis(shown.labels, step) + "\n")
    return chart


def _margin(candles: Candles, decimals: int) -> int:
    return max(len(f"{value:.{decimals}f}") for value in (*candles.lowest, *candles.highest))


def _cell(candles: Candles, position: int, row: int, scale: Scale) -> str:
    """The character of one candle in one row."""
    first, last = candles.first[position], candles.last[position]
    bottom, top = sorted((scale.row(first), scale.row(last)))
    lowest, highest = scale.row(candles.lowest[position]), scale.row(candles.highest[position])
    if first == last and row == bottom:
        return CROSS if lowest < highest else FLAT
    if bottom <= row <= top:
        return RISING if last > first else FALLING
    return WICK if lowest <= row <= highest else " "


def _append(chart: Text, cell: str, step: int) -> None:
    chart.append(cell, STYLES.get(cell))
    chart.append(" " * (step - 1))


def _axis(labels: Sequence[str], step: int) -> str:
    """Labels from the left, each under its candle, as many as fit with a space between."""
    line = ""
    for position, label in enumerate(labels):
        if position * step >= len(line) + (1 if line else 0):
            line = f"{line:<{position * step}}{label}"
    return line
