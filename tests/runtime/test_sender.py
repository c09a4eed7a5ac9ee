"""Sending heartbeats: to every partition with the position of its events, nothing twice, nothing by followers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kandle.errors import FencedError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Fence, TopicPartition
from kandle.log.records import AnyWrite
from kandle.time.clock import ManualClock
from kandle.time.timeframe import MINUTE, SECOND
from tests.runtime.building import Member, Parts, beat, instants, t, tick
from tests.runtime.declarations import bars_market


def parts_of(partitions: int = 1, **windows: Any) -> Parts:
    return Parts(bars_market(**(dict[str, Any]({"minutes": 1}) | windows)), "14:30", partitions=partitions)


def test_a_heartbeat_goes_to_every_partition_with_the_position_of_the_events_there() -> None:
    parts = parts_of(partitions=3)
    parts.add(tick("14:30:01"), tick("14:30:02"), partition=0)
    parts.add(tick("14:30:01"), partition=2)
    member = Member(parts).poll()
    assert member.send(beat("14:30", 2 * SECOND))
    expected = {"start": t("14:30"), "grace": 2 * SECOND, "instant": t("14:31:02"), "events": "ticks", "asked": None}
    assert parts.beats() == [expected | {"position": position} for position in (2, 0, 1)]


def test_the_heartbeat_topic_has_the_partitions_of_the_events_and_is_compacted_by_bucket_and_grace() -> None:
    parts = parts_of(partitions=3)
    spec = parts.log.topic("bars_hb_1m")
    assert (spec.partitions, spec.compacted, spec.keys) == (3, True, ("start", "grace"))


def test_a_follower_sends_nothing() -> None:
    parts = parts_of()
    leader, follower = Member(parts, "a").poll(), Member(parts, "b").poll()
    assert not follower.leadership.is_leader
    assert follower.send(beat("14:30"))
    assert parts.beats() == []
    assert follower.counters.heartbeats_sent == 0
    assert leader.send(beat("14:30"))
    assert len(parts.beats()) == 1
    assert leader.counters.heartbeats_sent == 1


def test_a_process_that_has_not_joined_sends_nothing() -> None:
    parts = parts_of()
    assert Member(parts).send(beat("14:30"))
    assert parts.beats() == []


class Fencing(EmbeddedLog):
    """A log that refuses an append in the name of a claim when it is told so, and takes the next one, as Kafka may do."""

    refuses = False

    def append(self, writes: Sequence[AnyWrite], fence: Fence | None = None) -> list[int]:
        if self.refuses and fence is not None:
            self.refuses = False
            raise FencedError("another process was here")
        return super().append(writes, fence)


def test_after_it_was_fenced_it_does_not_send_again_what_the_other_has_sent_even_if_its_claim_still_holds() -> None:
    log = Fencing(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=1), "14:30", log=log)
    member, other = Member(parts).poll(), Member(parts, "other")
    member.send(beat("14:30"))
    log.refuses = True
    member.send(beat("14:31"))
    other.leadership.assigned([member.leadership.partition], member.consumer.assignment)  # type: ignore[union-attr]
    other.send(beat("14:31"), beat("14:32"))
    member.send(beat("14:31"), beat("14:32"), beat("14:33"))
    assert instants(parts.beats()) == ["14:31:00", "14:32:00", "14:33:00", "14:34:00"]


def test_the_same_heartbeat_is_sent_once() -> None:
    parts = parts_of()
    member = Member(parts).poll()
    member.send(beat("14:30"))
    member.send(beat("14:30"))
    member.send(beat("14:29"), beat("14:30"), beat("14:31"))
    assert instants(parts.beats()) == ["14:31:00", "14:32:00"]
    assert member.sender.last == t("14:32:00")
    assert member.counters.heartbeats_sent == 2


def test_heartbeats_of_one_instant_with_different_graces_are_all_sent() -> None:
    """14:30 + 1m + 60s and 14:31 + 1m + 0s are the same instant."""
    parts = parts_of(minutes=(1, 5), grace={"5m": "60s"})
    member = Member(parts).poll()
    member.send(beat("14:30", MINUTE), beat("14:31"))
    assert [(found["start"], found["grace"]) for found in parts.beats()] == [(t("14:30"), MINUTE), (t("14:31"), 0)]


def test_the_last_instant_is_recovered_from_the_topic_after_a_restart() -> None:
    parts = parts_of()
    first = Member(parts, "one").poll()
    first.send(beat("14:30"), beat("14:31"))
    again = Member(parts, "one").poll()
    assert again.sender.last == t("14:33") - MINUTE
    again.send(beat("14:30"), beat("14:31"), beat("14:32"))
    assert instants(parts.beats()) == ["14:31:00", "14:32:00", "14:33:00"]


def test_the_last_instant_is_recovered_from_the_end_of_a_long_topic() -> None:
    parts = parts_of()
    member = Member(parts).poll()
    for number in range(200):
        start = t("14:30") + number * MINUTE
        member.send(type(beat("14:30"))(start + MINUTE, start, 0))
        parts.clock.jump(start + MINUTE)
    again = Member(parts).poll()
    assert again.sender.last == t("14:30") + 200 * MINUTE


def test_heartbeats_that_retention_took_are_nobodys_last_instant() -> None:
    parts = parts_of()
    Member(parts).poll().send(beat("14:30"))
    parts.clock.jump(t("2024-03-16T00:00"))
    parts.log.maintain()
    assert parts.beats() == []
    again = Member(parts).poll()
    assert again.sender.last is None
    again.send(beat("2024-03-16T00:00"))
    assert instants(parts.beats()) == ["00:01:00"]


def test_before_the_first_heartbeat_there_is_no_last_instant() -> None:
    assert Member(parts_of()).poll().sender.last is None


def test_a_leader_that_was_replaced_is_fenced_and_writes_nothing() -> None:
    parts = parts_of(partitions=2)
    old = Member(parts, "old").poll()
    new = Member(parts, "new")
    parts.clock.jump(parts.clock.now() + 5 * SECOND)
    new.poll()
    assert old.leadership.is_leader
    assert new.leadership.is_leader
    assert old.send(beat("14:30"))
    assert parts.beats() == []
    assert old.counters.heartbeats_sent == 0
    assert new.send(beat("14:30"))
    assert instants(parts.beats()) == ["14:31:00"] * 2


def test_a_leader_that_is_replaced_while_it_sends_is_fenced_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's thread takes the leadership away between the sender's look at it and its append."""
    parts = parts_of()
    old = Member(parts, "old").poll()
    new = Member(parts, "new")
    assert old.send(beat("14:30"))
    ends = parts.log.ends

    def replaced(topic: str) -> list[int]:
        parts.clock.jump(parts.clock.now() + 5 * SECOND)
        new.poll()
        old.leadership.revoked([old.leadership.partition])
        return ends(topic)

    with monkeypatch.context() as patch:
        patch.setattr(parts.log, "ends", replaced)
        assert old.send(beat("14:31"))
    assert instants(parts.beats()) == ["14:31:00"]
    assert new.send(beat("14:31"))
    assert instants(parts.beats()) == ["14:31:00", "14:32:00"]


def test_a_leader_that_led_before_asks_the_topic_what_others_sent_in_between() -> None:
    parts = parts_of(partitions=1)
    first = Member(parts, "first").poll()
    first.send(beat("14:30"))
    second = Member(parts, "second")
    parts.clock.jump(t("14:31"))
    second.poll().send(beat("14:31"), beat("14:32"))
    assert second.consumer is not None
    first.poll()
    second.consumer.close()
    first.poll()
    assert first.leadership.is_leader
    assert first.sender.last == t("14:33")
    first.send(beat("14:31"), beat("14:32"), beat("14:33"))
    assert instants(parts.beats()) == ["14:31:00", "14:32:00", "14:33:00", "14:34:00"]


def repartitioned() -> Parts:
    """Bars in two partitions, of ticks in one."""
    parts = Parts(bars_market(minutes=1, partitions=2), "14:30")
    assert parts.topics.is_repartitioned
    return parts


def test_where_events_are_copied_a_heartbeat_waits_until_those_of_before_it_are_there() -> None:
    """
    source   e0 e1 e2 |            e3
    copied                e0..e2        <- the heartbeat of | leaves here, with the position after e2
    """
    parts = repartitioned()
    member = Member(parts).poll()
    source = TopicPartition("ticks", 0)
    parts.add(tick("14:30:01"), tick("14:30:02"), tick("14:30:03"))
    assert not member.send(beat("14:30"))
    assert member.consumer is not None
    member.consumer.commit({source: 2})
    assert not member.send(beat("14:30"))
    parts.add(tick("14:31:05"))
    member.consumer.commit({source: 3})
    assert member.send(beat("14:30"))
    assert instants(parts.beats()) == ["14:31:00"] * 2


def test_copies_that_have_nothing_to_wait_for_do_not_hold_heartbeats_back() -> None:
    parts = repartitioned()
    assert Member(parts).poll().send(beat("14:30"))
    assert len(parts.beats()) == 2


def test_events_that_retention_took_before_they_were_copied_do_not_hold_heartbeats_back() -> None:
    parts = repartitioned()
    parts.add(tick("14:30:01"), tick("14:30:02"))
    member = Member(parts).poll()
    assert not member.send(beat("14:30"))
    parts.log.truncate(TopicPartition("ticks", 0), 2)
    assert member.send(beat("14:30"))
