"""One implementation for two forms of calling: `add_async` is awaited, and `add` blocks until the same coroutine has ended.

    class EventSet:
        @awaited
        async def add_async(self, obj: T) -> None: ...

        add = blocking(add_async)

Every coroutine runs in the event loop of its context: the loop in which `async with` opened it, or the loop in a thread
of its own that plain `with` starts. Both forms may be called from elsewhere, and are then handed over to that loop:

    called as           in the context's loop    in another loop          in a thread without a loop
    add_async(...)      runs there               runs in the context's    StateError: write add(...)
    add(...)            StateError: await        StateError: await        runs in the context's, and the thread waits
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from anyio import CancelScope

from kandle.errors import StateError
from kandle.forks import ADVICE

if TYPE_CHECKING:
    # Programs that only declare contexts start sooner without these.
    import asyncio
    from concurrent.futures import Future

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")

SIGNAL_INTERVAL = 0.2
"""Seconds after which a blocked thread notices a signal, at the latest."""

SUFFIX = "_async"


class LoopOwner(Protocol):
    """A context, as far as calls into its event loop need it."""

    @property
    def loop(self) -> ContextLoop:
        """The event loop; StateError while the context is not open."""


class Hosted(Protocol):
    """An object that belongs to a context."""

    @property
    def _host(self) -> LoopOwner: ...

    @property
    def _label(self) -> str:
        """How users write the object, such as `market.ticks`."""


def awaited(method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Let a coroutine method `*_async` run in the event loop of the context that its object belongs to.

    Args:
        method: The coroutine method; its object is `Hosted`.

    Returns:
        The method. Calling it raises StateError where no event loop runs that could await it, and where the context is
        not open or belongs to another process.
    """

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        owner = cast(Hosted, self)
        return owner._host.loop.awaitable(f"{owner._label}.{method.__name__}", partial(method, self, *args, **kwargs))

    return call


def blocking(method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[S, P], R]:
    """Make the blocking twin of a coroutine method `*_async`.

    Args:
        method: The coroutine method, decorated by `awaited`.

    Returns:
        A method with the same arguments that blocks until the coroutine has ended and returns its result. It raises
        StateError where an event loop runs in the calling thread, and where the context is not open or belongs to another
        process. Ctrl-C ends the coroutine before the call is left.
    """

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        owner = cast(Hosted, self)
        return owner._host.loop.wait_for(f"{owner._label}.{call.__name__}", partial(method, self, *args, **kwargs))

    call.__name__ = method.__name__.removesuffix(SUFFIX)
    call.__qualname__ = method.__qualname__.removesuffix(SUFFIX)
    return call


class ContextLoop:
    """The event loop of an open context, and the way into it from other loops and threads."""

    def __init__(self, context: str) -> None:
        """Take the running loop as that of the context.

        Args:
            context: How the context is called in messages, such as `Market`.

        Raises:
            StateError: The loop is one of trio.
        """
        import asyncio

        check_asyncio(
            f"async with {context}", f"open it by `with {context}.open() as ...:`, and call its blocking methods in threads"
        )
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._unawaited: list[str] = []

    def awaitable(self, label: str, make: Callable[[], Coroutine[Any, Any, R]]) -> Coroutine[Any, Any, R]:
        """Return the coroutine of an `*_async` call, to be awaited in any loop.

        Args:
            label: The call without its arguments, such as `market.ticks.add_async`.
            make: A function that makes the coroutine.

        Returns:
            The coroutine; it is noted if nobody ever awaits it.

        Raises:
            StateError: No event loop runs in this thread, or this is another process.
        """
        self.check_process()
        blocking_label = label.removesuffix(SUFFIX)
        check_asyncio(f"await {label}(...)", f"write `await trio.to_thread.run_sync({blocking_label}, ...)`")
        running = running_loop()
        if running is None:
            raise StateError(
                f"no event loop runs here, so `{label}(...)` cannot be awaited; "
                f"write `{blocking_label}(...)`, which blocks, or await it in a coroutine"
            )
        coroutine = make() if running is self._loop else self._from_another_loop(make)
        return PendingCall(coroutine, label, self._unawaited)

    async def _from_another_loop(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        import asyncio

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._loop))

    def wait_for(self, label: str, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Run a coroutine in the loop of the context, and block this thread until it has ended.

        What interrupts the wait, such as Ctrl-C, ends the coroutine first.

        Args:
            label: The call without its arguments, such as `market.ticks.add`.
            make: A function that makes the coroutine.

        Returns:
            What the coroutine returns.

        Raises:
            StateError: An event loop runs in this thread, or this is another process.
        """
        self.check_blocking(f"{label}(...)", f"await {label}{SUFFIX}(...)")
        result: R = LoopCall(self._loop, make).result()
        return result

    def check_blocking(self, blocked: str, instead: str) -> None:
        """Check that this thread may block.

        Args:
            blocked: What would block.
            instead: What to write in a coroutine.

        Raises:
            StateError: An event loop runs in this thread, or this is another process.
        """
        self.check_process()
        check_asyncio(blocked, "do it in a thread: `await trio.to_thread.run_sync(function)`")
        running = running_loop()
        if running is not None and (running is self._loop or not _is_cell_of_notebook()):
            raise StateError(f"`{blocked}` would block the event loop that runs here; write `{instead}`")

    def check_process(self) -> None:
        """Check that this is the process that opened the context.

        Raises:
            StateError: The process was forked from the one that opened the context.
        """
        if not self.is_of_this_process:
            raise StateError(
                f"this {self._context} was opened in process {self._process}, of which process {os.getpid()} is a fork: "
                f"threads, files and connections do not survive a fork. {ADVICE}"
            )

    @property
    def is_of_this_process(self) -> bool:
        """Whether the context was opened in this process, and not in one from which it was forked."""
        return os.getpid() == self._process

    def check_all_awaited(self) -> None:
        """Check that every `*_async` call has been awaited.

        Raises:
            StateError: One has not, so nothing was done by it.
        """
        if self._unawaited:
            count = len(self._unawaited)
            lacking = "1 call was never awaited, so it" if count == 1 else f"{count} calls were never awaited, so they"
            calls = ", ".join(f"`await {label}(...)`" for label in dict.fromkeys(self._unawaited))
            raise StateError(f"{lacking} did nothing; write {calls}")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread; None without one."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def check_asyncio(action: str, instead: str) -> None:
    """Check that no event loop of trio runs in this thread: contexts work in those of asyncio.

    Args:
        action: What is being done there.
        instead: What to do about it.

    Raises:
        StateError: One runs.
    """
    # Whoever runs trio has imported it; kandle does not need it.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    if lowlevel is None:
        return
    try:
        lowlevel.current_trio_token()
    except RuntimeError:
        return
    raise StateError(
        f"`{action}`: here runs an event loop of trio, and kandle's contexts work in those of asyncio; {instead}, or run the "
        'program with asyncio (anyio.run(main, backend="asyncio"))'
    )


def _is_cell_of_notebook() -> bool:
    """Return whether this is a cell of a notebook, which may block: the loop that runs there only waits for cells."""
    return "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread()


class LoopCall:
    """A coroutine in the event loop of another thread, whose end this thread waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        from concurrent.futures import Future

        self._loop = loop
        self._make = make
        self._future: Future[Any] = Future()
        self._scope: CancelScope | None = None
        self._task: asyncio.Task[None] | None = None

    def result(self) -> Any:
        """Run the coroutine and return its result.

        Raises:
            StateError: The event loop has ended.
        """
        try:
            self._loop.call_soon_threadsafe(self._begin)
        except RuntimeError as error:
            raise StateError("the event loop in which the context was opened has ended; open the context again") from error
        try:
            return self._wait()
        except BaseException:
            if not self._future.done():
                from concurrent.futures import wait

                self._loop.call_soon_threadsafe(self._cancel)
                wait([self._future])
            raise

    def _wait(self) -> Any:
        """Wait in short steps, since a signal that another thread has received does not wake a thread that only waits."""
        while True:
            try:
                return self._future.result(SIGNAL_INTERVAL)
            except TimeoutError:
                if self._future.done():
                    return self._future.result()

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._finish)

    async def _run(self) -> None:
        # The scope is cancelled in the place of the task, since it lets calls in threads come to their end.
        with CancelScope() as self._scope:
            result = await self._make()
            self._future.set_result(result)

    def _finish(self, task: asyncio.Task[None]) -> None:
        if self._future.done():
            return
        error = None if task.cancelled() else task.exception()
        self._future.set_exception(StateError("the call was cancelled, since its context was closed") if error is None else error)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        elif self._task is not None:
            self._task.cancel()


class PendingCall(Coroutine[Any, Any, R]):
    """The coroutine of an `*_async` call; it is noted if it is thrown away before anybody has awaited it."""

    def __init__(self, coroutine: Coroutine[Any, Any, R], label: str, unawaited: list[str]) -> None:
        self._coroutine = coroutine
        self._label = label
        self._unawaited = unawaited
        self._is_started = False

    def __await__(self) -> Generator[Any, Any, R]:
        self._is_started = True
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        self._is_started = True
        return self._coroutine.send(value)

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None) -> Any:
        self._is_started = True
        # The signature with three arguments is deprecated.
        return self._coroutine.throw(kind if value is None else value)

    def close(self) -> None:
        self._is_started = True
        self._coroutine.close()

    def __del__(self) -> None:
        if not self._is_started:
            self._unawaited.append(self._label)
