"""When finals on a cluster could be read by anybody: a plain client notes the time at which each of them came."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from kandle.log.port import Log
from kandle.time.clock import SystemClock
from tests.soak.comparing import BASE, read
from tests.soak.declaration import GRACE


@dataclass(frozen=True, slots=True)
class Seen:
    """By partition when finals came, ascending, and when they were due (microseconds)."""

    times: dict[int, np.ndarray]
    due: dict[int, np.ndarray]

    def next(self, partition: int, after: int) -> int:
        """When the first final after an instant came."""
        times = self.times[partition]
        position = int(np.searchsorted(times, after, side="right"))
        assert position < len(times), f"partition {partition} had no final any more"
        return int(times[position])

    def delay(self, partition: int, begin: int, end: int) -> int:
        """How long after it was due a final came, at most, of those that came from one instant to another."""
        times = self.times[partition]
        chosen = slice(*np.searchsorted(times, [begin, self.next(partition, end)], side="right"))
        return int((times - self.due[partition])[chosen].max())


def longest_silence(seen: Seen, begin: int, end: int) -> int:
    """The longest time for which any partition had no final."""
    found = 0
    for times in seen.times.values():
        inside = times[(begin < times) & (times < end)]
        found = max(found, int(np.diff(np.concatenate([[begin], inside, [end]])).max()))
    return found


class Watch:
    """Reads a topic in a thread of its own, from its present end on; what is in open transactions is not there yet."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._topic = topic
        self._clock = SystemClock()
        self._times: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._stop = threading.Event()
        settings = {"bootstrap.servers": bootstrap, "group.id": "watch", "isolation.level": "read_committed"}
        self._client = Consumer({**settings, "enable.auto.commit": False, "fetch.wait.max.ms": 10, "auto.offset.reset": "latest"})
        self._client.assign([TopicPartition(topic, number) for number in range(partitions)])
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            messages = [*self._client.consume(1, 0.1), *self._client.consume(10_000, 0)]
            now = self._clock.now()
            for message in messages:
                partition, offset = message.partition(), message.offset()
                if message.error() is None and partition is not None and offset is not None:
                    self._times[partition][offset] = now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def seen(self, log: Log) -> Seen:
        """All that came; the log says for which buckets."""
        times, due = dict[int, np.ndarray](), dict[int, np.ndarray]()
        for partition, came in self._times.items():
            batches = read(log, self._topic, partition)
            offsets = np.concatenate([batch.offsets for batch in batches])
            ends = np.concatenate([batch.records.frame["start"].to_physical().to_numpy() for batch in batches]) + BASE + GRACE
            known = [position for position, offset in enumerate(offsets.tolist()) if offset in came]
            times[partition] = np.array([came[offset] for offset in offsets[known].tolist()])
            due[partition] = ends[known]
        return Seen(times, due)
