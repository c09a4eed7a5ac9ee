"""What the parts of one query in one process share."""

from __future__ import annotations

from dataclasses import dataclass

from kandle.log.port import Log
from kandle.plan.topics import QueryTopics
from kandle.runtime.counters import Counters
from kandle.runtime.schedule import ScheduleProvider
from kandle.store.port import Store
from kandle.time.clock import Clock


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task works with; `expiry` is how long a key may be silent before it gets no more gap bars (microseconds)."""

    log: Log
    clock: Clock
    topics: QueryTopics
    counters: Counters
    schedule: ScheduleProvider | None = None
    store: Store | None = None
    expiry: int | None = None
