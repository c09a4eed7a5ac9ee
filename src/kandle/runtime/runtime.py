"""All queries of a context in one process, and the maintenance of their log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from kandle.errors import KandleError, UnavailableError
from kandle.log.port import Log
from kandle.plan.query_topics import QueryTopics
from kandle.runtime.barrier import Barrier
from kandle.runtime.counters import Health, QueryState
from kandle.runtime.generations import Generation, QueryGenerations, ensure_declarations
from kandle.runtime.query_runtime import QueryRuntime, RuntimeSpec
from kandle.runtime.state import check_former_state
from kandle.time.clock import Clock

logger = logging.getLogger("kandle")

WATCH_INTERVAL = 5
"""Seconds between checks of whether the topics exist."""

CHECKS_PER_MAINTENANCE = 6
"""How many of these checks are made from one round of maintenance to the next."""


class ContextRuntime(Protocol):
    """Runs all queries of a context in one process, whether kandle or ksqlDB aggregates."""

    def start(self) -> None:
        """Start all queries."""

    def stop(self) -> None:
        """Hand all partitions over at once, and end."""

    def settle(self) -> None:
        """Work in the caller's thread until nothing is left to be done; for tests."""

    @property
    def problems(self) -> Mapping[str, BaseException]:
        """The errors that have stopped queries, by the name of what each makes."""

    def health(self) -> Health:
        """Return how all queries are doing."""


def _generation(log: Log, topics: QueryTopics, spec: RuntimeSpec) -> Generation:
    """Return the declaration of a query that counts, which is that of this process; StateError if it is another one."""
    ensure_declarations(log, topics.plan.query.target.replication)
    generations = QueryGenerations(log, topics.plan, spec.declaration(topics.plan, topics.engine))
    if generations.newest() is None:
        check_former_state(log, topics)
    bars = topics.plan.query.target.topic
    if bars in spec.replaces:
        return generations.replace(spec.member, spec.replaces[bars])
    return generations.join(spec.member)


class Runtime:
    """Runs all queries of a context in one process; their topics exist.

    Args:
        log: The log, from which each query opens connections of its own.
        clock: The clock.
        topics: The topics of each query.
        spec: How queries run.
        barriers: By the topic that the tasks of a query read, barriers for events that other programs bring there.
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
        by_events = {} if barriers is None else barriers
        # All declarations are checked before the first query opens anything.
        generations = [_generation(log, query, spec) for query in topics]
        self.queries = [
            QueryRuntime(log.connect(), clock, query, spec, by_events.get(query.events), generation)
            for query, generation in zip(topics, generations, strict=True)
        ]
        self._is_stopped = threading.Event()
        self._maintenance: threading.Thread | None = None

    def start(self) -> None:
        """Start all queries."""
        for query in self.queries:
            query.start()
        self._maintenance = threading.Thread(target=self._maintain, name="kandle-maintenance", daemon=True)
        self._maintenance.start()

    def _maintain(self) -> None:
        """Check whether the topics exist; apply retention and compaction if this process leads a query."""
        log = self._log.connect()
        checks = 0
        logged = ""
        try:
            while not self._is_stopped.wait(WATCH_INTERVAL):
                checks += 1
                try:
                    self.watch(log)
                    if checks % CHECKS_PER_MAINTENANCE == 0 and any(query.leadership.is_leader for query in self.queries):
                        log.maintain()
                except UnavailableError:
                    # The workers report it.
                    continue
                except KandleError as error:
                    # Such as a folder that is gone: it is the same at each check.
                    if str(error) != logged:
                        logger.warning("maintenance: %s", error)
                    logged = str(error)
                except Exception:
                    # Without it nothing would notice deleted topics any more, and old records would stay.
                    logger.exception("maintenance failed; it is tried again")
        finally:
            log.close()

    def watch(self, log: Log) -> None:
        """Check whether the topics exist, and whether the declarations still count.

        Args:
            log: A connection that is used for nothing else.
        """
        existing = {spec.name for spec in log.topics()}
        for query in self.queries:
            query.watch(existing)
            query.check_generation(log)

    def stop(self) -> None:
        """Hand all partitions over at once, and end."""
        self._is_stopped.set()
        for query in self.queries:
            query.stop()
        if self._maintenance is not None:
            self._maintenance.join()

    def settle(self) -> None:
        """Work in the caller's thread until nothing is left to be done; for tests."""
        for query in self.queries:
            while query.settle():
                pass

    @property
    def problems(self) -> Mapping[str, BaseException]:
        """The errors that have stopped queries, by the name of what each makes."""
        return {
            query.topics.plan.query.target.name: query.worker.problem
            for query in self.queries
            if query.worker.state is QueryState.FAILED and query.worker.problem is not None
        }

    def health(self) -> Health:
        """Return how all queries are doing."""
        return Health(self._spec.instance, tuple(query.health() for query in self.queries))
