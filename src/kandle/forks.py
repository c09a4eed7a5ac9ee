"""Forked processes: what they must not use, and what they must never release.

A fork copies a process with one thread of it. What waits for any of the others there waits for ever:

    parent process    a context is open: threads of its event loop, of Polars, of the clients of Kafka, of its queries
        | fork
    child process     the objects of all of them, and none of these threads

So a child that uses the context of its parent is refused, and so is one that opens another where Polars has no threads any more.
A child that does neither may do what it likes: what its parent holds is kept alive in it to the end, since its destructors would
wait for their threads, or write into files that are the parent's.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kandle.errors import StateError

ADVICE = (
    'Start the process by `multiprocessing.get_context("spawn")` (or "forkserver") and open a context there; '
    "where a server forks its workers, open contexts in the workers only"
)

THREADS = Path("/proc/self/task")
"""The threads of this process, where the system shows them."""

POLARS = "polars"
"""How the names of the threads of Polars begin."""


class _Forks:
    """What is known of the forks from which this process comes."""

    def __init__(self) -> None:
        self.held: weakref.WeakSet[object] = weakref.WeakSet()
        self.worked_in: int | None = None
        """The process that has begun to work with Polars; a child inherits it."""
        self.lost_threads_of: int | None = None
        """The process whose threads of Polars did not come along."""

    def note_threads(self) -> None:
        """Note before a fork whether Polars has threads."""
        if self.lost_threads_of is None and POLARS in sys.modules and self._has_threads():
            self.lost_threads_of = os.getpid()

    def _has_threads(self) -> bool:
        names = list(_thread_names())
        return any(name.startswith(POLARS) for name in names) if names else self.worked_in is not None

    def forget_threads(self) -> None:
        """Forget in the parent, after a fork, what concerns the child only."""
        if self.lost_threads_of == os.getpid():
            self.lost_threads_of = None

    def keep_held(self) -> None:
        """Have the child never release what its parent holds."""
        import ctypes

        for resource in list(self.held):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(resource))
        self.held.clear()


def _thread_names() -> Iterator[str]:
    """Yield the names of this process's threads; nothing where the system does not show them."""
    with suppress(OSError):
        for thread in THREADS.iterdir():
            with suppress(OSError):
                yield (thread / "comm").read_text()


_FORKS = _Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_FORKS.note_threads, after_in_parent=_FORKS.forget_threads, after_in_child=_FORKS.keep_held)


def keep_in_children(resource: object) -> None:
    """Have processes that are forked from this one never release an object, whose destructor would hang or do harm there.

    Args:
        resource: The object, which keeps others alive by its attributes.
    """
    _FORKS.held.add(resource)


def check_threads() -> None:
    """Check that Polars can work in this process.

    Raises:
        StateError: This process was forked from one in which Polars had threads: it would wait for them for ever.
    """
    if _FORKS.lost_threads_of is not None:
        raise StateError(
            f"process {os.getpid()} is a fork of process {_FORKS.lost_threads_of}, in which kandle or Polars has worked already: "
            f"the threads that read and write do not survive a fork. {ADVICE}"
        )
    if _FORKS.worked_in is None:
        _FORKS.worked_in = os.getpid()
