"""The model of a context: all its entities and queries, checked as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from kandle.errors import ModelError
from kandle.model.entity import EntityModel
from kandle.query.query import QueryModel


@dataclass(frozen=True, slots=True)
class Model:
    """Entities and queries by class, and what was doubtful but let through (relaxed validation)."""

    entities: Mapping[type, EntityModel]
    queries: Mapping[type, QueryModel]
    warnings: tuple[str, ...] = ()

    @property
    def has_tumbling(self) -> bool:
        """Whether any query has windows that somebody must close."""
        return any(query.has_tumbling for query in self.queries.values())


def checked_model(
    entities: Mapping[type, EntityModel], queries: Mapping[type, QueryModel], validation: Literal["strict", "relaxed"]
) -> Model:
    """The model, with doubts raised (strict) or warned of and kept (relaxed)."""
    doubts = tuple(_doubts(entities, queries))
    if doubts and validation == "strict":
        raise ModelError(f'{doubts[0]} (validation="relaxed" makes this a warning)')
    for doubt in doubts:
        warnings.warn(doubt, stacklevel=2)
    return Model(entities, queries, doubts)


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
