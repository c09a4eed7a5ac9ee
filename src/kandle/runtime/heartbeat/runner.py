"""One plain task that wakes when base buckets are over by the clock, and has heartbeats sent."""

from __future__ import annotations

import logging
import random

from kandle.errors import UnavailableError
from kandle.runtime.heartbeat.planner import Planner
from kandle.runtime.heartbeat.sender import Sender
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle")

RETRY = 5 * MILLISECOND
LONGEST_SLEEP = 60 * SECOND


class Runner:
    """Wakes at absolute instants of the clock, never after summed-up sleeps, so that it cannot drift.

    `jitter` is the most by which it wakes later, in microseconds, so that many processes do not wake at once.
    """

    def __init__(self, planner: Planner, sender: Sender, clock: Clock, jitter: int = 0) -> None:
        self._planner = planner
        self._sender = sender
        self._clock = clock
        self._jitter = jitter
        self._is_running = False
        self._is_waiting = False

    async def run(self) -> None:
        """Go on until cancelled; a second start while it runs is ignored."""
        if self._is_running:
            return
        self._is_running = True
        try:
            while True:
                await self._clock.sleep_until(self._wake_at(self.beat()))
        finally:
            self._is_running = False

    def beat(self) -> bool:
        """Send what is due now; False if it has to be tried again soon."""
        now = self._clock.now()
        try:
            is_sent = self._sender.send(self._planner.due(now, self._sender.last))
        except UnavailableError as error:
            if not self._is_waiting:
                logger.warning("heartbeats wait: %s", error)
            self._is_waiting = True
            return False
        self._is_waiting = False
        return is_sent

    def _wake_at(self, is_sent: bool) -> int:
        now = self._clock.now()
        if not is_sent:
            return now + RETRY
        # A clock that is set back must not make it sleep until the old time comes again.
        return min(self._planner.next(now), now + LONGEST_SLEEP) + round(random.uniform(0, self._jitter))
