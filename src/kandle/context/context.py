"""The context: a class that declares entity sets and queries, and runs the queries while it is open."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args, get_origin, overload

from anyio import CancelScope, to_thread

from kandle.context.model import Model, ModelBuilder, check_runs, entities_of, validated_model
from kandle.context.state import ContextState
from kandle.errors import KandleError, ModelError, unknown_name
from kandle.forks import keep_in_children
from kandle.model.entity import EntityModel, entity_kind
from kandle.model.markers import Access
from kandle.plan.plan import Plan, plan
from kandle.sets.bars import BarSet, TimeBucket, time_bucket
from kandle.sets.entity_set import EntitySet
from kandle.sets.policies import MessageFailure
from kandle.sets.sets import EventSet, TableSet
from kandle.time.timeframe import Timeframe

if TYPE_CHECKING:
    # What runs in an open context is loaded when one is opened: programs that only declare contexts start sooner.
    from kandle.context.opened import Opened
    from kandle.context.options import Options
    from kandle.ksqldb.facade import Ksql
    from kandle.runtime.counters import Health
    from kandle.sets.transaction import Transaction

T = TypeVar("T")


class ExplanationText(str):
    """A text that shows itself where a value is shown, such as in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Context:
    """The base class of contexts: declare sets as annotations, and in `on_model_creating` the queries that fill them.

    `with` opens the log and, where records are both read and written, runs the queries in threads until it is left.
    `async with` does the same in an event loop, for methods `*_async`.

    Example:
        class Market(Context):
            ticks: EventSet[Tick]
            bars: BarSet[Bar]

        with Market.open() as market:
            market.ticks.add(Tick(...))
    """

    def __init__(self, options: Options | None = None) -> None:
        """Build the model and plan the queries; nothing is opened yet.

        Args:
            options: The options; by default those of `kandle.toml` and of the environment.
        """
        self._options = options if options is not None else _options()
        if isinstance(self._options, str | Path):
            name = type(self).__name__
            raise ModelError(f'{name}() takes options; to read a file write {name}.open("{self._options}")')
        self._options = self._options.for_context()
        self._model = _built(type(self), self._options)
        self._plans = _plans(self._model)
        declared = _declarations(type(self))
        _check_bar_sets(type(self), declared, self._plans)
        names = {entity: name for name, (_, entity) in declared.items()}
        bar_sets = {entity for kind, entity in declared.values() if kind is BarSet}
        self._host = ContextState(type(self).__name__, self._plans, names, bar_sets, self.on_message_error)
        self._exit: contextlib.ExitStack | None = None
        self._ksql: Ksql | None = None
        for name, (kind, entity) in declared.items():
            setattr(self, name, kind(self._host, self._model.entities[entity], self._access(entity)))

    def on_model_creating(self, model: ModelBuilder) -> None:
        """Declare queries and settings of entities; called once, when the model is built.

        Args:
            model: The builder of the model.
        """

    def on_message_error(self, failure: MessageFailure) -> None:
        """Learn of a message that has failed, for metrics or an alarm; does nothing unless a class overrides it.

        It is called in the thread or the event loop of the handler, after each failed attempt. An error that it raises is logged.

        Args:
            failure: The message, the error, and what happens to it now.
        """

    @classmethod
    def open(cls, path: str | Path = "kandle.toml", **values: Any) -> Self:
        """Build the context with the options of a file, of the environment and of code, to be opened by `with`.

        Args:
            path: The file; `kandle.toml` may be missing.
            values: Options by name; sections as dicts, such as `log={"path": "data"}`.

        Returns:
            The context, still closed.

        Raises:
            OptionsError: An option is unknown or its value is not valid.
            ModelError: The declaration of the context is wrong.
        """
        return cls(_options(path, **values))

    @classmethod
    def model(cls) -> Model:
        """Build the model of the class with the options of file and environment; the result is cached.

        Returns:
            The entities and queries.
        """
        of: type = cls
        return _model_of(of)

    @classmethod
    def explain(cls) -> ExplanationText:
        """Describe what is made from what; nothing needs to be open.

        Returns:
            A text that shows itself: of each query with a window its timeframes with their grace, how each field rolls up,
            and its topics with their settings, as the options of file and environment have them.

        Raises:
            ModelError: The context has no query with a window.
        """
        from kandle.context.topic_options import query_topic_settings
        from kandle.plan.explain import explain
        from kandle.plan.query_topics import context_topics, ksqldb_topics

        plans = list(_plans(cls.model()).values())
        if not plans:
            raise ModelError(f"{cls.__name__} has no query with a window over time; give an entity one with to_query")
        options = _options()
        topics_of = ksqldb_topics if options.engine.kind == "ksqldb" else context_topics
        topics = topics_of(plans, settings=query_topic_settings(options))
        return ExplanationText("\n\n".join(explain(query.plan, query) for query in topics))

    @property
    def options(self) -> Options:
        """The options of the context."""
        return self._options

    @overload
    def set(self, entity: type[T], timeframe: None = None) -> EventSet[T] | TableSet[T]: ...

    @overload
    def set(self, entity: type[T], timeframe: Timeframe | str) -> TimeBucket[T]: ...

    def set(self, entity: type[T], timeframe: Timeframe | str | None = None) -> EntitySet[T]:
        """Return the set of an entity.

        Args:
            entity: The class of the entity, for which the context declares a set.
            timeframe: For bars their timeframe, as a text such as `5m` or as `Period.minutes(5)`.

        Returns:
            The set: with a timeframe the same as `market.bars("5m")`.

        Raises:
            ModelError: The context has no set of the entity, or no bars of the timeframe.
        """
        if timeframe is not None:
            return self.time_bucket(entity, timeframe)
        model = self._entity(entity)
        entity_set: EntitySet[T] = SETS[model.kind](self._host, model, self._access(entity))
        return entity_set

    def time_bucket(self, entity: type[T], timeframe: Timeframe | str) -> TimeBucket[T]:
        """Return the bars of one timeframe.

        Args:
            entity: The class of the bars, for which the context declares a set.
            timeframe: The timeframe, as a text such as `5m` or as `Period.minutes(5)`.

        Returns:
            The set of the bars: the same as `market.bars("5m")`.

        Raises:
            ModelError: The context has no set of the entity, or no bars of the timeframe.
        """
        return time_bucket(self._host, self._entity(entity), timeframe, self._access(entity))

    def _access(self, entity: type) -> Access:
        """Return what the set of an entity may do: what both the context and the entity allow."""
        own, of_context = self._model.entities[entity].access, self._options.access
        return own if of_context == "read_write" else of_context

    def _entity(self, entity: type) -> EntityModel:
        if isinstance(entity, str):
            names = ", ".join(model.name for model in self._model.entities.values())
            raise ModelError(f"give the class of an entity, not the text {entity!r}; choose from: {names}")
        if entity not in self._model.entities:
            name = getattr(entity, "__name__", repr(entity))
            names = [model.name for model in self._model.entities.values()]
            raise ModelError(unknown_name(f"{type(self).__name__} has no set of {name}", name, names))
        return self._model.entities[entity]

    def transaction(self) -> Transaction:
        """Return a transaction: messages are consumed, and what is made of them is written, exactly once.

        Returns:
            The transaction, to be opened by `with` or `async with`.

        Example:
            with market.transaction() as step:
                for message in step.messages(market.orders):
                    step.add(market.fills, Fill(...))
        """
        from kandle.sets.transaction import Transaction

        return Transaction(self._host)

    @property
    def ksql(self) -> Ksql:
        """The ksqlDB of the section `ksqldb`: statements, pull and push queries, inserts."""
        if self._ksql is None:
            # The client library of HTTP is only loaded where there is a ksqlDB.
            from kandle.context.ksqldb import ksql_access

            self._ksql = ksql_access(self._host, self._options, self._model, self._host.clock)
        return self._ksql

    def health(self) -> Health:
        """Look at the queries of this process.

        Returns:
            The state of each query, with counters. A context that only reads or writes runs none: its list of queries is empty,
            its state is "no queries", and it counts as healthy.

        Raises:
            StateError: The context is not open.
        """
        return self._host.opened.health()

    @property
    def problem(self) -> BaseException | None:
        """The error that has stopped a query of this process; None as long as all run."""
        return next(iter(self._host.opened.problems.values()), None)

    def _open(self) -> Opened:
        from kandle.context.opened import Opened

        return Opened(type(self).__name__, self._options, self._model, list(self._plans.values()))

    async def __aenter__(self) -> Self:
        self._host.enter()
        keep_in_children(self)
        await to_thread.run_sync(self._host.open, self._open)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._host.is_inherited:
            # Only the process that has opened it has the threads that can close it.
            return
        opened = self._host.opened
        try:
            with CancelScope(shield=True):
                try:
                    await self._host.close_streams()
                    if self._ksql is not None:
                        await self._ksql.close()
                        self._ksql = None
                finally:
                    await to_thread.run_sync(opened.close)
        except KandleError:
            # It was logged, and must not hide the error that ends the block.
            if error is None:
                raise
        finally:
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
        if self._host.is_inherited:
            return
        assert self._exit is not None
        leave, self._exit = self._exit, None
        leave.__exit__(kind, error, trace)


def state_of(context: Context) -> ContextState:
    """Return the part of a context that users do not see.

    Args:
        context: The context.

    Returns:
        The state with log, clock and event loop.
    """
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
    model = _declared(cls, options)
    check_runs(model.queries)
    return model


def _declared(cls: type[Context], options: Options) -> Model:
    from kandle.context.topic_options import ContextTopics, name_topics, with_topic_options

    builder = ModelBuilder(entities_of(list(declared_sets(cls).values()), options.fields.decimals), cls.__name__, options)
    # The hook must not depend on the state of an instance, and none exists yet.
    cls.on_model_creating(cls.__new__(cls), builder)
    builder.apply()
    declared = builder.queries()
    name_topics(options, list(builder.entities.values()), list(declared.values()))
    queries = {entity: with_topic_options(query, options) for entity, query in declared.items()}
    model = validated_model(builder.entities, queries, options.validation, options.fields.decimals)
    if options.topics or options.bars.model_fields_set:
        ContextTopics(cls.__name__, options, list(model.entities.values()), list(_plans(model).values())).check()
    return model


def scripted_model(cls: type[Context]) -> Model:
    """Build the model of a class for its KSQL: with the queries that ksqlDB could run, but kandle does not.

    Args:
        cls: The class of the context.

    Returns:
        The entities and queries.
    """
    return _declared(cls, _options())


def declared_sets(cls: type[Context]) -> dict[str, type]:
    """List the sets that a context class declares.

    Args:
        cls: The class of the context.

    Returns:
        The class of the entity by the name of the set.

    Raises:
        ModelError: A set has a name that is taken, or is not the kind of set that its entity needs.
    """
    return {name: entity for name, (_, entity) in _declarations(cls).items()}


SETS: dict[str, Any] = {"stream": EventSet, "table": TableSet}
"""The set of each kind of entity."""


def _declarations(cls: type[Context]) -> dict[str, tuple[Any, type]]:
    """Return the class of every set that a context class declares, and its entity class, by the name of the set."""
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise ModelError(f"{cls.__name__}: an annotation cannot be resolved: {error}") from error
    generics = {name: (get_origin(hint), get_args(hint)) for name, hint in hints.items()}
    sets = {name: (kind, arguments[0]) for name, (kind, arguments) in generics.items() if kind in (EventSet, TableSet, BarSet)}
    kinds = {entity: entity_kind(entity) for _, entity in sets.values()}
    for name, (kind, entity) in sets.items():
        if hasattr(Context, name):
            raise ModelError(f"{cls.__name__}.{name}: every context has a {name!r} of its own; give the set another name")
        right = SETS[kinds[entity]]
        if kind is not right and not (kind is BarSet and right is EventSet):
            raise ModelError(
                f"{cls.__name__}.{name}: {entity.__name__} is a {kinds[entity]}; write {right.__name__}[{entity.__name__}]"
            )
    return sets


def _check_bar_sets(cls: type[Context], declared: Mapping[str, tuple[Any, type]], plans: Mapping[type, Plan]) -> None:
    """Raise ModelError for a `BarSet` of what no query with a window makes."""
    for name, (kind, entity) in declared.items():
        if kind is BarSet and entity not in plans:
            raise ModelError(
                f"{cls.__name__}.{name}: no query with a window makes {entity.__name__}, so it has no timeframes; "
                f"give it one in `on_model_creating`, or write EventSet[{entity.__name__}]"
            )
