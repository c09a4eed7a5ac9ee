"""The lease of a member is kept by a thread of its own while the member works between two polls.

A lease says that its owner lives; how long its work takes says nothing of that. So the thread renews it, in the name of the
member's session, for as long as the member has shown itself within the *stall* of its spec:

    member    poll | works for 12 s ....................... | commit, poll
    thread         renews  renews  renews  renews  renews

    member    poll | is stuck for good .............................................
    thread         renews ... until the stall is over | nothing: the lease runs out, others take over

A process that is stopped (SIGSTOP) or killed renews nothing, since its threads stand still with it.
"""

from __future__ import annotations

import logging
import threading

from kandle.errors import UnavailableError
from kandle.log.embedded.membership import RENEWALS, GroupMember
from kandle.log.port import GroupSpec
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import SECOND

logger = logging.getLogger("kandle")


class LeaseKeeper:
    """Renews the lease of a member between its polls.

    Args:
        member: The member.
        spec: How it has joined its group; without a stall nothing is renewed.
        clock: The clock of the lease. One that is moved by hand stands still between two polls, so nothing is renewed either.
    """

    def __init__(self, member: GroupMember, spec: GroupSpec, clock: Clock) -> None:
        self._member = member
        self._spec = spec
        self._clock = clock
        self._seen = clock.steady()
        self._is_ended = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if spec.stall and isinstance(clock, SystemClock):
            self._thread = threading.Thread(target=self._run, name=f"kandle-lease-{spec.group}", daemon=True)
            self._thread.start()

    def note_life(self) -> None:
        """Note that the member has shown itself; raise the error that has ended the thread, if there was one."""
        self._seen = self._clock.steady()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._is_ended.wait(self._spec.lease / RENEWALS / SECOND):
                self.renew()
        except BaseException as error:
            logger.error("the lease of %s in group %s is not kept any more: %s", self._spec.member, self._spec.group, error)
            self._error = error

    def renew(self) -> None:
        """Renew the lease, unless the member has not shown itself for longer than the stall."""
        if self._clock.steady() - self._seen > self._spec.stall:
            return
        try:
            self._member.extend()
        except UnavailableError:
            # The member meets the same error and reports it; the next renewal may succeed.
            return

    def close(self) -> None:
        """End the thread."""
        self._is_ended.set()
        if self._thread is not None:
            self._thread.join()
