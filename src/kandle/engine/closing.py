"""At which instants buckets are closed: only where one can be over, and in steps that fit memory."""

from __future__ import annotations

from collections.abc import Iterator

from kandle.engine.keys import KeyTable
from kandle.engine.operator import UNSEEN, BarOperator
from kandle.errors import DataError
from kandle.plan.plan import Plan
from kandle.query.query import Gaps
from kandle.time.timeframe import from_instant

LARGEST_SILENCE = 1_000_000_000
"""More base bars than this are not filled in one go; a single wrong time would fill a disk."""

ROWS_AT_ONCE = 1_000_000
"""About how many base bars are closed in one step, so that a long silence does not fill memory with gap bars."""


class ClosingSteps:
    """The way from one closing to the next, for all keys of a table; instants are microseconds."""

    def __init__(self, plan: Plan, base: BarOperator, keys: KeyTable) -> None:
        self._plan = plan
        self._base = base
        self._keys = keys
        self._bounds = _bounds(plan)

    def crosses(self, closed: int, instant: int) -> bool:
        """Whether a bucket can have ended, with some grace, between the last closing and an instant."""
        if self._bounds is None or closed == UNSEEN:
            return True
        size, graces = self._bounds
        return any((instant - grace) // size != (closed - grace) // size for grace in graces)

    def up_to(self, instant: int) -> Iterator[int]:
        """Instants on the way to `instant`, so near to each other that no step closes much more than ROWS_AT_ONCE.

        DataError if so many bars were to be filled that the time of some event must be wrong.
        """
        start = self._base.oldest
        if self._plan.query.gaps is not Gaps.SKIP and start is not None:
            self._check_silence(start, instant)
            length = max(1, ROWS_AT_ONCE // max(1, len(self._keys))) * self._base.plan.timeframe.nominal
            yield from range(start + length, instant, length)
        yield instant

    def _check_silence(self, start: int, instant: int) -> None:
        bars = (instant - start) // self._base.plan.timeframe.nominal * len(self._keys)
        if self._plan.query.schedule is None and bars > LARGEST_SILENCE:
            span = f"{from_instant(start).isoformat()} and {from_instant(instant).isoformat()}"
            raise DataError(
                f"between {span} {bars:,} bars of {self._plan.base.name} would have to be filled; is the time of an event wrong? "
                "Leave it out with where, or choose gaps=Gaps.SKIP, or give a schedule"
            )


def _bounds(plan: Plan) -> tuple[int, set[int]] | None:
    """Length of base buckets and all graces, if buckets can only be over at ends of base buckets."""
    size = plan.base.timeframe
    return (size.size, {bar.grace for bar in plan.bars}) if size.is_fixed else None
