"""Faults of one line that are planted into kandle, to see that simulations find each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pytest

from kandle.engine.bars import Finals
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.embedded.membership import GroupMember
from kandle.log.port import TopicPartition
from kandle.log.records import Batch, Write
from kandle.runtime.committing import Committer
from kandle.runtime.heartbeats import HeartbeatSender
from kandle.runtime.input import HeldEvents, TaskInput
from kandle.runtime.membership import Membership
from kandle.runtime.output import TaskOutput
from kandle.runtime.state import Replica
from kandle.runtime.task import Task
from kandle.runtime.tasks import PendingCommit
from kandle.store.changelog import RestoredState
from kandle.time.watermark import Watermark
from tests.simulation.simulation import WorldRules

Plant = Callable[[pytest.MonkeyPatch], None]


def commit_before_write(patch: pytest.MonkeyPatch) -> None:
    def commit(self: Membership, pending: PendingCommit) -> None:
        self._joined.commit(pending.positions)
        pending.committed(self._log.append(pending.writes))

    patch.setattr(Membership, "commit", commit)


def write_before_commit(patch: pytest.MonkeyPatch) -> None:
    def commit(self: Membership, pending: PendingCommit) -> None:
        offsets = self._log.append(pending.writes)
        self._joined.commit(pending.positions)
        pending.committed(offsets)

    patch.setattr(Membership, "commit", commit)


def commit_without_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupMember, "check_owned", lambda self, partition: None)


def heartbeats_without_fence(patch: pytest.MonkeyPatch) -> None:
    append = EmbeddedLog.append
    patch.setattr(EmbeddedLog, "append", lambda self, writes, fence=None: append(self, writes))


def renewal_too_late(patch: pytest.MonkeyPatch) -> None:
    def is_due(self: GroupMember) -> bool:
        is_late = self._renewed is None or self._clock.steady() - self._renewed > 3 * self._spec.lease
        return is_late or self._generation != self._stored_generation()

    patch.setattr(GroupMember, "is_due", is_due)
    patch.setattr(GroupMember, "extend", lambda self: None)


def close_without_barrier(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TaskInput, "_due", lambda self: self._beats[0] if self._beats else None)


def forget_a_gap(patch: pytest.MonkeyPatch) -> None:
    add_finals = TaskOutput.add_finals

    def add(self: TaskOutput, closed: Any) -> None:
        add_finals(self, [finals for finals in closed if not _is_one_gap(finals)])

    patch.setattr(TaskOutput, "add_finals", add)


def _is_one_gap(finals: Finals) -> bool:
    return finals.bars.height == 1 and bool(finals.gaps.all())


def apply_a_heartbeat_twice(patch: pytest.MonkeyPatch) -> None:
    following = TaskInput.next

    def again(self: TaskInput, most: int) -> Any:
        portion = following(self, most)
        if portion is not None and portion.heartbeat is not None:
            self.heartbeat_position -= 1
        return portion

    patch.setattr(TaskInput, "next", again)


def restore_all_but_the_last_change(patch: pytest.MonkeyPatch) -> None:
    take = Replica._take
    patch.setattr(Replica, "_take", lambda self, restored: take(self, RestoredState(restored.snapshot, restored.changes[:-1])))


def positions_of_what_was_read(patch: pytest.MonkeyPatch) -> None:
    def positions(self: Task) -> dict[TopicPartition, int]:
        waiting = self._input.waiting_rows
        return {self.events: self._input.event_position + waiting, self.heartbeats: self._input.heartbeat_position}

    patch.setattr(Task, "positions", positions)


def go_on_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    def restore_if_failed(self: Committer) -> None:
        self._must_restore = False

    patch.setattr(Committer, "restore_if_failed", restore_if_failed)


def leave_the_live_bar(patch: pytest.MonkeyPatch) -> None:
    final_writes = TaskOutput._final_writes

    def finals_only(self: TaskOutput) -> Iterator[Write]:
        yield from (write for write in final_writes(self) if write.topic.endswith("_final"))

    patch.setattr(TaskOutput, "_final_writes", finals_only)


def obey_every_heartbeat(patch: pytest.MonkeyPatch) -> None:
    def none(batch: Batch) -> pl.Series:
        return pl.repeat(False, len(batch), eager=True)

    patch.setattr("kandle.runtime.input.refused_by_log", none)
    patch.setattr("kandle.runtime.heartbeats.refused_by_log", none)


def hold_no_events(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HeldEvents, "release", lambda self, batches: list(batches))


def adopt_a_standby_as_it_is(patch: pytest.MonkeyPatch) -> None:
    def adopt(self: Replica, context: Any) -> bool:
        self._context, self.is_current, self.changelog.log = context, False, context.log
        return self.has_state

    patch.setattr(Replica, "adopt", adopt)


def lead_on_without_reading(patch: pytest.MonkeyPatch) -> None:
    recovered = HeartbeatSender._recovered
    patch.setattr(HeartbeatSender, "_recovered", lambda self: self._last or recovered(self))


def forget_the_watermark(patch: pytest.MonkeyPatch) -> None:
    take_numbers = Replica._take_numbers

    def take(self: Replica, frames: Any) -> None:
        take_numbers(self, frames)
        self.watermark = Watermark()

    patch.setattr(Replica, "_take_numbers", take)


def positions_of_before(patch: pytest.MonkeyPatch) -> None:
    """Heartbeats have the positions that were asked for with the last ones."""
    append = HeartbeatSender._append
    patch.setattr(HeartbeatSender, "_append", lambda self, beats, fence: _with_stale_ends(self, append, beats, fence))


class _Stale:
    """A log that says of its ends what it said before."""

    def __init__(self, log: Any, ends: list[int]) -> None:
        self._log, self._ends = log, ends

    def ends(self, topic: str) -> list[int]:
        return self._ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def _with_stale_ends(sender: HeartbeatSender, append: Any, beats: Any, fence: Any) -> None:
    log = sender._log
    if sender._ends:
        sender._log = _Stale(log, list(sender._ends))
    try:
        append(sender, beats, fence)
    finally:
        sender._log = log
    sender._ends = log.ends(sender._topics.events)


PLANTED: dict[str, Plant] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        commit_before_write,
        write_before_commit,
        commit_without_fence,
        heartbeats_without_fence,
        renewal_too_late,
        close_without_barrier,
        forget_a_gap,
        apply_a_heartbeat_twice,
        restore_all_but_the_last_change,
        positions_of_what_was_read,
        go_on_after_a_failure,
        leave_the_live_bar,
        obey_every_heartbeat,
        hold_no_events,
        adopt_a_standby_as_it_is,
        lead_on_without_reading,
        forget_the_watermark,
        positions_of_before,
    )
}
"""All of them by name."""

IN_THE_LOG = frozenset({"commit-without-fence", "heartbeats-without-fence", "renewal-too-late"})
"""Those that are planted into the embedded log itself, rather than above it."""


def world_of(name: str) -> WorldRules:
    """Return under which rules a planted fault is to be found."""
    return "sqlite" if name in IN_THE_LOG else "embedded"


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Break kandle by one of the faults, if any."""
    with pytest.MonkeyPatch.context() as patch:
        if name is not None:
            PLANTED[name](patch)
        yield
