"""Workers: the positions of all their tasks are committed, and after a commit that failed they go back to the one before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kandle.runtime.worker
from kandle.context.context import state_of
from kandle.errors import UnavailableError
from kandle.log.embedded.batches import PreparedBatch
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Consumer, GroupSpec, Listener, TopicPartition
from kandle.log.records import Batch
from kandle.runtime.counters import QueryState
from kandle.time.clock import ManualClock
from kandle.time.timeframe import HOUR, MINUTE, SECOND
from tests.runtime.building import (
    GROUP,
    Member,
    Parts,
    Process,
    at,
    bars,
    beat,
    finals_of,
    outwait,
    parts_of,
    read,
    rows,
    t,
    tick,
)
from tests.runtime.declarations import Declared, VenueBar, bars_market, market
from tests.testing.stories import told


class Full(EmbeddedLog):
    """A log whose disk is full when it is told so."""

    is_full = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._append = self._batches.append
        self._batches.append = self._append_if_not_full  # type: ignore[method-assign]

    def _append_if_not_full(self, prepared: Sequence[PreparedBatch]) -> list[int]:
        if self.is_full:
            raise UnavailableError("the disk is full")
        return self._append(prepared)


def test_the_positions_of_all_partitions_are_committed_together() -> None:
    parts = parts_of(partitions=3)
    for number, symbol in enumerate("DAF"):
        parts.add(tick("14:30:10", symbol=symbol), partition=number)
    Process(parts).settle()
    assert parts.log.committed("kandle-bars", "ticks") == {0: 1, 1: 1, 2: 1}
    parts.clock.jump(t("14:31"))
    process = Process(parts).settle()
    process.beat()
    process.settle()
    assert sorted(finals_of(parts)) == [("A", 30, 1), ("D", 30, 1), ("F", 30, 1)]


@pytest.mark.parametrize("restarts", [False, True])
def test_after_a_full_disk_every_event_counts_once(restarts: bool) -> None:
    log = Full(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=1), "14:30", log=log)
    process = Process(parts)
    parts.add(tick("14:30:10"))
    process.settle()
    parts.add(tick("14:30:20"))
    parts.clock.jump(t("14:30:30") + HOUR)
    process.worker.attempt()
    log.is_full = True
    # No heartbeat comes that could be waited for.
    outwait(parts, lambda: process.worker.attempt() if process.worker.problem is None else None)
    assert str(process.worker.problem) == "the disk is full"
    log.is_full = False
    process.worker.attempt()
    assert process.worker.problem is None
    process.settle()
    if restarts:
        process = Process(parts).settle()
    process.beat()
    process.settle()
    assert finals_of(parts)[:2] == [("A", 30, 2), ("A", 31, 0)]
    assert max(bar.ticks for bar in bars(parts.log, "bars_1m_live")) == 2
    # What was rolled back and done again counts once, too.
    assert (parts.counters.events, parts.counters.heartbeats_applied) == (2, 1)
    assert parts.counters.timeframes["1m"].live == len(bars(parts.log, "bars_1m_live")) - len(finals_of(parts))


def test_a_long_outage_is_two_lines_its_beginning_and_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """```
    disk     full, and each attempt takes 15 s        not, and ticks come
    told     yes                                      that it is over
    ```"""
    monkeypatch.setattr(kandle.runtime.worker, "RETRY", 0)
    caplog.set_level(logging.INFO)
    log = Full(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=1), "14:30", log=log)
    process = Process(parts, commit_interval=0, idle=0).settle()
    parts.add(tick("14:30:10"))
    caplog.clear()
    log.is_full = True
    for attempt in range(20):
        parts.clock.jump(t("14:31") + attempt * 15 * SECOND)
        process.worker.attempt()
    assert [record.message for record in caplog.records] == [f"{GROUP}: the disk is full"]
    log.is_full = False
    for minute in range(37, 40):
        parts.clock.jump(t(f"14:{minute}"))
        parts.add(tick(f"14:{minute}:00"))
        process.worker.attempt()
    assert [record.message for record in caplog.records] == [f"{GROUP}: the disk is full", f"{GROUP}: the outage is over"]


def test_of_heartbeats_at_one_position_the_newest_instant_counts_in_whatever_order_they_stand() -> None:
    """A clock that was set back between two leaders: the older instant stands behind the newer one."""
    parts = parts_of()
    parts.add(tick("14:30:10"))
    parts.clock.jump(t("14:33"))
    Member(parts).poll().send(beat("14:32"))
    stale = Member(parts).poll()
    assert stale.leadership.fence is not None
    stale.sender._epoch, stale.sender._last = stale.leadership.fence.epoch, []
    stale.send(beat("14:30"))
    Process(parts).settle()
    assert [minute for _, minute, _ in finals_of(parts)] == [30, 31, 32]


def test_finals_leave_before_live_bars() -> None:
    parts = parts_of()
    worker = parts.worker(commit_interval=MINUTE)
    worker.step()
    parts.add(tick("14:30:10"))
    worker.step()
    parts.clock.jump(t("14:31:01"))
    parts.add(tick("14:30:20"), tick("14:31:00"), tick("14:31:01"))
    worker.step()
    # No heartbeat comes that could be waited for.
    outwait(parts, worker.step)
    assert finals_of(parts) == [("A", 30, 2)]
    assert [minute for _, minute, _ in finals_of(parts, "bars_1m_live")] == [30, 30]
    while parts.clock.now() < t("14:32:08"):
        parts.clock.jump(parts.clock.now() + SECOND)
        worker.step()
    assert finals_of(parts, "bars_1m_live")[2:] == [("A", 31, 2)]


BY_VENUE = market(Declared({"minutes": 1}, bar=VenueBar, key="venue"))
VENUES = ["north", "south", "east", "west", "centre", "coast"]


def test_events_that_are_copied_by_their_group_key_are_copied_once_also_over_restarts(tmp_path: Path) -> None:
    async def add(market: Any) -> None:
        await market.ticks.add_many_async([tick("14:30:10", symbol=symbol, venue=venue) for symbol in "ABC" for venue in VENUES])
        state_of(market).settle()

    async def check(market: Any) -> None:
        await add(market)
        await market.clock.advance_async("1m")
        assert {bar.venue: bar.ticks for bar in await market.finals_async(VenueBar, "1m")} == dict.fromkeys(VENUES, 9)
        batches = [read(state_of(market).log, "venue_bars_1m_final", number) for number in range(4)]
        placed = [{venue for batch in each for venue in batch.records.frame["venue"]} for each in batches]
        assert sum(len(each) for each in placed) == len(VENUES)
        assert sum(bool(each) for each in placed) > 1
        assert len(rows(state_of(market).log, "venue_bars_repartition")) == 54

    options = {"topics": {"ticks": {"partitions": 4}}}
    for _ in range(2):
        told(BY_VENUE, add, "14:30:20", tmp_path / "log", **options)
    told(BY_VENUE, check, "14:30:20", tmp_path / "log", **options)


def test_an_outage_is_told_once_also_when_a_round_within_it_goes_well(caplog: pytest.LogCaptureFixture) -> None:
    """
    disk     full   not   full ... not        full
    told     yes          no                  yes: long after, it is another one
    """
    log = Full(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=1), "14:30", log=log)
    process = Process(parts, commit_interval=0).settle()
    for second, is_full in [(10, True), (11, False), (12, True), (16, False), (20, False), (24, True)]:
        parts.clock.jump(t(f"14:30:{second}"))
        log.is_full = False
        parts.add(tick(f"14:30:{second}"))
        log.is_full = is_full
        process.worker.attempt()
        assert (process.worker.problem is not None) == is_full
    assert [record.message for record in caplog.records if "disk" in record.message] == [f"{GROUP}: the disk is full"] * 2


def test_a_backlog_is_copied_by_group_key_partition_by_partition_and_none_of_it_is_late(tmp_path: Path) -> None:
    """```
    source 0   A 14:20 .. A 14:29   all of it is copied first
    source 1   B 14:20 .. B 14:29   then all of this, into the same partition
    ```"""
    minutes = [at("14:20") + timedelta(minutes=number) for number in range(10)]

    async def add(market: Any) -> None:
        ticks = [tick(minute, symbol=symbol, venue="north") for minute in minutes for symbol in "ABCDEF"]
        await market.ticks.add_many_async(ticks)

    async def check(market: Any) -> None:
        await market.clock.advance_async("1m")
        assert [bar.ticks for bar in await market.finals_async(VenueBar, "1m")] == [6] * 10 + [0]
        assert market.health().queries[0].counters.late == 0

    options = {"topics": {"ticks": {"partitions": 4}}}
    told(BY_VENUE, add, "14:30:20", tmp_path / "log", access="write_only", **options)
    told(BY_VENUE, check, "14:30:20", tmp_path / "log", **options)


class Away(EmbeddedLog):
    """A log that cannot be reached when a group is joined for the first time."""

    attempts = 0

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        self.attempts += 1
        if self.attempts == 1:
            raise UnavailableError("partitions have no leader")
        return super().consumer(spec, listener)


def test_a_worker_that_starts_while_the_log_is_away_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kandle.runtime.worker, "RETRY", 0)
    log = Away(None, ManualClock(t("14:30")))
    worker = Parts(bars_market(minutes=1), "14:30", log=log).worker()
    problems: list[str] = []

    def joined() -> None:
        problems.append(str(worker.problem))
        worker.stop()

    worker.run(joined)
    assert problems == ["partitions have no leader"]
    assert (log.attempts, worker.state) == (2, QueryState.STOPPED)


class Reluctant(EmbeddedLog):
    """A log whose changelog cannot be read for a while."""

    failures = 0

    def read(self, partition: TopicPartition, *arguments: Any, **settings: Any) -> list[Batch]:
        if self.failures and partition.topic == "bars_changelog":
            self.failures -= 1
            raise UnavailableError("the changelog cannot be read now")
        return super().read(partition, *arguments, **settings)


def test_a_takeover_that_failed_is_made_up_for_and_nothing_is_lost_or_doubled() -> None:
    """
    first     ticks 1 2, committed
    second    takes over: fails, fails, succeeds; tick 3
    """
    log = Reluctant(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=1), "14:30", log=log)
    parts.add(tick("14:30:10"), tick("14:30:20"))
    Process(parts).settle()
    parts.add(tick("14:30:30"))
    second = Process(parts)
    log.failures = 2
    for _ in range(2):
        second.worker.attempt()
        assert str(second.worker.problem) == "the changelog cannot be read now"
    second.worker.attempt()
    assert second.worker.problem is None
    second.settle()
    parts.clock.jump(t("14:31"))
    second.beat()
    second.settle()
    assert finals_of(parts) == [("A", 30, 3)]


@pytest.mark.parametrize("restarts", [True, False])
def test_ticks_that_retention_removed_before_they_were_processed_are_counted_and_named(
    restarts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """
    offset    0          1 2 3            4
              committed  removed unread   counts
    """
    parts = parts_of()
    process = Process(parts)
    parts.add(tick("14:30:10"))
    process.settle()
    for second in (20, 30, 40, 50):
        parts.add(tick(f"14:30:{second}"))
    parts.log.truncate(TopicPartition("ticks", 0), 4)
    if restarts:
        process = Process(parts)
    process.settle()
    assert parts.counters.removed == 3
    lost = [record.message for record in caplog.records if "are gone before" in record.message]
    assert [text.partition(":")[0] for text in lost] == [
        f"records 1 to 3 of ticks, partition 0, are gone before group {GROUP} has read them"
    ]
    parts.clock.jump(t("14:31"))
    process.beat()
    process.settle()
    assert finals_of(parts) == [("A", 30, 2)]


def test_heartbeats_that_a_compaction_replaced_are_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of()
    parts.add(tick("14:30:10"))
    process = Process(parts).settle()
    for minute in (31, 32, 33):
        parts.clock.jump(t(f"14:{minute}"))
        process.beat()
    parts.log.truncate(TopicPartition(parts.topics.heartbeats, 0), 2)
    Process(parts).settle()
    assert parts.counters.removed == 0
    assert "are gone before" not in caplog.text
