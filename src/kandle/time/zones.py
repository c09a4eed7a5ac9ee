"""Time zones by their IANA names, and what their offsets from UTC allow."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from kandle.errors import TimeframeError
from kandle.time.timeframe import DAY, SECOND


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """Return the IANA time zone of a name.

    Args:
        name: A name such as `Europe/Berlin`.

    Returns:
        The time zone.

    Raises:
        TimeframeError: There is no such zone; the message names similar ones.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        close = difflib.get_close_matches(str(name), sorted(available_timezones()), 3, 0.5)
        hint = f"; did you mean {', '.join(close)}?" if close else "; write for example UTC or Europe/Berlin"
        raise TimeframeError(f"{name!r} is not a time zone{hint}") from error


@lru_cache(maxsize=1024)
def zone_offsets_divide(size: int, zone: str) -> bool:
    """Return whether a grid of `size` microseconds, aligned to the epoch, has an edge on each local midnight since 1970."""
    return DAY % size == 0 and all(offset % size == 0 for offset in _offsets(zone))


@lru_cache(maxsize=64)
def _offsets(name: str) -> frozenset[int]:
    """Return all offsets from UTC, in microseconds, that a zone has between 1970 and 2100."""
    zone = zone_of(name)
    start, offsets = datetime(1970, 1, 1, tzinfo=UTC), set()
    for days in range(0, 131 * 366, 5):
        offset = (start + timedelta(days=days)).astimezone(zone).utcoffset()
        assert offset is not None
        offsets.add(offset // timedelta(seconds=1) * SECOND)
    return frozenset(offsets)
