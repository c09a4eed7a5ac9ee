"""A query, checked: what it reads, what it computes and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tests.ksqldb.simulator.code import Code, Collector, Column, Scope, code_of, condition_of, guarded
from tests.ksqldb.simulator.errors import RefusedError, UnreadError
from tests.ksqldb.simulator.expressing import RULE_MODULES
from tests.ksqldb.simulator.joining import JoinKey, check_join
from tests.ksqldb.simulator.names import WINDOW_BOUNDS, Names, names_of, resolved
from tests.ksqldb.simulator.nodes import Field, Literal, Name, Node, Query, SelectItem, Star
from tests.ksqldb.simulator.sources import StreamOrTable

assert RULE_MODULES

DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Output:
    """A column that comes out, with the code of its value."""

    name: str
    code: Code
    key: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked query; `groups` and the collector are empty without GROUP BY."""

    query: Query
    kind: str
    sources: tuple[tuple[str, StreamOrTable], ...]
    outputs: tuple[Output, ...]
    where: Code | None
    groups: tuple[Code, ...]
    collector: Collector | None
    having: Code | None
    join_codes: tuple[tuple[Code, Code], ...]

    @property
    def first(self) -> StreamOrTable:
        return self.sources[0][1]

    @property
    def windowed(self) -> bool:
        return self.query.window is not None or self.first.windowed


def planned(query: Query, known: Mapping[str, StreamOrTable]) -> Plan:
    """A persistent query over known sources; RefusedError says why the server would not run it."""
    sources = [_source(source.name, source.alias, known) for source in (query.source, *(join.source for join in query.joins))]
    names = names_of(sources)
    query = _resolved(query, names, sources)
    _check_clauses(query, sources)
    scope = Scope(names.columns)
    keys = _join_keys(query, sources, scope)
    where = condition_of(query.where, scope) if query.where else None
    collector = Collector(Scope(_without_bounds(names)), from_table=sources[0][1].kind == "TABLE") if query.group_by else None
    outputs = _outputs(query, _select_scope(query, scope, collector), _key_nodes(query, sources, keys))
    having = condition_of(query.having, _group_scope(query, scope, collector)) if query.having else None
    if collector is not None and not collector.aggregations:
        raise RefusedError("GROUP BY requires aggregate functions in either the SELECT or HAVING clause.")
    groups = tuple(guarded(code_of(node, scope)) for node in query.group_by)
    join_codes = tuple((guarded(code_of(key.left, scope)), guarded(code_of(key.right, scope))) for key in keys)
    kind = "TABLE" if query.group_by or (sources[0][1].kind == "TABLE") else "STREAM"
    return Plan(query, kind, tuple(sources), outputs, where, groups, collector, having, join_codes)


def _source(name: str, alias: str, known: Mapping[str, StreamOrTable]) -> tuple[str, StreamOrTable]:
    if name not in known:
        raise RefusedError(f"Exception while preparing statement: {name} does not exist.")
    if known[name].windowed and known[name].kind == "TABLE":
        raise RefusedError("KSQL does not support persistent queries on windowed tables.")
    return alias, known[name]


def _without_bounds(names: Names) -> dict[Node, Column]:
    """Columns for the arguments of aggregates: these cannot see the window."""
    return {node: column for node, column in names.columns.items() if column.slot.rpartition(".")[2] not in WINDOW_BOUNDS}


def _resolved(query: Query, names: Names, sources: Sequence[tuple[str, StreamOrTable]]) -> Query:
    items = tuple(part for item in query.items for part in _spread(item, sources))
    return replace(
        query,
        items=tuple(SelectItem(resolved(item.expression, names.meanings), item.alias) for item in items),
        joins=tuple(replace(join, condition=resolved(join.condition, names.meanings)) for join in query.joins),
        **{
            clause: resolved(getattr(query, clause), names.meanings) for clause in ("where", "group_by", "partition_by", "having")
        },
    )


def _spread(item: SelectItem, sources: Sequence[tuple[str, StreamOrTable]]) -> list[SelectItem]:
    """`*` as all the columns that it stands for; in joins they are called alias_column."""
    if not isinstance(item.expression, Star):
        return [item]
    return [
        SelectItem(Name(column.name, alias), column.name if len(sources) == 1 else f"{alias}_{column.name}")
        for alias, source in sources
        if item.alias in (None, alias)
        for column in source.columns
    ]


def _check_clauses(query: Query, sources: Sequence[tuple[str, StreamOrTable]]) -> None:
    first = sources[0][1]
    if query.limit is not None:
        raise RefusedError("CREATE AS SELECT statements don't support LIMIT clause.")
    if query.having is not None and not query.group_by:
        raise RefusedError("HAVING requires a GROUP BY clause.")
    if query.emit == "FINAL" and query.window is None:
        raise RefusedError("EMIT FINAL is only supported for windowed aggregations.")
    if query.partition_by and (first.kind == "TABLE" or query.group_by):
        raise RefusedError("PARTITION BY is only supported for streams, and not together with GROUP BY.")
    if query.partition_by and first.windowed:
        raise RefusedError("Implicit repartitioning of windowed sources is not supported.")
    if query.window is not None:
        _check_window(query, first)


def _check_window(query: Query, first: StreamOrTable) -> None:
    window = query.window
    assert window is not None
    if not query.group_by or first.kind == "TABLE":
        raise RefusedError("WINDOW clause requires a GROUP BY clause, and a stream.")
    grace = window.grace if window.grace is not None else 0 if query.emit == "FINAL" else max(DAY - window.size, 0)
    if window.retention is not None and window.retention < window.size + grace:
        raise RefusedError(
            "The retention period of the window store must be no smaller than its window size plus the grace period."
        )


def _join_keys(query: Query, sources: Sequence[tuple[str, StreamOrTable]], scope: Scope) -> list[JoinKey]:
    keys = []
    for position, join in enumerate(query.joins, start=1):
        sides = {alias: "left" for alias, _ in sources[:position]} | {sources[position][0]: "right"}
        keys.append(check_join(join, sources[0][1], sources[position][1], scope, sides))
    return keys


def _select_scope(query: Query, scope: Scope, collector: Collector | None) -> Scope:
    group = _group_scope(query, scope, collector)
    if query.window is None:
        return group
    bounds: dict[Node, Column] = {Name(name): Column(name, kind) for name, kind in WINDOW_BOUNDS.items()}
    return replace(group, columns={**group.columns, **bounds})


def _group_scope(query: Query, scope: Scope, collector: Collector | None) -> Scope:
    """What is known of a group: what it is grouped by, and aggregates."""
    if collector is None:
        return scope
    codes = {node: code_of(node, scope) for node in query.group_by}
    return Scope(
        {node: Column(f"group {position}", code.known) for position, (node, code) in enumerate(codes.items())}, {}, collector
    )


def _key_nodes(query: Query, sources: Sequence[tuple[str, StreamOrTable]], joins: Sequence[JoinKey]) -> list[tuple[Node, ...]]:
    """The key of what comes out: for each part the expressions of which one must be projected."""
    if tuple(query.partition_by) == (Literal(None),):
        return []
    if query.group_by or query.partition_by:
        return [(node,) for node in query.group_by or query.partition_by]
    alias, first = sources[0]
    if not joins:
        return [(Name(column.name),) for column in first.keys]
    if first.kind == "TABLE":
        return [(Name(f"{alias}.{column.name}"),) for column in first.keys]
    if query.joins[-1].kind == "FULL" or not joins[-1].columns:
        raise UnreadError("a join whose key is the made up column ROWKEY")
    return [joins[-1].columns]


def _outputs(query: Query, scope: Scope, keys: Sequence[tuple[Node, ...]]) -> tuple[Output, ...]:
    codes = [code_of(item.expression, scope) for item in query.items]
    if any(code.type is None for code in codes):
        raise RefusedError(
            "Can't infer a type of null. Please explicitly cast it to a required type, e.g. CAST(null AS VARCHAR)."
        )
    key_items = {_projected(choices, query) for choices in keys}
    return tuple(
        Output(item.alias or _default_name(item.expression, position), guarded(code), position in key_items)
        for position, (item, code) in enumerate(zip(query.items, codes, strict=True))
    )


def _projected(choices: tuple[Node, ...], query: Query) -> int:
    """Which item of the SELECT is this part of the key."""
    for node in choices:
        positions = [position for position, item in enumerate(query.items) if item.expression == node]
        if len(positions) > 1:
            raise RefusedError(f"The projection contains a key column more than once: {node}. Use AS_VALUE to copy it.")
        if positions:
            return positions[0]
    raise RefusedError(
        f"Key missing from projection (ie, SELECT). The query must include {' or '.join(map(str, choices))} in its projection."
    )


def _default_name(node: Node, position: int) -> str:
    if isinstance(node, Name):
        return node.name.rpartition(".")[2]
    return node.name if isinstance(node, Field) else f"KSQL_COL_{position}"
