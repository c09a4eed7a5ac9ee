"""What sets need of the context that they belong to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar

from anyio import CancelScope

from kandle.errors import StateError
from kandle.log.port import Log
from kandle.plan.plan import Plan
from kandle.time.clock import Clock

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

P = ParamSpec("P")
T = TypeVar("T")

LOOK_EVERY = 0.2
"""Seconds after which a blocked thread sees a signal, at the latest."""

Access = Literal["read_write", "read_only", "write_only"]


class Host(Protocol):
    """An open context, as its sets see it."""

    @property
    def log(self) -> Log:
        """The log; StateError while the context is not open."""

    @property
    def clock(self) -> Clock:
        """The clock of the context."""

    @property
    def portal(self) -> Portal | None:
        """The way into the event loop of a context that was opened by `with`; None in one opened by `async with`."""

    def reader(self, topic: str) -> Reader:
        """How records of a topic are consumed."""

    def plan_of(self, entity: type) -> Plan | None:
        """The plan of the entity's query, if it has one with a window."""

    async def write(self, topic: str, rows: Any) -> None:
        """Append a single record together with others that are written at the same time."""

    def settle(self) -> None:
        """Where time is moved by hand: have everything done that is due. Nothing elsewhere."""


class Reader(Protocol):
    """Settings of consumption."""

    group: str
    member: str
    reset: Literal["earliest", "latest"]
    batch_rows: int


class Portal:
    """A portal into an event loop in another thread."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._thread = portal.call(_this_thread)

    @property
    def is_inside(self) -> bool:
        """Whether the caller runs in that loop."""
        return threading.get_ident() == self._thread

    def call(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine there and wait for its result; what interrupts the wait, such as Ctrl-C, ends the coroutine first."""
        scopes: list[CancelScope] = []

        async def run() -> list[T]:
            with CancelScope() as scope:
                scopes.append(scope)
                return [await call()]
            return []

        future = self._portal.start_task_soon(run)
        try:
            return _result(future)[0]
        except BaseException:
            if not future.done():
                # The coroutine has begun by then, since the loop takes one after the other.
                self._portal.call(scopes[0].cancel)
                wait([future])
            raise


def _result(future: Future[T]) -> T:
    """What a future gives; looks up now and then, since a signal that another thread has taken wakes nobody who only waits."""
    while True:
        try:
            return future.result(LOOK_EVERY)
        except TimeoutError:
            if future.done():
                return future.result()


async def _this_thread() -> int:
    return threading.get_ident()


def portable(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A method of a set that is awaited in `async with`, and blocks in `with`: one body for both."""

    @wraps(method)
    def call(*arguments: P.args, **options: P.kwargs) -> Any:
        host: Host = arguments[0]._host  # type: ignore[attr-defined]
        portal = host.portal
        if portal is None:
            # Without it a context that nobody has opened would give a coroutine that nobody awaits.
            _ = host.log
        if portal is None or portal.is_inside:
            return method(*arguments, **options)
        return portal.call(lambda: method(*arguments, **options))

    return call


def check_blocking(host: Host) -> None:
    """StateError in a context that was not opened by plain `with`."""
    if host.portal is None:
        raise StateError("`for` and `with` need a context that was opened by `with`; write `async for` and `async with`")
