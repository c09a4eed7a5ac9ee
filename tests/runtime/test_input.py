"""What a task reads is cut at the heartbeats that stand in it, and waits for those that are on their way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from kandle.engine.compiled import CompiledQuery
from kandle.log.records import Batch, Records, RejectedRecord, Write
from kandle.runtime.heartbeats import heartbeat_records
from kandle.runtime.input import LONGEST_WAIT, HeldEvents, Portion, TaskInput
from kandle.runtime.planner import closing_spec
from kandle.time.closings import closings
from kandle.time.timeframe import MINUTE
from tests.runtime.building import Parts, beat, parts_of, read, t, tick


def sent(parts: Parts, *beats: tuple[str, int], events: str = "ticks") -> list[Batch]:
    """Append heartbeats of minutes with the positions of events at which they stand, and return all that were appended."""
    for start, position in beats:
        parts.log.append([Write("bars_hb_1m", 0, heartbeat_records([beat(start)], position, events))])
    return read(parts.log, "bars_hb_1m")


def shown(portions: Sequence[Portion]) -> list[tuple[list[int], int | None]]:
    """Offsets of events, and the position of the heartbeat after them."""
    return [
        (
            [offset for batch in portion.batches for offset in batch.offsets.tolist()],
            None if portion.heartbeat is None else portion.heartbeat.position,
        )
        for portion in portions
    ]


def five_ticks() -> Parts:
    parts = parts_of()
    parts.add(*(tick(f"14:30:{second:02d}") for second in range(3)))
    parts.add(*(tick(f"14:31:{second:02d}") for second in range(2)))
    return parts


def portions(given: TaskInput, most: int = 1_000) -> list[tuple[list[int], int | None]]:
    """Take out all portions, of at most so many events."""
    taken = []
    while given.has_next:
        portion = given.next(most)
        assert portion is not None
        taken.append(portion)
    assert given.next(most) is None
    return shown(taken)


def test_events_are_cut_at_the_positions_of_heartbeats() -> None:
    """
    offsets      0  1  2  | 3 |  4
    heartbeats            30  31
    """
    parts = five_ticks()
    given = TaskInput("ticks", None)
    given.add(read(parts.log, "ticks"), sent(parts, ("14:30", 3), ("14:31", 4)))
    assert portions(given) == [([0, 1, 2], 3), ([3], 4), ([4], None)]
    assert (given.event_position, given.heartbeat_position) == (5, 2)


def test_positions_follow_each_portion_so_that_a_commit_may_come_after_any_of_them() -> None:
    """
    offsets      0  1 | 2  | 3 |  4
    heartbeats             30  31
    """
    parts = five_ticks()
    given = TaskInput("ticks", None)
    given.add(read(parts.log, "ticks"), sent(parts, ("14:30", 3), ("14:31", 4)))
    positions = []
    while (portion := given.next(2)) is not None:
        positions.append((given.event_position, given.heartbeat_position, given.waiting_rows))
        assert all(len(batch) <= 2 for batch in portion.batches)
    assert positions == [(2, 0, 3), (3, 1, 2), (4, 2, 1), (5, 2, 0)]


def test_a_heartbeat_waits_for_the_events_before_it() -> None:
    parts = five_ticks()
    first, second = read(parts.log, "ticks")
    given = TaskInput("ticks", None)
    given.add([first], sent(parts, ("14:30", 5)))
    assert portions(given) == [([0, 1, 2], None)]
    assert (given.event_position, given.heartbeat_position, given.waiting_heartbeats) == (3, 0, 1)
    given.add([second], [])
    assert portions(given) == [([3, 4], 5)]
    assert (given.event_position, given.heartbeat_position, given.waiting_heartbeats) == (5, 1, 0)


def test_of_heartbeats_at_one_position_the_newest_instant_serves_for_all() -> None:
    parts = five_ticks()
    given = TaskInput("ticks", None)
    given.add(read(parts.log, "ticks"), sent(parts, ("14:32", 5), ("14:31", 5)))
    portion = given.next(1_000)
    assert portion is not None and portion.heartbeat is not None
    assert portion.heartbeat.instant == t("14:33")
    assert not given.has_next
    assert given.heartbeat_position == 2


def test_heartbeats_of_other_events_are_passed_over() -> None:
    parts = five_ticks()
    given = TaskInput("ticks", None)
    given.add(read(parts.log, "ticks"), sent(parts, ("14:30", 3), events="ticks_of_others"))
    assert portions(given) == [([0, 1, 2, 3, 4], None)]


def test_records_that_cannot_be_read_go_with_the_part_of_the_batch_in_which_they_stand() -> None:
    """
    offsets      0   1   x2  3   4   x5
    portions     [0  1]  [x2 3]  [4  x5]
    """
    (first, second) = read(five_ticks().log, "ticks")
    rejects = tuple(RejectedRecord(offset, b"", b"", "damaged") for offset in (2, 5))
    records = Records(pl.concat([first.records.frame[:2], second.records.frame]))
    batch = Batch("ticks", 0, np.array([0, 1, 3, 4]), np.zeros(4, np.int64), records, 6, rejects)
    given = TaskInput("ticks", None)
    given.add([batch], [])
    seen = []
    for most in (2, 1, 1):
        portion = given.next(most)
        assert portion is not None
        offsets = [reject.offset for part in portion.batches for reject in part.rejects]
        seen.append((offsets, given.event_position))
    assert seen == [([], 2), ([2], 4), ([5], 6)]


def held_events(parts: Parts, heard: str) -> HeldEvents:
    held = HeldEvents(
        parts.plan,
        CompiledQuery(parts.plan.query).time,
        parts.clock,
        lambda: closings(closing_spec(parts.plan)),
        lambda: parts.log.ends(parts.topics.heartbeats)[0],
    )
    held.hear(t(heard))
    return held


def test_an_event_whose_bucket_is_over_by_the_clock_waits_for_the_heartbeat_that_says_so() -> None:
    """
    clock       14:31:00
    event 0     14:30:00    its bucket is over, and no heartbeat has said so: held
    """
    parts = five_ticks()
    parts.clock.jump(t("14:31"))
    given = TaskInput("ticks", held_events(parts, "14:30"))
    given.add(read(parts.log, "ticks"), [])
    assert not given.has_next
    assert given.waiting_rows == 5
    given.add([], sent(parts, ("14:30", 3)))
    assert portions(given) == [([0, 1, 2], 3), ([3, 4], None)]


def test_a_clock_that_is_behind_lets_no_event_pass_the_heartbeat_that_was_before_it() -> None:
    """
    clock of the log        14:31:00                        14:31:01
    clock of the process    14:30:30                        14:30:31
    log                     heartbeat of 30, position 0     event 0 of 14:30:05: late
    """
    parts = parts_of()
    parts.clock.jump(t("14:31"))
    beats = sent(parts, ("14:30", 0))
    parts.clock.jump(t("14:31:01"))
    parts.add(tick("14:30:05"))
    parts.clock.jump(t("14:30:31"))
    given = TaskInput("ticks", held_events(parts, "14:30"))
    given.add(read(parts.log, "ticks"), [])
    assert not given.has_next
    given.add([], beats)
    assert portions(given) == [([], 0), ([0], None)]


def test_an_event_of_the_open_bucket_is_not_held() -> None:
    parts = five_ticks()
    held = held_events(parts, "14:30")
    assert [len(batch) for batch in held.release(read(parts.log, "ticks"))] == [3, 2]


@pytest.mark.parametrize("waited", [LONGEST_WAIT - 1, LONGEST_WAIT])
def test_events_are_not_held_where_nobody_sends_heartbeats(waited: int) -> None:
    parts = five_ticks()
    parts.clock.jump(t("14:31"))
    held = held_events(parts, "14:30")
    assert held.release(read(parts.log, "ticks")) == []
    parts.clock.jump(t("14:31") + waited)
    assert bool(held.release([])) is (waited == LONGEST_WAIT)


def test_a_busy_machine_that_reads_heartbeats_a_minute_late_holds_events_until_then() -> None:
    """
    14:31:00    events 0 to 4 are read and held, since the bucket of 30 is over
    14:31:05    its heartbeat stands in its topic, but is not read yet: they are held on
    14:32:00    it is read: events 0 to 2 were before it
    """
    parts = five_ticks()
    parts.clock.jump(t("14:31"))
    given = TaskInput("ticks", held_events(parts, "14:30"))
    given.add(read(parts.log, "ticks"), [])
    beats = sent(parts, ("14:30", 3))
    for moment in ("14:31:00.5", "14:31:05", "14:31:30", "14:32"):
        parts.clock.jump(t(moment))
        given.add([], [])
        assert not given.has_next
    given.add([], beats)
    assert portions(given) == [([0, 1, 2], 3), ([3, 4], None)]


def test_the_wait_of_a_task_that_starts_behind_older_heartbeats_ends() -> None:
    """The topic has a heartbeat that the group has read before, so no batch will ever say how far it is read."""
    parts = five_ticks()
    sent(parts, ("14:29", 0))
    parts.clock.jump(t("14:31"))
    given = TaskInput("ticks", held_events(parts, "14:30"))
    given.start_at(0, 1)
    given.add(read(parts.log, "ticks"), [])
    assert not given.has_next
    parts.clock.jump(t("14:31") + LONGEST_WAIT)
    given.add([], [])
    assert portions(given) == [([0, 1, 2, 3, 4], None)]


def test_events_that_come_while_others_are_held_keep_their_order() -> None:
    parts = five_ticks()
    parts.clock.jump(t("14:31"))
    held = held_events(parts, "14:30")
    first, second = read(parts.log, "ticks")
    assert held.release([first]) == []
    # These alone would not have to wait: their bucket is open.
    assert held.release([second]) == []
    held.hear(t("14:30") + MINUTE)
    assert held.release([]) == [first, second]
