"""Role "all": finals, gaps and roll-up inside ksqlDB, closed by heartbeats in the topic of the events."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kandle.errors import QueryError
from kandle.ksql.aggregates import query_scope
from kandle.ksql.declarations import name_of
from kandle.ksql.events import INSIDE, events
from kandle.ksql.expressions import condition, term
from kandle.ksql.levels import Filling, Level, State, aggregates_of, with_partials
from kandle.ksql.program import Program, WindowStore, check_late, hopping, size_of, tumbling
from kandle.ksql.stage import bar_properties, columns_of, fields, kept_for, start_of
from kandle.ksql.statements import CreateAs, Item, Names, Select, Statement, duration
from kandle.ksql.sums import ROW_OFFSET
from kandle.ksql.terms import Scope, Term
from kandle.ksql.types import BIGINT, column_type, quoted
from kandle.plan.plan import BarPlan, Plan
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Cast, Column, Constant, Node, WindowBound, describe, walk
from kandle.query.query import Gaps, QueryModel, rewrite_query
from kandle.query.signatures import AGGREGATES, call

NULL_HANDLING = ("is_null", "is_not_null", "coalesce", "and", "or", "is_in", "greatest", "least")
"""Functions that may have a value though an argument is NULL."""


@dataclass(frozen=True, slots=True)
class Beating:
    """A query over a source with heartbeats, and the field that is NULL in those and nowhere else."""

    query: QueryModel
    anchor: Column

    @property
    def heartbeat(self) -> AnyNode:
        """True for heartbeats."""
        return call("is_null", self.anchor)


def with_heartbeats(query: QueryModel) -> Beating:
    """The query such that heartbeats reach the windows and add nothing to their aggregates."""
    kept = kept_fields(query)
    for found in query.source.headers:
        if found.name in kept:
            raise QueryError(
                f"role all writes heartbeats into {query.source.name} with all that makes its key, but ksqlDB writes no headers, "
                f'and {found.name} is one; group by another field, or use role "live"'
            )
    anchors = [found for found in query.source.values if not found.nullable and found.name not in kept]
    if not anchors:
        raise QueryError(
            f"role all tells heartbeats by a NULL in a field of {query.source.name} that has a value in every event, but it has "
            'none besides its keys and times; add such a field, or use role "live"'
        )
    anchor = Column(query.source.name, anchors[0].name, anchors[0].type, nullable=True)

    return Beating(rewrite_query(query, lambda node: _of_heartbeats(query, kept, anchor, node)), anchor)


def kept_fields(query: QueryModel) -> tuple[str, ...]:
    """Fields of the source that heartbeats have: keys, time, what the group key and the join are made of."""
    assert query.window is not None
    nodes: list[Node] = [query.window.time, *query.group_by]
    nodes += [] if query.join is None else [left for left, _ in query.join.on]
    used = {
        found.name for node in nodes for found in walk(node) if isinstance(found, Column) and found.entity == query.source.name
    }
    return tuple(
        found.name for found in query.source.fields if found.name in used or found.key_order is not None or found.is_timestamp
    )


def _of_heartbeats(query: QueryModel, kept: Collection[str], anchor: Column, node: Any) -> Any:
    if isinstance(node, Column) and node.entity == query.source.name and node.name not in kept:
        return replace(node, nullable=True)
    if not isinstance(node, Aggregate):
        return node
    arguments = node.arguments or (anchor,)
    counted = tuple(_only_events(query, kept, anchor, argument) for argument in arguments)
    return replace(node, arguments=counted, nullable=AGGREGATES[node.function].nullable(counted))


def _only_events(query: QueryModel, kept: Collection[str], anchor: Column, argument: AnyNode) -> AnyNode:
    """The argument, NULL in heartbeats."""
    if _is_null_in_heartbeats(query, kept, argument):
        return argument
    return Case((Branch(call("is_not_null", anchor), argument),), Constant(None, argument.type), argument.type)


def _is_null_in_heartbeats(query: QueryModel, kept: Collection[str], node: Node) -> bool:
    if isinstance(node, Column):
        return node.entity == query.source.name and node.name not in kept
    if isinstance(node, Cast) or (isinstance(node, Call) and node.function not in NULL_HANDLING):
        return any(_is_null_in_heartbeats(query, kept, child) for child in node.children)
    return False


COPIES = ("value", "copy")
"""How columns that repeat the key are called, by turns: a query cannot give a column the name that it reads it by."""


def all_program(plan: Plan, store: WindowStore) -> Program:
    """The program of a query over time in which ksqlDB closes the bars."""
    _check(plan)
    return _All(plan, store).program()


def _check(plan: Plan) -> None:
    query = plan.query
    check_late(query)
    for bar in plan.emitted:
        size_of(plan, bar, "all")
    if query.join is not None and query.join.within is not None:
        raise QueryError(
            f"join of the streams {query.source.name} and {query.join.entity.name}: heartbeats find no partner there, so "
            'nothing would close the bars; use role "live"'
        )
    for entity in (query.source, query.target):
        if entity.value_format == "PROTOBUF":
            raise QueryError(
                f"{entity.name}: value_format = 'PROTOBUF' has no NULL for most types, of which heartbeats and bars without "
                'events are made; choose AVRO or JSON, or use role "live"'
            )
    if query.having is not None and query.gaps is not Gaps.CARRY:
        _check_having(plan, query.having)
    if query.gaps is not Gaps.SKIP:
        _check_keys(query)


def _check_keys(query: QueryModel) -> None:
    """A heartbeat has the key of the events whose gaps it fills."""
    assert query.window is not None
    times = set(columns_of([query.window.time]))
    for node in query.group_by:
        if times.intersection(columns_of([node])):
            raise QueryError(
                f"gaps={query.gaps.value}: {describe(node)} of the group key is made of the time, so that heartbeats have other "
                'keys than the events before them, and fill none of their gaps; choose Gaps.SKIP, or use role "live"'
            )


def _check_having(plan: Plan, having: AnyNode) -> None:
    """Where no gaps are filled the condition is that of the windows themselves."""
    bound = next((found for found in walk(having) if isinstance(found, WindowBound)), None)
    if bound is not None:
        raise QueryError(
            f"having: ksqlDB does not know {describe(bound)} in conditions over windows; choose Gaps.CARRY, where it looks "
            'at rows, or use role "live"'
        )
    if len(plan.emitted) > 1:
        raise QueryError(
            "having: bars that it drops still count in the roll-up, but ksqlDB would roll up those that are left only; "
            'declare one timeframe, or use role "live"'
        )


class _All:
    """The program while it is made."""

    def __init__(self, plan: Plan, store: WindowStore) -> None:
        beating = with_heartbeats(plan.query)
        self._plan = plan
        self._store = store
        self._anchor = beating.anchor
        self._query = query = beating.query
        self._events = events(query, beating.heartbeat)
        self._scope = query_scope(query, replace(self._events.rows.scope, sequence=ROW_OFFSET))
        self._fields = fields(query, self._events.rows, self._scope)
        self._start = start_of(query)
        self._filling = Filling(plan.query, query, beating.anchor) if query.gaps is Gaps.CARRY else None
        more = [] if self._filling is None else self._filling.aggregates
        self._state = State(self._scope, [*aggregates_of(query), *more])
        rolls_up = len(plan.emitted) > 1
        self._kept = self._state.needed(for_roll_up=rolls_up) if rolls_up or self._filling is not None else {}

    def program(self) -> Program:
        """All statements, each level after those that it reads."""
        rows = self._events.rows
        made: list[Statement] = list(rows.statements)
        levels: dict[str, Level] = {}
        read = {bar.source for bar in self._plan.emitted}
        for bar in self._plan.emitted:
            source = levels.get(str(bar.source))
            table, level = self._base(bar) if source is None else self._rolled_up(bar, source)
            levels[bar.name] = level
            made.append(table)
            if bar.name in read or self._filling is not None:
                made.append(level.declaration(self._start, self._query.target.value_format))
            if self._filling is not None:
                made.append(self._filled(self._filling, bar, level))
        return Program(tuple(made), tuple(self._notes()), schedule=rows.schedule, declares=rows.declares)

    def _base(self, bar: BarPlan) -> tuple[CreateAs, Level]:
        """Finals from events."""
        rows = self._events.rows
        keys = set(self._fields.keys)
        others = [item for item in self._fields.items if item.name not in keys]
        items = [*self._keys(rows.keys, 0), *others]
        more, held = with_partials(items, self._kept)
        select = Select(
            (*items, *more), rows.source, self._window(bar), self._events.where, rows.keys, having=self._having(), final=True
        )
        return self._table(bar, select, held, 0)

    def _rolled_up(self, bar: BarPlan, source: Level) -> tuple[CreateAs, Level]:
        """Finals from finals."""
        columns = self._state.merged(source.held())
        copies = zip(self._query.group_by, source.copies, strict=False)
        keys: dict[Node, Term] = {node: Term(quoted(copy), column_type(node.type), nullable=False) for node, copy in copies}
        scope = Scope(keys | self._state.values(columns))
        read = tuple(map(quoted, source.copies))
        items = [*self._keys(read, source.depth + 1), *self._others(scope)]
        more, held = with_partials(items, {name: columns[name] for name in self._kept})
        select = Select((*items, *more), quoted(source.declared), self._window(bar), group_by=read, final=True)
        return self._table(bar, select, held, source.depth + 1)

    def _keys(self, read: tuple[str, ...], depth: int) -> Iterator[Item]:
        """The group key as the key of a table, and once more in its values, since those of a key cannot be read again."""
        yield from (Item(column, name) for column, name in zip(read, self._fields.keys, strict=True))
        types = [column_type(node.type) for node in self._query.group_by] or [BIGINT]
        for column, copy, kind in zip(read, self._copies(depth), types, strict=True):
            yield Item(f"AS_VALUE({column})", copy, kind)

    def _others(self, scope: Scope) -> Iterator[Item]:
        """The fields that are not the key."""
        for item in self._query.projection:
            if item.field not in self._fields.keys:
                value = term(item.expression, scope)
                is_key = item.expression in self._query.group_by
                yield Item(f"AS_VALUE({value.text})" if is_key else value.text, item.field, value.type)

    def _copies(self, depth: int) -> tuple[str, ...]:
        names = Names({item.name for item in self._fields.items})
        return tuple(names.free(f"{key}_{COPIES[depth % len(COPIES)]}") for key in self._fields.keys)

    def _table(self, bar: BarPlan, select: Select, held: Mapping[str, str], depth: int) -> tuple[CreateAs, Level]:
        name = name_of(bar.final_topic)
        properties = bar_properties(self._query, bar.final_topic, len(self._fields.keys)) | kept_for(self._query.target)
        table = CreateAs("table", name, properties, select, comment=f"Finals of {bar.name}")
        columns = {item.name: item.type for item in select.items if item.type is not None and item.name not in self._fields.keys}
        return table, Level(name, bar.final_topic, columns, self._copies(depth), held, depth)

    def _window(self, bar: BarPlan) -> str:
        size = size_of(self._plan, bar, "all")
        below = {each.name: each.grace for each in self._plan.emitted}.get(str(bar.source), 0)
        grace = bar.grace - below
        retention = max(self._store.retention, 2 * size + grace)
        if bar.advance is not None:
            return hopping(size, bar.advance.size, retention, grace)
        return tumbling(size, retention, grace)

    def _having(self) -> str | None:
        """Which windows of events are bars."""
        found = []
        if self._query.schedule is not None:
            found.append(f"COUNT({quoted(INSIDE)}) > 0")
        if self._query.gaps is Gaps.SKIP:
            found.append(f"COUNT({term(self._anchor, self._scope).text}) > 0")
        if self._query.having is not None and self._filling is None:
            found.append(condition(self._query.having, self._scope))
        return found[0] if len(found) == 1 else " AND ".join(f"({each})" for each in found) or None

    def _filled(self, filling: Filling, bar: BarPlan, level: Level) -> CreateAs:
        """Bars in whose gaps the last values are carried on."""
        topic = f"{self._query.target.topic}_{bar.name}_filled"
        select = filling.select(level, self._fields.keys, self._start, self._state, size_of(self._plan, bar, "all"))
        properties = bar_properties(self._query, topic, len(self._fields.keys))
        comment = f"Bars of {bar.name}, one change each, with the last values carried on where nothing happened"
        return CreateAs("table", name_of(topic), properties, select, comment=comment)

    def _notes(self) -> Iterator[str]:
        plan, query = self._plan, self._query
        first = plan.emitted[0]
        source = query.source
        fields_kept = ", ".join(dict.fromkeys([*(key.name for key in source.keys), *kept_fields(query)]))
        yield (
            f"Heartbeats close the bars: rows of topic {source.topic} that have {fields_kept}, and NULL in all other columns, so "
            "the schema of its values must allow NULL. There is one for each key and bucket of "
            f"{first.name}, at the end of the bucket + {duration(first.grace)} or later. A bucket is a bar only if an event or a "
            "heartbeat fell into it."
        )
        yield (
            "Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its "
            f"source later still. A silence longer than {duration(self._store.retention)} loses the bar before it. Late events "
            "are dropped, but after a restart they are taken until a newer row comes. Partitions that are read unevenly after an "
            "absence make events late."
        )
        if self._filling is not None:
            yield "In _final a bar without events has NULL, its sums and counts 0. In _filled the last values are carried on."
        elif query.gaps is Gaps.SKIP and len(plan.emitted) > 1:
            yield "A bar of a larger timeframe closes when the next bar of its source with events does (gaps=skip)."
        elif query.gaps is Gaps.NULL:
            yield "A key that has heartbeats has bars before its first event too (gaps=null)."
