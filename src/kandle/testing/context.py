"""Contexts for tests: the log is in memory, the clock is moved by hand, and what is due is then done at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from kandle.context.adapters import embedded_log, memory_store
from kandle.context.context import Context
from kandle.context.opened import Opened
from kandle.context.options import Options
from kandle.context.sections import LogOptions
from kandle.errors import ModelError
from kandle.log.port import Log
from kandle.runtime.runtime import ContextRuntime
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import ContextHost
from kandle.store.port import Store
from kandle.time.clock import ManualClock
from kandle.time.timeframe import Timeframe, parse_instant, to_instant

C = TypeVar("C", bound=Context)
T = TypeVar("T")


class TestClock:
    """A clock that is moved by hand: when a move returns, all that fell due has been done."""

    __test__ = False

    def __init__(self, start: int, host: ContextHost) -> None:
        self._manual = ManualClock(start)
        self._host = host

    @property
    def _label(self) -> str:
        return f"{self._host.label}.clock"

    def now(self) -> int:
        """Return the time of the clock.

        Returns:
            Microseconds since the epoch.
        """
        return self._manual.now()

    @awaited
    async def advance_async(self, duration: str | timedelta) -> None:
        """Move on by a duration.

        Args:
            duration: A text such as `1m`, or a timedelta.
        """
        await self._manual.advance(duration)
        self._host.settle()

    advance = blocking(advance_async)

    @awaited
    async def set_async(self, instant: int | str | datetime) -> None:
        """Move on to an instant.

        Args:
            instant: An ISO 8601 text, an aware datetime, or microseconds since the epoch.

        Raises:
            TimeframeError: The instant is before the present time of the clock.
        """
        await self._manual.set(instant if isinstance(instant, int) else _instant(instant))
        self._host.settle()

    set = blocking(set_async)

    @awaited
    async def jump_async(self, instant: int | str | datetime) -> None:
        """Set the clock to any instant, also an earlier one, as somebody may set the clock of a machine.

        Args:
            instant: An ISO 8601 text, an aware datetime, or microseconds since the epoch.
        """
        self._manual.jump(instant if isinstance(instant, int) else _instant(instant))
        self._host.settle()

    jump = blocking(jump_async)


class OpenedForTests(Opened):
    """A log in memory or in a folder, a clock that is moved by hand, and a runtime that works when `settle` is called."""

    def __init__(self, clock: ManualClock, folder: Path | None, *given: Any) -> None:
        self._manual = clock
        self._folder = folder
        super().__init__(*given)

    def _open_clock(self) -> ManualClock:
        return self._manual

    def _open_log(self) -> Log:
        return embedded_log(self._folder, self._manual, self._model.entities.values(), self._plans)

    def _open_copy(self, topic: str, is_large: bool) -> Store | None:
        return memory_store() if self._folder is None else super()._open_copy(topic, is_large)

    def _start(self, runtime: ContextRuntime) -> None:
        """Do nothing: the runtime works when `settle` is called."""

    def settle(self) -> None:
        """Do everything that is due."""
        if self._runtime is not None:
            self._runtime.settle()


class TestContext(Context):
    """The base class of contexts for tests: they have a clock that is moved by hand, and return all bars in one call."""

    __test__ = False
    _clock_of_tests: int
    _folder_of_tests: Path | None

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self._clock = TestClock(self._clock_of_tests, self._host)

    def _open(self) -> Opened:
        model, plans = self._model, list(self._plans.values())
        return OpenedForTests(self._clock._manual, self._folder_of_tests, type(self).__name__, self._options, model, plans)

    @property
    def _label(self) -> str:
        return self._host.label

    @property
    def clock(self) -> TestClock:
        """The clock, which only moves by hand."""
        return self._clock

    @awaited
    async def finals_async(self, entity: type[T], timeframe: Timeframe | str, key: Sequence[Any] = ()) -> list[T]:
        """Return all final bars of a timeframe.

        Args:
            entity: The class of the bars.
            timeframe: The timeframe, such as `1m`.
            key: The first parts of the bars' keys; all keys without it.

        Returns:
            The bars by key and start.
        """
        return await self.time_bucket(entity, timeframe).to_list_async(key)

    finals = blocking(finals_async)

    @awaited
    async def live_async(self, entity: type[T], timeframe: Timeframe | str, key: Sequence[Any] = ()) -> list[T]:
        """Return all final bars of a timeframe, and the open ones as they are now.

        Args:
            entity: The class of the bars.
            timeframe: The timeframe, such as `1m`.
            key: The first parts of the bars' keys; all keys without it.

        Returns:
            The bars by key and start.
        """
        return await self.time_bucket(entity, timeframe).to_list_async(key, include_live=True)

    live = blocking(live_async)


def context(cls: type[C], start: datetime | str, **values: Any) -> C:
    """Build a context for tests: its log is in memory, and its clock stands still until it is moved.

    Beside what its class has, the context has `clock` (a `TestClock`), `finals` and `live`. Type checkers know of them if the
    class says so: `class MarketInTests(kandle.testing.TestContext, Market)`.

    Args:
        cls: The class of the context.
        start: The time that the clock shows first, as an ISO 8601 text or an aware datetime.
        values: Options, such as `universe={"expire_after": "1d"}`; with `log={"path": folder}` the log outlives the context.

    Returns:
        The context, to be opened by `with` or `async with`.

    Raises:
        ModelError: The class is not a context.

    Example:
        with kandle.testing.context(Market, start="2024-03-08T14:30Z") as market:
            market.ticks.add(Tick(...))
            market.clock.advance("2m")
            assert market.finals(Bar, "1m") == [...]
    """
    if not (isinstance(cls, type) and issubclass(cls, Context)):
        raise ModelError(f"kandle.testing.context takes a subclass of kandle.Context, not {cls!r}")
    folder = LogOptions.model_validate(values["log"]).path if "log" in values else None
    bases = (cls,) if issubclass(cls, TestContext) else (TestContext, cls)
    test_class = type(cls.__name__, bases, {"_clock_of_tests": _instant(start), "_folder_of_tests": folder})
    test_context: C = test_class(Options(**({"access": "read_write"} | values)))
    return test_context


def _instant(moment: datetime | str) -> int:
    return parse_instant(moment) if isinstance(moment, str) else to_instant(moment)
