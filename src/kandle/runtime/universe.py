"""Which keys should be there: those of the schedule, those of the configuration, and those that have been seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import polars as pl

from kandle.errors import OptionsError
from kandle.plan.plan import Plan
from kandle.serde.keys import key_text
from kandle.time.sessions import SessionCalendar


class Universe:
    """Compares keys as texts of their parts, so that configuration can write all of them as text."""

    def __init__(self, plan: Plan, configured: Sequence[Sequence[str]] = ()) -> None:
        width = len(plan.query.group_by)
        wrong = [key for key in configured if len(key) != width]
        if wrong:
            raise OptionsError(
                f"universe.keys: {list(wrong[0])!r} has {len(wrong[0])} parts, "
                f"the group key of {plan.query.target.name} has {width}"
            )
        self._width = width
        self._configured = {key_text(key) for key in configured}

    def observed(self, frames: Iterable[pl.DataFrame | None]) -> set[str]:
        """Keys that had events, of the tasks' key tables."""
        return {key_text(row[: self._width]) for frame in frames if frame is not None for row in frame.iter_rows()}

    def silent(self, observed: Collection[str], calendar: SessionCalendar | None) -> set[str]:
        """Keys that are configured or scheduled, but had no event."""
        scheduled = set() if calendar is None else {key_text(key) for key in calendar.keys}
        return (self._configured | scheduled).difference(observed)
