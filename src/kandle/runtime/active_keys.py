"""The keys that a query should have: those that are configured, those that its schedule names, and those that had events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import polars as pl

from kandle.errors import OptionsError
from kandle.model.normalizing import normalized_value
from kandle.plan.plan import Plan
from kandle.query.key_forms import group_normalizers
from kandle.serde.keys import SEPARATOR, key_text
from kandle.time.sessions import SessionCalendar


class ActiveKeys:
    """The keys that a query should have: those that are configured, and those that the schedule names.

    Keys are compared as the texts of their parts, so that the configuration can write all of them as text.

    Args:
        plan: The plan of the query.
        configured: Keys as parts in their order, from `universe.keys` of the configuration.

    Raises:
        OptionsError: A configured key has other parts than the group key.
    """

    def __init__(self, plan: Plan, configured: Sequence[Sequence[str]] = ()) -> None:
        width = len(plan.query.group_by)
        wrong = [key for key in configured if len(key) != width]
        if wrong:
            raise OptionsError(
                f"universe.keys: {list(wrong[0])!r} has {len(wrong[0])} parts, "
                f"the group key of {plan.query.target.name} has {width}"
            )
        self._width = width
        forms = group_normalizers(plan.query)
        self._configured = {
            key_text([part if form is None else normalized_value(form, part) for part, form in zip(key, forms, strict=True)])
            for key in configured
        }

    def observed(self, frames: Iterable[pl.DataFrame | None]) -> set[str]:
        """Return the keys that had events, from the tables of keys of all tasks."""
        return {key_text(row[: self._width]) for frame in frames if frame is not None for row in frame.iter_rows()}

    def silent(self, observed: Collection[str], calendar: SessionCalendar | None) -> set[str]:
        """Return the keys that are configured or scheduled, but had no event."""
        scheduled = set() if calendar is None else {key_text(key) for key in calendar.keys}
        return (self._configured | scheduled).difference(observed)

    def unscheduled(self, observed: Collection[str], calendar: SessionCalendar | None) -> set[str]:
        """Return the keys that are configured or had events, but have no sessions; none without a schedule."""
        if calendar is None:
            return set()
        return (self._configured | set(observed)).difference(key_text(key) for key in calendar.keys)


def key_names(keys: Collection[str], most: int) -> tuple[str, ...]:
    """Return the first of these keys as people write them, the parts joined by commas."""
    return tuple(key.replace(SEPARATOR, ", ") for key in sorted(keys)[:most])
