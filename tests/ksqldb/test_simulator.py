"""The simulated server gives what a real one gave: verdicts, types and values, row by row.

The recordings are not part of the repository: `KANDLE_SHARED_DATA` is their folder (by default ../shared/data).
"""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.ksqldb.simulator import signatures
from tests.ksqldb.simulator.errors import KsqlSyntaxError, RefusedError
from tests.ksqldb.simulator.expressing import aggregate_type_of, evaluate, type_of
from tests.ksqldb.simulator.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, TIMESTAMP, VARCHAR, Type, array, decimal
from tests.ksqldb.simulator.values import double_text, plain, timestamp_text

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
EXPRESSIONS = DATA / "ksqldb_expressions.jsonl"

recorded = pytest.mark.skipif(not EXPRESSIONS.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")

COLUMNS = {
    "k": VARCHAR,
    "i": INTEGER,
    "l": BIGINT,
    "d": DOUBLE,
    "n": decimal(18, 6),
    "m": decimal(10, 2),
    "s": VARCHAR,
    "u": VARCHAR,
    "b": BOOLEAN,
    "t": TIMESTAMP,
    "e": DATE,
    "a": array(INTEGER),
}
FIRST = {
    "k": "r1",
    "i": 7,
    "l": 3_000_000_000,
    "d": 2.5,
    "n": Decimal("10.75"),
    "m": Decimal("3.25"),
    "s": "Hello",
    "u": "a,b",
    "b": True,
    "t": datetime(2026, 3, 8, 6, 30, 15, 250_000, UTC),
    "e": date(2026, 3, 8),
    "a": [3, 1, 2],
}
SECOND = {
    "k": "r2",
    "i": -7,
    "l": -1,
    "d": -0.5,
    "n": Decimal("-1.25"),
    "m": Decimal(0),
    "s": "",
    "u": "x",
    "b": False,
    "t": datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC),
    "e": date(1970, 1, 1),
    "a": [0],
}
ROWS: list[dict[str, Any]] = [FIRST, SECOND, {"k": "r3"}]

# The recorder asked for ARRAY_SORT(`a`) in the same SELECT before these, and the server sorts in place.
AFTER_SORTING = ("FILTER(`a`, x => x > 1)", "TRANSFORM(`a`, x => x * 2)")


def recordings() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EXPRESSIONS.read_text().splitlines()]


def verdict(recording: dict[str, Any]) -> str:
    """The type as the recorder wrote it, or "refused"."""
    try:
        kind = (
            aggregate_type_of(recording["aggregate"], COLUMNS)
            if "aggregate" in recording
            else type_of(recording["expression"], COLUMNS)
        )
    except RefusedError:
        return "refused"
    return type_text(kind)


def type_text(kind: Type) -> str:
    if kind.name == "ARRAY":
        return f"ARRAY<{type_text(kind.items[0]).partition('(')[0]}>"
    if kind.name == "MAP":
        return f"MAP<{type_text(kind.items[1])}>"
    return "STRING" if kind == VARCHAR else str(kind)


def value_text(value: Any) -> Any:
    """A value as the recorder wrote it."""
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else plain(value)
    if isinstance(value, datetime):
        return timestamp_text(value)
    return value.isoformat() if isinstance(value, date) else value


def values(expression: str) -> list[Any]:
    rows = [{**row, "a": sorted(row.get("a", [])) or None} for row in ROWS] if expression in AFTER_SORTING else ROWS
    return [value_text(evaluate(expression, row, COLUMNS)) for row in rows]


@recorded
def test_every_recorded_expression_and_aggregate_has_the_servers_verdict_and_type() -> None:
    found = recordings()
    assert len(found) == 671
    expected = {str(each): each.get("type", "refused") for each in found}
    assert {str(each): verdict(each) for each in found} == expected


@recorded
def test_every_recorded_expression_has_the_servers_values() -> None:
    expected = {each["expression"]: each["values"] for each in recordings() if "values" in each}
    assert len(expected) > 390
    assert {expression: values(expression) for expression in expected} == expected


@recorded
def test_the_table_of_functions_is_the_servers() -> None:
    assert signatures.TABLE.read_text() == (DATA / "ksqldb_functions.csv").read_text()
    assert len(signatures.functions()) == 148


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # An operation with NULL fails, and what it is a part of is NULL as a whole: COALESCE and comparisons do not help.
        ("COALESCE(`i` + 1, 0)", None),
        ("(`i` + 1) > 0", None),
        ("COALESCE(CAST(`i` + 1 AS BIGINT), CAST(0 AS BIGINT))", 0),  # a CAST fails alone
        ("COALESCE(ABS(`i`), 0)", 0),
        ("CASE WHEN `i` IS NULL THEN 0 ELSE `i` + 1 END", 0),
        ("(`i` > 0) AND `b`", False),
        ("`b` AND (`i` > 0)", None),
        ("`i` IS DISTINCT FROM 1", True),
        ("FROM_UNIXTIME(`i` + 1) IS NULL", True),  # widening to BIGINT is a CAST
        ("UNIX_TIMESTAMP(`t`) IS NULL", True),
        ("`i` NOT BETWEEN 1 AND 2", True),
    ],
)
def test_null_in_operations(text: str, value: object) -> None:
    assert evaluate(text, {}, COLUMNS) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2147483647 + 1", -2147483648),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("CAST(2.675 AS DECIMAL(18,2))", Decimal("2.68")),
        ("CAST(2.675E0 AS DECIMAL(18,2))", Decimal("2.67")),
        ("CAST(2.675E0 AS DECIMAL(10,2))", Decimal("2.68")),  # cut to the precision first, then to the scale
        ("CAST(123456 AS DECIMAL(4,0))", None),
        ("ROUND(-1.5)", -1),
        ("ROUND(-1.5E0)", -1),
        ("CAST(-1.5 AS DECIMAL(4,0))", -2),
        ("0.1 = 1E-1", True),
        ("CAST('2026-11-22T10:00' AS TIMESTAMP)", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("SUBSTRING('Hello', 2, 99)", "ello"),
        ("INSTR('abcabc', 'c', -1)", 6),
        ("INSTR('abcabc', 'ca', -3)", 3),
        ("INSTR('abcabc', 'b', 3)", 5),
        ("INSTR('abcabc', 'b', 1, 2)", 5),
        ("INSTR('abc', '')", 1),
        ("INSTR('', '')", 0),
        ("INITCAP(' heLLo  woRLD')", "Hello  World"),
        ("CAST(ROUND(`n`, 1) AS VARCHAR)", "10.800000"),
        ("CAST(TRUNC(`n`, 1) AS VARCHAR)", "10.700000"),
        ("GREATEST(`n`, `m`)", Decimal("10.75")),
        ("`n` IN (10.75)", True),
        ("`i` IN (7.0, NULL)", True),
        ("`d` IN (5, 2.5)", True),
        ("LOG(2, 8)", 3.0),
        ("FORMAT_TIMESTAMP(FROM_UNIXTIME(1772951415250), 'yyyyMMddHHmmssSSS')", "20260308063015250"),
        ("CAST(1E7 AS VARCHAR)", "1.0E7"),
        ("SPLIT(CAST(`t` AS VARCHAR), 'T')[2]", "06:30:15.250"),
        ("REDUCE(TRANSFORM(`a`, x => x * x), 0, (x, y) => x + y)", 14),
        ("REDUCE(`a`, 0, (`i`, `x`) => `i` + `x`)", 6),  # variables hide columns
        ("STRUCT(`x` := `i`, `y` := 'z')->`y`", "z"),
        ("MAP('a' := 1, 'b' := 2)['b']", 2),
        ("'a_c' LIKE 'a!_c' ESCAPE '!'", True),
        ("'abc' LIKE 'a!_c' ESCAPE '!'", False),
    ],
)
def test_values_beyond_the_recordings(text: str, value: object) -> None:
    assert evaluate(text, FIRST, COLUMNS) == value


@pytest.mark.parametrize("text", ["GREATEST(`n`, `m`)", "LEAST(`m`, `n`)", "ARRAY[`m`, `n`][1]", "COALESCE(NULL, `n`)"])
def test_decimals_meet_in_the_wider_type(text: str) -> None:
    assert type_of(text, COLUMNS) == decimal(18, 6)


@pytest.mark.parametrize(
    "text",
    [
        "`i` = 1 = 2",
        "(`i` + `l`) IS NULL",  # the server's code holds a bare number there, which it cannot compare with NULL
        "ROUND(`i`, 2)",
        "GREATEST(`n`, `l`)",
        "`i` > ALL",
        "LEFT(`s`, 2)",
        "12345678901234567890",
        "`nothing`",
        "SUM(`i`)",
        "FILTER(`a`, x => x + 1)",
        "FILTER(`a`, (x, y) => x > y)",
        "DATE '2026-11-22'",
        "CAST(`s` AS FLOAT)",
        "`a`['x']",
        "STRUCT(`x` := 1)->`y`",
        "`b` > TRUE",
        "IF(`b`, 1, 2)",
        "`t` - `t`",
    ],
)
def test_what_the_server_refuses_beyond_the_recordings(text: str) -> None:
    with pytest.raises(RefusedError):
        type_of(text, COLUMNS)


@pytest.mark.parametrize(
    "text", ["FILTER(x => x > 1, `a`)", "PI(() => 1)", "1 +", "`i` NOT 1", "SUM(DISTINCT `i`)", "`a`[1", "#"]
)
def test_invalid_ksql_is_a_syntax_error(text: str) -> None:
    with pytest.raises(KsqlSyntaxError, match="line 1:"):
        type_of(text, COLUMNS)
