"""A context whose log is in memory and whose clock only moves when the test says so; what is due is then done at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from kandle.context.context import Context
from kandle.context.opened import Opened
from kandle.context.options import Options
from kandle.context.sections import LogOptions
from kandle.errors import ModelError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Log
from kandle.runtime.runtime import Running
from kandle.sets.host import Host, portable
from kandle.time.clock import ManualClock
from kandle.time.timeframe import Timeframe, parse_instant, to_instant

C = TypeVar("C", bound=Context)
T = TypeVar("T")


class TestClock(ManualClock):
    """A clock that is moved by hand: `await market.clock.advance("1m")`, after which all that fell due has been done.

    In a context that was opened by plain `with` the same methods block.
    """

    __test__ = False
    _host: Host

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.settle: Callable[[], None] = lambda: None

    @portable
    async def advance(self, duration: str | timedelta) -> None:
        """Move on by a duration such as `1m`."""
        await super().advance(duration)

    @portable
    async def set(self, instant: int | str | datetime) -> None:
        """Move on to an instant: an ISO 8601 text, an aware datetime, or microseconds."""
        await super().set(instant if isinstance(instant, int) else _instant(instant))
        self.settle()

    def jump(self, instant: int) -> None:
        """Set the clock to any instant, also an earlier one, as somebody may set the clock of a machine."""
        super().jump(instant)
        self.settle()


class OpenedForTests(Opened):
    """Log in memory or in a folder, manual clock, a runtime that works when it is told to."""

    def __init__(self, clock: TestClock, folder: Path | None, *given: Any) -> None:
        self._manual = clock
        self._folder = folder
        super().__init__(*given)
        clock.settle = self.settle

    def _made_clock(self) -> TestClock:
        return self._manual

    def _made_log(self) -> Log:
        return EmbeddedLog(self._folder, self._manual)

    def _start(self, runtime: Running) -> None:
        """It is driven by `settle`."""

    def settle(self) -> None:
        """Do everything that is due."""
        if self._runtime is not None:
            self._runtime.settle()


def context(cls: type[C], start: datetime | str, **values: Any) -> C:
    """A context for tests, to be opened by `async with` or `with`: in memory, at a time that stands still until it is moved.

    `start` is an ISO 8601 text or an aware datetime; `values` are options, such as `universe={"expire_after": "1d"}`; with
    `log={"path": folder}` the log outlives the context. Beside what the class itself has, the context has `clock`
    (a `TestClock`), `finals(Bar, "1m")` and `live(Bar, "1m")`.
    """
    if not (isinstance(cls, type) and issubclass(cls, Context)):
        raise ModelError(f"a context for tests is made of a subclass of kandle.Context, not of {cls!r}")
    folder = LogOptions.model_validate(values["log"]).path if "log" in values else None
    made = type(cls.__name__, (_ForTests, cls), {"_clock_of_tests": TestClock(_instant(start)), "_folder_of_tests": folder})
    opened: C = made(Options(**({"access": "read_write"} | values)))
    opened.clock._host = opened  # type: ignore[attr-defined]
    return opened


def _instant(moment: datetime | str) -> int:
    return parse_instant(moment) if isinstance(moment, str) else to_instant(moment)


class _ForTests(Context):
    """What a context for tests has beyond others."""

    _clock_of_tests: TestClock
    _folder_of_tests: Path | None

    def _open(self) -> Opened:
        model, plans = self._model, list(self._plans.values())
        return OpenedForTests(self._clock_of_tests, self._folder_of_tests, type(self).__name__, self._options, model, plans)

    @property
    def clock(self) -> TestClock:
        """The clock, which only moves by hand."""
        return self._clock_of_tests

    def finals(self, entity: type[T], timeframe: Timeframe | str, key: Sequence[Any] = ()) -> Any:
        """All final bars of a timeframe, by key and start."""
        return self.time_bucket(entity, timeframe).to_list(key)

    def live(self, entity: type[T], timeframe: Timeframe | str, key: Sequence[Any] = ()) -> Any:
        """All final bars, then the open ones as they are now, by key and start."""
        return self.time_bucket(entity, timeframe).to_list(key, include_live=True)
