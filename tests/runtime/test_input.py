"""What a task reads is cut at the heartbeats that stand in it, and waits for those that are on their way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kandle.engine.compiled import CompiledQuery
from kandle.log.records import Batch, Write
from kandle.runtime.heartbeats import heartbeat_records
from kandle.runtime.input import LONGEST_FLIGHT, HeldEvents, Portion, TaskInput
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


def test_events_are_cut_at_the_positions_of_heartbeats() -> None:
    """
    offsets      0  1  2  | 3 |  4
    heartbeats            30  31
    """
    parts = five_ticks()
    given = TaskInput("ticks", None)
    released = given.release(read(parts.log, "ticks"), sent(parts, ("14:30", 3), ("14:31", 4)))
    assert shown(list(given.portions(released))) == [([0, 1, 2], 3), ([3], 4), ([4], None)]
    assert (given.event_position, given.heartbeat_position) == (5, 2)


def test_a_heartbeat_waits_for_the_events_before_it() -> None:
    parts = five_ticks()
    first, second = read(parts.log, "ticks")
    given = TaskInput("ticks", None)
    released = given.release([first], sent(parts, ("14:30", 5)))
    assert shown(list(given.portions(released))) == [([0, 1, 2], None)]
    assert (given.event_position, given.heartbeat_position) == (3, 0)
    released = given.release([second], [])
    assert shown(list(given.portions(released))) == [([3, 4], 5), ([], None)]
    assert (given.event_position, given.heartbeat_position) == (5, 1)


def test_of_heartbeats_at_one_position_the_newest_instant_serves_for_all() -> None:
    parts = five_ticks()
    given = TaskInput("ticks", None)
    released = given.release(read(parts.log, "ticks"), sent(parts, ("14:32", 5), ("14:31", 5)))
    (portion, rest) = given.portions(released)
    assert portion.heartbeat is not None
    assert (portion.heartbeat.instant, rest.heartbeat) == (t("14:33"), None)
    assert given.heartbeat_position == 2


def test_heartbeats_of_other_events_are_passed_over() -> None:
    parts = five_ticks()
    given = TaskInput("ticks", None)
    released = given.release(read(parts.log, "ticks"), sent(parts, ("14:30", 3), events="ticks_of_others"))
    assert shown(list(given.portions(released))) == [([0, 1, 2, 3, 4], None)]


def held_events(parts: Parts, heard: str) -> HeldEvents:
    held = HeldEvents(
        parts.plan,
        CompiledQuery(parts.plan.query).time,
        parts.clock,
        lambda: closings(parts.plan.closing_spec),
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
    assert given.release(read(parts.log, "ticks"), []) == []
    assert [len(batch) for batch in given.release([], sent(parts, ("14:30", 3)))] == [3, 2]


def test_an_event_of_the_open_bucket_is_not_held() -> None:
    parts = five_ticks()
    held = held_events(parts, "14:30")
    assert [len(batch) for batch in held.release(read(parts.log, "ticks"))] == [3, 2]


@pytest.mark.parametrize("waited", [LONGEST_FLIGHT - 1, LONGEST_FLIGHT])
def test_events_are_not_held_where_nobody_sends_heartbeats(waited: int) -> None:
    parts = five_ticks()
    parts.clock.jump(t("14:31"))
    held = held_events(parts, "14:30")
    assert held.release(read(parts.log, "ticks")) == []
    parts.clock.jump(t("14:31") + waited)
    assert bool(held.release([])) is (waited == LONGEST_FLIGHT)


def test_a_busy_machine_that_reads_heartbeats_a_minute_late_holds_events_until_then() -> None:
    """
    14:31:00    events 0 to 4 are read and held, since the bucket of 30 is over
    14:31:01    its heartbeat stands in its topic, but is not read yet: they are held on
    14:32:00    it is read: events 0 to 2 were before it
    """
    parts = five_ticks()
    parts.clock.jump(t("14:31"))
    given = TaskInput("ticks", held_events(parts, "14:30"))
    assert given.release(read(parts.log, "ticks"), []) == []
    beats = sent(parts, ("14:30", 3))
    for moment in ("14:31:00.5", "14:31:01", "14:31:30", "14:32"):
        parts.clock.jump(t(moment))
        assert given.release([], []) == []
    assert shown(list(given.portions(given.release([], beats)))) == [([0, 1, 2], 3), ([3, 4], None)]


def test_the_wait_of_a_task_that_starts_behind_older_heartbeats_ends() -> None:
    """The topic has a heartbeat that the group has read before, so no batch will ever say how far it is read."""
    parts = five_ticks()
    sent(parts, ("14:29", 0))
    parts.clock.jump(t("14:31"))
    given = TaskInput("ticks", held_events(parts, "14:30"))
    given.start_at(0, 1)
    assert given.release(read(parts.log, "ticks"), []) == []
    parts.clock.jump(t("14:31:01"))
    assert [len(batch) for batch in given.release([], [])] == [3, 2]


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
