"""Sets of bars: `BarSet` for all timeframes of a query, and `TimeBucket` for the bars of one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

import polars as pl

from kandle.errors import AccessError, DataError, ModelError
from kandle.model.columns import physical_schema, to_logical
from kandle.model.entity import EntityModel
from kandle.model.markers import Access
from kandle.model.stored import stored_columns
from kandle.plan.plan import BarPlan
from kandle.sets.blocking import awaited, blocking
from kandle.sets.entity_set import EntitySet
from kandle.sets.host import ContextHost
from kandle.sets.keys import KeyPrefix, bar_key_fields, physical_key
from kandle.sets.sets import made_by_query
from kandle.time.timeframe import Timeframe, as_timeframe, parse_duration

if TYPE_CHECKING:
    from kandle.sets.copies import Check
    from kandle.sets.dead_letters import DeadLetterSet
    from kandle.sets.reading import Instant, Unreadable

T = TypeVar("T")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BarRange:
    """Which bars are read, and how; the arguments of the methods that read."""

    start: Instant | None = None
    end: Instant | None = None
    include_live: bool = False
    unreadable: Unreadable = "refuse"
    timeout: str | timedelta | None = None


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
        unreadable: Unreadable = "refuse",
        timeout: str | timedelta | None = None,
    ) -> list[T]:
        """Return bars as objects.

        Args:
            key_prefix: The first parts of the bars' keys, as values or as text; all keys without it. The start of a bar
                may be the last part.
            start: The first start of bars, as an aware datetime or an ISO 8601 text; None for the oldest bars.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.
            unreadable: What to do about bars that cannot be read: "refuse" raises an error that names them, "skip" leaves them
                out and counts them in `health()`.
            timeout: Longest wait for the copy of the bars that this machine keeps where there are many, such as "5s"; as long
                as it takes without it.

        Returns:
            The bars by key and start.

        Raises:
            DataError: A part of the key does not fit its field, there are too many, or a bar cannot be read.
            UnavailableError: The copy was not current in time.
            AccessError: The context was opened for writing only.
        """
        bars = BarRange(start, end, include_live, unreadable, timeout)
        return await self._read(key_prefix, bars, partial(self._objects, unreadable))

    to_list = blocking(to_list_async)

    @awaited
    async def to_polars_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
        unreadable: Unreadable = "refuse",
        timeout: str | timedelta | None = None,
    ) -> pl.DataFrame:
        """Return bars as a Polars frame with exact decimals.

        Args:
            key_prefix: The first parts of the bars' keys, as for `to_list`.
            start: The first start of bars; None for the oldest.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.
            unreadable: What to do about bars that cannot be read, as for `to_list`.
            timeout: Longest wait for the copy of the bars, as for `to_list`.

        Returns:
            A row for each bar, by key and start.
        """
        return await self._logical(key_prefix, BarRange(start, end, include_live, unreadable, timeout))

    to_polars = blocking(to_polars_async)

    @awaited
    async def to_arrow_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
        unreadable: Unreadable = "refuse",
        timeout: str | timedelta | None = None,
    ) -> Any:
        """Return bars as an Arrow table; pyarrow must be installed.

        Args:
            key_prefix: The first parts of the bars' keys, as for `to_list`.
            start: The first start of bars; None for the oldest.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.
            unreadable: What to do about bars that cannot be read, as for `to_list`.
            timeout: Longest wait for the copy of the bars, as for `to_list`.

        Returns:
            A `pyarrow.Table` with a row for each bar, by key and start.
        """
        return (await self._logical(key_prefix, BarRange(start, end, include_live, unreadable, timeout))).to_arrow()

    to_arrow = blocking(to_arrow_async)

    @awaited
    async def to_pandas_async(  # noqa: PLR0913 - all but the key are by name
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
        unreadable: Unreadable = "refuse",
        timeout: str | timedelta | None = None,
        floats: bool = False,
    ) -> Any:
        """Return bars as a pandas frame; pandas and pyarrow must be installed.

        Args:
            key_prefix: The first parts of the bars' keys, as for `to_list`.
            start: The first start of bars; None for the oldest.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets follow, as they are now.
            unreadable: What to do about bars that cannot be read, as for `to_list`.
            timeout: Longest wait for the copy of the bars, as for `to_list`.
            floats: Whether decimals become floats, with which pandas computes faster but not exactly.

        Returns:
            A `pandas.DataFrame` with a row for each bar, by key and start.
        """
        frame = await self._logical(key_prefix, BarRange(start, end, include_live, unreadable, timeout))
        return (frame.with_columns(pl.col(pl.Decimal).cast(pl.Float64)) if floats else frame).to_pandas()

    to_pandas = blocking(to_pandas_async)

    @awaited
    async def get_async(self, key: KeyPrefix, *, include_live: bool = False, timeout: str | timedelta | None = None) -> T | None:
        """Return one bar.

        Args:
            key: All parts of the bar's key, its start last, as values or as text.
            include_live: Whether the bar of an open bucket counts, as it is now.
            timeout: Longest wait for the copy of the bars, as for `to_list`.

        Returns:
            The bar; None if there is none.

        Raises:
            DataError: A part of the key is missing or does not fit its field, or a bar cannot be read.
            UnavailableError: The copy was not current in time.
            AccessError: The context was opened for writing only.
        """
        fields = bar_key_fields(self.entity)
        values = physical_key(self.entity, fields, key)
        if len(values) != len(fields):
            names = ", ".join(field.name for field in fields)
            raise DataError(f"to get a bar of {self.entity.name} give all parts of its key: {names}")
        start = values[fields[-1].name]
        whole = BarRange(start, start + timedelta(microseconds=1), include_live, timeout=timeout)
        bars: list[T] = await self._read(key, whole, partial(self._objects, "refuse"))
        return bars[0] if bars else None

    get = blocking(get_async)

    @awaited
    async def count_async(
        self,
        key_prefix: KeyPrefix = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
        unreadable: Unreadable = "refuse",
        timeout: str | timedelta | None = None,
    ) -> int:
        """Return the number of bars, which are not made into objects.

        Args:
            key_prefix: The first parts of the bars' keys, as for `to_list`.
            start: The first start of bars; None for the oldest.
            end: The bound of the bars' starts, not included; None for no bound.
            include_live: Whether bars of open buckets count.
            unreadable: What to do about bars that cannot be read, as for `to_list`.
            timeout: Longest wait for the copy of the bars, as for `to_list`.

        Returns:
            The number of bars, at most that of `limit`.
        """
        bars = BarRange(start, end, include_live, unreadable, timeout)
        return await self._read(key_prefix, bars, len)

    count = blocking(count_async)

    def _objects(self, unreadable: Unreadable, frame: pl.DataFrame) -> list[T]:
        from kandle.sets.reading import UnreadablePolicy, objects_of

        columns = stored_columns(frame.select(list(physical_schema(self.entity))))
        return objects_of(self.entity, columns, UnreadablePolicy(unreadable, self._host.left_out))

    async def _logical(self, key_prefix: KeyPrefix, bars: BarRange) -> pl.DataFrame:
        return await self._read(key_prefix, bars, partial(to_logical, self.entity))

    async def _read(self, key_prefix: KeyPrefix, bars: BarRange, build: Callable[[pl.DataFrame], Result]) -> Result:
        """Read bars as a frame with physical columns, and build something of it."""
        from kandle.sets.copies import in_thread
        from kandle.sets.reading import BarReader, UnreadablePolicy, span_of

        self._check_read()
        key = physical_key(self.entity, bar_key_fields(self.entity), key_prefix)
        patience = None if bars.timeout is None else parse_duration(bars.timeout)
        span = span_of(bars.start, bars.end)
        self._host.settle()
        policy = UnreadablePolicy(bars.unreadable, self._host.left_out)
        reader = BarReader(self._host.log, self.entity, self._plan, key, span, policy)

        def read(check: Check) -> Result:
            copy = self._host.bars(self.entity, self._plan, span)
            if copy is None:
                finals = reader.finals()
            else:
                with copy.current(patience, check) as check_both:
                    finals = reader.finals_of(copy, check_both)
            finals = reader.with_former(finals)
            shown = reader.with_live(finals) if bars.include_live or self.is_live else finals
            return build(self._newest(shown))

        return await in_thread(read)

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
