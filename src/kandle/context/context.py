"""The context: a class that owns entity sets and builds their model once."""

from __future__ import annotations

import typing
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar, get_args, get_origin

from kandle.context.model import Model, checked_model
from kandle.context.model_builder import ModelBuilder, entities_of
from kandle.context.options import Options
from kandle.context.sets import SETS, EntitySet, EventSet, TableSet
from kandle.errors import ModelError
from kandle.model.entity import EntityModel, unknown
from kandle.plan.plan import plan
from kandle.time.timeframe import Timeframe, as_timeframe

T = TypeVar("T")


class Context:
    """Base of contexts: annotate sets (`ticks: EventSet[Tick]`) and say in `on_model_creating` which queries fill them."""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options if options is not None else Options.load()
        self._model = _built(type(self), self._options)
        for name, cls in declared_sets(type(self)).items():
            setattr(self, name, self._set_of(cls, None))

    def on_model_creating(self, model: ModelBuilder) -> None:
        """Give entities their queries; called once, when the model is built."""

    @classmethod
    def model(cls) -> Model:
        """The model of the class with the options of file and environment, built once."""
        of: type = cls
        return _model_of(of)

    def set(self, entity: type[T], timeframe: Timeframe | str | None = None) -> EntitySet[T]:
        """The set of an entity, or of its bars of one timeframe."""
        if entity not in self._model.entities:
            name = getattr(entity, "__name__", repr(entity))
            names = [found.name for found in self._model.entities.values()]
            raise ModelError(unknown(f"{type(self).__name__} has no set of {name}", name, names))
        found: EntitySet[T] = self._set_of(entity, None if timeframe is None else self._checked(entity, timeframe))
        return found

    def _checked(self, entity: type, timeframe: Timeframe | str) -> Timeframe:
        query = self._model.queries.get(entity)
        declared = [bar.name for bar in plan(query).emitted] if query is not None and query.has_tumbling else []
        wanted = as_timeframe(timeframe)
        if str(wanted) not in declared:
            raise ModelError(f"{entity.__name__} has no bars of {wanted}; declared are {', '.join(declared) or 'none'}")
        return wanted

    def _set_of(self, entity: type, timeframe: Timeframe | None) -> Any:
        found: EntityModel = self._model.entities[entity]
        return SETS[found.kind](self, found, timeframe, self._options.access)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


@cache
def _model_of(cls: type) -> Model:
    return _built(cls, Options.load())


def _built(cls: type[Context], options: Options) -> Model:
    """Call `on_model_creating` and check what comes out."""
    builder = ModelBuilder(entities_of(list(declared_sets(cls).values())), cls.__name__)
    # The hook must not depend on the state of an instance, and none exists yet.
    cls.on_model_creating(cls.__new__(cls), builder)
    builder.apply(options.topics)
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
        if SETS[entities[entity].kind] is not kind:
            right = SETS[entities[entity].kind].__name__
            raise ModelError(
                f"{cls.__name__}.{name}: {entity.__name__} is a {entities[entity].kind}; write {right}[{entity.__name__}]"
            )
    return {name: entity for name, (_, entity) in sets.items()}
