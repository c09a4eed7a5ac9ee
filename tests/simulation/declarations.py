"""The bars that are simulated; models and plans are built once for all histories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from kandle import Gaps
from kandle.plan.plan import Plan, plan
from kandle.time.timeframe import SECOND
from tests.runtime.declarations import Bar, Tick, bars_market

EVENTS = "ticks"


@dataclass(frozen=True, slots=True)
class Declaration:
    """Bars of a few seconds, so that several levels close within a minute.

    Attributes:
        plan: The plan of the query.
        grace: How long events may come late, in microseconds.
        fills: Whether buckets without events have bars.
    """

    plan: Plan
    grace: int
    fills: bool = True
    is_scheduled: bool = False
    """Whether only events in sessions count, which stand in a topic of their own."""

    @property
    def base(self) -> int:
        """The length of the shortest bars in microseconds."""
        size = self.plan.base.timeframe.size
        assert size is not None
        return size


def _declaration(grace: int, fills: bool = True, **windows: Any) -> Declaration:
    if not fills:
        windows["gaps"] = Gaps.SKIP
    context = bars_market(**windows, grace=f"{grace // SECOND}s")
    of = plan(context.model().queries[Bar])
    return Declaration(of, grace, fills, of.query.schedule is not None)


@cache
def declarations() -> dict[str, Declaration]:
    """Return all declarations by their names."""
    return {
        "plain": _declaration(0, seconds=(5, 15), minutes=1),
        "grace": _declaration(2 * SECOND, seconds=(5, 10)),
        "skip": _declaration(0, False, seconds=(5, 20)),
        "scheduled": _declaration(0, seconds=(5, 15), scheduled=True),
    }


__all__ = ["EVENTS", "Bar", "Declaration", "Tick", "declarations"]
