"""Everything that runs in one process for a context's queries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from kandle.errors import KandleError, UnavailableError
from kandle.log.port import Log
from kandle.plan.topics import QueryTopics
from kandle.runtime.barrier import Barrier
from kandle.runtime.counters import Health, State
from kandle.runtime.query_runtime import QueryRuntime, RuntimeSpec
from kandle.time.clock import Clock

logger = logging.getLogger("kandle")

WATCHED_EVERY = 5
"""Seconds between looks at whether the topics are there."""
MAINTAINED_EVERY = 6
"""Looks between rounds of maintenance."""


class Running(Protocol):
    """All queries of a context in one process, whoever aggregates."""

    def start(self) -> None:
        """Have all queries run."""

    def stop(self) -> None:
        """Hand over at once."""

    def settle(self) -> None:
        """Work until nothing is left to be done: for those who drive it by hand."""

    @property
    def problem(self) -> BaseException | None:
        """What has stopped a worker, if anything."""

    def health(self) -> Health:
        """How it is doing."""


class Runtime:
    """All queries of a context in one process, on topics that are there.

    `barriers`, by the topic that the tasks of a query read, are for queries whose events others bring there.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        topics: Sequence[QueryTopics],
        spec: RuntimeSpec,
        barriers: Mapping[str, Barrier] | None = None,
    ) -> None:
        self._spec = spec
        self._log = log
        found = {} if barriers is None else barriers
        self.queries = [QueryRuntime(log.connect(), clock, each, spec, found.get(each.events)) for each in topics]
        self._maintained = threading.Event()
        self._maintenance: threading.Thread | None = None

    def start(self) -> None:
        """Have all queries run."""
        for query in self.queries:
            query.start()
        self._maintenance = threading.Thread(target=self._maintain, name="kandle-maintenance", daemon=True)
        self._maintenance.start()

    def _maintain(self) -> None:
        """Look whether the topics are there; retention and compaction, by whoever leads."""
        log = self._log.connect()
        looks = 0
        try:
            while not self._maintained.wait(WATCHED_EVERY):
                looks += 1
                try:
                    self._watch(log)
                    if looks % MAINTAINED_EVERY == 0 and any(query.leadership.is_leader for query in self.queries):
                        log.maintain()
                except UnavailableError:
                    # Workers say so.
                    continue
                except KandleError as error:
                    logger.warning("maintenance: %s", error)
        finally:
            log.close()

    def _watch(self, log: Log) -> None:
        there = {spec.name for spec in log.topics()}
        for query in self.queries:
            query.watch(there)

    def stop(self) -> None:
        """Hand over at once."""
        self._maintained.set()
        for query in self.queries:
            query.stop()
        if self._maintenance is not None:
            self._maintenance.join()

    def settle(self) -> None:
        """Work until nothing is left to be done: for those who drive it by hand."""
        for query in self.queries:
            while query.settle():
                pass

    @property
    def problem(self) -> BaseException | None:
        """What has stopped a worker, if anything."""
        return next((query.worker.problem for query in self.queries if query.worker.state is State.FAILED), None)

    def health(self) -> Health:
        """How it is doing."""
        return Health(self._spec.instance, tuple(query.health() for query in self.queries))
