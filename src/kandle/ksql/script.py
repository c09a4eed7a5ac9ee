"""A model as one script: settings, declared entities, then the program of each query with comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kandle.errors import QueryError
from kandle.ksql.all import all_program
from kandle.ksql.declarations import declaration
from kandle.ksql.live import live_program
from kandle.ksql.plain import plain_program
from kandle.ksql.program import DEFAULT_STORE, Program, ScriptRole, WindowStore
from kandle.ksql.statements import Create, CreateAs, Drop, Statement
from kandle.model.entity import EntityModel
from kandle.plan.plan import plan
from kandle.query.key_forms import with_computed_forms
from kandle.query.query import QueryModel

WIDTH = 120
"""Longest line of a comment, without its dashes."""


@dataclass(frozen=True, slots=True)
class Script:
    """The statements of a model in their order.

    Comments contain neither quotes nor semicolons, since some clients do not skip comments when they look for
    those.

    Attributes:
        settings: Properties of all queries.
        declarations: What several queries may read: entities, session tables.
        programs: The program of each query by the name of its target entity.
    """

    settings: tuple[Statement, ...]
    declarations: tuple[Statement, ...]
    programs: Mapping[str, Program] = field(default_factory=dict)

    @property
    def statements(self) -> tuple[Statement, ...]:
        """All statements."""
        of_programs = (statement for program in self.programs.values() for statement in program.statements)
        return (*self.settings, *self.declarations, *of_programs)

    @property
    def drops(self) -> tuple[Drop, ...]:
        """The statements that drop all streams and tables, readers first, with the topics of queries."""
        creations = [part for part in reversed(self.statements) if isinstance(part, Create | CreateAs)]
        return tuple(
            Drop(creation.kind, creation.name, "DELETE" if isinstance(creation, CreateAs) else "KEEP") for creation in creations
        )

    @property
    def text(self) -> str:
        """The script with its comments."""
        return "\n".join(_lines(self))


def script(
    entities: Sequence[EntityModel],
    queries: Sequence[QueryModel],
    role: ScriptRole = ScriptRole.LIVE,
    store: WindowStore = DEFAULT_STORE,
) -> Script:
    """Return the script of a model.

    Args:
        entities: The entities of the model; those that no query makes are declared.
        queries: The queries to run, in any order.
        role: What ksqlDB does of them.
        store: How long windows are kept.

    Raises:
        QueryError: If ksqlDB cannot run a query, or the queries do not fit together.
    """
    _check_schedules(queries)
    programs = {query.target.name: query_program(query, role, store) for query in _in_order(queries)}
    created = {
        statement.creates.name
        for program in programs.values()
        for statement in program.statements
        if statement.creates is not None
    }
    targets = {query.target.cls for query in queries}
    declarations: list[Statement] = [declaration(entity) for entity in entities if entity.cls not in targets]
    for program in programs.values():
        needed = (statement for name, statement in program.declarations.items() if name not in created)
        declarations += [statement for statement in needed if statement not in declarations]
    result = Script(role.settings, tuple(declarations), programs)
    _check_names(result)
    return result


def query_program(query: QueryModel, role: ScriptRole = ScriptRole.LIVE, store: WindowStore = DEFAULT_STORE) -> Program:
    """Return the program of one query.

    Args:
        query: The query.
        role: What ksqlDB does of it.
        store: How long windows are kept.

    Raises:
        QueryError: If ksqlDB cannot run the query; the message names its target entity.
    """
    try:
        _check_versions(query)
        query = with_computed_forms(query)
        if query.window is not None and role is ScriptRole.LIVE:
            return live_program(plan(query), store)
        _check_order(query)
        return plain_program(query) if query.window is None else all_program(plan(query), store)
    except QueryError as error:
        raise QueryError(f"query of {query.target.name} on ksqlDB: {error}") from error


def _check_versions(query: QueryModel) -> None:
    for entity in query.sources:
        if entity.former:
            raise QueryError(
                f"{entity.name} has earlier versions of its key, and ksqlDB cannot call the function that upgrades their "
                f"records; run `kandle rekey`, and read a class of the topic {entity.topic} without previous=..."
            )


def _check_order(query: QueryModel) -> None:
    if query.order_by or query.limit is not None:
        clause = "order_by" if query.order_by else "limit"
        raise QueryError(
            f"{clause}: ksqlDB neither orders nor limits the rows of its streams and tables; leave {clause} out and apply it "
            'where you read the rows, or use a window and role "live", in which kandle applies it to bars'
        )


def _in_order(queries: Sequence[QueryModel]) -> list[QueryModel]:
    """Return the queries such that each comes after those whose rows it reads.

    Raises:
        QueryError: If a query reads bars, or queries read each other in a circle.
    """
    by_target = {query.target.cls: query for query in queries}
    done: dict[type, QueryModel] = {}

    def add(query: QueryModel, readers: tuple[QueryModel, ...]) -> None:
        if query in readers:
            names = " -> ".join(reader.target.name for reader in (*readers, query))
            raise QueryError(f"queries read each other in a circle: {names}; one of them must read an entity that no query makes")
        for entity in query.sources:
            source = by_target.get(entity.cls)
            if source is not None:
                _check_readable(query, source)
                add(source, (*readers, query))
        done.setdefault(query.target.cls, query)

    for query in queries:
        add(query, ())
    return list(done.values())


def _check_readable(query: QueryModel, source: QueryModel) -> None:
    if source.window is not None:
        raise QueryError(
            f"query of {query.target.name} on ksqlDB: it reads {source.target.name}, whose bars are in one topic for each "
            f"timeframe; read {source.source.name} instead, from which they are made"
        )


def _check_schedules(queries: Sequence[QueryModel]) -> None:
    """Check that queries with the same schedule can share its session table."""
    first_queries: dict[str, QueryModel] = {}
    for query in queries:
        if query.schedule is None:
            continue
        first = first_queries.setdefault(query.schedule.entity.topic, query)
        if _table_shape(query) != _table_shape(first):
            raise QueryError(
                f"the queries of {first.target.name} and {query.target.name} are both based on {query.schedule.entity.name}, "
                "but their group keys differ in the number of parts, or their sources in the number of partitions; declare a "
                "schedule entity of its own for one of them"
            )


def _table_shape(query: QueryModel) -> tuple[int, int]:
    """Return the number of key parts and partitions of a query's session table."""
    return len(query.group_by), query.source.partitions


def _check_names(result: Script) -> None:
    """Check that no two statements create a stream or table of the same name."""
    names: set[str] = set()
    for statement in result.statements:
        creation = statement.creates
        if creation is None:
            continue
        if creation.name.upper() in names:
            raise QueryError(
                f"two statements make a stream or table {creation.name!r} (it is the topic's name with _ for other characters "
                "than letters and digits, and names that differ in case only count as equal); rename one topic"
            )
        names.add(creation.name.upper())


def _lines(result: Script) -> Iterator[str]:
    yield from (statement.text for statement in result.settings)
    for statement in result.declarations:
        yield from _lines_of_statement(statement)
    for program in result.programs.values():
        yield ""
        for note in program.notes:
            yield from _comment_lines(note)
        for statement in program.statements:
            yield from _lines_of_statement(statement)


def _lines_of_statement(statement: Statement) -> Iterator[str]:
    yield ""
    if statement.comment:
        yield from _comment_lines(f"{statement.comment}.")
    yield statement.text


def _comment_lines(text: str) -> Iterator[str]:
    yield from (f"-- {line}" for line in textwrap.wrap(text, WIDTH))
