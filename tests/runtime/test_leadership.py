"""Who leads: the owner of partition 0 of the heartbeat topic, from its assignment until its revocation, and nobody else."""

from __future__ import annotations

from kandle.log.port import Fence, TopicPartition
from kandle.runtime.heartbeats import Leadership
from kandle.time.timeframe import SECOND
from tests.runtime.building import GROUP, Member, Parts
from tests.runtime.declarations import bars_market

HEARTBEATS = TopicPartition("bars_hb_1m", 0)
OTHERS = [TopicPartition("bars_hb_1m", 1), TopicPartition("ticks", 0), TopicPartition("bars_repartition", 0)]


def test_nobody_leads_before_an_assignment() -> None:
    leadership = Leadership(GROUP, "bars_hb_1m")
    assert not leadership.is_leader
    assert leadership.fence is None


def test_partition_0_of_the_heartbeat_topic_makes_a_leader_with_the_epoch_of_its_ownership() -> None:
    leadership = Leadership(GROUP, "bars_hb_1m")
    leadership.assigned([*OTHERS, HEARTBEATS], dict.fromkeys(OTHERS, 3) | {HEARTBEATS: 7})
    assert leadership.is_leader
    assert leadership.fence == Fence(GROUP, HEARTBEATS, 7)


def test_no_other_partition_raises_or_lowers_the_flag() -> None:
    leadership = Leadership(GROUP, "bars_hb_1m")
    leadership.assigned(OTHERS, dict.fromkeys(OTHERS, 1))
    assert not leadership.is_leader
    leadership.assigned([HEARTBEATS], {HEARTBEATS: 1})
    leadership.revoked(OTHERS)
    assert leadership.is_leader
    leadership.assigned(OTHERS, dict.fromkeys(OTHERS, 9) | {HEARTBEATS: 9})
    assert leadership.fence == Fence(GROUP, HEARTBEATS, 1)


def test_a_revocation_lowers_the_flag_at_once_and_a_new_assignment_has_its_own_epoch() -> None:
    leadership = Leadership(GROUP, "bars_hb_1m")
    leadership.assigned([HEARTBEATS], {HEARTBEATS: 1})
    leadership.revoked([HEARTBEATS])
    assert not leadership.is_leader
    assert leadership.fence is None
    leadership.assigned([HEARTBEATS], {HEARTBEATS: 4})
    assert leadership.fence == Fence(GROUP, HEARTBEATS, 4)


def leaders(*members: Member) -> list[bool]:
    return [member.leadership.is_leader for member in members]


def test_of_a_group_just_one_member_leads_and_another_takes_over_when_it_leaves() -> None:
    parts = Parts(bars_market(minutes=1), "14:30", partitions=4)
    first = Member(parts, "first").poll()
    assert leaders(first) == [True]
    second = Member(parts, "second").poll()
    for _ in range(3):
        first.poll()
        second.poll()
        assert sum(leaders(first, second)) <= 1
    assert leaders(first, second) == [True, False]
    assert first.consumer is not None
    first.consumer.close()
    assert leaders(first, second) == [False, False]
    second.poll()
    assert leaders(first, second) == [False, True]


def test_a_member_that_died_is_followed_by_another_when_its_lease_is_over() -> None:
    """
    0s                  5s    7s
    |---- lease of first |-----|
    first is not heard of      second looks again
    """
    parts = Parts(bars_market(minutes=1), "14:30", partitions=2)
    first, second = Member(parts, "first").poll(), Member(parts, "second")
    parts.clock.jump(parts.clock.now() + 5 * SECOND - 1)
    second.poll()
    assert leaders(second) == [False]
    parts.clock.jump(parts.clock.now() + 2 * SECOND)
    second.poll()
    assert leaders(second) == [True]
    # The first one still believes that it leads; its fence is of an epoch that is over.
    assert first.leadership.fence is not None
    assert second.leadership.fence is not None
    assert first.leadership.fence.epoch < second.leadership.fence.epoch
    first.poll()
    assert leaders(first, second) == [False, True]


def test_the_same_member_again_leads_at_once_without_waiting_for_its_lease() -> None:
    """Static membership: a process that was started again takes its own place."""
    parts = Parts(bars_market(minutes=1), "14:30", partitions=2)
    Member(parts, "one").poll()
    again = Member(parts, "one").poll()
    assert again.leadership.is_leader
