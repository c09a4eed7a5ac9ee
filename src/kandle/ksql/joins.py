"""Joins: rows of another entity beside events, and a key of several parts as one text.

ksqlDB joins on one column of each side. If the join key has several parts, or is not a column of the other
side, a stream with the key as one more text column is created from the other side first (`_OtherSide`). The
text has `|` between the parts; in all parts but the last, `%` is written `%25` and `|` is written `%7C`.
ksqlDB (`key_expression`) and kandle (`key_text`) write the same text:

    ("a|b", 7)  ->  a%7Cb|7
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from kandle.errors import QueryError
from kandle.ksql.declarations import declaration, is_record_time, is_stored_as_is
from kandle.ksql.expressions import naming_node, term
from kandle.ksql.statements import CreateAs, Select, SelectItem, Statement, duration
from kandle.ksql.streams import FromClause, column_terms, columns_of, stream_properties
from kandle.ksql.terms import RefusedError, Term, TermScope, guarded_term
from kandle.ksql.types import DOUBLE, VARCHAR, UniqueNames, column_type, name_of_topic, quoted, source_name
from kandle.model.entity import EntityModel
from kandle.model.types import DataType, DecimalType
from kandle.query.nodes import AnyNode, Column, Node, describe
from kandle.query.query import Join, QueryModel
from kandle.time.timeframe import DAY, MILLISECOND, to_instant

SEPARATOR = "|"
ESCAPES = (("%", "%25"), ("|", "%7C"))

_EXPRESSIONS: dict[str, str] = {
    "VARCHAR": "{0}",
    "BOOLEAN": "CASE WHEN {0} THEN 'true' ELSE 'false' END",
    "INTEGER": "CAST({0} AS VARCHAR)",
    "BIGINT": "CAST({0} AS VARCHAR)",
    "DECIMAL": "CAST({0} AS VARCHAR)",
    "DATE": "FORMAT_DATE({0}, 'yyyy-MM-dd')",
    "TIMESTAMP": "CAST(UNIX_TIMESTAMP({0}) AS VARCHAR)",
    "BYTES": "FROM_BYTES({0}, 'base64')",
}


def key_expression(parts: Sequence[Term]) -> str:
    """Return KSQL for the text of a key, NULL where a part is NULL.

    Raises:
        RefusedError: If a part is of a type that cannot be in a key, such as DOUBLE.
    """
    texts = [_text_of(part) for part in parts]
    escaped = [_escaped(text) if part.type == VARCHAR else text for text, part in zip(texts[:-1], parts, strict=False)]
    whole = f" + '{SEPARATOR}' + ".join([*escaped, texts[-1]])
    return guarded_term(whole, VARCHAR, parts).text


def key_of_nodes(nodes: Sequence[AnyNode], scope: TermScope) -> str:
    """Return KSQL for the text of a key whose parts are expressions of the query tree.

    Raises:
        QueryError: If a part cannot be in a key; the message names the expression.
    """
    parts = []
    for node in nodes:
        with naming_node(node):
            parts.append(term(node, scope))
            _text_of(parts[-1])
    return key_expression(parts)


def _text_of(part: Term) -> str:
    if part.type.name not in _EXPRESSIONS:
        way_out = "cast it to int or Precision(precision, scale)" if part.type == DOUBLE else "use another field"
        raise RefusedError(f"ksqlDB has no exact text of {part.type}, so it cannot be part of a key; {way_out}")
    return _EXPRESSIONS[part.type.name].format(part.text)


def _escaped(text: str) -> str:
    for character, escape in ESCAPES:
        text = f"REPLACE({text}, '{character}', '{escape}')"
    return text


def key_text(values: Sequence[Any], kinds: Sequence[DataType]) -> str:
    """Return the text of a key, the same that ksqlDB computes from `key_expression`.

    Args:
        values: The parts of the key as Python values.
        kinds: Their kandle types.
    """
    texts = [_TEXTS[type(value)](value, kind) for value, kind in zip(values, kinds, strict=True)]
    for character, escape in ESCAPES:
        texts[:-1] = [text.replace(character, escape) for text in texts[:-1]]
    return SEPARATOR.join(texts)


def _text_of_decimal(value: Decimal, kind: DataType) -> str:
    assert isinstance(kind, DecimalType)
    return f"{value:.{kind.scale}f}"


_TEXTS: dict[type, Callable[[Any, DataType], str]] = {
    str: lambda value, kind: value,
    uuid.UUID: lambda value, kind: str(value),
    bool: lambda value, kind: str(value).lower(),
    int: lambda value, kind: str(value),
    Decimal: _text_of_decimal,
    date: lambda value, kind: value.isoformat(),
    datetime: lambda value, kind: str(to_instant(value) // MILLISECOND),
    bytes: lambda value, kind: base64.b64encode(value).decode(),
}


SOURCE_ALIAS, OTHER_ALIAS = "t", "o"
"""Aliases of the source and of the entity that it is joined with."""

DEFAULT_GRACE = DAY
"""How late events of two joined streams may be if the query does not say it; ksqlDB's own default."""


def joined_rows(query: QueryModel, join: Join, rows: FromClause) -> tuple[FromClause, SelectItem]:
    """Return the source beside the entity that it is joined with.

    Args:
        query: The query.
        join: Its join.
        rows: The declared source.

    Returns:
        The FROM clause, and the column that is the key of the joined rows.

    Raises:
        QueryError: If ksqlDB cannot join the two.
    """
    _check(query, join)
    where = [] if query.where is None else [query.where]
    columns = columns_of([*rows.columns, *where, *(side for pair in join.on for side in pair)])
    scope = TermScope(column_terms(query.source, columns, SOURCE_ALIAS))
    other = _OtherSide(query, join, columns)
    left, key = other.condition(scope)
    grace = DEFAULT_GRACE if join.grace is None else join.grace
    within = "" if join.within is None else f" WITHIN {duration(join.within)} GRACE PERIOD {duration(grace)}"
    kind = "LEFT JOIN" if join.how == "left" else "JOIN"
    right = f"{other.name} {quoted(OTHER_ALIAS)}{within} ON {left} = {other.key}"
    result = replace(
        rows,
        text=f"{rows.text} {quoted(SOURCE_ALIAS)}\n  {kind} {right}",
        scope=TermScope({**scope.columns, **other.scope.columns}),
        is_timed=rows.is_timed and join.within is None,
        declarations={**rows.declarations, **other.declarations},
        statements=(*rows.statements, *other.statements),
    )
    return result, key


def _is_plain_column(node: Node, entity: EntityModel) -> bool:
    """Return whether a node is a column that is stored in the topic with its own value."""
    return isinstance(node, Column) and is_stored_as_is(entity, node.name)


class _OtherSide:
    """The other side of a join: the declared entity, or a stream with its join key as one column.

    Attributes:
        name: The stream or table, quoted.
        key: KSQL of its side of ON.
        scope: What its columns stand for.
        declarations: The statement that declares the entity.
        statements: The statement that creates the stream, if there is one.
    """

    def __init__(self, query: QueryModel, join: Join, columns: list[Column]) -> None:
        self._on, self._source = join.on, query.source
        statement = declaration(join.entity)
        self.declarations: dict[str, Statement] = {statement.name: statement}
        self.statements: tuple[Statement, ...] = ()
        self.name = source_name(statement.name)
        self.scope = TermScope(column_terms(join.entity, columns, OTHER_ALIAS))
        right = join.on[0][1]
        self._has_text_key = len(join.on) > 1 or not _is_plain_column(right, join.entity)
        if self._has_text_key:
            self._create_keyed_stream(query, join.entity, columns)
        else:
            self.key = term(right, self.scope).text

    def _create_keyed_stream(self, query: QueryModel, entity: EntityModel, columns: list[Column]) -> None:
        """Create a stream of the entity's columns with the join key as one more."""
        declared_scope = TermScope(column_terms(entity, columns))
        names = UniqueNames()
        items = [SelectItem(quoted(key.name), names.claim(key.name)) for key in entity.keys]
        terms: dict[Node, Term] = {}
        for column in columns_of(declared_scope.columns):
            value = declared_scope.columns[column]
            name = next((item.name for item in items if item.expression == value.text), None)
            if name is None:
                name = names.claim(column.name)
                items.append(SelectItem(value.text, name))
            terms[column] = Term(f"{quoted(OTHER_ALIAS)}.{quoted(name)}", value.type, value.nullable)
        key = names.claim("_id")
        items.append(SelectItem(key_of_nodes([right for _, right in self._on], declared_scope), key))
        topic = f"{query.target.topic}_{entity.topic}_by_key"
        properties = stream_properties(topic, entity)
        select = Select(tuple(items), self.name)
        comment = f"{entity.name} with its join key in one column"
        self.statements = (CreateAs("stream", name_of_topic(topic), properties, select, comment=comment),)
        self.name = source_name(name_of_topic(topic))
        self.scope = TermScope(terms)
        self.key = f"{quoted(OTHER_ALIAS)}.{quoted(key)}"

    def condition(self, scope: TermScope) -> tuple[str, SelectItem]:
        """Return the source's side of ON, and the key of the joined rows: its own column if possible.

        Args:
            scope: What the source's columns stand for.
        """
        left, right = self._on[0]
        value = term(left, scope)
        if self._has_text_key:
            return key_of_nodes([left for left, _ in self._on], scope), SelectItem(self.key, "_id", VARCHAR)
        if self._source.kind == "table":
            # Rows of a table keep its key, even if they are joined by another field.
            own = self._source.keys[0]
            column = f"{quoted(SOURCE_ALIAS)}.{quoted(own.name)}"
            return value.text, SelectItem(column, own.name, column_type(own.type))
        if isinstance(left, Column) and _is_plain_column(left, self._source):
            return value.text, SelectItem(value.text, left.name, value.type)
        assert isinstance(right, Column)
        return value.text, SelectItem(self.key, right.name, value.type)


def _check(query: QueryModel, join: Join) -> None:
    source, other = query.source, join.entity
    if source.topic == other.topic:
        raise QueryError(
            f"join: {source.name} and {other.name} have the same topic {source.topic!r}, and ksqlDB cannot join a topic with "
            f"itself; make {other.name} by a query, from_({source.name}).select(...), in a topic of its own"
        )
    if source.partitions != other.partitions:
        raise QueryError(
            f"join: {source.name} has {source.partitions} partitions and {other.name} {other.partitions}; ksqlDB only joins "
            "topics with equal numbers of partitions; create one of the topics again with as many as the other"
        )
    if other.kind == "table" and len(other.keys) > 1:
        names = ", ".join(key.name for key in other.keys)
        raise QueryError(
            f"join: the key of the table {other.name} has {len(other.keys)} parts ({names}), but ksqlDB finds rows of tables "
            "by a key of one column; give the table one key field, for example the parts joined by f.concat"
        )
    _check_key(join)
    if source.kind == "table":
        _check_tables(source, join)
    if join.within is not None:
        _check_time(source)
        _check_time(other)


def _check_time(entity: EntityModel) -> None:
    if entity.timestamp is None or not is_record_time(entity, entity.timestamp):
        stamp = "a field" if entity.timestamp is None else entity.timestamp.name
        raise QueryError(
            f"join: ksqlDB joins events of two streams by the time of their records, but it cannot take {stamp} of "
            f'{entity.name} for that time; mark a datetime field Timestamp(), in milliseconds (DatetimeFormat("epoch_ms"))'
        )


def _check_key(join: Join) -> None:
    """Check that ksqlDB can look up the key, and drops no events of a left join."""
    other = join.entity
    for left, right in join.on:
        if other.kind == "table" and isinstance(right, Column) and not _is_plain_column(right, other):
            raise QueryError(
                f"join: the key {right.name} of the table {other.name} is a number or text in its topic (DatetimeFormat), not "
                "a datetime, and ksqlDB finds rows of tables by the key as it is stored; leave DatetimeFormat out, or make "
                "the field an int or a str on both sides"
            )
        if join.how == "left" and left.nullable:
            raise QueryError(
                f"join: {describe(left)} may be NULL, and ksqlDB drops such events even in a left join; write "
                "f.coalesce(x, ...), or leave them out with how='inner'"
            )


def _check_tables(source: EntityModel, join: Join) -> None:
    """Check that two tables are joined by the key of the one and a field of the other."""
    if len(source.keys) != 1:
        names = ", ".join(key.name for key in source.keys)
        raise QueryError(
            f"join: the key of the table {source.name} has {len(source.keys)} parts ({names}), but ksqlDB joins tables that "
            "have a key of one column; give it one key field, for example the parts joined by f.concat"
        )
    left = join.on[0][0]
    if not _is_plain_column(left, source):
        raise QueryError(
            f"join: {describe(left)} is computed, or is stored in its topic in another form, but ksqlDB joins tables by a "
            f"field as it is stored; give {source.name} such a field"
        )
