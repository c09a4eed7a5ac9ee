"""A member keeps its lease while it works, and loses it when it is stuck, has failed or stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kandle.errors import FencedError, StorageError, UnavailableError
from kandle.log.embedded.consumer import EmbeddedConsumer
from kandle.log.embedded.keeping import LeaseKeeper
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import GroupSpec, TopicPartition
from kandle.time.clock import Clock, ManualClock, SystemClock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND
from tests.log.building import MovedClock, partitions_of, settle_on, topic_spec, write
from tests.waiting import wait_until

PLACE = TopicPartition("topic", 0)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def log(tmp_path: Path, clock: MovedClock) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "log", clock)
    log.ensure(topic_spec("topic"))
    log.append([write("topic", [1])])
    yield log
    log.close()


def join(log: EmbeddedLog, member: str, stall: int = MINUTE) -> EmbeddedConsumer:
    consumer = log.consumer(GroupSpec("group", ("topic",), member, lease=10 * SECOND, stall=stall))
    assert isinstance(consumer, EmbeddedConsumer)
    return consumer


def test_a_member_that_works_for_longer_than_its_lease_keeps_what_it_owns(log: EmbeddedLog, clock: MovedClock) -> None:
    """
    one     polls | works ...   renews    renews    renews | commits
    two           |        looks     looks     looks       |
    """
    one, two = join(log, "one"), join(log.connect(), "two")
    settle_on([one], [PLACE])
    for _ in range(5):
        clock.ahead += 8 * SECOND
        # What the thread does by itself, now and then.
        one.keeper.renew()
        assert two.poll(0, 10) == []
    one.commit({PLACE: 1})
    assert log.committed("group", "topic") == {0: 1}
    for consumer in (one, two):
        consumer.close()


def test_a_member_that_does_not_show_itself_any_more_loses_what_it_owns(log: EmbeddedLog, clock: MovedClock) -> None:
    """
    one     polls | is stuck ................. | commit: refused
    two           |          takes over        |
    """
    one, two = join(log, "one"), join(log.connect(), "two")
    settle_on([one], [PLACE])
    clock.ahead += MINUTE + SECOND
    one.keeper.renew()
    settle_on([two], partitions_of("topic", 1))
    one.keeper.renew()
    with pytest.raises(FencedError):
        one.commit({PLACE: 1})
    for consumer in (two, one):
        consumer.close()


def test_a_member_that_others_have_removed_does_not_come_back_by_its_thread(log: EmbeddedLog, clock: MovedClock) -> None:
    """As after a pause of the whole process: the thread runs before the worker does."""
    one, two = join(log, "one"), join(log.connect(), "two")
    settle_on([one], [PLACE])
    clock.ahead += 11 * SECOND
    settle_on([two], partitions_of("topic", 1))
    one.keeper.renew()
    assert log.database.rows("SELECT member FROM member") == [("two",)]
    for consumer in (two, one):
        consumer.close()


class Member:
    """A member that counts its renewals; `error` is raised by each."""

    def __init__(self, error: Exception | None = None) -> None:
        self.renewals = 0
        self.error = error

    def extend(self) -> None:
        self.renewals += 1
        if self.error is not None:
            raise self.error


def keeper(member: Any, clock: Clock, stall: int = MINUTE) -> LeaseKeeper:
    return LeaseKeeper(member, GroupSpec("group", ("topic",), "one", lease=4 * MILLISECOND, stall=stall), clock)


def test_the_thread_renews_again_and_again_until_it_is_closed() -> None:
    member = Member()
    keeping = keeper(member, SystemClock())
    wait_until(lambda: member.renewals > 5, "renewals")
    keeping.close()
    assert keeping._thread is not None and not keeping._thread.is_alive()


@pytest.mark.parametrize(("clock", "stall"), [(SystemClock(), 0), (ManualClock(0), MINUTE)], ids=["no stall", "clock by hand"])
def test_without_a_stall_or_with_a_clock_that_is_moved_by_hand_only_polls_renew(clock: Clock, stall: int) -> None:
    assert keeper(Member(), clock, stall=stall)._thread is None


def test_an_outage_does_not_end_the_thread() -> None:
    member = Member(UnavailableError("the disk is full"))
    keeping = keeper(member, SystemClock())
    wait_until(lambda: member.renewals > 3, "renewals")
    keeping.note_life()
    keeping.close()


def test_an_error_that_ends_the_thread_is_raised_by_the_next_poll_of_the_member(caplog: pytest.LogCaptureFixture) -> None:
    member = Member(StorageError("the file is damaged"))
    keeping = keeper(member, SystemClock())
    wait_until(lambda: not (keeping._thread and keeping._thread.is_alive()), "the end of the thread")
    with pytest.raises(StorageError, match="the file is damaged"):
        keeping.note_life()
    assert [record.message for record in caplog.records] == [
        "the lease of one in group group is not kept any more: the file is damaged"
    ]
    keeping.close()
