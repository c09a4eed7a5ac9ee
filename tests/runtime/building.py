"""The parts of a running query, put together by hand on a log in memory with a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from kandle.context.context import Context
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.headers import header_rows
from kandle.log.letters import LetterRate
from kandle.log.port import Consumer, GroupSpec, Log, TopicPartition
from kandle.log.records import Batch, Records, Write
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.plan import Plan, plan
from kandle.plan.query_topics import QueryTopics
from kandle.plan.topics import entity_topic
from kandle.runtime.committing import Pace
from kandle.runtime.counters import Counters, TimeframeCounters
from kandle.runtime.heartbeats import HeartbeatSender, Leadership
from kandle.runtime.input import LONGEST_WAIT
from kandle.runtime.planner import DueHeartbeat, HeartbeatPlanner, closing_spec
from kandle.runtime.preparing import prepare_topics
from kandle.runtime.schedule import ScheduleProvider
from kandle.runtime.state import Replica, TaskContext
from kandle.runtime.worker import Worker
from kandle.store.port import Store
from kandle.time.clock import ManualClock
from kandle.time.timeframe import HOUR, MINUTE, SECOND, from_instant, parse_instant, to_instant
from tests.runtime.declarations import Bar, Hours, Tick, bars_market

FRIDAY = "2024-03-08"
GROUP = "kandle-bars"
FINALS = "bars_1m_final"

Restoring = Callable[[TaskContext, int], Replica]
"""How a worker gets the state of a partition that has come."""


def t(text: str) -> int:
    """An instant of Friday, 2024-03-08, or one that is written in full."""
    return parse_instant(text if "-" in text else f"{FRIDAY}T{text}")


def at(text: str) -> datetime:
    """The same as a datetime."""
    return from_instant(t(text))


def tick(time: str | datetime, price: int | str | None = 1, symbol: str = "A", size: int = 1, venue: str = "x") -> Tick:
    moment = at(time) if isinstance(time, str) else time
    return Tick(moment, symbol, None if price is None else Decimal(str(price)), size, venue)


def ticks_every(step: timedelta, first: str, until: str, **settings: Any) -> list[Tick]:
    """Ticks with prices 1, 2, 3 ..."""
    moments = range(t(first), t(until), step // timedelta(microseconds=1))
    return [tick(from_instant(moment), number, **settings) for number, moment in enumerate(moments, 1)]


def hours(opens: str, closes: str, symbol: str = "A", day: str | None = None) -> Hours:
    return Hours(symbol, datetime.fromisoformat(day).date() if day else at(opens).date(), at(opens), at(closes))


def frame_of(objects: Iterable[Any]) -> pl.DataFrame:
    """Physical rows of objects of one entity."""
    entities = list(objects)
    return mapping(entity_model(type(entities[0]))).to_frame(entities)


def read(log: Log, topic: str, partition: int = 0) -> list[Batch]:
    place = TopicPartition(topic, partition)
    return log.read(place, log.first(place), 1_000_000)


def rows(log: Log, topic: str) -> list[dict[str, Any]]:
    """The physical rows of all partitions."""
    every = [batch for number in range(log.topic(topic).partitions) for batch in read(log, topic, number)]
    return [row for batch in every for row in batch.records.frame.rows(named=True)]


def bars(log: Log, topic: str, entity: type = Bar) -> list[Any]:
    """The bars of a topic as they stand there, partition after partition."""
    every = [batch for number in range(log.topic(topic).partitions) for batch in read(log, topic, number)]
    return [bar for batch in every for bar in mapping(entity_model(entity)).from_frame(batch.records.frame)]


def gaps(log: Log, topic: str) -> list[bool]:
    """Whether each record of partition 0 says that it fills a gap."""
    return [headers == {"gap": "true"} for batch in read(log, topic) for headers in header_rows(batch.records)]


class Parts:
    """Log, clock and topics of one query; what is made of them belongs to one process named `member`."""

    def __init__(self, context: type[Context], start: str, *, partitions: int = 1, log: EmbeddedLog | None = None) -> None:
        clock = log.clock if log is not None else ManualClock(t(start))
        assert isinstance(clock, ManualClock)
        self.clock = clock
        self.log: Log = log if log is not None else EmbeddedLog(None, clock)
        model = context.model()
        self.plan: Plan = plan(model.queries[Bar])
        self._ensure(model.entities.values(), partitions)
        self.topics: QueryTopics = prepare_topics(self.log, [self.plan])[0]
        self.letter_rate: LetterRate | None = None
        self.counters = Counters(timeframes={bar.name: TimeframeCounters() for bar in self.plan.emitted})

    def _ensure(self, entities: Iterable[Any], partitions: int) -> None:
        for entity in entities:
            if entity.cls is Tick:
                self.log.ensure(replace(entity_topic(entity), partitions=partitions))
            elif entity.cls is not Bar:
                self.log.ensure(entity_topic(entity))

    @property
    def group_spec(self) -> GroupSpec:
        topics = tuple(dict.fromkeys([self.topics.source, self.topics.events, self.topics.heartbeats]))
        return GroupSpec(GROUP, topics, "one")

    def add(self, *objects: Any, partition: int = 0) -> None:
        """Append ticks or hours."""
        topic = "ticks" if isinstance(objects[0], Tick) else "hours"
        self.log.append([Write(topic, partition, Records(frame_of(objects)))])

    def provider(self, **settings: Any) -> ScheduleProvider:
        return ScheduleProvider(self.log, self.plan, self.clock, **settings)

    def context(
        self, schedule: ScheduleProvider | None = None, store: Store | None = None, expiry: int | None = None
    ) -> TaskContext:
        rate = self.letter_rate
        return TaskContext(self.log, self.clock, self.topics, self.counters, schedule, store, expiry, letter_rate=rate)

    def worker(self, member: str = "one", context: TaskContext | None = None, **pace: int) -> Worker:
        """A worker with leadership of its own, driven by `step`."""
        spec = GroupSpec(GROUP, self.group_spec.topics, member)
        leadership = Leadership(GROUP, self.topics.heartbeats)
        return Worker(context or self.context(), spec, leadership, Pace(**({"commit_interval": 1} | pace)))

    def planner(self, backfill: int = MINUTE) -> HeartbeatPlanner:
        return HeartbeatPlanner(closing_spec(self.plan), {bar.grace for bar in self.plan.bars}, backfill=backfill)

    def beats(self) -> list[dict[str, Any]]:
        """All heartbeats, of all partitions, in whole microseconds."""
        heartbeats = []
        for row in rows(self.log, self.topics.heartbeats):
            heartbeats.append(row | {"start": to_instant(row["start"]), "instant": to_instant(row["instant"])})
        return heartbeats


class Member:
    """A process as far as heartbeats go: it joins the group, leads or follows, and sends."""

    def __init__(self, parts: Parts, name: str = "one", lease: int = 5 * SECOND) -> None:
        self._parts = parts
        self.leadership = Leadership(GROUP, parts.topics.heartbeats)
        self.consumer: Consumer | None = None
        self.counters = Counters()
        self.sender = HeartbeatSender(parts.log, parts.topics, self.leadership, self.counters)
        spec = GroupSpec(GROUP, parts.group_spec.topics, name, lease=lease)
        self.consumer = parts.log.consumer(spec, self)

    def poll(self) -> Member:
        assert self.consumer is not None
        self.consumer.poll(0, 1_000)
        return self

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        assert self.consumer is not None
        self.leadership.assigned(partitions, self.consumer.assignment)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.leadership.revoked(partitions)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self.leadership.revoked(partitions)

    def send(self, *beats: DueHeartbeat) -> bool:
        return self.sender.send(beats)


def beat(start: str, grace: int = 0, base: int = MINUTE) -> DueHeartbeat:
    """The heartbeat of a bucket."""
    return DueHeartbeat(t(start) + base + grace, t(start), grace)


def instants(beats: Sequence[dict[str, Any]]) -> list[str]:
    """When the buckets of heartbeats were over, as texts."""
    return [from_instant(finals_of["instant"]).strftime("%H:%M:%S") for finals_of in beats]


class Process:
    """A whole process of one query, driven step by step: worker, planner and sender with one leadership."""

    def __init__(
        self, parts: Parts, store: Store | None = None, *, member: str = "one", restored: Restoring = Replica, **pace: int
    ) -> None:
        self._parts = parts
        self.leadership = Leadership(GROUP, parts.topics.heartbeats)
        chosen = Pace(**({"commit_interval": HOUR} | pace))
        spec = replace(parts.group_spec, member=member)
        self.worker = Worker(parts.context(store=store), spec, self.leadership, chosen, restored)
        self.sender = HeartbeatSender(parts.log, parts.topics, self.leadership, parts.counters)
        self.planner = parts.planner()

    def beat(self) -> None:
        """Send the heartbeats that are due."""
        self.sender.send(self.planner.due(self._parts.clock.now(), self.sender.last))

    def settle(self) -> Process:
        """Process and commit all there is."""
        while self.worker.step():
            pass
        self.worker.flush()
        return self


def outwait(parts: Parts, step: Callable[[], object]) -> None:
    """Let time pass until events that wait for a heartbeat wait no more, in steps that keep the leases."""
    for _ in range(LONGEST_WAIT // SECOND + 1):
        parts.clock.jump(parts.clock.now() + SECOND)
        step()


def parts_of(start: str = "14:30", partitions: int = 1, **windows: Any) -> Parts:
    """The parts of a query that makes bars of a minute, if not said otherwise."""
    return Parts(bars_market(**({"minutes": 1} | windows)), start, partitions=partitions)


def finals_of(parts: Parts, topic: str = FINALS) -> list[tuple[str, int, int]]:
    """(symbol, minute, ticks) of the bars in a topic."""
    return [(bar.symbol, bar.start.minute, bar.ticks) for bar in bars(parts.log, topic)]
