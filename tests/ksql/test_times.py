"""Patterns of strftime give in ksqlDB the text that they give in our engine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kandle import functions as f
from kandle.ksql.expressions import term
from kandle.ksql.times import FIXED_TEXTS, LETTERS, has_offset, java_pattern
from tests.ksql.rows import COLUMNS, ROW, Row, engine_values, node, server_row
from tests.ksqldb.simulator.expressing import evaluate

ROWS = [
    Row(time=datetime(2026, 3, 8, 6, 30, 15, 250_000, UTC)),
    Row(time=datetime(2024, 12, 31, 23, 5, 9, 7_000, UTC)),
    Row(time=datetime(1999, 1, 1, 0, 0, tzinfo=UTC)),
    Row(time=datetime(1969, 7, 20, 12, 17, 40, tzinfo=UTC)),
]


PATTERNS = [*(f"%{letter}" for letter in (*LETTERS, *FIXED_TEXTS)), "it's [%d]{%m}#%Y", "%H o'clock", "''", "%Y%%%m"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_gives_the_same_text(pattern: str) -> None:
    expression = node(f.format_timestamp(ROW.time, pattern))
    text = term(expression).text
    assert [evaluate(text, server_row(row), COLUMNS) for row in ROWS] == engine_values(expression, ROWS), text


def test_text_in_a_pattern_stands_in_quotes_only_where_it_must() -> None:
    assert java_pattern("%Y-%m-%dT%H:%M:%SZ") == "yyyy-MM-dd'T'HH:mm:ss'Z'"
    assert java_pattern("%Y/%m/%d") == "yyyy/MM/dd"
    assert java_pattern("it's %H") == "'it''s 'HH"


def test_only_letters_of_a_pattern_read_an_offset() -> None:
    assert has_offset(java_pattern("%Y-%m-%dT%H:%M:%S%z"))
    assert has_offset(java_pattern("%H:%M%:z"))
    assert not has_offset(java_pattern("%Hx%M, extra"))
