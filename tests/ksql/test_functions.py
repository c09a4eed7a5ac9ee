"""The compiler gives expressions the types that a real ksqlDB gave them, and refuses what it refused.

The recordings are not part of the repository: `KANDLE_SHARED_DATA` is their folder (by default ../shared/data).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kandle.errors import QueryError
from kandle.ksql.functions import result_type
from kandle.ksql.operators import arithmetic_type, cast, number
from kandle.ksql.terms import Term
from kandle.ksql.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, TIMESTAMP, VARCHAR, KsqlType, array, decimal

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
EXPRESSIONS = DATA / "ksqldb_expressions.jsonl"
needs_recordings = pytest.mark.skipif(not EXPRESSIONS.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")

COLUMNS = {
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
OPERATION = re.compile(r"(\S+) ([-+*/%]) (\S+)")
CALL = re.compile(r"([A-Z_0-9]+)\((.*)\)")
CAST = re.compile(r"CAST\((\S+) AS ([A-Z]+(?:\(.*\))?)\)")
WITHOUT_TYPE = ("ROUND", "TRUNC", "TOPK")
"""Functions whose result type does not follow from the arguments: the compiler casts their results or does not use them."""
WITHOUT_ELEMENTS = ("ARRAY<DECIMAL>", "MAP<BIGINT>")
"""Types that were recorded without the types of their elements."""


def operand(text: str) -> KsqlType | None:
    """Return the type of a column or literal, None for anything else."""
    if text.startswith("`"):
        return COLUMNS.get(text.strip("`"))
    if re.fullmatch(r"-?[0-9.]+", text):
        return number(Decimal(text) if "." in text else int(text)).type
    return VARCHAR if re.fullmatch(r"'[^']*'", text) else BOOLEAN if text in ("TRUE", "FALSE") else None


def compiled_type(text: str) -> KsqlType | None:
    """Return the type that the compiler gives the text, None unless it is one operator or call of columns and literals."""
    if match := OPERATION.fullmatch(text):
        left, right = operand(match[1]), operand(match[3])
        both_numbers = left is not None and right is not None and left.is_number and right.is_number
        return arithmetic_type(match[2], left, right) if both_numbers and left and right else None
    if (match := CAST.fullmatch(text)) and (source := operand(match[1])):
        return cast(Term(match[1], source, nullable=True), written_type(match[2])).type
    if (match := CALL.fullmatch(text)) and match[1] not in ("CAST", *WITHOUT_TYPE):
        arguments = [operand(part.strip()) for part in match[2].split(", ")] if match[2] else []
        known = [argument for argument in arguments if argument is not None]
        return result_type(match[1], known) if len(known) == len(arguments) else None
    return None


def written_type(text: str) -> KsqlType:
    text = re.sub(r"\bINT\b", "INTEGER", text).replace("STRING", "VARCHAR")
    if match := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", text):
        return decimal(int(match[1]), int(match[2]))
    return array(written_type(text[6:-1])) if text.startswith("ARRAY<") else KsqlType(text)


def recordings() -> Iterator[tuple[str, dict[str, Any]]]:
    for line in EXPRESSIONS.read_text().splitlines():
        recording = json.loads(line)
        yield recording.get("expression") or recording["aggregate"], recording


@needs_recordings
def test_types_and_refusals_are_those_of_a_recorded_server() -> None:
    checked = 0
    wrong: list[tuple[object, ...]] = []
    for text, recording in recordings():
        try:
            kind = compiled_type(text)
        except QueryError as error:
            checked += 1
            wrong += [(text, str(error))] if recording["accepted"] else []
            continue
        if kind is None or recording.get("type") in WITHOUT_ELEMENTS:
            continue
        checked += 1
        # Only what the server accepts has a type: the compiler writes less than the server would accept.
        expected = written_type(recording["type"]) if recording["accepted"] else None
        wrong += [(text, kind, recording.get("type", "refused"))] if kind != expected else []
    assert wrong == []
    assert checked > 350


def test_a_call_that_is_refused_names_all_signatures() -> None:
    with pytest.raises(QueryError, match=r"ksqlDB's POWER cannot choose .* POWER\(DOUBLE,DOUBLE\)->DOUBLE.*; cast"):
        result_type("POWER", [BIGINT, INTEGER])
    with pytest.raises(QueryError, match=r"ksqlDB's AVG does not take \(DECIMAL\(18,6\)\)"):
        result_type("AVG", [decimal(18, 6)])
    with pytest.raises(QueryError, match=r"TOPK does not take \(TIMESTAMP, BIGINT, INTEGER\)"):
        result_type("TOPK", [TIMESTAMP, BIGINT, INTEGER])
    with pytest.raises(QueryError, match="no function UPPER"):
        result_type("UPPER", [VARCHAR])
