"""KSQL text as tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.ksqldb.simulator.errors import KsqlSyntaxError

RESERVED_WORDS = """
SELECT FROM AS ALL DISTINCT WHERE WITHIN WINDOW GROUP BY HAVING LIMIT AT OR AND IN NOT EXISTS BETWEEN LIKE IS NULL TRUE FALSE
MILLISECOND YEARS MONTHS DAYS HOURS MINUTES SECONDS MILLISECONDS TUMBLING HOPPING SIZE ADVANCE RETENTION CASE WHEN THEN ELSE END
JOIN FULL OUTER INNER LEFT RIGHT ON WITH VALUES CREATE TABLE TOPIC STREAM STREAMS INSERT DELETE INTO DESCRIBE EXTENDED PRINT CAST
LIST TOPICS QUERY QUERIES TERMINATE PAUSE RESUME LOAD DROP TO RENAME SAMPLE EXPORT CATALOG PROPERTIES BEGINNING UNSET RUN SCRIPT
DECIMAL CONNECTOR CONNECTORS NAMESPACE MATERIALIZED VIEW
"""
RESERVED = frozenset(RESERVED_WORDS.split())

PATTERN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<float>(?:\d+(?:\.\d*)?|\.\d+)[eE][+-]?\d+(?![A-Za-z_]))
    |(?P<decimal>(?:\d+\.\d*|\.\d+)(?![A-Za-z_]))
    |(?P<integer>\d+(?![A-Za-z_]))
    |(?P<word>[A-Za-z_][A-Za-z0-9_@]*)
    |(?P<quoted>`(?:[^`]|``)*`|"(?:[^"]|"")*")
    |(?P<string>'(?:[^']|'')*')
    |(?P<sign>:=|->|=>|<=|>=|<>|!=|\|\||[-+*/%=<>()\[\],.;])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text: `value` is a name or literal as it is meant, `text` what stands there."""

    kind: str
    value: str
    text: str
    start: int


def tokens_of(text: str) -> list[Token]:
    """All tokens with a last one of kind "end"."""
    return [*_scan(text), Token("end", "", "<EOF>", len(text))]


def _scan(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        match = PATTERN.match(text, position)
        if match is None:
            raise syntax_error(text, position, text[position])
        if match.lastgroup != "space":
            yield _token(str(match.lastgroup), match.group(), position)
        position = match.end()


def _token(kind: str, raw: str, start: int) -> Token:
    if kind == "word":
        return Token(kind, raw.upper(), raw, start)
    if kind in ("quoted", "string"):
        return Token(kind, raw[1:-1].replace(raw[0] * 2, raw[0]), raw, start)
    return Token(kind, raw, raw, start)


def syntax_error(text: str, start: int, near: str) -> KsqlSyntaxError:
    """A syntax error with line and column, counted from 1, as the server counts them."""
    line = text.count("\n", 0, start) + 1
    column = start - (text.rfind("\n", 0, start) + 1) + 1
    return KsqlSyntaxError(f"line {line}:{column}: Syntax Error: near {near!r}")
