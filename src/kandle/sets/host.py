"""What sets need of the context that they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from kandle.plan.plan import BarPlan, Plan
from kandle.sets.blocking import ContextLoop
from kandle.sets.policies import MessageFailure
from kandle.time.clock import Clock

if TYPE_CHECKING:
    from kandle.log.letters import LetterRate
    from kandle.log.port import Log
    from kandle.model.entity import EntityModel
    from kandle.plan.topics import TopicSpec
    from kandle.sets.copies import Copy
    from kandle.sets.keys import Span
    from kandle.sets.skipping import SkipCounter
    from kandle.store.rows import TableRows
    from kandle.store.runs import SortedRuns


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """How records of a topic are consumed: as which member of which group, from where on, and how far ahead they are read.

    `letter_rate` limits dead letters of a consumer; None writes all of them. `letter_counts` counts them by their topic, which is
    created as `letter_topic` says for that of the records.
    """

    group: str
    member: str
    reset: Literal["earliest", "latest"]
    batch_rows: int
    prefetch_rows: int
    prefetch_bytes: int
    letter_rate: LetterRate | None = None
    letter_counts: Counter[str] = field(default_factory=Counter)
    letter_topic: Callable[[TopicSpec], TopicSpec] | None = None


class ContextHost(Protocol):
    """A context as its sets see it. What needs an open context raises StateError while it is not open."""

    @property
    def label(self) -> str:
        """How the context is written in messages, such as `market`."""

    @property
    def is_open(self) -> bool:
        """Whether the context is open."""

    @property
    def log(self) -> Log:
        """The log of the open context."""

    @property
    def clock(self) -> Clock:
        """The clock of the open context."""

    @property
    def loop(self) -> ContextLoop:
        """The event loop of the open context."""

    @property
    def closers(self) -> set[Callable[[], Awaitable[None]]]:
        """What is called before the log is closed: each finishes a stream of messages that is still open."""

    @property
    def skipped(self) -> SkipCounter:
        """Counts the messages that consumers skip."""

    @property
    def left_out(self) -> SkipCounter:
        """Counts the records that reads leave out, since they cannot be read."""

    def set_label(self, entity: type) -> str:
        """Return how the set of an entity is written in messages, such as `market.ticks`."""

    def bars_label(self, entity: type, timeframe: str) -> str:
        """Return how the bars of a timeframe are written in messages, such as `market.bars("1m")`."""

    def bars_hint(self) -> str:
        """Return which entities have bars, in brackets, for messages."""

    def reader(self, topic: str) -> ReaderSettings:
        """Return the settings of a new consumer of a topic."""

    def report_failure(self, failure: MessageFailure) -> None:
        """Tell the context of a message that has failed."""

    def plan_of(self, entity: type) -> Plan | None:
        """Return the plan of the entity's query; None without a query that has a window."""

    def table(self, entity: EntityModel) -> Copy[TableRows]:
        """Return the copy of a table on this machine, which is followed from the first call on."""

    def bars(self, entity: EntityModel, bar: BarPlan, span: Span) -> Copy[SortedRuns] | None:
        """Return the copy of the finals of a timeframe; None where they are read from the log."""

    async def write(self, topic: str, row: Any) -> None:
        """Append a single record together with others that are written at the same time."""

    def count_mismatch(self, count: int) -> None:
        """Count records that are in the topic of one version of their key only, although both are written."""

    def settle(self) -> None:
        """Do everything that is due, where time is moved by hand; nothing elsewhere."""
