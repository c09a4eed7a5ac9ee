"""A whole model as one script: settings, declared entities, then each query's statements, with what must be known as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kandle.errors import QueryError
from kandle.ksql.aggregates import partials, query_scope
from kandle.ksql.all import all_program
from kandle.ksql.declarations import check_column, declared, name_of
from kandle.ksql.events import events
from kandle.ksql.levels import with_partials
from kandle.ksql.plain import plain_program
from kandle.ksql.program import USUAL_STORE, LiveTable, Program, Role, WindowStore, check_late, open_window
from kandle.ksql.stage import bar_properties, fields, start_of
from kandle.ksql.statements import Create, CreateAs, Drop, Select, Statement
from kandle.ksql.sums import ROW_OFFSET
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan, plan
from kandle.query.query import QueryModel


def live_program(plan: Plan, store: WindowStore) -> Program:
    """The program of a query over time in which kandle closes the bars."""
    query, base = plan.query, plan.base
    check_late(query)
    window = open_window(plan, store)
    found = events(query)
    scope = query_scope(query, replace(found.rows.scope, sequence=ROW_OFFSET))
    bar = fields(query, found.rows, scope)
    kept = {partial.name: partial.collect for partial in partials(query, scope)}
    for name, value in kept.items():
        check_column(query.target, replace(value, text=name), "value", query.target.value_format)
    more, columns = with_partials(bar.items, kept)
    table = CreateAs(
        "table",
        name_of(base.live_topic),
        bar_properties(query, base.live_topic, len(bar.keys)),
        Select((*bar.items, *more), found.rows.source, window, found.where, group_by=found.rows.keys),
        comment=f"{query.target.name} of {base.name} while they are open, with what kandle needs to close and roll up",
    )
    return Program(
        (*found.rows.statements, table),
        tuple(_notes(plan)),
        LiveTable(table.name, base.live_topic, bar.keys, start_of(query), columns),
        found.rows.schedule,
        found.rows.declares,
    )


def _notes(plan: Plan) -> Iterator[str]:
    query = plan.query
    yield from _left_to_kandle(query)
    others = [bar.name for bar in plan.emitted if bar.source is not None]
    if others:
        yield f"Bars of {', '.join(others)} are made by kandle from those of {plan.base.name}."


def _left_to_kandle(query: QueryModel) -> Iterator[str]:
    yield "What is late, gaps and finals are judged by kandle: windows here take late events for days."
    if query.having is not None:
        yield "The condition of having is applied by kandle to finals, since bars that it drops still count in the roll-up."
    if query.order_by:
        yield "Bars of a bucket are ordered, and counted off, by kandle."


WIDTH = 120


def program(query: QueryModel, role: Role = Role.LIVE, store: WindowStore = USUAL_STORE) -> Program:
    """The program of one query; QueryError or PlanError, naming the entity, for what ksqlDB cannot do."""
    try:
        if query.window is not None and role is Role.LIVE:
            return live_program(plan(query), store)
        _check_order(query)
        return plain_program(query) if query.window is None else all_program(plan(query), store)
    except QueryError as error:
        raise QueryError(f"query of {query.target.name} on ksqlDB: {error}") from error


def _check_order(query: QueryModel) -> None:
    if query.order_by or query.limit is not None:
        clause = "order_by" if query.order_by else "limit"
        raise QueryError(
            f"{clause}: ksqlDB neither orders the rows of its streams and tables nor counts them off, so {clause} is for "
            "kandle to apply, to bars of role live; leave it out, or order what is read"
        )


@dataclass(frozen=True, slots=True)
class Script:
    """The statements of a model in their order: settings, what is declared, what each query makes.

    Comments have neither quotes nor semicolons, since not every client passes over comments when it looks for those.
    """

    settings: tuple[Statement, ...]
    declarations: tuple[Statement, ...]
    programs: Mapping[str, Program] = field(default_factory=dict)
    """By the name of the target entity."""

    @property
    def statements(self) -> tuple[Statement, ...]:
        """All statements."""
        made = (each for found in self.programs.values() for each in found.statements)
        return (*self.settings, *self.declarations, *made)

    @property
    def drops(self) -> tuple[Drop, ...]:
        """What takes all of it away, readers before what they read; topics that queries have made go with them."""
        made = [each for each in reversed(self.statements) if isinstance(each, Create | CreateAs)]
        return tuple(Drop(each.kind, each.name, "DELETE" if isinstance(each, CreateAs) else "KEEP") for each in made)

    @property
    def text(self) -> str:
        """The script with its comments."""
        return "\n".join(_lines(self))


def script(
    entities: Sequence[EntityModel],
    queries: Sequence[QueryModel],
    role: Role = Role.LIVE,
    store: WindowStore = USUAL_STORE,
) -> Script:
    """The script of a model: `queries` run in it, `entities` that no query makes are declared."""
    _check_schedules(queries)
    programs = {query.target.name: program(query, role, store) for query in _ordered(queries)}
    made = {each.creates.name for found in programs.values() for each in found.statements if each.creates is not None}
    targets = {query.target.cls for query in queries}
    declarations: list[Statement] = [declared(entity) for entity in entities if entity.cls not in targets]
    for found in programs.values():
        needed = (statement for name, statement in found.declares.items() if name not in made)
        declarations += [statement for statement in needed if statement not in declarations]
    result = Script(role.settings, tuple(declarations), programs)
    _check_names(result)
    return result


def _ordered(queries: Sequence[QueryModel]) -> list[QueryModel]:
    """The queries such that each comes after those whose rows it reads; QueryError if it reads bars."""
    by_target = {query.target.cls: query for query in queries}
    done: dict[type, QueryModel] = {}

    def put(query: QueryModel, readers: tuple[QueryModel, ...]) -> None:
        if query in readers:
            names = " -> ".join(each.target.name for each in (*readers, query))
            raise QueryError(f"queries read each other in a circle: {names}; one of them must read an entity that no query makes")
        for entity in query.sources:
            source = by_target.get(entity.cls)
            if source is not None:
                _check_readable(query, source)
                put(source, (*readers, query))
        done.setdefault(query.target.cls, query)

    for query in queries:
        put(query, ())
    return list(done.values())


def _check_readable(query: QueryModel, source: QueryModel) -> None:
    if source.window is not None:
        raise QueryError(
            f"query of {query.target.name} on ksqlDB: it reads {source.target.name}, whose bars are in a topic for each "
            f"timeframe; read what they are made from, {source.source.name}"
        )


def _check_schedules(queries: Sequence[QueryModel]) -> None:
    """Queries share the table of their schedule's intervals, so it must be the same for all."""
    found: dict[str, QueryModel] = {}
    for query in queries:
        if query.schedule is None:
            continue
        other = found.setdefault(query.schedule.entity.topic, query)
        if (_parts_and_partitions(query)) != _parts_and_partitions(other):
            raise QueryError(
                f"the queries of {other.target.name} and {query.target.name} are both based on {query.schedule.entity.name}, but "
                "their group keys or the partitions of their sources differ in number; give one a schedule entity of its own"
            )


def _parts_and_partitions(query: QueryModel) -> tuple[int, int]:
    return len(query.group_by), query.source.partitions


def _check_names(result: Script) -> None:
    """ksqlDB tells its streams and tables apart by their names."""
    found: dict[str, Statement] = {}
    for statement in result.statements:
        creation = statement.creates
        if creation is None:
            continue
        if creation.name.upper() in found:
            raise QueryError(
                f"two statements make a stream or table {creation.name!r} (what is neither letter nor digit in a topic's "
                "name is _ there, and names that differ in the case of letters only are refused here); rename a topic"
            )
        found[creation.name.upper()] = statement


def _lines(result: Script) -> Iterator[str]:
    yield from (statement.text for statement in result.settings)
    for statement in result.declarations:
        yield from _statement(statement)
    for found in result.programs.values():
        yield ""
        for note in found.notes:
            yield from _comment(note)
        for statement in found.statements:
            yield from _statement(statement)


def _statement(statement: Statement) -> Iterator[str]:
    yield ""
    if statement.comment:
        yield from _comment(f"{statement.comment}.")
    yield statement.text


def _comment(text: str) -> Iterator[str]:
    yield from (f"-- {line}" for line in textwrap.wrap(text, WIDTH))
