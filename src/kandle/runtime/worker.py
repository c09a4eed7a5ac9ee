"""A worker: one process' share of a query. It polls, lets the tasks of its partitions work, and commits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from kandle.errors import FencedError, KandleError, ReplacedError, UnavailableError, UnknownTopicError
from kandle.log.port import Consumer, GroupSpec, TopicPartition
from kandle.runtime.counters import Outage, State
from kandle.runtime.heartbeats import Leadership
from kandle.runtime.state import Replica
from kandle.runtime.surroundings import Surroundings
from kandle.runtime.task import Task
from kandle.runtime.tasks import Tasks
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle")

EVENTS_PER_COMMIT = 1_000_000
"""More events than this are not kept uncommitted, however short a time it took to process them."""

RETRY = SECOND

SCHEDULE_LOOKED_AT = SECOND
"""How often new schedule rows are looked for, in microseconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a worker divides its time: microseconds, and events per partition and round.

    Live bars leave with every commit, so `commit_interval` is also the rate of live bars; finals never wait for it.
    `round_interval` lets events gather a little, so that a trickle does not cost a round each.
    """

    commit_interval: int = 100 * MILLISECOND
    round_interval: int = 5 * MILLISECOND
    batch_rows: int = 200_000
    idle: int = SECOND


class Worker:
    """Tasks of the owned partitions of one query; `step` is one round, `run` goes on until it is stopped.

    `restored` gives the state of a partition that has come, as of the last commit.
    """

    def __init__(
        self,
        around: Surroundings,
        group: GroupSpec,
        leadership: Leadership,
        pace: Pace | None = None,
        restored: Callable[[Surroundings, int], Replica] = Replica,
    ) -> None:
        self._around = around
        self._tasks = Tasks(around, group.group, restored)
        self._group = group
        self._leadership = leadership
        self._pace = pace if pace is not None else Pace()
        self._consumer: Consumer | None = None
        self._outage = Outage(group.group, around.clock)
        self._committed_at = 0
        self._live_at = 0
        self._looked_at: int | None = None
        self._must_restore = False
        self._lag = 0
        self._stop = threading.Event()
        self.state = State.STARTING
        self.problem: BaseException | None = None

    def run(self, on_joined: Callable[[], None] = lambda: None) -> None:
        """Work until `stop`; then commit, leave the group and return. Whatever goes wrong is kept in `problem`."""
        try:
            if self._joined_when_ready():
                on_joined()
            while not self._stop.is_set():
                began = self._around.clock.steady()
                self._round()
                self._gather(began)
        except Exception as error:
            logger.exception("worker of %s failed", self._group.group)
            self.problem, self.state = error, State.FAILED
        finally:
            self._leave()

    def _round(self) -> None:
        """One round; where the log cannot be written now (a full disk, say), wait and go back to the last commit."""
        try:
            self.step(self._patience())
            self.problem = None
        except UnavailableError as error:
            self._outage.failed(error)
            self.problem = error
            self._stop.wait(RETRY / SECOND)

    def _joined_when_ready(self) -> bool:
        """Join the group, once there is a schedule where one is needed; False if it was stopped before."""
        while not self.start():
            if self._stop.wait(SCHEDULE_LOOKED_AT / SECOND):
                return False
        return True

    def _gather(self, began: int) -> None:
        """Let some time pass between rounds."""
        rest = self._pace.round_interval - (self._around.clock.steady() - began)
        if rest > 0:
            self._around.clock.pause(rest)

    def start(self) -> bool:
        """Join the group; False if the schedule is not there yet."""
        if self._consumer is not None:
            return True
        schedule = self._around.schedule
        if schedule is not None:
            schedule.refresh()
            if schedule.calendar is None:
                self.state = State.WAITING_FOR_SCHEDULE
                return False
        self._consumer = self._around.log.consumer(self._group, self)
        self.state = State.RUNNING
        return True

    def stop(self) -> None:
        """Have `run` end soon; any thread may call this."""
        self._stop.set()
        if self._consumer is not None:
            self._consumer.wake()

    def _leave(self) -> None:
        if self._consumer is None:
            return
        try:
            self._consumer.close()
        except (FencedError, ReplacedError) as error:
            logger.info("%s", error)
        except KandleError as error:
            # The lease runs out by itself; what was not committed is done again by the next owner.
            logger.error("leaving %s: %s", self._group.group, error)
            if self.problem is None:
                self.problem, self.state = error, State.FAILED
        self._consumer = None
        if self.state is not State.FAILED:
            self.state = State.STOPPED

    def close(self) -> None:
        """Commit what is done and leave the group; for workers that are driven by `step`."""
        self._leave()

    def _patience(self) -> int:
        """How long a round may wait for records, in microseconds."""
        if self._stop.is_set():
            return 0
        if not self._tasks.is_dirty:
            return self._pace.idle
        waited = self._around.clock.steady() - self._committed_at
        return max(0, min(self._pace.commit_interval - waited, self._pace.commit_interval))

    def step(self, patience: int = 0) -> bool:
        """One round: poll, process, and commit if it is time; False if there was nothing to do."""
        if not self.start():
            return False
        assert self._consumer is not None
        self._look_at_schedule()
        with self._going_back():
            if self._must_restore:
                self._restore()
            batches = self._consumer.poll(patience, self._pace.batch_rows)
            self._tasks.take(batches)
            if self._is_time_to_commit():
                self._commit(live=self._is_time_for_live())
            return bool(batches)
        return True

    @contextmanager
    def _going_back(self) -> Iterator[None]:
        """What fails may be half done, so nothing of it is committed: the work begins anew at the last commit."""
        try:
            yield
        except FencedError as error:
            self._forget(error)
        except BaseException:
            self._must_restore = True
            raise

    def flush(self) -> None:
        """Commit whatever is done, at once; but not after a failure."""
        if self._consumer is None or self._must_restore:
            return
        with self._going_back():
            self._commit()

    def _look_at_schedule(self) -> None:
        schedule = self._around.schedule
        now = self._around.clock.steady()
        if schedule is not None and (self._looked_at is None or not 0 <= now - self._looked_at < SCHEDULE_LOOKED_AT):
            self._looked_at = now
            schedule.refresh()

    def _is_time_to_commit(self) -> bool:
        if not self._tasks.is_dirty:
            return False
        waited = self._around.clock.steady() - self._committed_at
        return (
            not 0 <= waited < self._pace.commit_interval
            or self._tasks.is_urgent
            or self._tasks.waiting_events >= EVENTS_PER_COMMIT
        )

    def _is_time_for_live(self) -> bool:
        """Finals go first: live bars follow with the next commit."""
        is_due = not 0 <= self._around.clock.steady() - self._live_at < self._pace.commit_interval
        return is_due and not self._tasks.has_finals

    def _commit(self, *, live: bool = True) -> None:
        """Outputs, changes of the state and positions of all tasks, all or nothing."""
        assert self._consumer is not None
        pending = self._tasks.pending(live=live)
        if pending is None:
            return
        pending.committed(self._consumer.commit(pending.positions, pending.writes))
        self._around.counters.commits += 1
        self._committed_at = self._around.clock.steady()
        if live:
            self._live_at = self._committed_at
        self._outage.written()

    def _forget(self, error: FencedError) -> None:
        """Others own what this process worked on: nothing of it was written, so go back to what was."""
        logger.warning("%s; going back to the last commit", error)
        self._around.counters.fenced += 1
        self._restore()

    def _restore(self) -> None:
        assert self._consumer is not None
        self._must_restore = False
        self._tasks.clear()
        self._begin(list(self._consumer.assignment))

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Restore the tasks of partitions that have come."""
        logger.info("assigned to %s: %s", self._group.member, _words(partitions))
        self._begin(partitions)
        if self._leadership.is_leader and self._leadership.partition in partitions:
            logger.info("%s leads: it sends the heartbeats of %s", self._group.member, self._group.group)

    def _begin(self, partitions: Collection[TopicPartition]) -> None:
        """Begin the tasks of owned partitions as of the last commit, and read on from there."""
        assert self._consumer is not None
        owned = self._consumer.assignment
        committed = self._consumer.committed(list(owned))
        self._consumer.seek(self._tasks.start(partitions, committed))
        self._leadership.assigned(partitions, owned)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Commit and stop the tasks of partitions that go."""
        self._leadership.revoked(partitions)
        self.flush()
        self._tasks.drop(partitions)
        logger.info("revoked from %s: %s", self._group.member, _words(partitions))

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the tasks of partitions that others own by now."""
        self._leadership.revoked(partitions)
        self._tasks.drop(partitions)
        logger.warning("lost by %s: %s", self._group.member, _words(partitions))

    @property
    def tasks(self) -> Mapping[int, Task]:
        """The tasks that run here, by partition."""
        return self._tasks.by_partition

    @property
    def statistics(self) -> Mapping[str, int]:
        """Figures of the client library of the log, if there is one."""
        consumer = self._consumer
        return {} if consumer is None else consumer.statistics

    @property
    def partitions(self) -> tuple[int, ...]:
        """Partitions whose tasks run here."""
        return tuple(sorted(self.tasks))

    def lag(self) -> int:
        """Events of the owned partitions that are not processed yet; while the log cannot be asked, as many as there were."""
        try:
            ends = self._around.log.ends(self._around.topics.events)
        except (UnavailableError, UnknownTopicError):
            return self._lag
        self._lag = sum(ends[number] - task.event_position for number, task in dict(self.tasks).items())
        return self._lag


def _words(partitions: Collection[TopicPartition]) -> str:
    return ", ".join(f"{topic} {partition}" for topic, partition in sorted(partitions))
