"""The context: a class that owns entity sets, builds their model once, and while it is open runs its queries."""

from __future__ import annotations

import contextlib
import typing
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args, get_origin

from anyio import CancelScope, to_thread

from kandle.context.model import Model, ModelBuilder, checked_model, entities_of
from kandle.context.state import ContextState
from kandle.errors import AccessError, ModelError, unknown_name
from kandle.model.entity import EntityModel
from kandle.plan.plan import BarPlan, Plan, plan
from kandle.sets.reading import TimeBucket
from kandle.sets.sets import SETS, EntitySet, EventSet, TableSet
from kandle.time.timeframe import Timeframe, as_timeframe

if TYPE_CHECKING:
    # What runs in an open context is loaded when one is opened: programs that only declare contexts start sooner.
    from kandle.context.opened import Opened
    from kandle.context.options import Options
    from kandle.ksqldb.facade import Ksql
    from kandle.runtime.counters import Health

T = TypeVar("T")


class Context:
    """Base of contexts: annotate sets (`ticks: EventSet[Tick]`) and say in `on_model_creating` which queries fill them.

    `async with Market.open() as market:` opens the log and, where records are both read and written, runs the queries in
    threads of its own until it is left. With plain `with` the same methods block instead of being awaited.
    """

    def __init__(self, options: Options | None = None) -> None:
        """Build the model and plan the queries; nothing is opened yet.

        Args:
            options: The options; by default those of `kandle.toml` and of the environment.
        """
        self._options = options if options is not None else _options()
        self._model = _built(type(self), self._options)
        self._plans = _plans(self._model)
        declared = declared_sets(type(self))
        names = {entity: name for name, entity in declared.items()}
        self._host = ContextState(type(self).__name__, self._plans, names)
        self._exit: contextlib.ExitStack | None = None
        self._ksql: Ksql | None = None
        for name, entity in declared.items():
            setattr(self, name, self._set_of(entity, None))

    def on_model_creating(self, model: ModelBuilder) -> None:
        """Give entities their queries; called once, when the model is built."""

    @classmethod
    def open(cls, path: str | Path = "kandle.toml", **values: Any) -> Self:
        """The context with the options of a file (a missing `kandle.toml` is no file), of the environment and of code."""
        return cls(_options(path, **values))

    @classmethod
    def model(cls) -> Model:
        """The model of the class with the options of file and environment, built once."""
        of: type = cls
        return _model_of(of)

    @property
    def options(self) -> Options:
        """The options in force."""
        return self._options

    def set(self, entity: type[T], timeframe: Timeframe | str | None = None) -> EntitySet[T]:
        """The set of an entity, or of its bars of one timeframe."""
        self._entity(entity)
        found: EntitySet[T] = self._set_of(entity, None if timeframe is None else self._bar(entity, timeframe).timeframe)
        return found

    def time_bucket(self, entity: type[T], timeframe: Timeframe | str) -> TimeBucket[T]:
        """The bars of one timeframe, for reading."""
        model = self._entity(entity)
        bar = self._bar(entity, timeframe)
        if self._options.access == "write_only":
            raise AccessError(f"{model.name} cannot be read: the context was opened with access='write_only'")
        return TimeBucket(self._host, model, bar.timeframe, bar)

    def _entity(self, entity: type) -> EntityModel:
        if entity not in self._model.entities:
            name = getattr(entity, "__name__", repr(entity))
            names = [found.name for found in self._model.entities.values()]
            raise ModelError(unknown_name(f"{type(self).__name__} has no set of {name}", name, names))
        return self._model.entities[entity]

    def _bar(self, entity: type, timeframe: Timeframe | str) -> BarPlan:
        found = self._plans.get(entity)
        declared = {} if found is None else {bar.name: bar for bar in found.emitted}
        wanted = str(timeframe) if str(timeframe) in declared else str(as_timeframe(timeframe))
        if not declared:
            those = ", ".join(each.__name__ for each in self._plans) or "none"
            raise ModelError(
                f"{entity.__name__} has no query with a window, so there are no bars of it (bars there are: {those})"
            )
        if wanted not in declared:
            raise ModelError(f"{entity.__name__} has no bars of {wanted}; declared are {', '.join(declared)}")
        return declared[wanted]

    def _set_of(self, entity: type, timeframe: Timeframe | None) -> Any:
        found: EntityModel = self._model.entities[entity]
        return SETS[found.kind](self._host, found, timeframe, self._options.access)

    @property
    def ksql(self) -> Ksql:
        """The ksqlDB of the section `ksqldb`: statements, pull and push queries, inserts."""
        if self._ksql is None:
            # The client library of HTTP is only loaded where there is a ksqlDB.
            from kandle.context.ksqldb import ksql_access

            self._ksql = ksql_access(self._host, self._options, self._host.clock)
        return self._ksql

    def health(self) -> Health:
        """How the queries of this process are doing, with counters."""
        return self._host.opened.health()

    @property
    def problem(self) -> BaseException | None:
        """The error that has stopped a query of this process; None as long as all run."""
        return self._host.opened.problem

    def _open(self) -> Opened:
        from kandle.context.opened import Opened

        return Opened(type(self).__name__, self._options, self._model, list(self._plans.values()))

    async def __aenter__(self) -> Self:
        self._host.enter()
        await to_thread.run_sync(self._host.open, self._open)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        opened = self._host.opened
        with CancelScope(shield=True):
            if self._ksql is not None:
                await self._ksql.close()
                self._ksql = None
            await to_thread.run_sync(opened.close)
        loop = self._host.leave()
        if error is None:
            loop.check_all_awaited()

    def __enter__(self) -> Self:
        from anyio.from_thread import start_blocking_portal

        with contextlib.ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._exit is not None
        leave, self._exit = self._exit, None
        leave.__exit__(kind, error, trace)


def state_of(context: Context) -> ContextState:
    """Return the part of a context that users do not see: log, clock, event loop."""
    return context._host


@cache
def _model_of(cls: type) -> Model:
    return _built(cls, _options())


def _options(*given: str | Path, **values: Any) -> Options:
    """Return the options of a file, of the environment and of code."""
    from kandle.context.options import Options

    return Options.load(*given, **values)


def _plans(model: Model) -> dict[type, Plan]:
    return {cls: plan(query) for cls, query in model.queries.items() if query.has_tumbling}


def _built(cls: type[Context], options: Options) -> Model:
    """Call `on_model_creating` and check what comes out."""
    builder = ModelBuilder(entities_of(list(declared_sets(cls).values())), cls.__name__)
    # The hook must not depend on the state of an instance, and none exists yet.
    cls.on_model_creating(cls.__new__(cls), builder)
    builder.apply(options.topics, options.place_of)
    return checked_model(builder.entities, builder.queries(), options.validation)


def declared_sets(cls: type[Context]) -> dict[str, type]:
    """Entity class of every set that a context class declares, by its name."""
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise ModelError(f"{cls.__name__}: an annotation cannot be resolved: {error}") from error
    found = {name: (get_origin(hint), get_args(hint)) for name, hint in hints.items()}
    sets = {name: (kind, arguments[0]) for name, (kind, arguments) in found.items() if kind in (EventSet, TableSet)}
    entities = entities_of([entity for _, entity in sets.values()])
    for name, (kind, entity) in sets.items():
        if hasattr(Context, name):
            raise ModelError(f"{cls.__name__}.{name}: every context has a {name!r} of its own; give the set another name")
        if SETS[entities[entity].kind] is not kind:
            right = SETS[entities[entity].kind].__name__
            raise ModelError(
                f"{cls.__name__}.{name}: {entity.__name__} is a {entities[entity].kind}; write {right}[{entity.__name__}]"
            )
    return {name: entity for name, (_, entity) in sets.items()}
