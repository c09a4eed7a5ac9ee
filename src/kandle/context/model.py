"""The model of a context: all its entities and queries, checked as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, get_args

from kandle.errors import ModelError, OptionsError, QueryError, TimeframeError, unknown_name
from kandle.model.entity import EntityModel, checked_topic, entity_model
from kandle.model.markers import Access, Precision
from kandle.model.settings import FOREVER
from kandle.model.types import MAX_PRECISION, DataType, DecimalType, StringType
from kandle.model.versions import check_version
from kandle.query.key_forms import with_key_forms
from kandle.query.nodes import Aggregate, Cast, describe
from kandle.query.query import Projection, QueryModel, Tumbling
from kandle.query.stages import Limited, Query, build

if TYPE_CHECKING:
    from kandle.context.options import Options


@dataclass(frozen=True, slots=True)
class Model:
    """The entities and queries of a context.

    Attributes:
        entities: The entities by class.
        queries: The queries by the class of what they make.
        warnings: What is doubtful, with `validation="relaxed"`.
        decimals: The digits of a Decimal that names none.
    """

    entities: Mapping[type, EntityModel]
    queries: Mapping[type, QueryModel]
    warnings: tuple[str, ...] = ()
    decimals: Precision | None = None

    def entity(self, cls: type) -> EntityModel:
        """Return the metadata of a class as this model has it, also of one for which the context has no set.

        Args:
            cls: The class of the entity.

        Raises:
            ModelError: The class is no entity.
        """
        return self.entities.get(cls) or entity_model(cls, self.decimals)

    @property
    def has_tumbling(self) -> bool:
        """Whether any query has windows, which heartbeats must close."""
        return any(query.has_tumbling for query in self.queries.values())


def validated_model(
    entities: Mapping[type, EntityModel],
    queries: Mapping[type, QueryModel],
    validation: Literal["strict", "relaxed"],
    decimals: Precision | None = None,
) -> Model:
    """Build the model, and check it as a whole.

    Args:
        entities: The entities by class.
        queries: The queries by the class of what they make.
        validation: Whether what is doubtful is an error (`strict`) or a warning (`relaxed`).
        decimals: The digits of a Decimal that names none.

    Returns:
        The model.

    Raises:
        ModelError: Something is doubtful, and the validation is strict.
    """
    _check_versions(entities, queries)
    doubts = tuple(_doubts(entities, queries))
    if doubts and validation == "strict":
        raise ModelError(f'{doubts[0]} (validation="relaxed" makes this a warning)')
    for doubt in doubts:
        warnings.warn(doubt, stacklevel=2)
    return Model(entities, queries, doubts, decimals)


def _check_versions(entities: Mapping[type, EntityModel], queries: Mapping[type, QueryModel]) -> None:
    """Raise ModelError for versions of a key that cannot be: two in one topic, and two of bars that a query makes."""
    for entity in entities.values():
        topics = {former.topic: former for former in entity.former}
        if entity.topic in topics:
            raise ModelError(
                f"{entity.name} and {topics[entity.topic].name}, a previous version of its key, have the same topic "
                f"{entity.topic!r}; name one otherwise"
            )
        if entity.cls in queries and entity.version is not None and entity.version.dual_write:
            raise ModelError(
                f"{entity.name}: dual_write is for what is added, and a query makes {entity.name}; leave it out, and let the "
                f"processes that make {entity.former[-1].name} go on as long as somebody reads it"
            )


def check_runs(queries: Mapping[type, QueryModel]) -> None:
    """Check that each query of a context is one that something runs.

    Args:
        queries: The queries by the class of what they make.

    Raises:
        QueryError: A query has no window, or reads what another query makes.
    """
    for query in queries.values():
        name = query.target.name
        if query.window is None:
            raise QueryError(
                f"the query of {name} has no window over time, and nothing runs such queries yet: add .tumbling(...) or "
                ".hopping(...); `kandle script` prints its statement for a ksqlDB of your own"
            )
        for entity in query.sources:
            if entity.cls in queries:
                other = queries[entity.cls]
                maker = "it makes itself" if other is query else "another query makes"
                raise QueryError(
                    f"the query of {name} reads {entity.name}, which {maker}: nothing is written to the topic {entity.topic}, "
                    f"since bars go to topics by timeframe; {_way_to_bars(other)}"
                )


def _way_to_bars(query: QueryModel) -> str:
    """Return how another query can read the bars of a query."""
    if not isinstance(query.window, Tumbling):
        return f"read {query.source.name} instead"
    _, topic = query.topics.names(query.target.topic, str(min(query.window.timeframes)))
    return f'declare a class with the same fields for the topic of its finals, @kandle.stream("{topic}"), and read that'


def _doubts(entities: Mapping[type, EntityModel], queries: Mapping[type, QueryModel]) -> Iterator[str]:
    topics: dict[str, str] = {}
    for entity in entities.values():
        if entity.topic in topics:
            yield f"{entity.name} and {topics[entity.topic]} have the same topic {entity.topic!r}; name one otherwise"
        topics[entity.topic] = entity.name
        if entity.kind == "table" and not entity.keys:
            yield f"{entity.name} is a table without a key; mark its key fields Key(0), Key(1) .."
        if entity.kind == "stream" and entity.timestamp is None:
            yield f"{entity.name} is a stream without an event time; mark a datetime field Timestamp()"
    for query in queries.values():
        yield from _query_doubts(query, entities)


def _query_doubts(query: QueryModel, entities: Mapping[type, EntityModel]) -> Iterator[str]:
    for entity in query.sources:
        if entity.cls not in entities:
            yield f"the query of {query.target.name} reads {entity.name}, for which the context has no set; add one"
    if query.window is not None and not query.target.keys:
        yield f"{query.target.name} has no key; mark the group key and w.start Key(0), Key(1) .."
    for item in query.projection:
        if item.wider is not None:
            yield _narrow_field(query, item, item.wider)


def _narrow_field(query: QueryModel, item: Projection, wider: DataType) -> str:
    """Return the doubt about a field that does not hold all values of what fills it."""
    field = query.target.field(item.field)
    node = item.expression.argument if isinstance(item.expression, Cast) else item.expression
    expression = describe(node)
    source = describe(node.arguments[0] if isinstance(node, Aggregate) and node.function == "sum" else node)
    if isinstance(wider, DecimalType) and isinstance(field.type, DecimalType):
        digits = min(wider.precision - wider.scale + field.type.scale, MAX_PRECISION)
        text, given = f"is {field.type}", f"is {wider}"
        ways = (
            f"declare Precision({digits}, {field.type.scale}), or, if no value is that large, write "
            f"f.cast({expression}, Precision({field.type.precision}, {field.type.scale}))"
        )
    else:
        assert isinstance(wider, StringType) and isinstance(field.type, StringType)
        text, given = f"has at most {field.type.max_length} characters", f"at most {wider.max_length}"
        ways = f"declare MaxLength({wider.max_length})"
    return f"{query.target.name}.{field.name} {text}, but {source} {given}: bars that do not fit would be left out; {ways}"


T = TypeVar("T")


class ModelBuilder:
    """The entities of a context and their queries while the model is being built."""

    def __init__(self, declared: Mapping[type, EntityModel], context: str, options: Options | None = None) -> None:
        self._entities = dict(declared)
        self._options = options
        self._declarations: dict[type, Callable[[Query], Any]] = {}
        self._context = context

    def entity(self, cls: type[T]) -> EntityBuilder[T]:
        """Return the builder of an entity for which the context declares a set.

        Args:
            cls: The class of the entity.

        Raises:
            ModelError: The context declares no set of it.
        """
        if cls not in self._entities:
            name = getattr(cls, "__name__", repr(cls))
            names = [entity.name for entity in self._entities.values()]
            raise ModelError(unknown_name(f"{self._context} has no set of {name}; declare `name: EventSet[{name}]`", name, names))
        return EntityBuilder(self, cls)

    def change(self, cls: type, **changes: Any) -> None:
        """Change the topic settings of an entity."""
        self._entities[cls] = replace(self._entities[cls], **changes)

    def declare(self, cls: type, query: Callable[[Query], Any]) -> None:
        """Declare the query of an entity; it is built when all entities have their settings."""
        if cls in self._declarations:
            raise ModelError(f"{cls.__name__} has a query already")
        self._declarations[cls] = query

    def apply(self) -> None:
        """Replace the settings of entities by those of the options.

        Raises:
            ModelError: The context has no such entity.
            OptionsError: A setting is not possible.
        """
        if self._options is None:
            return
        # Loaded here since they import the options, and classes of a context are declared without them.
        from kandle.context.spelling import name_sections

        entities = list(self._entities.values())
        name_sections(self._options, "entities", [entity.name for entity in entities])
        name_sections(self._options, "topics", [version.topic for entity in entities for version in (*entity.former, entity)])
        self._entities = {cls: _configured(entity, self._options) for cls, entity in self._entities.items()}
        self._apply_access(self._options)

    def _apply_access(self, options: Options) -> None:
        by_name = {entity.name: cls for cls, entity in self._entities.items()}
        for name, section in options.entities.items():
            cls = by_name.get(name)
            if cls is None:
                label = f"{options.place_of(['entities', name])}entities.{name}"
                raise ModelError(unknown_name(f"{label}: {self._context} has no such entity", name, list(by_name)))
            if section.access is not None:
                self.change(cls, access=section.access)
        for entity in self._entities.values():
            if {entity.access, options.access} == {"read_only", "write_only"}:
                raise OptionsError(
                    f"the context is {options.access} and {entity.name} is {entity.access}, so nothing could be done with it; "
                    f"change access, or entities.{entity.name}.access"
                )

    @property
    def entities(self) -> dict[type, EntityModel]:
        """All entities by class."""
        return self._entities

    def queries(self) -> dict[type, QueryModel]:
        """Build all queries, and return them by the class of what they make."""
        return {cls: self._with_key_forms(self._built(cls, query)) for cls, query in self._declarations.items()}

    def _with_key_forms(self, query: QueryModel) -> QueryModel:
        """Return a query with one form of its keys, which its bars and its schedule have from then on."""
        try:
            query = with_key_forms(query)
        except QueryError as error:
            raise QueryError(f"query of {query.target.name}: {error}") from error
        for entity in (query.target, *([] if query.schedule is None else [query.schedule.entity])):
            if entity.cls in self._entities:
                self._entities[entity.cls] = entity
        return query

    def _built(self, cls: type, declaration: Callable[[Query], Any]) -> QueryModel:
        target = self._entities[cls]
        try:
            query: QueryModel = build(target, declaration, self._entity_of)
        except (QueryError, TimeframeError) as error:
            raise type(error)(f"query of {target.name}: {error}") from error
        return replace(
            query,
            source=self._settled(query.source),
            join=None if query.join is None else replace(query.join, entity=self._settled(query.join.entity)),
            schedule=None if query.schedule is None else replace(query.schedule, entity=self._settled(query.schedule.entity)),
        )

    def _entity_of(self, cls: type) -> EntityModel:
        """Return an entity as this model has it, also one for which the context has no set."""
        return self._entities.get(cls) or entity_model(cls, None if self._options is None else self._options.fields.decimals)

    def _settled(self, entity: EntityModel) -> EntityModel:
        """Return an entity with the topic settings of this model."""
        return self._entities.get(entity.cls, entity)


def _configured(entity: EntityModel, options: Options) -> EntityModel:
    """Return an entity with the settings that the options have for its topic, and for those of earlier versions of its key."""
    from kandle.context.topic_options import topic_settings

    version = entity.version
    if version is not None and version.previous is not None:
        entity = replace(entity, version=replace(version, previous=_configured(version.previous, options)))
    if entity.topic in options.topics:
        section = options.topics[entity.topic]
        settings = topic_settings(options, entity.topic)
        given = {name: getattr(section, name) for name in ("key_format", "value_format", "partitioner")}
        given |= {"partitions": settings.partitions, "replication": settings.replication}
        changes = {name: value for name, value in given.items() if value is not None}
        if settings.retention is not None:
            changes["retention"] = None if settings.retention == FOREVER else settings.retention
        own = replace(settings, partitions=None, replication=None, retention=None)
        entity = replace(entity, settings=own, **changes)
    if not options.log.create and entity.settings.create is None:
        entity = replace(entity, settings=replace(entity.settings, create=False))
    return entity


class EntityBuilder(Generic[T]):
    """The settings of one entity; each method returns the builder itself."""

    def __init__(self, builder: ModelBuilder, cls: type[T]) -> None:
        self._builder = builder
        self._cls = cls

    def to_query(self, declare: Callable[[Query], Limited[T]]) -> Self:
        """Declare the query that makes the entity.

        Args:
            declare: A function from the start of a query to its end: `lambda q: q.from_(Tick)...select(...)`.
        """
        self._builder.declare(self._cls, declare)
        return self

    def topic(self, name: str) -> Self:
        """Name the topic of the entity.

        Args:
            name: The name of the topic.
        """
        self._builder.change(self._cls, topic=checked_topic(name))
        return self

    def partitions(self, count: int) -> Self:
        """Set the number of partitions with which the topic is created.

        Args:
            count: The number of partitions.
        """
        self._builder.change(self._cls, partitions=count)
        return self

    def replication(self, count: int) -> Self:
        """Set the number of copies of the topic on a cluster.

        Args:
            count: The number of copies.
        """
        self._builder.change(self._cls, replication=count)
        return self

    def access(self, mode: Access) -> Self:
        """Say what the sets of the entity may do, as far as the context may.

        Args:
            mode: `read_write`, `read_only` or `write_only`.

        Raises:
            ModelError: The mode is none of these.
        """
        choices: tuple[Access, ...] = get_args(Access)
        if mode not in choices:
            raise ModelError(f"access({mode!r}): choose one of {', '.join(choices)}")
        self._builder.change(self._cls, access=mode)
        return self


def entities_of(classes: list[type], decimals: Precision | None = None) -> dict[type, EntityModel]:
    """Return the metadata of entities by class; `decimals` are the digits of a Decimal that names none.

    Raises:
        ModelError: A class is no entity, or the functions between the versions of its key make objects of other classes.
    """
    entities = {cls: entity_model(cls, decimals) for cls in classes}
    for entity in entities.values():
        check_version(entity)
    return entities
