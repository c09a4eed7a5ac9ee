"""What an open context holds: its log, its clock and the runtime of its queries."""

from __future__ import annotations

import itertools
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from kandle.context.adapters import log_file, log_of, open_copy, store_opener
from kandle.context.model import Model
from kandle.context.options import Options
from kandle.context.sections import ClockOptions
from kandle.context.topic_options import query_topic_settings, unfollowed_options
from kandle.errors import OptionsError, StorageError, UnavailableError, unknown_name
from kandle.log.letters import letters_of_topic
from kandle.log.port import Log
from kandle.log.versions import written_versions
from kandle.model.entity import EntityModel, snake_case
from kandle.plan.plan import Plan, check_embedded
from kandle.plan.query_topics import read_entities
from kandle.plan.topics import TopicSpec, dead_letter_name, entity_topic
from kandle.runtime.committing import Pace
from kandle.runtime.counters import Health
from kandle.runtime.generations import check_declarations
from kandle.runtime.preparing import ensure_topics, prepare_topics
from kandle.runtime.query_runtime import RuntimeSpec
from kandle.runtime.runtime import ContextRuntime, Runtime
from kandle.sets.copies import Copies
from kandle.sets.host import ReaderSettings
from kandle.sets.skipping import SkipCounter
from kandle.sets.writing import BatchingWriter
from kandle.store.port import Store
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import MINUTE, SECOND, parse_instant, to_instant

Prepared = TypeVar("Prepared")

logger = logging.getLogger("kandle")

START_PATIENCE = 5 * MINUTE
"""How long a start waits for brokers that are away while others answer, in microseconds."""

START_INTERVAL = SECOND


class Opened:
    """Log, clock and runtime of an open context."""

    def __init__(self, name: str, options: Options, model: Model, plans: Sequence[Plan]) -> None:
        self._options = options
        self._model = model
        self._plans = plans
        self._service = options.consumer.group or snake_case(name)
        self._own_name = None if options.runtime.instance else _take_name()
        self.instance = options.runtime.instance or str(self._own_name)
        self._check_engine()
        for text in unfollowed_options(options):
            logger.warning("%s", text)
        self.clock = self._open_clock()
        self.log = self._open_log()
        self.writer = BatchingWriter(self.log)
        self.copies = Copies(self.log, self.clock, self._open_copy)
        self._runtime: ContextRuntime | None = None
        self._members = 0
        self._letter_counts: Counter[str] = Counter()
        self.skipped, self.left_out = SkipCounter(self.clock), SkipCounter(self.clock)
        self.dual_write_mismatch = 0
        try:
            self._prepare(model, plans)
            if options.access != "write_only":
                for entity in model.entities.values():
                    if entity.cache:
                        self.copies.table(entity)
        except BaseException:
            self.close()
            raise

    def _check_engine(self) -> None:
        if self._options.engine.kind == "ksqldb":
            from kandle.context.ksqldb import check_options

            check_options(self._options, self._plans)

    def _open_clock(self) -> Clock:
        return clock_of(self._options.clock)

    def _open_log(self) -> Log:
        path = self._options.log.path
        is_embedded = self._options.log.kind == "embedded"
        if is_embedded and self._options.access == "read_only" and not log_file(path).exists():
            raise StorageError(f"there is no log in {path.absolute()}; start the process that writes it first, or say log.path")
        return log_of(self._options, self.clock, self._model.entities.values(), self._plans)

    def _open_copy(self, topic: str, is_large: bool) -> Store | None:
        return open_copy(self._options, self._service, topic, is_large=is_large)

    def _prepare(self, model: Model, plans: Sequence[Plan]) -> None:
        if self._options.access == "read_only":
            # A reader creates nothing; a topic that does not exist is an error when it is read.
            return
        spec = _runtime_spec(self._options, self._service, self.instance)
        spec = replace(spec, replaces=_replaced_queries(self._options, plans, self.clock))
        is_running = bool(plans) and _runs(self._options)
        targets = {plan.query.target.cls for plan in plans}
        if self._options.engine.kind == "ksqldb":
            # ksqlDB creates the topics of open bars itself.
            self._ensure(entity for entity in model.entities.values() if entity.cls not in targets)
            self._runtime = self._on_ksqldb(plans, spec) if is_running else None
        else:
            self._runtime = self._embedded(plans, spec, is_running=is_running)
            read = {entity.cls for plan in plans for entity in read_entities(plan)}
            self._ensure(entity for entity in model.entities.values() if entity.cls not in targets | read)
        self._ensure_letters(entity for entity in model.entities.values() if entity.cls not in targets)
        if self._runtime is not None:
            self._start(self._runtime)

    def _ensure_letters(self, entities: Iterable[EntityModel]) -> None:
        """Create the topics of dead letters that have settings; the others are created with their first letter.

        Those that others have to create are missed by the first letter only.
        """
        options = self._options
        specs = [
            self._letter_topic(self.log.topic(entity.topic))
            for entity in entities
            if dead_letter_name(entity.topic) in options.topics and entity.access != "read_only"
        ]
        created = [spec for spec in specs if spec.is_created]
        self._when_available(partial(ensure_topics, self.log, created, refuses=options.log.differences == "refuse"))

    def _ensure(self, entities: Iterable[EntityModel]) -> None:
        refuses = self._options.log.differences == "refuse"
        # Who only reads a topic creates nothing; one that does not exist is an error when it is read.
        written = [entity for entity in entities if entity.access != "read_only"]
        specs = [entity_topic(version) for entity in written for version in written_versions(entity)]
        self._when_available(partial(ensure_topics, self.log, specs, refuses=refuses))

    def _when_available(self, prepare: Callable[[], Prepared]) -> Prepared:
        """Prepare something in the log; wait while a part of the cluster is away, as a running worker does."""
        deadline = self.clock.steady() + START_PATIENCE
        while True:
            try:
                return prepare()
            except UnavailableError as error:
                if self._options.log.kind == "embedded" or self.clock.steady() > deadline:
                    raise
                logger.warning("the start waits: %s", error)
                SystemClock().pause(START_INTERVAL)

    def _embedded(self, plans: Sequence[Plan], spec: RuntimeSpec, *, is_running: bool) -> Runtime | None:
        if is_running:
            for plan in plans:
                check_embedded(plan.query)
            declared = [(plan, spec.declaration(plan)) for plan in plans]
            self._when_available(
                lambda: check_declarations(
                    self.log, declared, spec.member, spec.replaces.keys(), creates=self._options.log.create
                )
            )
        topics = self._when_available(lambda: prepare_topics(self.log, plans, spec.topics, refuses=spec.refuses_differences))
        return Runtime(self.log, self.clock, topics, spec) if is_running else None

    def _on_ksqldb(self, plans: Sequence[Plan], spec: RuntimeSpec) -> ContextRuntime:
        # The client library of HTTP is only loaded where there is a ksqlDB.
        from kandle.context.ksqldb import ksql_runtime

        return ksql_runtime(self._options, self.log, self.clock, plans, spec)

    def _start(self, runtime: ContextRuntime) -> None:
        runtime.start()

    @property
    def problems(self) -> Mapping[str, BaseException]:
        """The errors that have stopped queries, by the name of what each makes."""
        return {} if self._runtime is None else self._runtime.problems

    def health(self) -> Health:
        """Return the state of the queries of this process."""
        health = Health(self.instance, ()) if self._runtime is None else self._runtime.health()
        letters = dict(self._letter_counts)
        return replace(
            health,
            dead_letters=letters,
            skipped=self.skipped.counts,
            unreadable=self.left_out.counts,
            dual_write_mismatch=self.dual_write_mismatch,
        )

    def reader(self, topic: str) -> ReaderSettings:
        """Return the settings of a new consumer; each loop of each process is a member of the topic's group."""
        self._members += 1
        options = self._options.consumer
        group = f"{self._service}-{topic}"
        return ReaderSettings(
            group,
            f"{self.instance}-{self._members}",
            options.reset,
            options.batch_rows,
            options.prefetch_rows,
            options.prefetch_bytes,
            self._options.dead_letters.rate,
            self._letter_counts,
            self._letter_topic,
        )

    def _letter_topic(self, source: TopicSpec) -> TopicSpec:
        """Return what the topic of dead letters of a topic's records should be."""
        return query_topic_settings(self._options).applied(letters_of_topic(source))

    def settle(self) -> None:
        """Do nothing: the runtime has threads of its own."""

    def close(self) -> None:
        """Stop the queries, then close the log.

        Raises:
            KandleError: What the queries have done last could not be committed; the next start does it again.
        """
        before = set(self.problems)
        try:
            if self._runtime is not None:
                self._runtime.stop()
        finally:
            try:
                self.copies.close()
            finally:
                self.log.close()
                if self._own_name is not None:
                    _NAMES.discard(self._own_name)
        for query, problem in self.problems.items():
            if query not in before:
                raise problem


_NAMES: set[str] = set()
"""Names of the contexts that are open in this process and that were given none."""


def _take_name() -> str:
    """Return a name of host and process number that no other open context of this process has."""
    usual = f"{socket.gethostname()}-{os.getpid()}"
    names = itertools.chain([usual], (f"{usual}-{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in _NAMES)
    _NAMES.add(name)
    return name


def _runs(options: Options) -> bool:
    can_run = options.access == "read_write"
    if options.runtime.enabled and not can_run:
        raise OptionsError(f"runtime.enabled = true needs access = 'read_write', not {options.access!r}")
    return can_run if options.runtime.enabled is None else options.runtime.enabled


def clock_of(options: ClockOptions) -> Clock:
    """Return the clock that the options describe."""
    if options.start is None or options.since is None:
        return SystemClock()
    return ScaledClock(to_instant(options.start), to_instant(options.since), options.speed)


def _runtime_spec(options: Options, service: str, instance: str) -> RuntimeSpec:
    runtime, heartbeat, state = options.runtime, options.heartbeat, options.state
    return RuntimeSpec(
        instance=instance,
        service=service,
        pace=Pace(runtime.commit_interval, runtime.round_interval, runtime.batch_rows),
        lease=runtime.lease,
        refuses_differences=options.log.differences == "refuse",
        topics=query_topic_settings(options),
        backfill=heartbeat.backfill,
        jitter=heartbeat.jitter,
        refresh_at=options.schedule.refresh_at,
        schedule_retry=options.schedule.retry,
        expire_after=options.universe.expire_after,
        universe=options.universe.keys,
        open_store=store_opener(options, service),
        standby=state.standby,
        letter_rate=options.dead_letters.query_rate,
    )


def _replaced_queries(options: Options, plans: Sequence[Plan], clock: Clock) -> dict[str, int | None]:
    """Return the queries whose declaration replaces the one that counts, by the topic of their bars, and where they begin."""
    names = {name: plan.query.target.topic for plan in plans for name in (plan.query.target.topic, plan.query.target.name)}
    begin = options.runtime.replace_from
    for name in options.runtime.replace:
        if name not in names:
            choices = [plan.query.target.topic for plan in plans]
            raise OptionsError(unknown_name(f"runtime.replace: no query makes bars {name!r}", name, choices))
    instant = None if begin is None else clock.now() if begin == "latest" else parse_instant(begin)
    return {names[name]: instant for name in options.runtime.replace}
