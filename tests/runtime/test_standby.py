"""Warm standby: what a process takes over from it is what the log says, at any point, and nothing is read that it knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kandle.runtime.state
from kandle.engine.pipeline import Pipeline
from kandle.errors import StateError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import TopicPartition
from kandle.runtime.standby import Standby
from kandle.runtime.state import Replica, TaskContext
from kandle.store.memory import MemoryStore
from kandle.time.clock import ManualClock
from tests.runtime.building import Parts, Process, finals_of, hours, parts_of, read, t, tick
from tests.runtime.declarations import bars_market
from tests.runtime.test_restarts import Action, Told, actions

CHANGELOG = TopicPartition("bars_changelog", 0)


def same(one: Pipeline, other: Pipeline) -> bool:
    """Whether two pipelines have the same state; the order of open buckets has no meaning."""
    left, right = one.snapshot(), other.snapshot()
    return left.keys() == right.keys() and all(ordered(frame).equals(ordered(right[name])) for name, frame in left.items())


def ordered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(frame.columns)


class Followed(Told):
    """Each process is replaced by one in whose place a standby has followed what was committed.

    What stands before a snapshot is forgotten at once, or, as brokers may do it, later.
    """

    def __init__(self, *, is_whole: bool, forgets: bool = True) -> None:
        self._standby: Standby | None = None
        self._forgets = forgets
        super().__init__(None, is_whole=is_whole, copies=False)

    def _started(self) -> Process:
        if self._standby is None:
            self._standby = Standby(self.parts.context(), self.parts.log, lambda: ())
            if not self._forgets:
                self.parts.log.truncate = lambda *_: None  # type: ignore[method-assign]
        process = Process(self.parts, restored=self._restored)
        process.worker.step()
        return process

    def _restored(self, context: TaskContext, partition: int) -> Replica:
        assert self._standby is not None
        kept, alone = self._standby.replica(context, partition), Replica(context, partition)
        assert same(kept.pipeline, alone.pipeline)
        assert kept.watermark.value == alone.watermark.value
        assert not kept.journal
        assert not alone.has_state or kept.changelog._chain == alone.changelog._chain
        return kept

    def _stand(self, _: None) -> None:
        assert self._standby is not None
        if not self._is_whole:
            self._standby.step()


@contextmanager
def snapshots_after(least: int) -> Iterator[None]:
    """Snapshots are written when changes are so large."""
    before = kandle.runtime.state.LEAST_CHANGES
    kandle.runtime.state.LEAST_CHANGES = least
    try:
        yield
    finally:
        kandle.runtime.state.LEAST_CHANGES = before


@settings(max_examples=40)
@given(actions(30, "commit", "stand", "stand", "stand", "crash"), st.sampled_from([0, 5_000, 1 << 20]), st.booleans())
def test_restored_through_a_standby_state_and_finals_are_those_of_the_log_alone(
    story: list[Action], least: int, forgets: bool
) -> None:
    with snapshots_after(least):
        told = Followed(is_whole=False, forgets=forgets).tell(story)
    whole = Followed(is_whole=True).tell(story)
    assert told.finals == whole.finals
    assert told.headers == whole.headers
    assert told.live == whole.live


@pytest.mark.parametrize("forgets", [True, False])
def test_the_stories_of_this_law_do_take_over_warm_between_and_behind_snapshots(forgets: bool) -> None:
    story: list[Action] = [("add", [(0, "A", 5), (1, "B", 6)]), ("commit", None), ("stand", None), ("stand", None)]
    story += [("add", [(2, "A", 7)]), ("commit", None), ("crash", None), ("move", 61), ("commit", None)]
    with snapshots_after(0):
        told = Followed(is_whole=False, forgets=forgets).tell([*story * 3])
    assert told.parts.counters.warm == 3
    assert len(told.finals["1m"]) > 4


def standby_of(parts: Parts, *owned: int, store: MemoryStore | None = None) -> Standby:
    return Standby(parts.context(store=store), parts.log.connect(), lambda: owned)


def reads(log: Any) -> list[tuple[TopicPartition, int]]:
    """Has the log write down what is read."""
    reads: list[tuple[TopicPartition, int]] = []
    whole = log.read

    def read(place: TopicPartition, offset: int, *more: Any) -> Any:
        reads.append((place, offset))
        return whole(place, offset, *more)

    log.read = read
    return reads


def committed(parts: Parts, count: int = 5) -> Process:
    """A process that has made so many commits."""
    process = Process(parts)
    for second in range(count):
        parts.add(tick(f"14:30:{second:02d}"))
        process.settle()
    return process


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_of_a_partition_that_was_followed_only_the_newest_is_read(store: MemoryStore | None) -> None:
    parts = parts_of()
    owner, standby = committed(parts), standby_of(parts, store=store)
    standby.step()
    parts.add(tick("14:30:30"))
    owner.settle()
    owner.worker.close()
    offsets = reads(parts.log)
    follower = Process(parts, store, member="two", restored=standby.replica).settle()
    assert min(offset for place, offset in offsets if place == CHANGELOG) == 4
    assert (parts.counters.restored, parts.counters.warm) == (1, 1)
    parts.clock.jump(t("14:31"))
    follower.beat()
    follower.settle()
    assert finals_of(parts) == [("A", 30, 6)]


def test_what_a_standby_has_copied_is_believed_at_the_next_start() -> None:
    parts, store = parts_of(), MemoryStore()
    owner, standby = committed(parts, 2), standby_of(parts, store=store)
    standby.step()
    parts.add(tick("14:30:30"))
    owner.settle()
    standby.step()
    offsets = reads(parts.log)
    Replica(parts.context(store=store), 0)
    assert min(offset for place, offset in offsets if place == CHANGELOG) == 2


def in_three_partitions() -> Parts:
    """A query with state in each of three partitions."""
    parts = parts_of(partitions=3)
    for number, symbol in enumerate("DAF"):
        parts.add(tick("14:30:10", symbol=symbol), partition=number)
    Process(parts).settle()
    return parts


def test_a_partition_without_state_is_not_ready() -> None:
    parts = parts_of(partitions=3)
    standby = standby_of(parts)
    standby.step()
    assert standby.partitions == ()
    parts.add(tick("14:30:10", symbol="A"), partition=1)
    Process(parts).settle()
    standby.step()
    standby.step()
    assert standby.partitions == (1,)


def test_only_partitions_of_others_are_followed_as_they_come_and_go() -> None:
    parts = in_three_partitions()
    owned = {0}
    standby = Standby(parts.context(), parts.log, lambda: owned)
    standby.step()
    assert standby.partitions == (1, 2)
    owned |= {1}
    standby.step()
    assert standby.partitions == (2,)
    owned -= {0, 1}
    standby.step()
    assert standby.partitions == (0, 1, 2)


def test_two_workers_take_over_from_each_other_and_no_tick_is_lost_or_counted_twice() -> None:
    parts = parts_of(partitions=2)
    parts.add(tick("14:30:10", symbol="A"), partition=0)
    parts.add(tick("14:30:10", symbol="D"), partition=1)
    process = Process(parts).settle()
    for number, member in enumerate(["two", "one", "two"], 1):
        standby = standby_of(parts)
        standby.step()
        process.worker.close()
        process = Process(parts, member=member, restored=standby.replica)
        parts.add(tick(f"14:30:2{number}", symbol="A"), partition=0)
        parts.add(tick(f"14:30:2{number}", symbol="D"), partition=1)
        process.settle()
    parts.clock.jump(t("14:31"))
    process.beat()
    process.settle()
    assert sorted(finals_of(parts)) == [("A", 30, 4), ("D", 30, 4)]
    assert parts.counters.warm == 6


def test_a_round_without_news_reads_nothing() -> None:
    parts = parts_of(partitions=2)
    owner, standby = committed(parts), standby_of(parts)
    standby.step()
    offsets = reads(parts.log)
    standby.step()
    assert offsets == []
    parts.add(tick("14:30:40"))
    owner.settle()
    offsets.clear()
    standby.step()
    assert offsets == [(CHANGELOG, 4)]


def test_a_standby_that_missed_a_snapshot_begins_anew_with_it() -> None:
    parts = parts_of()
    process, standby = committed(parts, 2), standby_of(parts)
    standby.step()
    with snapshots_after(0):
        for second in range(10, 20):
            parts.add(tick(f"14:30:{second}"))
            process.settle()
    assert parts.log.first(CHANGELOG) > 2
    standby.step()
    assert standby.partitions == ()
    standby.step()
    assert standby.partitions == (0,)
    kept, alone = standby.replica(parts.context(), 0), Replica(parts.context(), 0)
    assert same(kept.pipeline, alone.pipeline)
    assert parts.counters.warm == 1


def test_a_snapshot_that_is_followed_takes_the_place_of_all_before_it() -> None:
    parts = parts_of()
    parts.log.truncate = lambda *_: None  # type: ignore[method-assign]
    process, standby = committed(parts, 2), standby_of(parts)
    standby.step()
    with snapshots_after(0):
        for second in range(10, 20):
            parts.add(tick(f"14:30:{second}", symbol=f"S{second}"))
            process.settle()
    standby.step()
    kinds = [kind for batch in read(parts.log, "bars_changelog") for kind in batch.records.frame["kind"]]
    assert kinds.count("snapshot") > 1
    kept, alone = standby.replica(parts.context(), 0), Replica(parts.context(), 0)
    assert same(kept.pipeline, alone.pipeline)
    assert parts.counters.warm == 1


def test_with_a_schedule_a_snapshot_is_followed_with_the_sessions_that_it_was_made_with() -> None:
    """
    14:30            14:35    (row is added at 14:33)     14:40
      |=================|----------------------------------|
      |====================================================|
    """
    parts = Parts(bars_market(minutes=1, scheduled=True), "14:30")
    parts.log.truncate = lambda *_: None  # type: ignore[method-assign]
    parts.add(hours("14:30", "14:35"))
    worker = parts.worker(context=parts.context(parts.provider()))
    standby = Standby(parts.context(), parts.log, lambda: (), parts.provider())
    for minute, closes in [(30, None), (33, "14:40"), (36, None)]:
        parts.clock.jump(t(f"14:{minute}:10"))
        if closes is not None:
            parts.add(hours("14:30", closes))
        parts.add(tick(f"14:{minute}:05"))
        worker.step()
        worker.flush()
        standby.step()
    context = parts.context(parts.provider())
    assert context.schedule is not None and context.schedule.refresh()
    kept, alone = standby.replica(context, 0), Replica(context, 0)
    assert parts.counters.warm == 1
    assert same(kept.pipeline, alone.pipeline)
    # Buckets beyond the first schedule's end are known to both.
    counts = [sum(finals.bars.height for finals in each.pipeline.advance(t("14:39"))) for each in (kept, alone)]
    assert counts == [3, 3]


def test_of_a_changelog_that_was_replaced_nothing_is_taken_over() -> None:
    """Deleted and made anew, it may have the same offsets."""
    before, after = parts_of(), parts_of()
    committed(before, 5)
    standby = standby_of(before)
    standby.step()
    other = Process(after)
    for second in range(8):
        after.add(tick(f"14:30:{second:02d}", symbol="B"))
        other.settle()
    kept = standby.replica(after.context(), 0)
    assert after.counters.warm == 0
    assert same(kept.pipeline, Replica(after.context(), 0).pipeline)


def test_state_of_another_query_is_told_once_and_is_an_error_for_who_takes_it_over(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of(minutes=1)
    committed(parts).worker.close()
    other = Parts(bars_market(minutes=2), "14:30", log=parts.log)  # type: ignore[arg-type]
    standby = standby_of(other)
    # Its topics are new.
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        standby.round()
        standby.round()
    assert [record.message for record in caplog.records] == [
        "standby of bars_changelog: the state in topic bars_changelog belongs to another declaration of Bar: run the one that "
        "made it, or give Bar another topic, and the bars of the changed declaration start there"
    ]
    with pytest.raises(StateError):
        Process(other, member="two", restored=standby.replica).settle()


def test_a_partition_that_is_taken_over_while_it_is_read_is_not_kept() -> None:
    class Taken(EmbeddedLog):
        """A log in which somebody takes the partition over whenever its changelog is read."""

        def read(self, partition: TopicPartition, *more: Any) -> Any:
            batches = super().read(partition, *more)
            if partition == CHANGELOG and standby.partitions:
                taken.append(standby.replica(parts.context(), 0))
            return batches

    taken: list[Replica] = []
    parts = Parts(bars_market(minutes=1), "14:30", log=Taken(None, ManualClock(t("14:30"))))
    standby = standby_of(parts)
    owner = committed(parts)
    standby.step()
    parts.add(tick("14:30:30"))
    owner.settle()
    standby.step()
    assert len(taken) == 1 and standby.partitions == ()
    assert same(taken[0].pipeline, Replica(parts.context(), 0).pipeline)


def test_between_the_partitions_of_a_round_it_rests_and_may_be_stopped() -> None:
    parts = in_three_partitions()
    standby = standby_of(parts)
    rests: list[int] = []

    def rest(worked: int) -> bool:
        rests.append(worked)
        return len(rests) == 2

    standby.step(rest)
    assert standby.partitions == (0, 1)
