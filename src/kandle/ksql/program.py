"""What one query becomes on ksqlDB: statements in their order, and where kandle finds what it needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kandle.ksql.statements import SetProperty, Statement
from kandle.model.entity import EntityModel
from kandle.time.timeframe import DAY

SHARED_PROPERTIES = {"auto.offset.reset": "earliest", "commit.interval.ms": "200"}
EMIT_INTERVAL = "ksql.streams.__emit.interval.ms.kstreams.windowed.aggregation__"


class Role(Enum):
    """Who makes finals: kandle from ksqlDB's open bars, or ksqlDB all by itself."""

    LIVE = "live"
    ALL = "all"

    @property
    def properties(self) -> dict[str, str]:
        """Properties that its queries run with."""
        return SHARED_PROPERTIES if self is Role.LIVE else SHARED_PROPERTIES | {EMIT_INTERVAL: "0"}

    @property
    def settings(self) -> tuple[Statement, ...]:
        """The properties as statements."""
        return tuple(SetProperty(name, value) for name, value in self.properties.items())


@dataclass(frozen=True, slots=True)
class WindowStore:
    """How long ksqlDB keeps windows, and how long after its end an open one takes events, in microseconds.

    `retention` must be longer than the longest silence, and than what is replayed after a restart.
    """

    retention: int = 7 * DAY
    grace: int = 6 * DAY

    @classmethod
    def of(cls, retention: int, grace: int | None = None) -> WindowStore:
        """The store of a retention; late events are taken until a day before a window goes, where nothing else is said."""
        return cls(retention, max(retention - DAY, 0) if grace is None else grace)


USUAL_STORE = WindowStore()


@dataclass(frozen=True, slots=True)
class LiveTable:
    """The table of open bars of the base timeframe: which of its columns hold what.

    `keys` are in the order of `group_by`; without it, the one column that is the same for all. `partials` names the columns by
    the engine's names of what they hold.
    """

    name: str
    topic: str
    keys: tuple[str, ...]
    start: str
    partials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ScheduleTable:
    """The table of session intervals by key that kandle writes: `id` is `keys.key_text` of the group key."""

    name: str
    topic: str
    partitions: int


def schedule_topic(schedule: EntityModel) -> str:
    """The topic of the session intervals of a schedule's keys."""
    return f"{schedule.topic}_by_key"


@dataclass(frozen=True, slots=True)
class Program:
    """The statements of one query, without those of entities that others share; `notes` are its limits."""

    statements: tuple[Statement, ...]
    notes: tuple[str, ...] = ()
    live: LiveTable | None = None
    schedule: ScheduleTable | None = None
    declares: Mapping[str, Statement] = field(default_factory=dict)
    """Statements that several queries share, by the name of what they declare: they come first, and each once."""
