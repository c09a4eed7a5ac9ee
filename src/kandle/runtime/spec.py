"""How queries run: names, durations and places."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import time
from pathlib import Path

from kandle.plan.plan import HEARTBEATS
from kandle.runtime.topics import Retentions
from kandle.runtime.worker import Pace
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """How queries run; durations in microseconds.

    `instance` names the process in its groups, `group` begins the names of these. `expiry` is how long a key may be silent
    before it gets no more gap bars: 0 is for ever, -1 is for ever with a schedule and seven days without one.
    """

    instance: str
    group: str
    pace: Pace = field(default_factory=Pace)
    lease: int = 5 * SECOND
    retentions: Retentions = field(default_factory=Retentions)
    refuses_differences: bool = False
    """Whether a topic that is kept otherwise than declared is an error."""
    heartbeats: str = HEARTBEATS
    """What the names of the topics of heartbeats begin with."""
    backfill: int = MINUTE
    jitter: int = 5 * MILLISECOND
    refresh_at: time = time(0, 5)
    schedule_retry: int = 10 * SECOND
    expiry: int = -1
    universe: tuple[tuple[str, ...], ...] = ()
    state_folder: Path | None = None
    """Where RocksDB keeps a copy of the state; None keeps it in memory and the log only."""
    standby: bool = False
    """Whether the state of partitions that other processes own is kept ready here."""
