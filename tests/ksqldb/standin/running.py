"""A persistent query at work on Kafka as Kafka Streams runs it: exactly once, in one hop or two, and with faults.

An aggregation brings each record to the partition of its key first, in an inner topic of the query, and adds it up from there. It
can be told to leave partitions alone for a while, and to die in the middle: it then begins again from what it has committed.
"""

from __future__ import annotations

import json
import math
import pickle
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from kandle.serde.keys import murmur2
from tests.ksqldb.simulator.executing import passes, projected, result, started, windows_of
from tests.ksqldb.simulator.querying import Plan
from tests.ksqldb.simulator.records import Record, event_time, inputs
from tests.ksqldb.simulator.sources import StreamOrTable
from tests.ksqldb.standin.formats import Records

COMMITTED_EVERY = 0.1


@dataclass
class Faults:
    """What goes wrong: partitions that are left alone until they are released, and how long (in seconds) the first life is.

    Each life is half as long again as the one before, so that on a busy machine one of them gets on as well.
    """

    held: frozenset[int] = frozenset()
    dies_after: float | None = None
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Setting:
    """Where a query runs."""

    bootstrap: str
    registry: str
    group: str
    faults: Faults


class RunningQuery:
    """One persistent query in a thread of its own."""

    def __init__(self, plan: Plan, sink: StreamOrTable, partitions: int, setting: Setting) -> None:
        self.plan, self.sink, self.setting = plan, sink, setting
        self._partitions = partitions
        self._inner = f"{setting.group}-Aggregate-GroupBy-repartition" if plan.collector is not None else None
        self._readers = {source.topic: (source, Records(source, setting.registry)) for _, source in plan.sources}
        self._written = Records(sink, setting.registry)
        self._stop = threading.Event()
        self.state = "RUNNING"
        self.deaths = 0
        self.problem: str | None = None
        self._make_topics()
        self._thread = threading.Thread(target=self._lives, daemon=True)
        self._thread.start()

    def _make_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.setting.bootstrap})
        names = [name for name in (self._inner, self.sink.topic) if name is not None]
        made = admin.create_topics([NewTopic(name, self._partitions, 1) for name in names])
        for future in made.values():
            if (error := future.exception()) is not None and "already exists" not in str(error):
                raise error

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def fail(self, problem: str) -> None:
        """Have it end as a query does whose record cannot be worked on."""
        self.stop()
        self.state, self.problem = "ERROR", problem

    def _lives(self) -> None:
        while not self._stop.is_set():
            life = _Life(self.plan, self.setting, self._inner, self._readers, self._written, self.sink, self._partitions)
            life.run(self._stop, 1.5**self.deaths)
            self.deaths += not self._stop.is_set()


class _Life:
    """From a start to a death: whatever was not committed is forgotten."""

    def __init__(
        self,
        plan: Plan,
        setting: Setting,
        inner: str | None,
        readers: dict[str, tuple[StreamOrTable, Records]],
        written: Records,
        sink: StreamOrTable,
        partitions: int,
    ) -> None:
        self._plan, self._setting, self._inner, self._sink = plan, setting, inner, sink
        self._readers, self._written, self._partitions = readers, written, partitions
        servers = {"bootstrap.servers": setting.bootstrap}
        self._producer = Producer({**servers, "transactional.id": f"{setting.group}-0", "linger.ms": 0})
        self._consumer = Consumer(
            {
                **servers,
                "group.id": setting.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "session.timeout.ms": 6_000,
            }
        )
        self._tables: dict[str, dict[Any, Record]] = {source.name: {} for _, source in plan.sources[1:]}
        self._groups: dict[str, Any] = {}
        self._held: list[TopicPartition] = []
        self._assigned_at = math.inf
        self._is_over = False

    def run(self, stop: threading.Event, length: float) -> None:
        """Work until it is stopped, or dies: after so many times the length of the first life, from the first assignment on."""
        dies_after = self._setting.faults.dies_after
        self._producer.init_transactions()
        topics = [*self._readers, *([self._inner] if self._inner else [])]
        self._consumer.subscribe(topics, on_assign=self._assigned)
        self._producer.begin_transaction()
        committed = time.monotonic()
        while not stop.is_set():
            self._resume()
            for message in self._consumer.consume(100, 0.02):
                self._take(message)
            if time.monotonic() - committed > COMMITTED_EVERY:
                if dies_after is not None and time.monotonic() - self._assigned_at > dies_after * length:
                    break
                self._commit()
                committed = time.monotonic()
        self._is_over = True
        self._producer.abort_transaction()
        self._consumer.close()

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if self._is_over:
            # A consumer that closes can still be given its first partitions, and answers no more questions.
            return
        consumer.assign(places)
        self._restore()
        self._assigned_at = min(self._assigned_at, time.monotonic())
        held = self._setting.faults.held
        self._held = [each for each in places if each.partition in held and each.topic not in self._table_topics]
        consumer.pause(self._held)

    @property
    def _table_topics(self) -> set[str]:
        return {source.topic for _, source in self._plan.sources if source.kind == "TABLE"}

    def _resume(self) -> None:
        """Go on with partitions that were left alone."""
        if self._held and self._setting.faults.released.is_set():
            self._consumer.resume(self._held)
            self._held = []

    def _restore(self) -> None:
        """Groups as of the last commit, and tables, whose rows are older than all events, from their topics."""
        self._groups.clear()
        for topic in self._table_topics:
            ends = {place.partition: self._consumer.get_watermark_offsets(place)[1] for place in self._places(topic)}
            for message in self._before(topic, ends):
                self._remember(message)
        if self._inner is not None:
            ends = {each.partition: each.offset for each in self._consumer.committed(self._places(self._inner), 30)}
            for message in self._before(self._inner, ends):
                self._grow(*pickle.loads(message.value()))

    def _places(self, topic: str) -> list[TopicPartition]:
        count = len(self._consumer.list_topics(topic).topics[topic].partitions)
        return [TopicPartition(topic, number) for number in range(count)]

    def _before(self, topic: str, ends: dict[int, int]) -> list[Any]:
        """The records below the committed positions."""
        reader = Consumer(
            {
                "bootstrap.servers": self._setting.bootstrap,
                "group.id": "reads",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        found: list[Any] = []
        for number, end in ends.items():
            if end <= 0:
                continue
            reader.assign([TopicPartition(topic, number, 0)])
            position = 0
            while position < end:
                for message in reader.consume(1_000, 1):
                    offset = message.offset()
                    assert offset is not None
                    position = offset + (message.error() is None)
                    if message.error() is None and offset < end:
                        found.append(message)
                    elif message.error() is not None:
                        position = end
        reader.close()
        return found

    def _take(self, message: Any) -> None:
        if message.error() is not None:
            return
        if message.topic() == self._inner:
            record = self._grow(*pickle.loads(message.value()))
            self._write(record, message.partition())
        elif message.topic() in self._table_topics:
            self._remember(message)
        else:
            self._source(message)

    def _remember(self, message: Any) -> None:
        source, records = self._readers[message.topic()]
        key = records._read(source.key_format, message.key(), source.keys, is_key=True)[source.keys[0].name]
        row = records.row(message.key(), message.value())
        if row is None:
            self._tables[source.name].pop(key, None)
        else:
            self._tables[source.name][key] = Record(row, event_time(source, row, message.timestamp()[1]))

    def _source(self, message: Any) -> None:
        """A record of the stream: through WHERE to the sink, or to the partition of its group."""
        source, records = self._readers[message.topic()]
        values = records.row(message.key(), message.value())
        if values is None:
            return
        record = Record(values, event_time(source, values, message.timestamp()[1]))
        every = {source.name: [record]} | {name: list(table.values()) for name, table in self._tables.items()}
        for row, found in inputs(self._plan, every):
            row["ROWOFFSET"] = message.offset()
            if not passes(self._plan, row):
                continue
            if self._inner is None:
                self._write(projected(self._plan, row, found), message.partition())
                continue
            keys = [group.run(row) for group in self._plan.groups]
            partition = (murmur2(repr(keys).encode()) & 0x7FFFFFFF) % self._partitions
            self._producer.produce(self._inner, pickle.dumps((row, found, keys)), repr(keys), partition)

    def _grow(self, row: dict[str, Any], record: Record, keys: Sequence[Any]) -> Record:
        """The group of a record with it."""
        (window,) = windows_of(self._plan.query.window, record.time)
        name = json.dumps([repr(keys), window])
        group = self._groups.setdefault(name, started(self._plan, keys, window))
        assert self._plan.collector is not None
        for aggregation in self._plan.collector.aggregations:
            group.running[aggregation.slot].add([argument.run(row) for argument in aggregation.arguments])
        group.time = max(each for each in (group.time, record.time, -1) if each is not None)
        return result(self._plan, group)

    def _write(self, record: Record, partition: int) -> None:
        window = record.window[0] if record.window is not None else None
        key, value = self._written.key(record.values, window), self._written.value(record.values)
        self._producer.produce(self._sink.topic, value, key, partition, timestamp=record.time or 0)

    def _commit(self) -> None:
        # Where it reads on, which is behind the marks of transactions: what Kafka Streams commits too.
        places = [place for place in self._consumer.position(self._consumer.assignment()) if place.offset >= 0]
        if not places:
            return
        self._producer.send_offsets_to_transaction(places, self._consumer.consumer_group_metadata())
        self._producer.commit_transaction()
        self._producer.begin_transaction()
