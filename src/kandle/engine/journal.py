"""What happened to a pipeline, in the order in which it happened: enough to bring an older state up to date."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True, slots=True)
class Step:
    """Either partials of the base timeframe, or an instant up to which buckets were closed.

    Partials are added to what is there of their buckets, or take its place.
    """

    partials: pl.DataFrame | None = None
    in_order: bool = True
    closed: int = 0
    replaces: bool = False


@dataclass(slots=True)
class Journal:
    """The steps since the last commit."""

    steps: list[Step] = field(default_factory=list)

    def partials(self, frame: pl.DataFrame, *, in_order: bool) -> None:
        """Partials of a batch of events were added."""
        self.steps.append(Step(frame, in_order))

    def put(self, frame: pl.DataFrame) -> None:
        """Partials took the place of what was there of their buckets."""
        self.steps.append(Step(frame, replaces=True))

    def closed(self, instant: int) -> None:
        """Buckets were closed up to an instant."""
        self.steps.append(Step(closed=instant))

    def clear(self) -> None:
        """Begin anew."""
        self.steps.clear()

    def __bool__(self) -> bool:
        return bool(self.steps)
