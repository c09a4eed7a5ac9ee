"""What a backfill did, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class TimeframeSummary:
    """Bars of one timeframe: how many, how many of them fill gaps, how many the input does not cover whole.

    `incomplete` counts bars whether they were left out (`complete_only`) or not.
    """

    timeframe: str
    bars: int = 0
    gaps: int = 0
    incomplete: int = 0
    path: str | None = None

    def add(self, bars: int, gaps: int, incomplete: int) -> None:
        self.bars += bars
        self.gaps += gaps
        self.incomplete += incomplete


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of events read and left out, and of bars made; seconds are wall time."""

    source: str
    seconds: float
    ticks_read: int
    late: int
    filtered: int
    outside_sessions: int
    outside_range: int
    timeframes: list[TimeframeSummary] = field(default_factory=list)

    @property
    def ticks_per_second(self) -> float:
        return self.ticks_read / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values, as `--json` prints it."""
        return asdict(self) | {"ticks_per_second": round(self.ticks_per_second)}
