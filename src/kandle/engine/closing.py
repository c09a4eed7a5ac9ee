"""How buckets are closed in steps of bounded size, in time and in keys, whatever time has passed since the last closing."""

from __future__ import annotations

from dataclasses import dataclass

from kandle.engine.operator import UNSEEN, BarOperator, end_of_most
from kandle.engine.state import KeyTable
from kandle.errors import DataError
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Gaps
from kandle.time.timeframe import MINUTE, from_instant

LARGEST_SILENCE = 1_000_000_000
"""A silence of more base bars than this is not filled: a single wrong time would fill a disk."""


@dataclass(frozen=True, slots=True)
class ClosingStep:
    """A step of a closing: up to which instant (microseconds), and how many keys at once; None for all of them."""

    instant: int
    keys_at_once: int | None = None


class ClosingSteps:
    """Cuts the way from one closing to the next into steps of bounded size; instants are in microseconds.

    Where the steps are cut makes no difference to the finals: a parent is made only from finals below it, and a bucket is over
    at the same instant in whichever step that lies.
    """

    def __init__(self, plan: Plan, base: BarOperator, keys: KeyTable, expiry: int | None) -> None:
        self._plan = plan
        self._expiry = expiry
        self._base = base
        self._keys = keys
        self._bounds = _bounds(plan)
        self._length = _length(plan.base)
        self._bars_per_bucket = sum(self._length / _length(bar) for bar in plan.bars)

    def crosses(self, closed: int, instant: int) -> bool:
        """Return whether a bucket can have ended, with some grace, between the last closing and an instant."""
        if self._bounds is None or closed == UNSEEN:
            return True
        size, graces = self._bounds
        return any((instant - grace) // size != (closed - grace) // size for grace in graces)

    def next(self, closed: int, instant: int, most: int) -> ClosingStep:
        """Return the next step from the last closing towards an instant.

        Args:
            closed: The instant up to which buckets are closed.
            instant: The instant up to which they are to be closed.
            most: About how many bars to close, of all timeframes.
        """
        due = self._base.due(self._keys)
        # After a change of the schedule a bucket may be over earlier than the last closing.
        end = min(instant, max(closed, end_of_most(due, max(1, most // len(self._plan.bars)))))
        filled = self._base.filled_keys
        if filled:
            begin = self._begin(closed)
            count = max(1, int(most / filled / self._bars_per_bucket))
            end = min(end, self._over_silence(begin, begin + count * self._length, instant))
        keys_at_once = self.keys_at_once(closed, end, most)
        is_large = min(len(self._keys), max(filled, int((due <= end).sum()))) > keys_at_once
        return ClosingStep(end, keys_at_once if is_large else None)

    def keys_at_once(self, closed: int, end: int, most: int) -> int:
        """Return of how many keys the buckets that are over between two instants make about so many bars; at least one."""
        ending = [bar for bar in self._plan.bars if (end - bar.grace) // _grid(bar) != (closed - bar.grace) // _grid(bar)]
        return max(1, most // max(1, len(self._plan.bars if closed == UNSEEN else ending)))

    def _over_silence(self, begin: int, end: int, instant: int) -> int:
        """Return a later end where no bucket is expected up to it, so that nights and weekends are not walked through."""
        if self._plan.query.schedule is None:
            return end
        reach = end
        while reach < instant and not self._base.expects(self._keys, begin - self._slack, reach):
            end, reach = reach, begin + 2 * (reach - begin)
        return end

    @property
    def _slack(self) -> int:
        """How long before the last closing a bucket may begin that is closed by a later one."""
        return 2 * self._length + self._plan.base.grace

    def _begin(self, closed: int) -> int:
        """Return the start of the first bucket that may be filled after the last closing."""
        oldest = self._base.oldest
        return closed if oldest is None else max(closed, oldest)

    def check_silence(self, instant: int) -> None:
        """Raise DataError if so many bars were to be filled that the time of some event must be wrong."""
        start = self._base.oldest
        if self._plan.query.gaps is Gaps.SKIP or self._plan.query.schedule is not None or start is None:
            return
        filled = instant - start if self._expiry is None else min(instant - start, self._expiry)
        bars = filled // self._base.plan.timeframe.nominal * len(self._keys)
        if bars > LARGEST_SILENCE:
            span = f"{from_instant(start).isoformat()} and {from_instant(instant).isoformat()}"
            raise DataError(
                f"between {span} {bars:,} bars of {self._plan.base.name} would have to be filled; is the time of an event wrong? "
                "Leave it out with where, or choose gaps=Gaps.SKIP, or give a schedule"
            )

    def bars_between(self, closed: int, instant: int) -> int:
        """Return about how many bars of all written timeframes are closed from one instant to another."""
        begin = self._begin(closed)
        if begin >= instant or not self._base.filled_keys:
            return self._base.open_rows
        delay = self._length + self._plan.base.grace
        if self._plan.query.schedule is None:
            buckets = self._base.filled_keys * ((instant - begin) // self._length)
        else:
            buckets = self._base.expected_buckets(self._keys, begin - delay, instant - delay)
        return round(buckets * sum(self._length / _length(bar) for bar in self._plan.emitted))


def _grid(bar: BarPlan) -> int:
    """Return the grid on which the buckets of a timeframe end, in microseconds; days end at some quarter of an hour."""
    return _length(bar) if bar.timeframe.is_fixed else 15 * MINUTE


def _length(bar: BarPlan) -> int:
    """Return how far the starts of a timeframe's buckets are apart, in microseconds."""
    return (bar.timeframe if bar.advance is None else bar.advance).nominal


def _bounds(plan: Plan) -> tuple[int, set[int]] | None:
    """Return the length of base buckets and all graces, if buckets can only be over at ends of base buckets."""
    size = plan.base.timeframe
    return (size.size, {bar.grace for bar in plan.bars}) if size.is_fixed else None


@dataclass(frozen=True, slots=True)
class KeySlice:
    """A closing in which not all keys have taken part yet: those with numbers below `until` have, up to `instant`."""

    instant: int = UNSEEN
    first: int = 0
    until: int = 0

    @property
    def is_begun(self) -> bool:
        """Whether some keys are closed up to the instant and others are not."""
        return self.until > 0
