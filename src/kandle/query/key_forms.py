"""Normalized keys in queries: a group key, the field of the bars that it fills, and the schedule's key have one form.

What one of them declares holds for all three. Events come to the engine with normalized keys; where only the bars or the schedule
are normalized, the query computes the form of the group key itself, which it can for functions that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kandle.errors import QueryError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.markers import Normalizer
from kandle.query.nodes import AnyNode, Call, Column, describe
from kandle.query.query import QueryModel, rewrite_query
from kandle.query.signatures import call

FUNCTIONS: dict[Normalizer, str] = {str.upper: "upper", str.lower: "lower", str.strip: "trim"}
"""The functions of queries that do what a function of Python does."""

FORMS = "str.upper, str.lower or str.strip"


def with_key_forms(query: QueryModel) -> QueryModel:
    """Return the query with one form of each group key: in its expression, in the bars and in the schedule.

    Args:
        query: The query as it is declared.

    Raises:
        QueryError: Two forms are declared for one key, or the form is one that the query cannot compute.
    """
    for position in range(len(query.group_by)):
        query = _with_form(query, position)
    return query


def group_normalizers(query: QueryModel) -> tuple[Normalizer | None, ...]:
    """Return the normalization of each part of the group key of a query that `with_key_forms` returned."""
    return tuple(next((form for _, form in _declared(query, position)), None) for position in range(len(query.group_by)))


def _with_form(query: QueryModel, position: int) -> QueryModel:
    forms = list(_declared(query, position))
    if not forms:
        return query
    (label, normalize), *others = forms
    for other, form in others:
        if form != normalize:
            raise QueryError(
                f"group_by: {label} and {other} are one key, but normalize={_name(normalize)} and normalize={_name(form)} "
                "give it two forms; give both the same"
            )
    node = query.group_by[position]
    if _own_form(query, node) is None and not _computes(node, normalize):
        query = _computed(query, node, label, normalize)
        node = query.group_by[position]
    target = replace(query.target, fields=tuple(_formed(query, part, node, normalize) for part in query.target.fields))
    schedule = query.schedule
    if schedule is not None:
        schedule = replace(schedule, entity=_with_key_form(schedule.entity, position, normalize))
    return replace(query, target=target, schedule=schedule)


def _declared(query: QueryModel, position: int) -> Iterator[tuple[str, Normalizer]]:
    """Yield what declares a form of a group key, and the form: the events, the bars, the schedule."""
    node = query.group_by[position]
    if (own := _own_form(query, node)) is not None:
        yield describe(node), own
    filled = {item.field for item in query.projection if item.expression == node}
    for part in query.target.fields:
        if part.name in filled and part.normalize is not None:
            yield f"{query.target.name}.{part.name}", part.normalize
    if query.schedule is not None and position < len(query.schedule.entity.keys):
        key = query.schedule.entity.keys[position]
        if key.normalize is not None:
            yield f"{query.schedule.entity.name}.{key.name}", key.normalize


def _own_form(query: QueryModel, node: AnyNode) -> Normalizer | None:
    """Return how a column of the events is normalized when they are read."""
    entities = {entity.name: entity for entity in query.sources}
    if not isinstance(node, Column) or node.entity not in entities:
        return None
    return next((part.normalize for part in entities[node.entity].fields if part.name == node.name), None)


def _computes(node: AnyNode, normalize: Normalizer) -> bool:
    return isinstance(node, Call) and node.function == FUNCTIONS.get(normalize)


def _computed(query: QueryModel, key: AnyNode, label: str, normalize: Normalizer) -> QueryModel:
    """Return the query with the form of a key computed wherever the key stands."""
    function = FUNCTIONS.get(normalize)
    if function is None:
        raise QueryError(
            f"group_by: {label} has normalize={_name(normalize)}, but {describe(key)} has not, and the query cannot compute it: "
            f"write Key(.., normalize={_name(normalize)}) at {describe(key)} as well, or use {FORMS}"
        )
    return rewrite_query(query, lambda node: call(function, node) if node == key else node)


def _formed(query: QueryModel, part: FieldModel, node: AnyNode, normalize: Normalizer) -> FieldModel:
    is_filled = any(item.field == part.name and item.expression == node for item in query.projection)
    return replace(part, normalize=normalize) if is_filled and part.key_order is not None else part


def _with_key_form(entity: EntityModel, position: int, normalize: Normalizer) -> EntityModel:
    if position >= len(entity.keys):
        return entity
    name = entity.keys[position].name
    fields = tuple(replace(part, normalize=normalize) if part.name == name else part for part in entity.fields)
    return replace(entity, fields=fields)


def with_computed_forms(query: QueryModel) -> QueryModel:
    """Return the query over events whose keys are as their producers have written them, as ksqlDB reads them.

    Raises:
        QueryError: A form is one that ksqlDB cannot compute, or the key is one that rows are joined by.
    """
    forms = {(entity.name, part.name): part.normalize for entity in (query.source,) for part in entity.keys if part.normalize}
    if query.join is not None:
        joined = query.join.entity
        if forms or any(part.normalize for part in joined.keys):
            raise QueryError(
                f"join: ksqlDB joins {query.source.name} and {joined.name} by keys as they are, so that it cannot normalize "
                "them; leave normalize=... out, and write such keys in one form"
            )
    for (entity, name), normalize in forms.items():
        if normalize not in FUNCTIONS:
            raise QueryError(
                f"{entity}.{name}: normalize={_name(normalize)} is a function of Python, which ksqlDB cannot call; use {FORMS}"
            )

    def computed(node: Any) -> Any:
        form = forms.get((node.entity, node.name)) if isinstance(node, Column) else None
        return node if form is None else call(FUNCTIONS[form], node)

    return rewrite_query(query, computed) if forms else query


def _name(normalize: Normalizer) -> str:
    return getattr(normalize, "__qualname__", repr(normalize))
