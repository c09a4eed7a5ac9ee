"""Statements of KSQL text as nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.ksqldb.simulator.cursor import Cursor, read_type
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.expressions import read_expression, read_value
from tests.ksqldb.simulator.nodes import (
    ColumnDefinition,
    Command,
    Create,
    Drop,
    InsertInto,
    InsertValues,
    Join,
    Literal,
    Node,
    Query,
    Select,
    SelectItem,
    Source,
    Star,
    Statement,
    Window,
    Within,
)


def split_statements(text: str) -> list[str]:
    """The statements of a script, each with its semicolon, without leading comments."""
    cursor, statements, start = Cursor(text), [], None
    for token in cursor.tokens[:-1]:
        start = token.start if start is None else start
        if token.kind == "sign" and token.value == ";":
            statements.append(text[start : token.start + 1])
            start = None
    if start is not None:
        statements.append(text[start:])
    return statements


def parse_script(text: str) -> list[Statement]:
    return [parse_statement(statement) for statement in split_statements(text)]


def parse_statement(text: str) -> Statement:
    """One statement with its semicolon."""
    cursor = Cursor(text)
    verb = cursor.token.value if cursor.token.kind == "word" else ""
    if verb not in STATEMENTS:
        cursor.fail()
    cursor.position += 1
    statement = STATEMENTS[verb](cursor)
    cursor.expect(";")
    cursor.advance("end")
    return replace(statement, unquoted=tuple(cursor.unquoted))


def _create(cursor: Cursor) -> Create:
    or_replace = cursor.take("OR", "REPLACE")
    read_only = cursor.take("SOURCE")
    kind = cursor.take_any("STREAM", "TABLE") or cursor.fail()
    if_not_exists = cursor.take("IF", "NOT", "EXISTS")
    name = cursor.identifier()
    columns = cursor.separated(lambda: _column(cursor)) if cursor.take("(") else ()
    if columns:
        cursor.expect(")")
    properties = _properties(cursor)
    query = None
    if not columns and not read_only and cursor.take("AS"):
        query = _query(cursor)
    return Create(kind, name, columns, properties, query, if_not_exists, or_replace, read_only)


def _column(cursor: Cursor) -> ColumnDefinition:
    name, kind = cursor.identifier(), read_type(cursor)
    if cursor.take("HEADER"):
        cursor.expect("(")
        cursor.advance("string")
        cursor.expect(")")
        return ColumnDefinition(name, kind, "HEADER")
    if cursor.take("PRIMARY"):
        cursor.expect("KEY")
        return ColumnDefinition(name, kind, "PRIMARY KEY")
    return ColumnDefinition(name, kind, cursor.take_any("KEY", "HEADERS") or "")


def _properties(cursor: Cursor) -> dict[str, object]:
    if not cursor.take("WITH"):
        return {}
    cursor.expect("(")
    return dict(cursor.enclosed(lambda: _property(cursor)))


def _property(cursor: Cursor) -> tuple[str, object]:
    name = cursor.advance("string").value if cursor.token.kind == "string" else cursor.keyword()
    cursor.expect("=")
    value = read_value(cursor)
    if not isinstance(value, Literal):
        cursor.fail()
    return name.upper(), value.value


def _query(cursor: Cursor) -> Query:
    """The clauses in the only order that the server takes."""
    cursor.expect("SELECT")
    items = cursor.separated(lambda: _item(cursor))
    cursor.expect("FROM")
    return Query(
        items,
        _source(cursor),
        tuple(_joins(cursor)),
        _window(cursor) if cursor.take("WINDOW") else None,
        read_expression(cursor) if cursor.take("WHERE") else None,
        _keys(cursor) if cursor.take("GROUP", "BY") else (),
        _keys(cursor) if cursor.take("PARTITION", "BY") else (),
        read_expression(cursor) if cursor.take("HAVING") else None,
        (cursor.take_any("CHANGES", "FINAL") or cursor.fail()) if cursor.take("EMIT") else None,
        cursor.whole() if cursor.take("LIMIT") else None,
    )


def _item(cursor: Cursor) -> SelectItem:
    if cursor.take("*"):
        return SelectItem(Star())
    if cursor.at_identifier and cursor.ahead(1).value == "." and cursor.ahead(2).value == "*":
        qualifier = cursor.identifier()
        cursor.expect(".", "*")
        return SelectItem(Star(), qualifier)
    expression = read_expression(cursor)
    return SelectItem(expression, cursor.identifier() if cursor.take("AS") or _alias_ahead(cursor) else None)


def _alias_ahead(cursor: Cursor) -> bool:
    """Whether a name follows, and not a clause that begins with a word that might be one."""
    return cursor.at_identifier and not (cursor.at("EMIT") or cursor.at("PARTITION", "BY"))


def _source(cursor: Cursor) -> Source:
    name = cursor.identifier()
    alias = cursor.identifier() if cursor.take("AS") or _alias_ahead(cursor) else name
    return Source(name, alias)


JOINS = {
    ("JOIN",): "INNER",
    ("INNER", "JOIN"): "INNER",
    ("LEFT", "JOIN"): "LEFT",
    ("LEFT", "OUTER", "JOIN"): "LEFT",
    ("RIGHT", "JOIN"): "RIGHT",
    ("RIGHT", "OUTER", "JOIN"): "RIGHT",
    ("FULL", "JOIN"): "FULL",
    ("FULL", "OUTER", "JOIN"): "FULL",
}


def _joins(cursor: Cursor) -> list[Join]:
    joins = []
    while (kind := next((kind for words, kind in JOINS.items() if cursor.take(*words)), None)) is not None:
        source = _source(cursor)
        within = _within(cursor) if cursor.take("WITHIN") else None
        cursor.expect("ON")
        joins.append(Join(kind, source, within, read_expression(cursor)))
    return joins


def _within(cursor: Cursor) -> Within:
    if cursor.take("("):
        before = cursor.duration()
        cursor.expect(",")
        after = cursor.duration()
        cursor.expect(")")
    else:
        before = after = cursor.duration()
    return Within(before, after, cursor.duration() if cursor.take("GRACE", "PERIOD") else None)


def _window(cursor: Cursor) -> Window:
    kind = cursor.take_any("TUMBLING", "HOPPING", "SESSION") or cursor.fail()
    cursor.expect("(")
    if kind != "SESSION":
        cursor.expect("SIZE")
    size = advance = cursor.duration()
    if kind == "HOPPING":
        cursor.expect(",", "ADVANCE", "BY")
        advance = cursor.duration()
    retention = cursor.duration() if cursor.take(",", "RETENTION") else None
    grace = cursor.duration() if cursor.take(",", "GRACE", "PERIOD") else None
    cursor.expect(")")
    if size <= 0 or advance <= 0 or advance > size:
        raise RefusedError("Size must be positive" if size <= 0 else "Advance must be positive and no longer than the size")
    return Window(kind, size, advance, retention, grace)


def _keys(cursor: Cursor) -> tuple[Node, ...]:
    """Grouping or partitioning expressions: `a, b`, or all of them in one pair of parentheses."""
    start = cursor.position
    if cursor.take("("):
        values = cursor.enclosed(lambda: read_value(cursor))
        if len(values) > 1:
            return values
        cursor.position = start
    return cursor.separated(lambda: read_value(cursor))


def _insert(cursor: Cursor) -> Statement:
    cursor.expect("INTO")
    target = cursor.identifier()
    columns = cursor.separated(cursor.identifier) if cursor.take("(") else ()
    if columns:
        cursor.expect(")")
    if cursor.take("VALUES"):
        cursor.expect("(")
        return InsertValues(target, columns, cursor.enclosed(lambda: read_value(cursor)))
    if columns:
        cursor.fail()
    _properties(cursor)
    return InsertInto(target, _query(cursor))


def _drop(cursor: Cursor) -> Drop:
    kind = cursor.take_any("STREAM", "TABLE") or cursor.fail()
    if_exists = cursor.take("IF", "EXISTS")
    name = cursor.identifier()
    return Drop(kind, name, if_exists, cursor.take("DELETE", "TOPIC"))


def _set(cursor: Cursor) -> Command:
    name = cursor.advance("string").value
    cursor.expect("=")
    return Command("SET", (name, cursor.advance("string").value))


def _select(cursor: Cursor) -> Select:
    cursor.position -= 1
    return Select(_query(cursor))


def _command(verb: str) -> Callable[[Cursor], Command]:
    """A statement that asks or stops something: its words are not judged."""

    def read(cursor: Cursor) -> Command:
        words = []
        while not cursor.at(";") and cursor.token.kind != "end":
            words.append(cursor.advance(cursor.token.kind).value)
        return Command(verb, tuple(words)) if words else cursor.fail()

    return read


STATEMENTS: dict[str, Callable[[Cursor], Statement]] = {
    "CREATE": _create,
    "INSERT": _insert,
    "DROP": _drop,
    "SET": _set,
    "SELECT": _select,
} | {verb: _command(verb) for verb in ("UNSET", "SHOW", "LIST", "DESCRIBE", "EXPLAIN", "TERMINATE", "PAUSE", "RESUME")}
