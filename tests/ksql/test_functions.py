"""Types that the compiler reckons with are those that a recorded ksqlDB gave, and what that refused the compiler refuses.

The recordings are no part of the repository: `KANDLE_SHARED_DATA` names their folder (default: ../shared/data).
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
UNCLAIMED = ("ROUND", "TRUNC", "TOPK")
"""Their results have digits or types that their arguments do not tell: the compiler casts, or asks for nothing of them."""
UNTOLD = ("ARRAY<DECIMAL>", "MAP<BIGINT>")
"""Types that were recorded without their parts."""


def operand(text: str) -> KsqlType | None:
    """The type of a column or literal; None of anything else."""
    if text.startswith("`"):
        return COLUMNS.get(text.strip("`"))
    if re.fullmatch(r"-?[0-9.]+", text):
        return number(Decimal(text) if "." in text else int(text)).type
    return VARCHAR if re.fullmatch(r"'[^']*'", text) else BOOLEAN if text in ("TRUE", "FALSE") else None


def claimed(text: str) -> KsqlType | None:
    """The compiler's own idea of the type; None where it is not one operator or call of columns and literals."""
    if found := OPERATION.fullmatch(text):
        left, right = operand(found[1]), operand(found[3])
        both_numbers = left is not None and right is not None and left.is_number and right.is_number
        return arithmetic_type(found[2], left, right) if both_numbers and left and right else None
    if (found := CAST.fullmatch(text)) and (source := operand(found[1])):
        return cast(Term(found[1], source, nullable=True), written_type(found[2])).type
    if (found := CALL.fullmatch(text)) and found[1] not in ("CAST", *UNCLAIMED):
        arguments = [operand(part.strip()) for part in found[2].split(", ")] if found[2] else []
        known = [argument for argument in arguments if argument is not None]
        return result_type(found[1], known) if len(known) == len(arguments) else None
    return None


def written_type(text: str) -> KsqlType:
    text = re.sub(r"\bINT\b", "INTEGER", text).replace("STRING", "VARCHAR")
    if found := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", text):
        return decimal(int(found[1]), int(found[2]))
    return array(written_type(text[6:-1])) if text.startswith("ARRAY<") else KsqlType(text)


def recordings() -> Iterator[tuple[str, dict[str, Any]]]:
    for line in EXPRESSIONS.read_text().splitlines():
        found = json.loads(line)
        yield found.get("expression") or found["aggregate"], found


@needs_recordings
def test_types_and_refusals_are_those_of_a_recorded_server() -> None:
    checked = 0
    wrong: list[tuple[object, ...]] = []
    for text, recording in recordings():
        try:
            kind = claimed(text)
        except QueryError as error:
            checked += 1
            wrong += [(text, str(error))] if recording["accepted"] else []
            continue
        if kind is None or recording.get("type") in UNTOLD:
            continue
        checked += 1
        # The way back is asked for only of what the server accepts: the compiler writes less than the server would take.
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
