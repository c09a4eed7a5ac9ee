"""The state of a context: closed, or open with log, clock and runtime; this is what its sets work with."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import TYPE_CHECKING, Any

from kandle.errors import StateError
from kandle.forks import check_threads
from kandle.model.entity import snake_case
from kandle.plan.plan import BarPlan, Plan
from kandle.sets.blocking import ContextLoop
from kandle.sets.host import ReaderSettings
from kandle.sets.policies import MessageFailure
from kandle.time.clock import Clock

if TYPE_CHECKING:
    # What runs in an open context is loaded when one is opened.
    from kandle.context.opened import Opened
    from kandle.log.port import Log
    from kandle.model.entity import EntityModel
    from kandle.sets.copies import Copy
    from kandle.sets.keys import Span
    from kandle.sets.skipping import SkipCounter
    from kandle.store.rows import TableRows
    from kandle.store.runs import SortedRuns


logger = logging.getLogger("kandle")


class ContextState:
    """The part of a context that users do not see; a `ContextHost` for the sets."""

    def __init__(
        self,
        name: str,
        plans: Mapping[type, Plan],
        set_names: Mapping[type, str],
        bar_sets: Set[type],
        on_message_error: Callable[[MessageFailure], None] = lambda failure: None,
    ) -> None:
        """Describe a context that is closed.

        Args:
            name: The name of the context's class.
            plans: The plan of each entity that a query with a window makes.
            set_names: The name of the declared set of each entity.
            bar_sets: The entities whose declared set is a `BarSet`.
            on_message_error: Is told of messages that fail.
        """
        self._name = name
        self._plans = plans
        self._set_names = set_names
        self._bar_sets = bar_sets
        self._on_message_error = on_message_error
        self._opened: Opened | None = None
        self._loop: ContextLoop | None = None
        self._closers: set[Callable[[], Awaitable[None]]] = set()

    @property
    def label(self) -> str:
        """How the context is written in messages, such as `market`."""
        return snake_case(self._name)

    @property
    def is_open(self) -> bool:
        """Whether the context is open; in a process that was forked from the one that has opened it, it is not."""
        return self._opened is not None and not self.is_inherited

    @property
    def is_inherited(self) -> bool:
        """Whether the context was opened in the process from which this one was forked: its threads do not exist here."""
        return self._loop is not None and not self._loop.is_of_this_process

    @property
    def opened(self) -> Opened:
        """What the open context holds.

        Raises:
            StateError: The context is not open, or was opened in the process from which this one was forked.
        """
        if self._opened is None or self._loop is None:
            raise StateError(
                f"the context is not open; write `with {self._name}.open() as {self.label}:`, or `async with` in a coroutine"
            )
        self._loop.check_process()
        return self._opened

    def open(self, make: Callable[[], Opened]) -> None:
        """Open the log and start the queries.

        Args:
            make: A function that does it.

        Raises:
            StateError: This process was forked from one in which contexts or Polars have worked.
        """
        check_threads()
        self._opened = make()

    def enter(self) -> None:
        """Take the running event loop as that of the context."""
        if self.is_open:
            raise StateError(f"this {self._name} is open already; make another one")
        self._loop = ContextLoop(self._name)

    def leave(self) -> ContextLoop:
        """Count as closed from now on.

        Returns:
            The event loop of the context.
        """
        assert self._loop is not None
        loop, self._loop, self._opened = self._loop, None, None
        return loop

    @property
    def closers(self) -> set[Callable[[], Awaitable[None]]]:
        """What is called before the log is closed: each finishes a stream of messages that is still open."""
        return self._closers

    async def close_streams(self) -> None:
        """Finish the streams of messages that are still open, such as that of an `async for` that was left by `break`."""
        while self._closers:
            await self._closers.pop()()

    @property
    def log(self) -> Log:
        """The log of the open context."""
        return self.opened.log

    @property
    def clock(self) -> Clock:
        """The clock of the open context."""
        return self.opened.clock

    @property
    def loop(self) -> ContextLoop:
        """The event loop of the open context."""
        _ = self.opened
        assert self._loop is not None
        return self._loop

    @property
    def skipped(self) -> SkipCounter:
        """Counts the messages that consumers skip."""
        return self.opened.skipped

    @property
    def left_out(self) -> SkipCounter:
        """Counts the records that reads leave out, since they cannot be read."""
        return self.opened.left_out

    def set_label(self, entity: type) -> str:
        """Return how the set of an entity is written in messages.

        Args:
            entity: The class of the entity.

        Returns:
            A text such as `market.ticks`.
        """
        name = self._set_names.get(entity)
        return f"{self.label}.set({entity.__name__})" if name is None else f"{self.label}.{name}"

    def bars_label(self, entity: type, timeframe: str) -> str:
        """Return how the bars of a timeframe are written in messages.

        Args:
            entity: The class of the bars.
            timeframe: The name of the timeframe.

        Returns:
            A text such as `market.bars("1m")`.
        """
        if entity in self._bar_sets:
            return f'{self.set_label(entity)}("{timeframe}")'
        return f'{self.label}.set({entity.__name__}, "{timeframe}")'

    def bars_hint(self) -> str:
        """Return which entities have bars, in brackets, for messages."""
        return f" (bars there are: {', '.join(entity.__name__ for entity in self._plans) or 'none'})"

    def reader(self, topic: str) -> ReaderSettings:
        """Return the settings of a new consumer of a topic."""
        return self.opened.reader(topic)

    def report_failure(self, failure: MessageFailure) -> None:
        """Tell the context of a message that has failed; an error of its hook changes nothing for the message."""
        try:
            self._on_message_error(failure)
        except Exception:
            logger.exception("on_message_error of %s has failed", self._name)

    def plan_of(self, entity: type) -> Plan | None:
        """Return the plan of the entity's query; None without a query that has a window."""
        return self._plans.get(entity)

    def table(self, entity: EntityModel) -> Copy[TableRows]:
        """Return the copy of a table on this machine, which is followed from the first call on."""
        return self.opened.copies.table(entity)

    def bars(self, entity: EntityModel, bar: BarPlan, span: Span) -> Copy[SortedRuns] | None:
        """Return the copy of the finals of a timeframe; None where they are read from the log."""
        return self.opened.copies.bars(entity, bar, span)

    async def write(self, topic: str, row: Any) -> None:
        """Append a single record together with others that are written at the same time."""
        await self.opened.writer.write(topic, row)

    def count_mismatch(self, count: int) -> None:
        """Count records that are in the topic of one version of their key only, although both are written."""
        self.opened.dual_write_mismatch += count

    def settle(self) -> None:
        """Do everything that is due, where time is moved by hand; nothing elsewhere."""
        self.opened.settle()
