"""Role "all": finals, gaps and roll-up inside ksqlDB, closed by heartbeats in the topic of the events.

For each timeframe, the finer ones first:

    events, or finer finals
      --EMIT FINAL-->   table <bar>_<tf>_final
      --declared-->     stream <bar>_<tf>_final_declared, which the next timeframe reads
      --gaps=carry-->   table <bar>_<tf>_filled
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from kandle.errors import QueryError
from kandle.ksql.aggregates import query_aggregates, query_scope
from kandle.ksql.events import INSIDE, query_events
from kandle.ksql.expressions import condition, term
from kandle.ksql.filling import Filling
from kandle.ksql.heartbeats import heartbeat_fields, with_heartbeats
from kandle.ksql.levels import BucketPartials, FinalsTable
from kandle.ksql.partials import ROW_OFFSET
from kandle.ksql.program import (
    Program,
    ScriptRole,
    WindowStore,
    bucket_size,
    check_late,
    hopping_window,
    tumbling_window,
)
from kandle.ksql.statements import CreateAs, Select, SelectItem, Statement, duration
from kandle.ksql.streams import columns_of
from kandle.ksql.targets import retention_property, start_field, target_columns, target_properties, with_partials
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import BIGINT, UniqueNames, column_type, name_of_topic, quoted
from kandle.plan.plan import BarPlan, Plan
from kandle.query.nodes import AnyNode, Node, WindowBound, describe, walk
from kandle.query.query import Gaps, QueryModel

COPY_SUFFIXES = ("value", "copy")
"""Name suffixes of the columns that repeat the key, alternating from level to level.

ksqlDB refuses a column that has the name of the column it is read from.
"""


def all_program(plan: Plan, store: WindowStore) -> Program:
    """Return the program of a query with a window, in which ksqlDB closes the bars.

    Args:
        plan: The plan of the query.
        store: How long windows are kept.

    Raises:
        QueryError: If ksqlDB alone cannot make the bars; the message names a way out, such as role "live".
    """
    _check(plan)
    return _ProgramOfAll(plan, store).program()


class _ProgramOfAll:
    """Builds the program of one query, table by table."""

    def __init__(self, plan: Plan, store: WindowStore) -> None:
        heartbeats = with_heartbeats(plan.query)
        self._plan = plan
        self._store = store
        self._anchor = heartbeats.anchor
        self._query = query = heartbeats.query
        self._events = query_events(query, heartbeats.is_heartbeat)
        self._scope = query_scope(query, replace(self._events.rows.scope, sequence=ROW_OFFSET))
        self._columns = target_columns(query, self._events.rows, self._scope)
        self._start = start_field(query)
        self._filling = Filling(plan.query, query, heartbeats.anchor) if query.gaps is Gaps.CARRY else None
        further = [] if self._filling is None else self._filling.aggregates
        self._partials = BucketPartials(self._scope, [*query_aggregates(query), *further])
        rolls_up = len(plan.emitted) > 1
        needs_partials = rolls_up or self._filling is not None
        self._kept = self._partials.needed(for_roll_up=rolls_up) if needs_partials else {}

    def program(self) -> Program:
        """Return all statements, each table after those that it reads."""
        rows = self._events.rows
        statements: list[Statement] = list(rows.statements)
        tables: dict[str, FinalsTable] = {}
        sources = {bar.source for bar in self._plan.emitted}
        for bar in self._plan.emitted:
            source = tables.get(str(bar.source))
            statement, table = self._from_events(bar) if source is None else self._rolled_up(bar, source)
            tables[bar.name] = table
            statements.append(statement)
            if bar.name in sources or self._filling is not None:
                statements.append(table.stream_declaration(self._start, self._query.target.value_format))
            if self._filling is not None:
                statements.append(self._filled(self._filling, bar, table))
        return Program(
            tuple(statements),
            tuple(self._notes()),
            schedule=self._events.schedule,
            declarations=rows.declarations,
        )

    def _from_events(self, bar: BarPlan) -> tuple[CreateAs, FinalsTable]:
        """Return the finals of the base timeframe."""
        rows = self._events.rows
        keys = set(self._columns.keys)
        others = [item for item in self._columns.items if item.name not in keys]
        items = [*self._key_items(rows.keys, 0), *others]
        further, column_names = with_partials(items, self._kept)
        select = Select(
            (*items, *further),
            rows.text,
            self._window(bar),
            self._events.where,
            rows.keys,
            having=self._having(),
            final=True,
        )
        return self._table(bar, select, column_names, 0)

    def _rolled_up(self, bar: BarPlan, source: FinalsTable) -> tuple[CreateAs, FinalsTable]:
        """Return finals made from those of a finer timeframe."""
        columns = self._partials.merge(source.partial_terms())
        terms: dict[Node, Term] = {
            node: Term(quoted(copy), column_type(node.type), nullable=False)
            for node, copy in zip(self._query.group_by, source.copies, strict=False)
        }
        scope = TermScope(terms | self._partials.values(columns))
        keys = tuple(map(quoted, source.copies))
        items = [*self._key_items(keys, source.depth + 1), *self._other_items(scope)]
        further, column_names = with_partials(items, {name: columns[name] for name in self._kept})
        select = Select((*items, *further), quoted(source.stream), self._window(bar), group_by=keys, final=True)
        return self._table(bar, select, column_names, source.depth + 1)

    def _key_items(self, key_columns: tuple[str, ...], depth: int) -> Iterator[SelectItem]:
        """Yield the group key as key columns, then as value columns, since the declared stream has no key."""
        yield from (SelectItem(column, name) for column, name in zip(key_columns, self._columns.keys, strict=True))
        types = [column_type(node.type) for node in self._query.group_by] or [BIGINT]
        for column, copy, kind in zip(key_columns, self._copies(depth), types, strict=True):
            yield SelectItem(f"AS_VALUE({column})", copy, kind)

    def _other_items(self, scope: TermScope) -> Iterator[SelectItem]:
        """Yield the fields that are not the key."""
        for item in self._query.projection:
            if item.field not in self._columns.keys:
                value = term(item.expression, scope)
                is_key = item.expression in self._query.group_by
                yield SelectItem(f"AS_VALUE({value.text})" if is_key else value.text, item.field, value.type)

    def _copies(self, depth: int) -> tuple[str, ...]:
        names = UniqueNames(item.name for item in self._columns.items)
        suffix = COPY_SUFFIXES[depth % len(COPY_SUFFIXES)]
        return tuple(names.claim(f"{key}_{suffix}") for key in self._columns.keys)

    def _table(self, bar: BarPlan, select: Select, column_names: Mapping[str, str], depth: int) -> tuple[CreateAs, FinalsTable]:
        name = name_of_topic(bar.final_topic)
        properties = target_properties(self._query, bar.final_topic, len(self._columns.keys))
        properties |= retention_property(self._query.target)
        statement = CreateAs("table", name, properties, select, comment=f"Final bars of {bar.name}")
        columns = {item.name: item.type for item in select.items if item.type is not None and item.name not in self._columns.keys}
        return statement, FinalsTable(name, bar.final_topic, columns, self._copies(depth), column_names, depth)

    def _window(self, bar: BarPlan) -> str:
        size = bucket_size(self._plan, bar, ScriptRole.ALL)
        grace_of_source = {source.name: source.grace for source in self._plan.emitted}.get(str(bar.source), 0)
        grace = bar.grace - grace_of_source
        retention = max(self._store.retention, 2 * size + grace)
        if bar.advance is not None:
            return hopping_window(size, bar.advance.size, retention, grace)
        return tumbling_window(size, retention, grace)

    def _having(self) -> str | None:
        """Return the condition for windows of events that are bars."""
        conditions = []
        if self._query.schedule is not None:
            conditions.append(f"COUNT({quoted(INSIDE)}) > 0")
        if self._query.gaps is Gaps.SKIP:
            conditions.append(f"COUNT({term(self._anchor, self._scope).text}) > 0")
        if self._query.having is not None and self._filling is None:
            conditions.append(condition(self._query.having, self._scope))
        if len(conditions) == 1:
            return conditions[0]
        return " AND ".join(f"({part})" for part in conditions) or None

    def _filled(self, filling: Filling, bar: BarPlan, table: FinalsTable) -> CreateAs:
        """Return the bars in whose gaps the last values are carried on."""
        topic = f"{self._query.target.topic}_{bar.name}_filled"
        size = bucket_size(self._plan, bar, ScriptRole.ALL)
        select = filling.select(table, self._columns.keys, self._start, self._partials, size)
        properties = target_properties(self._query, topic, len(self._columns.keys))
        comment = f"Final bars of {bar.name}. Each is written once, and bars without events carry the last values"
        return CreateAs("table", name_of_topic(topic), properties, select, comment=comment)

    def _notes(self) -> Iterator[str]:
        plan, query = self._plan, self._query
        first = plan.emitted[0]
        source = query.source
        fields = ", ".join(dict.fromkeys([*(key.name for key in source.keys), *heartbeat_fields(query)]))
        yield (
            f"Heartbeats close the bars: rows of topic {source.topic} with values for {fields} and NULL in all other columns, "
            f"so the schema of its values must allow NULL. Each key needs one for each bucket of {first.name}, at the end of "
            f"the bucket + {duration(first.grace)} or later. A bucket becomes a bar only if it contains an event or a "
            "heartbeat."
        )
        yield (
            "Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one "
            f"more bar of its source has closed. A silence longer than {duration(self._store.retention)} loses the bar "
            "before it. Late events are dropped, except after a restart until a newer row arrives. If partitions are read "
            "at different speeds after a pause, events can become late."
        )
        if self._filling is not None:
            yield "In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values."
        elif query.gaps is Gaps.SKIP and len(plan.emitted) > 1:
            yield "A bar of a larger timeframe closes when the next bar of its source that has events closes (gaps=skip)."
        elif query.gaps is Gaps.NULL:
            yield "A key with heartbeats also has bars before its first event (gaps=null)."


def _check(plan: Plan) -> None:
    query = plan.query
    check_late(query)
    for bar in plan.emitted:
        bucket_size(plan, bar, ScriptRole.ALL)
    if query.join is not None and query.join.within is not None:
        raise QueryError(
            f"join of the streams {query.source.name} and {query.join.entity.name}: a heartbeat has no partner in the join, so "
            'that nothing would close the bars; use role "live"'
        )
    for entity in (query.source, query.target):
        if entity.value_format == "PROTOBUF":
            raise QueryError(
                f"{entity.name}: value_format = 'PROTOBUF' has no NULL for most types, but heartbeats and bars without events "
                'have NULL in their fields; choose AVRO or JSON, or use role "live"'
            )
    if query.having is not None and query.gaps is not Gaps.CARRY:
        _check_having(plan, query.having)
    if query.gaps is not Gaps.SKIP:
        _check_keys(query)


def _check_keys(query: QueryModel) -> None:
    """Check that heartbeats can have the key of the events whose gaps they fill."""
    assert query.window is not None
    times = set(columns_of([query.window.time]))
    for node in query.group_by:
        if times.intersection(columns_of([node])):
            raise QueryError(
                f"gaps={query.gaps.value}: {describe(node)} of the group key depends on the time, so heartbeats have other keys "
                'than the events before them and fill none of their gaps; choose Gaps.SKIP, or use role "live"'
            )


def _check_having(plan: Plan, having: AnyNode) -> None:
    """Check `having` of a query whose gaps are not filled, where it becomes the condition of the windows."""
    bound = next((node for node in walk(having) if isinstance(node, WindowBound)), None)
    if bound is not None:
        raise QueryError(
            f"having: ksqlDB cannot use {describe(bound)} in a condition over windows; choose Gaps.CARRY, where the condition "
            'is applied to rows, or use role "live"'
        )
    if len(plan.emitted) > 1:
        raise QueryError(
            "having: bars that it drops still count in the roll-up, but ksqlDB would roll up the others only; declare one "
            'timeframe, or use role "live"'
        )
