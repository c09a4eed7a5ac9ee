"""The time by the log's clock, as the leader knows it, and heartbeats that are ahead of it.

Brokers stamp heartbeats with their own clock (LogAppendTime). One whose instant is later than its stamp says that buckets are
over although they are not: the clock of its sender is fast. Whoever reads it passes over it, which depends only on what stands in
the log, so that reading again gives the same bars:

    log's clock      14:30:00                                14:31:00
    heartbeat        instant 14:30:30, stamp 14:30:00.010    instant 14:31:00, stamp 14:31:00.008
                     refused: 30 s ahead                     applied

One that was stored long after its position was asked for is refused as well, and sent again. While a broker is away it may be on
its way for ten seconds, and nobody waits for it so long: events behind its position were counted by then, and would be late when
they are read again.

    asked 14:31:00.010    stamp 14:31:00.015    applied
    asked 14:31:00.010    stamp 14:31:10.300    refused: the events of 10 s are behind its position

The leader measures the difference between its clock and that of the log by what it has appended, and plans by the log's
clock. Its own clock only has to run evenly in between, and the steady clock of a machine does: it is never set.

    own clock        14:30:30 (30 s fast)      measured: 30 s     14:31:30: heartbeat 14:31:00
    steady clock     100 s                                        160 s
"""

from __future__ import annotations

import logging

import numpy as np
import polars as pl

from kandle.log.records import Batch
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND, duration_text

logger = logging.getLogger("kandle")

TOLERANCE = SECOND // 2
"""How far ahead of the log's clock a heartbeat may be, in microseconds: stamps are measured and rounded."""

LONGEST_FLIGHT = 4 * SECOND
"""A heartbeat is stored so soon after its position was asked for, in microseconds, or it is refused."""

AGREEMENT = 50 * MILLISECOND
"""Clocks that differ by less are taken for equal."""

JUMP = 100 * MILLISECOND
"""How far the own clock may have moved against the steady one before it counts as set; a machine that slept counts too."""

INTERVAL = MINUTE
"""How long a measurement is good, in microseconds: clocks drift."""


def ahead_of_log(batch: Batch) -> pl.Series:
    """Return which heartbeats of a batch are ahead of the log's clock; none where their stamps are not of that clock."""
    if not batch.has_append_times:
        return pl.repeat(False, len(batch), eager=True)
    instants = batch.records.frame["instant"].to_physical().to_numpy()
    return pl.Series(np.asarray(instants > batch.timestamps + TOLERANCE))


def stored_too_late(batch: Batch) -> pl.Series:
    """Return which heartbeats of a batch were stored too long after their positions were asked for."""
    if not batch.has_append_times or "asked" not in batch.records.frame.columns:
        return pl.repeat(False, len(batch), eager=True)
    asked = batch.records.frame["asked"].to_physical()
    return (pl.Series(batch.timestamps) - asked > LONGEST_FLIGHT).fill_null(value=False)


def refused_by_log(batch: Batch) -> pl.Series:
    """Return which heartbeats of a batch nobody obeys: a rule of what stands in the log."""
    return ahead_of_log(batch) | stored_too_late(batch)


class RefusedHeartbeats:
    """Reports heartbeats that were refused: once in the log, and in `health` until one is right again.

    Args:
        group: The consumer group of the query.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self.problem: str | None = None

    def note(self, batch: Batch, refused: pl.Series) -> None:
        """Note which heartbeats of a batch were refused."""
        if not len(batch):
            return
        if not refused[-1]:
            self.problem = None
            return
        problem = self._ahead(batch) if ahead_of_log(batch)[-1] else self._late(batch)
        if self.problem is None:
            logger.warning("%s", problem)
        self.problem = problem

    def _ahead(self, batch: Batch) -> str:
        difference = batch.records.frame["instant"].to_physical()[-1] - int(batch.timestamps[-1])
        return (
            f"{self._group}: heartbeats are {_in_words(difference)} ahead of the log's clock and are refused; is the clock "
            "of the leading process wrong?"
        )

    def _late(self, batch: Batch) -> str:
        flight = int(batch.timestamps[-1]) - batch.records.frame["asked"].to_physical()[-1]
        return (
            f"{self._group}: heartbeats were stored {_in_words(flight)} after the positions in them were asked for and are "
            "refused; they are sent again. Are brokers away, or do their clocks differ?"
        )


def _in_words(microseconds: int) -> str:
    return duration_text(microseconds // MILLISECOND * MILLISECOND)


class LogTime:
    """The time by the log's clock.

    Args:
        clock: The clock of this process.
        is_measured: Whether the log has a clock of its own, so that the difference has to be measured.
    """

    def __init__(self, clock: Clock, *, is_measured: bool = False) -> None:
        self._clock = clock
        self.is_measured = is_measured
        self.is_checked = not clock.is_simulated
        """Whether heartbeats that are ahead of the log's clock are refused: a simulated clock says nothing of it."""
        self._difference: int | None = None
        self._measured_at = 0
        self._own_difference = 0
        self._began = (0, 0)

    def now(self) -> int:
        """Return the time; that of the own clock before the first measurement."""
        return self._clock.now() if self._difference is None else self._clock.steady() + self._difference

    @property
    def is_due(self) -> bool:
        """Whether the difference has to be measured: for the first time, again after a while, or since the own clock was set."""
        if not self.is_measured:
            return False
        steady = self._clock.steady()
        if self._difference is None or steady - self._measured_at > INTERVAL:
            return True
        return abs(self._clock.now() - steady - self._own_difference) > JUMP

    def begin(self) -> None:
        """Note that something is going to be appended."""
        self._began = (self._clock.now(), self._clock.steady())

    def end(self, stamp: int | None) -> None:
        """Note that it was appended.

        Args:
            stamp: The log's time of the record, in microseconds; None if it is not of the log's clock.
        """
        (began, steady_began), steady = self._began, self._clock.steady()
        now = began + steady - steady_began
        own_difference = now - steady
        middle = (began + now) // 2
        agrees = stamp is None or began - AGREEMENT <= stamp <= now + AGREEMENT
        if stamp is not None and not agrees and self._difference is None:
            apart = duration_text(abs(middle - stamp) // MILLISECOND * MILLISECOND)
            logger.warning(
                "the clock of this process is %s %s that of the log", apart, "ahead of" if middle > stamp else "behind"
            )
        self._difference = own_difference if agrees or stamp is None else own_difference + stamp - middle
        self._measured_at, self._own_difference = steady, own_difference
