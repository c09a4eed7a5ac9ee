"""Sets of bars: `BarSet` for all timeframes of a query, and `TimeBucket` for the bars of one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

import polars as pl
from anyio import to_thread

from kandle.errors import AccessError, ModelError
from kandle.model.columns import to_logical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.plan.plan import BarPlan
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import Access, ContextHost
from kandle.sets.keys import KeyPrefix, bar_key_fields, physical_key
from kandle.sets.sets import EntitySet, made_by_query
from kandle.time.timeframe import Timeframe, as_timeframe

if TYPE_CHECKING:
    from kandle.sets.dead_letters import DeadLetterSet
    from kandle.sets.reading import Instant

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class TimeBucket(EntitySet[T]):
    """The bars of one timeframe: `market.bars("1m")`.

    Iterating gives final bars, from the position of the consumer group on. Methods `to_*` read what is stored.

    Example:
        market.bars("1m").to_list(["north", "ACME"], start="2024-03-08T14:30Z", include_live=True)
    """

    _bar: BarPlan | None = None
    is_live: bool = False

    def __repr__(self) -> str:
        return f"TimeBucket({self.entity.name}, {self._plan.name}{', live' if self.is_live else ''})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise _missing(self, name)

    @property
    def _label(self) -> str:
        return self._host.bars_label(self.entity.cls, self._plan.name)

    @property
    def _plan(self) -> BarPlan:
        assert self._bar is not None
        return self._bar

    @property
    def timeframe(self) -> Timeframe:
        """The timeframe of the bars."""
        return self._plan.timeframe

    @property
    def topic(self) -> str:
        """The topic that iterating reads."""
        return self._plan.live_topic if self.is_live else self._plan.final_topic

    @property
    def live(self) -> Self:
        """The live bars: the current value of each open bucket, whenever it changes; its last value is the final bar."""
        return replace(self, is_live=True)

    def dead_letters(self) -> DeadLetterSet[T]:
        """Return the dead letters of the bars of this timeframe.

        Returns:
            Bars that do not fit their entity, events and records of which no bar could be made, and bars that a consumer could
            not handle.
        """
        from kandle.plan.topics import dead_letter_name
        from kandle.sets.dead_letters import DeadLetterSet
        from kandle.sets.letters import LetterFilter

        topics = (dead_letter_name(self.entity.topic), dead_letter_name(self.topic))
        name = f"{self._label}.dead_letters()"
        chosen = LetterFilter(timeframe=self._plan.name)
        return DeadLetterSet(self._host, self.entity, self.access, topics, self.topic, name, chosen)

    @awaited
    async def to_list_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
    ) -> list[T]:
        """Return bars as objects.

        Args:
            key_prefix: The first parts of the bars' keys, as values or as text; all keys without it. The start of a bar
                may be the last part.
            start: The first start of bars, as an aware datetime or an ISO 8601 text; None for the oldest bars.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.

        Returns:
            The bars by key and start.

        Raises:
            DataError: A part of the key does not fit its field, or there are too many.
            AccessError: The context was opened for writing only.
        """
        return mapping(self.entity).from_frame(await self._frame(key_prefix, start, end, include_live))

    to_list = blocking(to_list_async)

    @awaited
    async def to_polars_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
    ) -> pl.DataFrame:
        """Return bars as a Polars frame with exact decimals.

        Args:
            key_prefix: The first parts of the bars' keys, as for `to_list`.
            start: The first start of bars; None for the oldest.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.

        Returns:
            A row for each bar, by key and start.
        """
        return to_logical(self.entity, await self._frame(key_prefix, start, end, include_live))

    to_polars = blocking(to_polars_async)

    @awaited
    async def to_arrow_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
    ) -> Any:
        """Return bars as an Arrow table; pyarrow must be installed.

        Args:
            key_prefix: The first parts of the bars' keys, as for `to_list`.
            start: The first start of bars; None for the oldest.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.

        Returns:
            A `pyarrow.Table` with a row for each bar, by key and start.
        """
        return to_logical(self.entity, await self._frame(key_prefix, start, end, include_live)).to_arrow()

    to_arrow = blocking(to_arrow_async)

    @awaited
    async def to_pandas_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
        floats: bool = False,
    ) -> Any:
        """Return bars as a pandas frame; pandas and pyarrow must be installed.

        Args:
            key_prefix: The first parts of the bars' keys, as for `to_list`.
            start: The first start of bars; None for the oldest.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.
            floats: Whether decimals become floats, with which pandas computes faster but not exactly.

        Returns:
            A `pandas.DataFrame` with a row for each bar, by key and start.
        """
        frame = to_logical(self.entity, await self._frame(key_prefix, start, end, include_live))
        return (frame.with_columns(pl.col(pl.Decimal).cast(pl.Float64)) if floats else frame).to_pandas()

    to_pandas = blocking(to_pandas_async)

    async def _frame(self, key_prefix: KeyPrefix, start: Instant | None, end: Instant | None, include_live: bool) -> pl.DataFrame:
        from kandle.sets.reading import BarReader, span_of

        self._check_read()
        key = physical_key(self.entity, bar_key_fields(self.entity), key_prefix)
        self._host.settle()
        reader = BarReader(self._host.log, self.entity, self._plan)
        read = reader.finals_and_live if include_live or self.is_live else reader.finals
        return self._newest(await to_thread.run_sync(read, key, span_of(start, end)))

    def _newest(self, bars: pl.DataFrame) -> pl.DataFrame:
        if self.newest is None or self.entity.timestamp is None:
            return bars
        row = pl.int_range(pl.len())
        kept = bars.with_columns(_row=row).sort(self.entity.timestamp.name, maintain_order=True).tail(self.newest)
        return kept.sort("_row").drop("_row")


@dataclass(frozen=True, slots=True, repr=False)
class BarSet(Generic[T]):
    """The bars that a query makes, in all its timeframes; called with a timeframe it gives the bars of that one.

    Example:
        class Market(Context):
            bars: BarSet[Bar]

        market.bars("5m").to_polars()
    """

    _host: ContextHost
    entity: EntityModel
    access: Access = "read_write"

    def __repr__(self) -> str:
        return f"BarSet({self.entity.name}: {', '.join(map(str, self.timeframes))})"

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        """The timeframes of the bars, the shortest first."""
        plan = self._host.plan_of(self.entity.cls)
        return () if plan is None else tuple(bar.timeframe for bar in plan.emitted)

    def __call__(self, timeframe: Timeframe | str) -> TimeBucket[T]:
        """Return the bars of one timeframe.

        Args:
            timeframe: The timeframe, as a text such as `5m` or as `Period.minutes(5)`.

        Raises:
            ModelError: The query has no such timeframe.
            TimeframeError: The text is not a timeframe.
        """
        return time_bucket(self._host, self.entity, timeframe, self.access)

    def dead_letters(self) -> DeadLetterSet[T]:
        """Return the dead letters of the query: bars that do not fit their entity, and what no bar could be made of.

        Returns:
            The letters of all timeframes.
        """
        from kandle.plan.topics import dead_letter_name
        from kandle.sets.dead_letters import DeadLetterSet

        topic = self.entity.topic
        name = f"{self._host.set_label(self.entity.cls)}.dead_letters()"
        return DeadLetterSet(self._host, self.entity, self.access, (dead_letter_name(topic),), topic, name)

    if not TYPE_CHECKING:
        # Type checkers name what is wrong before anything runs; for others each use without a timeframe says it.

        def __getattr__(self, name: str) -> NoReturn:
            if name in PER_TIMEFRAME:
                raise ModelError(self._which(f".{name}"))
            raise _missing(self, name)

        def __iter__(self) -> Iterator[T]:
            raise ModelError(self._which(""))

        def __aiter__(self) -> AsyncIterator[T]:
            raise ModelError(self._which(""))

    def _which(self, use: str) -> str:
        names = [str(timeframe) for timeframe in self.timeframes]
        label = self._host.bars_label(self.entity.cls, names[0])
        return f"{self.entity.name} has bars of {', '.join(names)}; say which: {label}{use}"


PER_TIMEFRAME = frozenset(name for name in dir(TimeBucket) if not name.startswith("_")) - set(dir(BarSet))
"""Public names that only the bars of one timeframe have."""


def time_bucket(host: ContextHost, entity: EntityModel, timeframe: Timeframe | str, access: Access) -> TimeBucket[Any]:
    """Return the bars of one timeframe.

    Args:
        host: The context.
        entity: The entity of the bars.
        timeframe: The timeframe, as a text such as `5m` or as `Period.minutes(5)`.
        access: The access of the context.

    Returns:
        The set of the bars.

    Raises:
        ModelError: The entity has no query with a window, or the query has no such timeframe.
        TimeframeError: The text is not a timeframe.
    """
    plan = host.plan_of(entity.cls)
    if plan is None:
        raise ModelError(f"{entity.name} has no query with a window, so there are no bars of it{host.bars_hint()}")
    declared = {bar.name: bar for bar in plan.emitted}
    name = str(timeframe) if str(timeframe) in declared else str(as_timeframe(timeframe))
    if name not in declared:
        raise ModelError(f"{entity.name} has no bars of {name}; declared are {', '.join(declared)}")
    return TimeBucket(host, entity, access, _bar=declared[name])


WRITING = ("add", "add_async", "add_many", "add_many_async")


def _missing(bars: TimeBucket[Any] | BarSet[Any], name: str) -> Exception:
    if name in WRITING:
        return AccessError(made_by_query(bars.entity))
    return AttributeError(f"{type(bars).__name__} has no attribute {name!r}")
